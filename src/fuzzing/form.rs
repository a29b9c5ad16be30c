//! Forms: the same fields at every split, and an edit that changes only the model.
//!
//! Input: a byte that selects the split, the boundary, a line feed, the body.

use crate::llm::rewrite::form::{Fields, Form, MAX_VALUE};

/// The fields do not depend on the split, stay within their bounds, and are in the reported places.
/// After an edit of the model, the form has the new model and is otherwise equal.
pub fn form(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    let mut parts = rest.splitn(2, |&byte| byte == b'\n');
    let (Some(boundary), Some(body)) = (parts.next(), parts.next()) else { return };
    if boundary.is_empty() || boundary.len() > 70 {
        return;
    }
    let whole = read(boundary, body.chunks(body.len().max(1)));
    assert_eq!(read(boundary, body.chunks(usize::from(*step).max(1))), whole, "cuts make no difference");

    let Some(span) = whole.model_span.clone() else { return };
    let named = String::from_utf8_lossy(&body[span.clone()]);
    assert!(whole.has_model());
    let Some(model) = &whole.model else {
        assert!(named.is_empty() || span.len() > MAX_VALUE);
        return;
    };
    assert_eq!(*model, named);
    let edited = [&body[..span.start], b"another", &body[span.end..]].concat();
    let again = read(boundary, edited.chunks(edited.len()));
    // With an unusual boundary the new name could form a delimiter together with the bytes around
    // it.
    if !boundary.contains(&b'-') && !boundary.starts_with(b"another") {
        let mut expected = whole.clone();
        expected.model = Some("another".to_owned());
        expected.model_span = Some(span.start..span.start + "another".len());
        assert_eq!(again, expected);
    }
}

fn read<'a>(boundary: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Fields {
    let mut form = Form::new(boundary);
    pieces.for_each(|piece| form.push(piece));
    form.end();
    form.fields().clone()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/form");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let mut seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::form(&seed[..end]);
            }
            for at in 1..seed.len() {
                seed[at] ^= 0x27;
                super::form(&seed);
                seed[at] ^= 0x27;
            }
            count += 1;
        }
        assert!(count > 3, "the seeds are there");
    }
}

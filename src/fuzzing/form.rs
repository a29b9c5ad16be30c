//! Forms: the same fields however the bytes are cut, and an edit that changes the model alone.
//!
//! Input: a byte that says how the body is cut, the boundary, a line feed, the body.

use crate::llm::rewrite::form::{Fields, Form, MAX_VALUE};

/// What is read does not depend on the cuts, stays within its bounds, and stands where it is said
/// to. Behind the edit of a model the form has the other model, and else says the same.
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
    // A boundary may be such that the new name makes a delimiter of what stands around it.
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

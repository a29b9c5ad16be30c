//! Checks the reader of ids against itself at every split, and against `serde_json` at the top.

use serde_json::Value;

use crate::llm::usage::{IdReader, named_ids};

/// The length of an input that is split everywhere, and in which no value is too long to be read.
const LENGTH: usize = 512;

/// The lengths of ids.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=256;

/// Input: a response, or a request's body. At every split a response has the same ids, each of a
/// permitted length. The top-level `id` of an object is one of them, and is its own.
pub fn ids(data: &[u8]) {
    let whole = passed(&[data]);
    assert!(whole.iter().all(|(id, _)| LENGTHS.contains(&id.len())), "{whole:?}");
    let shown = data.escape_ascii();
    let bytes: Vec<_> = data.chunks(1).collect();
    assert_eq!(passed(&bytes), whole, "{shown} byte by byte");
    let step = data.len() / LENGTH + 1;
    for at in (0..=data.len()).step_by(step) {
        assert_eq!(passed(&[&data[..at], &data[at..]]), whole, "{shown} cut at {at}");
    }
    let _ = named_ids(data, |id| assert!(LENGTHS.contains(&id.len()), "{id}"));
    if data.len() <= LENGTH
        && let Ok(Value::Object(object)) = serde_json::from_slice(data)
        && let Some(id) = object.get("id").and_then(Value::as_str)
        && LENGTHS.contains(&id.len())
    {
        assert!(whole.contains(&(id.to_owned(), true)), "{shown}: {whole:?}");
    }
}

/// The ids of a response in pieces, and whether they are its own.
fn passed(pieces: &[&[u8]]) -> Vec<(String, bool)> {
    let (mut reader, mut ids) = (IdReader::default(), Vec::new());
    for piece in pieces {
        reader.push(piece, &mut |found| ids.push((found.id.to_owned(), found.is_own)));
    }
    ids
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/ids");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.expect("an entry").path()).expect("a readable seed");
            (0..=seed.len()).for_each(|end| super::ids(&seed[..end]));
            count += 1;
        }
        assert!(count >= 4, "the seeds were not found");
    }
}

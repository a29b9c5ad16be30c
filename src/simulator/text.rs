//! The simulator's text: one sentence of 24 words, repeated, so that every byte of a response is
//! known beforehand.

use std::sync::LazyLock;

use bytes::BytesMut;

/// The words, each with a space before it. ASCII, without characters that JSON escapes.
#[rustfmt::skip]
const WORDS: [&str; 24] = [
    " A", " stream", " gauge", " measures", " a", " river", " without", " ever", " holding", " any", " of", " it", " back,",
    " and", " knows", " afterwards", " exactly", " how", " much", " of", " the", " water", " went", " by.",
];

/// The number of sentences in the tape: enough that most texts are one copy.
const REPEATS: usize = 64;

/// The sentence [`REPEATS`] times, and the beginning of each of its words.
static TAPE: LazyLock<(String, Vec<usize>)> = LazyLock::new(|| {
    let sentence = WORDS.concat();
    let starts = WORDS.iter().scan(0, |at, word| Some(std::mem::replace(at, *at + word.len()))).collect();
    (sentence.repeat(REPEATS), starts)
});

/// The number of events in a response without directions: one sentence.
pub(super) const SENTENCE: u64 = WORDS.len() as u64;

/// The whole sentence.
pub(super) fn sentence() -> String {
    WORDS.concat().trim_start().to_owned()
}

/// Appends the text of event `index`: one word, or exactly `size` bytes that begin with that word.
///
/// The very first word has no space before it, as in the output of a model.
pub(super) fn write(index: u64, size: usize, out: &mut BytesMut) {
    let word = (index % SENTENCE) as usize;
    let text = WORDS[word];
    if size == 0 {
        out.extend_from_slice(if index == 0 { text.trim_start() } else { text }.as_bytes());
        return;
    }
    let (tape, starts) = &*TAPE;
    let mut from = starts[word] + usize::from(index == 0);
    let mut left = size;
    while left > 0 {
        let piece = &tape.as_bytes()[from..tape.len().min(from + left)];
        out.extend_from_slice(piece);
        left -= piece.len();
        from = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(events: u64, size: usize) -> Vec<String> {
        (0..events)
            .map(|index| {
                let mut out = BytesMut::new();
                write(index, size, &mut out);
                String::from_utf8(out.to_vec()).unwrap()
            })
            .collect()
    }

    #[test]
    fn one_word_per_event_makes_the_sentence() {
        let text = texts(SENTENCE, 0).concat();
        assert!(text.starts_with("A stream gauge measures") && text.ends_with(" went by."), "{text}");
        assert_eq!(texts(SENTENCE + 1, 0).last().unwrap(), " A", "after the sentence it begins again");
    }

    #[test]
    fn a_size_is_kept_to_the_byte() {
        for size in [1, 2, 250, 100_000] {
            assert!(texts(30, size).iter().all(|text| text.len() == size), "size {size}");
        }
        assert!(texts(3, 10)[1].starts_with(" stream"), "a text begins with its event's word");
    }
}

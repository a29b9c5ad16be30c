//! Counts the tokens of texts in pieces, with a bound on the work.

use std::cell::Cell;

use super::Encoding;

/// The largest piece of text counted at once, in bytes. Prose takes 20 µs, the worst case (one
/// letter repeated) 1 ms.
const PIECE: usize = 4 << 10;

/// The largest amount of work of one [`Counter`], in bytes of prose: about 20 ms of its thread. A
/// limit in time would make the result depend on the machine.
const WORK: usize = 4 << 20;

/// The cost of handling one text, in bytes of prose.
const TEXT: usize = 16;

/// A word of more bytes is long. Merging its bytes costs [`LONG_WORD_COST`] times as much as
/// looking up usual words in the encoding's table: 200 ns a byte instead of 5.
const LONG_WORD: usize = 256;
const LONG_WORD_COST: usize = 40;

/// Counts the tokens of the texts of one exchange, up to a total cost of [`WORK`].
pub struct Counter<'a> {
    encoding: Encoding,
    stop: &'a dyn Fn() -> bool,
    worked: Cell<usize>,
    is_stopped: Cell<bool>,
}

impl<'a> Counter<'a> {
    /// Creates a counter that calls `stop` between two pieces, and stops when it returns true.
    pub fn new(encoding: Encoding, stop: &'a dyn Fn() -> bool) -> Self {
        Self { encoding, stop, worked: Cell::new(0), is_stopped: Cell::new(false) }
    }

    /// The number of tokens of a text that has no neighbours. `None` if the counter has stopped.
    pub fn count(&self, text: &str) -> Option<u64> {
        let tables = self.encoding.tables()?;
        let (mut rest, mut tokens) = (text, 0);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece(rest));
            self.worked.set(self.worked.get() + TEXT + cost(piece));
            if self.is_stopped.get() || self.worked.get() > WORK || (self.stop)() {
                self.is_stopped.set(true);
                return None;
            }
            tokens += tables.count(piece) as u64;
            rest = after;
        }
        Some(tokens)
    }

    /// Returns true if the counter has stopped. It stays stopped.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }
}

/// The cost of counting a piece, in bytes of prose. A word is a run of characters of one class, as
/// in the encodings' patterns; digits never make long ones.
fn cost(piece: &str) -> usize {
    let class = |c: char| (c.is_alphabetic(), c.is_whitespace(), c.is_numeric());
    let (mut long, mut run, mut last) = (0, 0, (false, false, true));
    for c in piece.chars() {
        if class(c) != last {
            (last, run) = (class(c), 0);
        }
        run += c.len_utf8();
        if !c.is_numeric() && run > LONG_WORD {
            long += if run - c.len_utf8() > LONG_WORD { c.len_utf8() } else { run };
        }
    }
    piece.len() + long * (LONG_WORD_COST - 1)
}

/// The position at which to cut a long text: before a space if there is one, since tokens begin
/// with their space.
fn piece(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE);
    match text[..end].rfind(' ') {
        Some(space) if space > 0 => space,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_counted_in_pieces_as_if_it_were_one() {
        let text = "The river does not wait; it is measured. ".repeat(1000);
        let counted = Counter::new(Encoding::O200k, &|| false).count(&text);
        let whole = Encoding::O200k.tables().unwrap().count(&text) as u64;
        assert_eq!(counted, Some(whole));
    }

    #[test]
    fn a_text_without_spaces_is_cut_between_characters() {
        let text = format!("a{}", "ä".repeat(PIECE));
        assert!(text.is_char_boundary(piece(&text)) && piece(&text) > PIECE - 2);
    }

    #[test]
    fn a_count_that_is_stopped_is_none() {
        assert_eq!(Counter::new(Encoding::O200k, &|| true).count("Hi"), None);
        assert_eq!(Counter::new(Encoding::O200k, &|| true).count(""), Some(0));
    }

    #[test]
    fn one_letter_over_and_over_is_given_up() {
        for letter in ["a", "!", " ", "ä"] {
            let counter = Counter::new(Encoding::O200k, &|| false);
            assert_eq!(counter.count(&letter.repeat(1 << 17)), None, "{letter:?}");
            assert!(counter.is_stopped());
            assert_eq!(counter.count("Hi"), None, "all texts of an exchange share its work");
        }
    }

    #[test]
    fn megabyte_of_prose_or_digits_is_counted() {
        for text in
            ["The river does not wait; it is measured. ", "水不停地流，它被测量。", "3141592653589793"]
        {
            let text = text.repeat((1 << 20) / text.len());
            assert!(Counter::new(Encoding::O200k, &|| false).count(&text).is_some(), "{:?}", &text[..9]);
        }
    }

    #[test]
    fn every_byte_of_a_long_word_costs_more() {
        let word = "a".repeat(LONG_WORD);
        assert_eq!(cost(&word), LONG_WORD);
        assert_eq!(cost(&format!("{word} {word}")), 2 * LONG_WORD + 1);
        assert_eq!(cost(&format!("{word}b")), (LONG_WORD + 1) * LONG_WORD_COST);
        assert_eq!(cost(&format!("{word}bc")), (LONG_WORD + 2) * LONG_WORD_COST);
    }

    #[test]
    fn many_short_texts_are_given_up_too() {
        let counter = Counter::new(Encoding::O200k, &|| false);
        let mut texts = (0..10_000_000).map(|number| counter.count(&format!("q{number}x")));
        assert!(texts.any(|count| count.is_none()));
    }
}

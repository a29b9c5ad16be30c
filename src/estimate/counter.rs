//! Counting, a piece at a time.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Encoding;

/// The most text that is counted in one go. Prose takes 20 µs, the worst (one letter, over and over) 1 ms.
const PIECE: usize = 4 << 10;

/// The most that one [`Counter`] may take of its thread. A megabyte of prose takes 5 ms, one of a single letter 200 ms:
/// merging the bytes of one long word costs fifty times as much as finding words in the encoding's table.
const WORK: Duration = Duration::from_millis(20);

/// Counts the tokens of the texts of one exchange, until there is no more time for it.
pub struct Counter<'a> {
    encoding: Encoding,
    stop: &'a dyn Fn() -> bool,
    /// What the thread had worked before the first text.
    begun: Cell<Option<Duration>>,
    /// Bytes that were counted since the clock was read last.
    unclocked: Cell<usize>,
    is_stopped: Cell<bool>,
}

impl<'a> Counter<'a> {
    /// A counter that asks `stop` between two pieces whether to go on, and goes on for [`WORK`] at most.
    pub fn new(encoding: Encoding, stop: &'a dyn Fn() -> bool) -> Self {
        Self { encoding, stop, begun: Cell::new(None), unclocked: Cell::new(0), is_stopped: Cell::new(false) }
    }

    /// How many tokens a text has, where it stands by itself. `None`: the counter is stopped.
    pub fn count(&self, text: &str) -> Option<u64> {
        let tables = self.encoding.tables()?;
        if self.begun.get().is_none() {
            // Not before the tables are there: unpacking them is no work of this exchange.
            self.begun.set(Some(thread_time()));
        }
        let (mut rest, mut tokens) = (text, 0);
        while !rest.is_empty() {
            if self.must_stop() {
                return None;
            }
            let (piece, after) = rest.split_at(piece(rest));
            tokens += tables.count(piece) as u64;
            self.unclocked.set(self.unclocked.get() + piece.len() + TEXT);
            rest = after;
        }
        Some(tokens)
    }

    /// Whether a count was given up. Every later one is too.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    fn must_stop(&self) -> bool {
        if !self.is_stopped.get() {
            self.is_stopped.set((self.stop)() || self.has_worked_enough());
        }
        self.is_stopped.get()
    }

    fn has_worked_enough(&self) -> bool {
        if self.unclocked.get() < PIECE {
            return false;
        }
        self.unclocked.set(0);
        self.begun.get().is_some_and(|begun| thread_time().saturating_sub(begun) > WORK)
    }
}

/// What the way to a text costs, in bytes of prose.
const TEXT: usize = 16;

/// How long this thread has been at work, whatever else the machine does.
fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Where to cut a long text: before a space if there is one, since tokens begin with theirs.
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
        let counter = Counter::new(Encoding::O200k, &|| false);
        let text = "a".repeat(1 << 20);
        assert_eq!((counter.count(&text), counter.is_stopped()), (None, true));
        let worked = thread_time() - counter.begun.get().unwrap();
        assert!(worked < 3 * WORK, "{worked:?}");
        assert_eq!(counter.count("Hi"), None, "all texts of an exchange share its time");
    }

    #[test]
    fn many_short_texts_are_given_up_too() {
        let counter = Counter::new(Encoding::O200k, &|| false);
        let mut texts = (0..10_000_000).map(|number| counter.count(&format!("q{number}x")));
        assert!(texts.any(|count| count.is_none()));
    }
}

//! The meter of whole bodies.

use super::found::Announces;
use super::places::ERROR_LIMIT;
use super::scan::Scan;
use super::{Output, Room, Tally};

/// How much of an error's body is kept, with room for blanks before it and a character at its end.
const ERROR_ROOM: usize = ERROR_LIMIT + 64;

/// Reads one JSON body in pieces of any size, and keeps no more of it than the counts: the ten
/// megabytes of an image or of embeddings pass by. What is no JSON, a transcript's text say, has no
/// usage.
///
/// A body that was cut off keeps the usage that was whole before the cut.
///
/// ```
/// use streamgauge::usage::BodyMeter;
///
/// let mut meter = BodyMeter::new();
/// meter.push(br#"{"model":"gpt-4.1-mini","usage":{"prompt_tok"#);
/// meter.push(br#"ens":8,"completion_tokens":2,"total_tokens":10}}"#);
/// let tally = meter.finish();
/// assert_eq!(tally.usage.and_then(|usage| usage.total_tokens), Some(10));
/// assert!(tally.terminal);
/// ```
#[derive(Debug)]
pub struct BodyMeter {
    scan: Scan,
    output: Option<Box<Output>>,
    /// The beginning of an error, in whatever form it is.
    error: Option<Vec<u8>>,
}

impl Default for BodyMeter {
    fn default() -> BodyMeter {
        BodyMeter::new()
    }
}

impl BodyMeter {
    /// A meter at the start of a body.
    pub fn new() -> BodyMeter {
        BodyMeter { scan: Scan::of_body(), output: None, error: None }
    }

    /// Keeps the text of the output, until usage is reported.
    pub fn keep_output(&mut self, room: &Room) {
        self.output = Some(Box::new(Output::new(room)));
    }

    /// The body is an error's: where it names none, its own text stands for it.
    pub fn expect_error(&mut self) {
        self.error = Some(Vec::new());
    }

    /// Keeps the id of the result that the body is, and whether that is made in the background.
    pub fn keep_id(&mut self) {
        self.scan.keep_id(true);
    }

    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(error) = &mut self.error {
            let room = ERROR_ROOM - error.len();
            error.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.scan.push(bytes, self.output.as_deref_mut());
    }

    /// Whether its last bracket has passed.
    pub fn is_complete(&self) -> bool {
        self.scan.complete()
    }

    /// It is not JSON, whatever follows.
    pub fn has_given_up(&self) -> bool {
        self.scan.refused()
    }

    /// The body has ended, or will not be read further.
    pub fn finish(&mut self) -> Tally {
        let complete = self.is_complete();
        let mut tally = Tally::default();
        if let Some(found) = self.scan.found() {
            let called = if self.error.is_some() { Announces::Error } else { Announces::Other };
            tally.take(found, called);
        }
        if let Some(error) = self.error.take_if(|error| !error.trim_ascii().is_empty()) {
            tally.take_error_text(&error);
        }
        tally.terminal |= complete;
        tally.output = self.output.take_if(|_| tally.usage.is_none());
        tally
    }
}

#[cfg(test)]
mod tests;

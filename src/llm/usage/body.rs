//! The meter of response bodies that are one JSON text.

use super::extracted::EventKind;
use super::scan::Scan;
use super::slots::ERROR_LIMIT;
use super::{Output, Room, Tally};

/// Bytes of an error's body that are kept, with room for leading whitespace and a last character.
const ERROR_ROOM: usize = ERROR_LIMIT + 64;

/// Reads one JSON body in pieces of any size and keeps only the counts, so that images and
/// embeddings of ten megabytes pass in constant memory. A body that is not JSON (a transcript's
/// text) has no usage.
///
/// A body that was cut off keeps the usage that was complete before the cut.
///
/// ```
/// use streamgauge::llm::usage::BodyMeter;
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
    output: Option<Output>,
    /// The beginning of a body of any form that is or may be an error.
    beginning: Option<Vec<u8>>,
    is_error: bool,
}

impl Default for BodyMeter {
    fn default() -> BodyMeter {
        BodyMeter::new()
    }
}

impl BodyMeter {
    pub fn new() -> BodyMeter {
        BodyMeter { scan: Scan::of_body(), output: None, beginning: None, is_error: false }
    }

    /// Keeps the output text until usage is reported.
    pub fn keep_output(&mut self, room: &Room) {
        self.output = Some(Output::new(room));
    }

    /// Treats the body as an error: its own text is used if it names none.
    pub fn expect_error(&mut self) {
        self.is_error = true;
        self.keep_beginning();
    }

    /// Keeps the beginning of the body as its complaint, if it turns out to be no response.
    pub fn keep_beginning(&mut self) {
        self.beginning = Some(Vec::new());
    }

    /// Keeps the id of the result, and whether it is made in the background.
    pub fn keep_id(&mut self) {
        self.scan.keep_id(true);
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(beginning) = &mut self.beginning {
            let room = ERROR_ROOM - beginning.len();
            beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.scan.push(bytes, self.output.as_mut());
    }

    /// Returns true if the last bracket has been read.
    pub fn is_complete(&self) -> bool {
        self.scan.complete()
    }

    /// Returns true if the body is known not to be JSON.
    pub fn has_given_up(&self) -> bool {
        self.scan.refused()
    }

    /// Returns the results. Called once, at the end.
    pub fn finish(&mut self) -> Tally {
        let complete = self.is_complete();
        let mut tally = Tally::default();
        if let Some(extracted) = self.scan.extracted() {
            let named = if self.is_error { EventKind::Error } else { EventKind::Other };
            tally.take(extracted, named);
        }
        match self.beginning.take() {
            Some(text) if self.is_error && !text.trim_ascii().is_empty() => tally.take_error_text(&text),
            Some(text) => tally.complain(&text),
            None => {}
        }
        tally.terminal |= complete;
        let breaks = self.scan.refused() && self.scan.begins();
        tally.skipped += u64::from(breaks && !self.is_error);
        // A body that is refused behind its usage has no text either, in whatever pieces it came.
        let keeps_output = tally.usage.is_none() && !self.scan.has_counts();
        tally.output = self.output.take_if(|_| keeps_output).map(Box::new);
        tally
    }
}

#[cfg(test)]
mod tests;

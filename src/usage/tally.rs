//! What a meter knows so far.

use super::found::{Announces, Found, beginning};
use super::places::ERROR_LIMIT;
use super::{Cause, Output, Usage};

/// What was read from one answer, stream or body.
#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    /// The first model that was named and not empty.
    pub model: Option<Box<str>>,
    /// The usage that holds: the last one reported; of pictures, the sum of theirs.
    pub usage: Option<Usage>,
    /// How many payloads reported usage.
    pub usage_reports: u64,
    /// How many events there were, whatever was in them.
    pub events: u64,
    /// How many events, bodies or usage objects were too large to be read.
    pub skipped: u64,
    /// The answer said that it is whole: `[DONE]`, a type that ends a stream, or a body's last bracket.
    pub terminal: bool,
    /// What the first error in the answer said, cut to [`ERROR_LIMIT`] bytes.
    pub error: Option<Box<str>>,
    /// What that error comes of.
    pub cause: Cause,
    /// A body's `status` says that its answer is still to come (Responses in the background).
    pub pending: bool,
    /// The first id of a result that may be stored, where it was to be kept.
    pub id: Option<Box<str>>,
    /// What that result said last of whether it is made in the background, where it was to be kept.
    pub background: Option<bool>,
    /// The text of the output, where it was to be kept and no usage was reported.
    pub output: Option<Box<Output>>,
}

impl Tally {
    /// Takes over what one payload had. `called`: what its event's name announces.
    pub(super) fn take(&mut self, mut found: Found, called: Announces) {
        if let Some((usage, merges)) = found.usage() {
            self.usage_reports += 1;
            self.output = None;
            let is_picture = [called, found.announces].contains(&Announces::Picture);
            self.usage = Some(match self.usage {
                Some(earlier) if is_picture => earlier.plus(usage),
                Some(earlier) if merges => earlier.updated(usage),
                _ => usage,
            });
        }
        if self.model.is_none() {
            self.model = found.take_model();
        }
        self.take_error(&mut found, called == Announces::Error);
        let (id, background) = found.take_result();
        self.id = self.id.take().or(id);
        self.background = background.or(self.background);
        self.terminal |= found.announces.is_terminal();
        self.pending = found.pending;
        self.skipped += u64::from(found.too_large);
    }

    /// Takes over the payload's error, if it is the first. `named`: the event itself is an error.
    pub(super) fn take_error(&mut self, found: &mut Found, named: bool) {
        if self.error.is_none()
            && let Some((error, cause)) = found.take_error(named)
        {
            (self.error, self.cause) = (Some(error), cause);
        }
    }

    /// An error that is not told in JSON, or not in any way we know: its own text stands for it.
    pub(super) fn take_error_text(&mut self, text: &[u8]) {
        if self.error.is_none() {
            let text = text.trim_ascii();
            // The character that begins before the limit is whole.
            let text = String::from_utf8_lossy(&text[..text.len().min(ERROR_LIMIT + 3)]);
            self.error = Some(beginning(text.into_owned()));
        }
    }
}

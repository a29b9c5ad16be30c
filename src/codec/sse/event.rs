//! Events, and the handler that receives them.

use std::borrow::Cow;

/// One dispatched event, borrowed for the length of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The type: the last `event` line, or `message` if there was none or it was empty.
    pub name: &'a [u8],
    /// The values of the `data` lines, joined with LF.
    pub data: &'a [u8],
    /// The last event ID of the stream so far; empty if there was none.
    pub id: &'a [u8],
    /// The offset of `data` in the pushed slice, if it is contiguous there. A sink that searched
    /// the slice beforehand need not search the event again.
    pub at: Option<usize>,
}

impl Event<'_> {
    /// The data as the standard decodes it: invalid UTF-8 becomes U+FFFD.
    pub fn data_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.data)
    }
}

/// Receives the parts of a stream. All methods except `event` have an empty default.
pub trait EventHandler {
    /// Called for each dispatched event.
    fn event(&mut self, event: Event<'_>);

    /// Called for a comment line, without its colon.
    fn comment(&mut self, text: &[u8]) {
        let _ = text;
    }

    /// Called for a line with an unknown field, which the standard tells clients to ignore.
    /// llama.cpp reports its failures in one (`error: {...}`).
    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
    }

    /// Called for a piece of the data of an event that is too large to be held. The pieces come in
    /// order and are the whole data; [`EventHandler::oversize_end`] follows when the event ends.
    fn oversize(&mut self, piece: &[u8]) {
        let _ = piece;
    }

    /// Called at the end of an event that was passed on in pieces, or that is too large for another
    /// reason. It was counted as skipped, and [`EventHandler::event`] is not called for it.
    fn oversize_end(&mut self) {}

    /// Called after a blank line has ended the lines before it: an event, comments or nothing.
    /// `end` is the offset after the blank line in the pushed slice. If a CRLF is cut after its CR,
    /// the LF at the next slice's start belongs to it.
    ///
    /// Returns the offset at which the decoder continues: `end`, or the end of following events
    /// that the sink has consumed itself. Those must be complete, consist of `data` and `event`
    /// lines, and end with an LF.
    fn block_end(&mut self, end: usize) -> usize {
        end
    }
}

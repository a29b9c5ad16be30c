//! Events, and the handler that receives them.

use std::borrow::Cow;

/// One dispatched event. Everything is lent for the length of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its type: the last `event` line, `message` when there was none or it was empty.
    pub name: &'a [u8],
    /// The values of its `data` lines, joined with LF.
    pub data: &'a [u8],
    /// The last event ID of the stream so far, empty when there was none.
    pub id: &'a [u8],
    /// Where `data` begins in the slice just pushed, when it is whole there. A sink that searched
    /// the slice beforehand need not search the event again.
    pub at: Option<usize>,
}

impl Event<'_> {
    /// The data as the standard has it: invalid UTF-8 becomes U+FFFD.
    pub fn data_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.data)
    }
}

/// Receives the parts of a stream. All methods except `event` have an empty default.
pub trait EventHandler {
    /// An event was dispatched.
    fn event(&mut self, event: Event<'_>);

    /// A comment line, without its colon.
    fn comment(&mut self, text: &[u8]) {
        let _ = text;
    }

    /// A line with a field that the standard does not know and tells clients to ignore. llama.cpp
    /// reports its failures in one (`error: {...}`).
    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value);
    }

    /// A piece of the data of an event that is too large to be held. The pieces come in order, and
    /// together they are the whole data; [`EventHandler::oversize_end`] follows when the event
    /// ends.
    fn oversize(&mut self, piece: &[u8]) {
        let _ = piece;
    }

    /// The event of the pieces has ended, or one that is too large for another reason; it was
    /// counted as skipped, and [`EventHandler::event`] never saw it.
    fn oversize_end(&mut self) {}

    /// A blank line has ended the lines before it: an event, comments or nothing. `end` is
    /// where in the slice just pushed the blank line is over; of a CRLF that is cut behind its CR,
    /// the LF at the next slice's start belongs to it.
    ///
    /// Returns where in the slice the decoder is to go on: at `end`, or behind events that follow
    /// there, if the sink has taken them in itself. Those must be whole, consist of `data` and
    /// `event` lines, and end with an LF.
    fn block_end(&mut self, end: usize) -> usize {
        end
    }
}

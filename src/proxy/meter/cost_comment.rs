//! The comment with the use of a response, right before the event that ends its stream.
//!
//! The beginning of an event waits for its end, since the comment may have to come before it. All
//! other bytes pass unchanged, and at once.

use std::sync::Arc;

use bytes::Bytes;

use super::told::Told;
use crate::codec::sse::{Line, Lines, block_length};
use crate::llm::price::Prices;
use crate::llm::usage::StreamMeter;
use crate::record::UsageRecord;
use crate::support::Live;

/// The largest part of an event that waits. A larger event passes, without a comment before it.
const HOLD_LIMIT: usize = 1 << 20;

/// Asks for memory for this many bytes in total.
type MayHold = Box<dyn FnMut(usize) -> bool>;

/// Inserts the comment into one stream.
pub struct CostComment {
    pub(super) prices: Arc<Live<Prices>>,
    may_hold: MayHold,
    lines: Lines,
    /// The beginning of an event.
    held: Vec<u8>,
    /// The client has the beginning of an event whose end has not arrived.
    passes_event: bool,
    /// The use in the record, after it was closed.
    recorded: Option<Told>,
}

impl CostComment {
    /// `may_hold` asks for memory for this many bytes in total.
    pub fn new(prices: Arc<Live<Prices>>, may_hold: MayHold) -> Box<Self> {
        // No line's text is needed.
        let lines = Lines::new(0);
        Box::new(Self { prices, may_hold, lines, held: Vec::new(), passes_event: false, recorded: None })
    }

    /// Keeps the use in the record, which is closed next.
    pub(super) fn record(&mut self, row: &UsageRecord) {
        self.recorded = Some(Told::recorded(row, &self.prices.peek()));
    }

    /// The use in the closed record.
    pub(super) fn recorded(&self) -> Option<Told> {
        self.recorded
    }

    /// Returns true if the client has no byte of an unfinished event.
    pub(super) fn is_between_events(&self) -> bool {
        !self.passes_event
    }

    /// The waiting bytes, at the end of a stream that fails.
    pub(super) fn into_held(self: Box<Self>) -> Bytes {
        self.held.into()
    }

    /// Returns what may pass now, in the middle of a stream.
    pub(super) fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        let end = self.end_of_events(&bytes);
        if end == 0 && self.passes_event {
            return bytes;
        }
        let waiting = bytes.split_off(end);
        let waits = waiting.len() + if end == 0 { self.held.len() } else { 0 };
        self.passes_event = waits > HOLD_LIMIT || !(self.may_hold)(waits);
        match (end, self.passes_event) {
            (0, false) => {
                self.held.extend_from_slice(&waiting);
                Bytes::new()
            }
            (_, false) => after(std::mem::replace(&mut self.held, waiting.into()), bytes),
            (_, true) => {
                let held = after(std::mem::take(&mut self.held), bytes);
                after(held.into(), waiting)
            }
        }
    }

    /// Returns all bytes, with the comment if the event that ends the stream begins in them.
    pub(super) fn finish(self: Box<Self>, bytes: Bytes, told: &Told) -> Bytes {
        let bytes = after(self.held, bytes);
        match (told.comment(), start_of_last_event(&bytes)) {
            (Some(comment), Some(at)) => [&bytes[..at], comment.as_bytes(), &bytes[at..]].concat().into(),
            _ => bytes,
        }
    }

    /// The offset behind the last event that ends in these bytes; 0 if none does.
    fn end_of_events(&mut self, bytes: &[u8]) -> usize {
        let is_between = self.held.is_empty() && !self.passes_event;
        // Such an LF belongs to the blank line that has passed.
        let mut end = usize::from(is_between && self.lines.is_after_cr() && bytes.first() == Some(&b'\n'));
        let mut at = 0;
        while let Some(line) = self.lines.next(bytes, &mut at) {
            if matches!(line, Line::Here { line: [], .. }) {
                end = at;
            }
        }
        end
    }
}

/// Joins the waiting bytes and the next ones.
fn after(held: Vec<u8>, bytes: Bytes) -> Bytes {
    if held.is_empty() { bytes } else { [&held[..], &bytes].concat().into() }
}

/// The offset of the event that ends the stream, also if it is the unfinished one at the end.
fn start_of_last_event(bytes: &[u8]) -> Option<usize> {
    let mut meter = StreamMeter::new();
    let (mut at, mut next) = (0, 0);
    while next < bytes.len() {
        at = next;
        next += block_length(&bytes[at..]);
        if meter.push(&bytes[at..next]).terminal {
            return Some(at);
        }
    }
    meter.finish(false);
    meter.tally().terminal.then_some(at)
}

#[cfg(test)]
mod tests;

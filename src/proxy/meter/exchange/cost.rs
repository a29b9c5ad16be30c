//! The use of the response in a comment for the client.

use bytes::Bytes;

use super::{Exchange, ResponseFrames};
use crate::proxy::meter::{CostComment, Told};

impl<B: ResponseFrames> Exchange<B> {
    /// Adds the comment, if this is a stream that ends with an event.
    pub(in crate::proxy::meter) fn tell_cost(&mut self, comment: Box<CostComment>) {
        if self.is_open() && self.takes_events() && self.status.is_success() && self.ends_by_event() {
            self.comment = Some(comment);
        }
    }

    /// Adds no comment: the body is not a stream.
    pub(in crate::proxy::meter) fn tell_nothing(&mut self) {
        self.comment = None;
    }

    /// Returns true if the comment is still to be added.
    pub(in crate::proxy::meter) fn tells_cost(&self) -> bool {
        self.comment.is_some()
    }

    /// Returns what passes now of the bytes for the client, with the comment once it is due.
    /// `is_last`: nothing follows.
    pub(in crate::proxy::meter) fn pass_told(&mut self, bytes: Bytes, is_last: bool) -> Bytes {
        let Some(mut comment) = self.comment.take() else { return bytes };
        if !is_last && !self.is_final() {
            let passing = comment.pass(bytes);
            self.comment = Some(comment);
            return passing;
        }
        let told = if self.is_open() {
            let (row, tally) = (self.reading.entry.row(), self.reading.kind.tally());
            tally.map(|tally| Told::so_far(row, tally, &comment.prices.peek()))
        } else {
            comment.recorded()
        };
        comment.finish(bytes, &told.unwrap_or_default())
    }

    /// The bytes that wait for the end of their event. The comment is not added.
    pub(in crate::proxy::meter) fn take_waiting(&mut self) -> Bytes {
        self.comment.take().map(CostComment::into_held).unwrap_or_default()
    }
}

//! The end of an exchange: its causes, and the record that closes with it.

use std::time::Instant;

use super::{Exchange, ResponseFrames};
use crate::balance::RelayEnd;
use crate::llm::usage::Cause;
use crate::record::Outcome;
use crate::record::error::{Error, Kind};

/// The ways in which an exchange ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// The response is complete.
    Whole,
    /// The upstream broke off, fell silent, or broke the protocol.
    Failed(Outcome),
    /// The response is complete, and the client was not sent all of it.
    Unsent,
    /// The response is complete, and the client gets an error of ours in its place.
    Replaced(Outcome),
    /// The response is read no further.
    Left,
}

impl<B: ResponseFrames> Exchange<B> {
    /// Closes the record with `error`. A response that is stopped after its last event is
    /// complete.
    pub(in crate::proxy::meter) fn fail(&mut self, error: &Error) {
        if *error.kind() == Kind::Stopped && self.is_final() {
            return self.close(End::Left);
        }
        if self.is_open() {
            let row = self.reading.entry.row();
            (row.error, row.code) = (Some(error.to_string().into()), Some(error.code()));
        }
        self.close(End::Failed(error.outcome()));
    }

    /// Stops reading, and records the reason.
    pub(in crate::proxy::meter) fn abort(&mut self, reason: String) {
        self.explain(reason);
        self.close(End::Left);
    }

    /// Leaves the record open at the end of the body, until [`Exchange::sent`].
    pub(in crate::proxy::meter) fn defer(&mut self) {
        self.defers = true;
    }

    /// Closes a deferred record: the client has been sent everything.
    pub(in crate::proxy::meter) fn sent(&mut self) {
        self.defers = false;
        if let Some(end) = self.ended.take() {
            self.close(end);
        }
    }

    /// Closes a deferred record: the response is not an event stream, and the client, which has the head
    /// of one, gets `error` in its place. Its text has the body, which no record may have.
    pub(in crate::proxy::meter) fn replaced_by(&mut self, error: &Error) {
        self.defers = false;
        match self.ended.take() {
            Some(End::Whole) if Cause::of_status(self.status.as_u16()).is_none() => {
                self.reading.entry.row().code = Some(error.code());
                self.close(End::Replaced(error.outcome()));
            }
            Some(end) => self.close(end),
            None => {}
        }
    }

    /// Records that the client is cut off, and the reason.
    pub(in crate::proxy::meter) fn explain(&mut self, reason: String) {
        self.is_aborted = true;
        if self.is_open() {
            self.reading.entry.row().error = Some(reason.into());
        }
    }

    /// Closes the record, once. A stream is complete after its last event, however its body ends:
    /// many SDKs close without reading further.
    pub(super) fn close(&mut self, end: End) {
        self.close_at(end, None);
    }

    /// Does the same. `at`: the time of the last read, if that was just now.
    pub(super) fn close_at(&mut self, end: End, at: Option<Instant>) {
        if self.reading.entry.is_closed() {
            return;
        }
        if self.defers && matches!(end, End::Whole | End::Failed(_)) {
            self.ended = Some(end);
            return;
        }
        if let Some((first, last)) = self.reading.events {
            self.reading.entry.events(first, last);
        }
        let is_events = self.reading.kind.is_events();
        let ended = matches!(end, End::Whole | End::Unsent | End::Replaced(_));
        let mut whole = matches!(end, End::Whole);
        let mut lacks_end = ended && is_events && self.status.is_success() && self.body.ends_by_close();
        // The cause is in the status, or inside the response.
        let mut cause = Cause::of_status(self.status.as_u16());
        let feedback = self.feedback.take();
        if let Some(mut tally) = self.reading.kind.take_tally(ended) {
            self.reading.entry.row().events = is_events.then_some(tally.events);
            tally.broke_off = matches!(end, End::Failed(_));
            if whole && tally.error.is_none() {
                tally.error = self.lack(is_events, &mut tally);
            }
            if ended
                && self.status.is_success()
                && let Some(feedback) = feedback
            {
                feedback.report(&tally);
            }
            whole |= is_events && tally.terminal && !self.is_aborted;
            lacks_end &= !tally.terminal && tally.error.is_none();
            cause = cause.or(tally.error.is_some().then_some(tally.cause));
            self.reading.entry.metered(tally, ended);
            if let Some(comment) = &mut self.comment {
                comment.record(self.reading.entry.row());
            }
        }
        if let Some(permit) = self.permit.take() {
            let has_failed = matches!(end, End::Failed(outcome) if outcome != Outcome::Cut);
            let is_truncated = has_failed || (lacks_end && self.ends_by_event());
            let ending = if is_truncated { RelayEnd::Truncated } else { RelayEnd::Complete };
            // After the client left, or a limit cut the response, its end is unknown.
            if is_truncated || whole {
                // The last read of a complete response is the time of its end.
                let now = if is_truncated { Instant::now() } else { self.body.read_at() };
                let opened = permit.permit.record_end(ending, now);
                opened.into_iter().for_each(|reason| self.reading.entry.note_opened(reason.name()));
            }
        }
        if matches!(end, End::Replaced(_)) {
            let row = self.reading.entry.row();
            let code = row.code.unwrap_or_default();
            row.error.get_or_insert_with(|| format!("{code}: the response is not an event stream").into());
        }
        match end {
            // A drain ends like a client that left, unless the process is stopping.
            End::Whole | End::Failed(_) | End::Replaced(_) if self.reading.entry.has_client_left() => {
                self.reading.entry.close(Outcome::ClientDisconnected);
            }
            End::Left if self.reading.entry.has_client_left() => self.reading.entry.abandon(),
            End::Whole if lacks_end && self.ends_by_event() => {
                let error = "the connection ended before the event that ends the stream";
                self.reading.entry.row().error.get_or_insert_with(|| error.into());
                self.reading.entry.close(Outcome::Truncated);
            }
            End::Failed(outcome) => self.reading.entry.close(outcome),
            End::Replaced(outcome) => self.reading.entry.close(cause.map_or(outcome, Outcome::from)),
            _ if whole => {
                let now = at.unwrap_or_else(Instant::now);
                self.reading.entry.close_at(cause.map_or(Outcome::Complete, Outcome::from), now);
            }
            // The entry knows whether the client left or the process is stopping.
            _ => self.reading.entry.abandon(),
        }
    }
}

impl<B: ResponseFrames> Drop for Exchange<B> {
    fn drop(&mut self) {
        let is_deferred = std::mem::take(&mut self.defers);
        let end = match self.ended.take() {
            Some(End::Whole) => End::Unsent,
            Some(end) => end,
            // A connection polls no further than the declared length, and HTTP/2's end may follow.
            None if !is_deferred && self.body.size_hint().exact() == Some(0) => End::Whole,
            None => End::Left,
        };
        self.close(end);
    }
}

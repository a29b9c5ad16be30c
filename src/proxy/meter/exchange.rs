//! One response while it is read: its body, its meter and its record.

mod completeness;
mod frames;
mod reading;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use super::feedback::EndFeedback;
use super::{IdWatch, ResponseMeter, UsageFeedback};
use crate::balance::{Permit, RelayEnd};
use crate::codec::sse::Position;
use crate::llm::usage::{Cause, Progress};
use crate::record::error::{Error, EventStream, Kind};
use crate::record::{Entry, Outcome};
use crate::support::flow::StreamTiming;
use crate::support::pieces::Relayed;
use reading::Reading;

pub use frames::ResponseFrames;

/// The number of events of a piece that were withheld. Breaks if no further piece is wanted.
pub(super) type Passed = ControlFlow<u32, u32>;

/// Reads a response, shows each frame to the meter, and closes the record at the end. Its user
/// decides about the frames: [`Metered`](super::Metered) passes them to the client, a drain drops
/// them.
///
/// Dropping it early closes the record and drops the body, which tells the upstream.
pub(super) struct Exchange<B: ResponseFrames> {
    body: B,
    reading: Reading,
    status: StatusCode,
    /// The record stays open after the end of the body, until the client has been sent all of it.
    defers: bool,
    /// The client is cut off: it did not get the response, even if that is complete.
    is_aborted: bool,
    /// The end of the response, while the record stays open.
    ended: Option<End>,
    feedback: Option<EndFeedback>,
    /// The media type is that of an event stream.
    promises_events: bool,
}

/// The ways in which an exchange ends.
#[derive(Clone, Copy)]
enum End {
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
    /// Meters `body` with `kind` into `entry`, and the times of its events into `timing`.
    pub(super) fn new(
        body: B,
        mut kind: ResponseMeter,
        mut entry: Entry,
        status: StatusCode,
        timing: Option<Rc<StreamTiming>>,
    ) -> Box<Self> {
        if let Some(room) = entry.keeps_output(status.as_u16()) {
            kind.keep_output(room);
        }
        if Cause::of_status(status.as_u16()).is_some() {
            kind.expect_error();
        }
        if entry.may_be_stored() {
            kind.keep_id();
        }
        let promises_events = kind.is_events() && !kind.is_ambiguous();
        let mut exchange = Box::new(Self {
            body,
            reading: Reading {
                kind,
                entry,
                progress: Progress::default(),
                events: None,
                timing,
                fresh: 0,
                ids: None,
            },
            status,
            defers: false,
            is_aborted: false,
            ended: None,
            feedback: None,
            promises_events,
        });
        if exchange.body.is_end_stream() {
            exchange.close(End::Whole);
        }
        exchange
    }

    /// Reads the next frame and meters it. Closes the record at the last frame, since a connection
    /// does not poll beyond `is_end_stream`. After an error the caller calls [`Exchange::fail`].
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.reading.saw(data, self.body.read_at());
                }
                if self.body.is_end_stream() {
                    self.close(End::Whole);
                }
            }
            // The coding breaks after the last event: the response is complete.
            Some(Err(error)) if *error.kind() == Kind::Undecodable && self.reading.kind.is_final() => {
                self.close(End::Whole);
                return Poll::Ready(None);
            }
            Some(Err(_)) => {}
            None => self.close(End::Whole),
        }
        Poll::Ready(polled)
    }

    /// Meters what there is, and passes it to `pass` with the meter's findings, until `pass` breaks.
    /// `None`: the body has frames only. After an error the caller calls [`Exchange::fail`].
    pub(super) fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        pass: &mut dyn FnMut(&[u8], Progress) -> Passed,
    ) -> Option<Poll<Relayed<Error>>> {
        let Self { body, reading, .. } = self;
        let polled = body.as_pieces()?.poll_pieces(cx, &mut |data, read| {
            reading.saw(data, read);
            match pass(data, reading.progress) {
                ControlFlow::Continue(withheld) => {
                    reading.passes(withheld);
                    ControlFlow::Continue(())
                }
                ControlFlow::Break(withheld) => {
                    reading.passes(withheld);
                    ControlFlow::Break(())
                }
            }
        });
        if matches!(polled, Poll::Ready(Relayed::Whole(_))) {
            self.close(End::Whole);
        }
        Some(polled)
    }

    /// Counts the events of the last frame as passed on, except those withheld.
    pub(super) fn passes(&mut self, withheld: u32) {
        self.reading.passes(withheld);
    }

    /// Closes the record with `error`. A response that is stopped after its last event is
    /// complete.
    pub(super) fn fail(&mut self, error: &Error) {
        if *error.kind() == Kind::Stopped && self.is_final() {
            return self.close(End::Left);
        }
        if self.is_open() {
            let row = self.reading.entry.row();
            (row.error, row.code) = (Some(error.to_string().into()), Some(error.code()));
        }
        self.close(End::Failed(error.outcome()));
    }

    /// Writes `error` as the last bytes of this stream: the end of an unfinished event, and an
    /// error event in the form of the endpoint. Must be called before [`Exchange::fail`].
    ///
    /// `held` are the bytes that wait to be passed on. `None`: the unfinished event stays withheld.
    /// Returns `None` if no event may be inserted: in another kind of body, and after the last
    /// event.
    pub(super) fn last_words(&mut self, error: &Error, held: Option<&[u8]>) -> Option<Vec<u8>> {
        if !self.takes_events() || !self.status.is_success() || self.is_final() || !self.is_open() {
            return None;
        }
        let mut stream = EventStream::of(&mut self.reading.entry);
        stream.model = self.reading.kind.model().map(str::to_owned).or(stream.model);
        stream.events = self.reading.kind.progress().map_or(0, |(events, _)| events);
        let separator = if held.is_some() { self.reading.kind.separator() } else { b"" };
        Some([held.unwrap_or_default(), separator, &error.to_event(&stream)].concat())
    }

    /// Like [`Exchange::poll_frame`]. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Stops reading, and records the reason.
    pub(super) fn abort(&mut self, reason: String) {
        self.explain(reason);
        self.close(End::Left);
    }

    /// Leaves the record open at the end of the body, until [`Exchange::sent`].
    pub(super) fn defer(&mut self) {
        self.defers = true;
    }

    /// Closes a deferred record: the client has been sent everything.
    pub(super) fn sent(&mut self) {
        self.defers = false;
        if let Some(end) = self.ended.take() {
            self.close(end);
        }
    }

    /// Closes a deferred record: the response is not an event stream, and the client, which has the head
    /// of one, gets `error` in its place. Its text has the body, which no record may have.
    pub(super) fn replaced_by(&mut self, error: &Error) {
        self.defers = false;
        match self.ended.take() {
            Some(End::Whole) if self.status.is_success() => {
                self.reading.entry.row().code = Some(error.code());
                self.close(End::Replaced(error.outcome()));
            }
            Some(end) => self.close(end),
            None => {}
        }
    }

    /// Records that the client is cut off, and the reason.
    pub(super) fn explain(&mut self, reason: String) {
        self.is_aborted = true;
        if self.is_open() {
            self.reading.entry.row().error = Some(reason.into());
        }
    }

    /// Reports to `feedback` at the end of the response.
    pub(super) fn teach(&mut self, feedback: UsageFeedback) {
        if !feedback.asked {
            self.reading.kind.expect_timings();
        }
        self.feedback = Some(EndFeedback::Usage(feedback));
    }

    /// Remembers the ids in the response.
    pub(super) fn watch_ids(&mut self, ids: Box<IdWatch>) {
        match &mut self.reading.kind {
            ResponseMeter::Encoded(tap) => tap.watch_ids(ids),
            _ => self.reading.ids = Some(ids),
        }
    }

    /// Records the end of the response in `permit`.
    pub(super) fn keep_permit(&mut self, permit: Permit) {
        if self.is_open() {
            let (_, usage) = EndFeedback::split(self.feedback.take());
            self.feedback = Some(EndFeedback::Member(Box::new((permit, usage))));
        } else {
            permit.record_end(RelayEnd::Complete, Instant::now());
        }
    }

    pub(super) fn entry(&mut self) -> &mut Entry {
        &mut self.reading.entry
    }

    fn is_open(&self) -> bool {
        !self.reading.entry.is_closed()
    }

    /// Returns true if reading on can yield more usage.
    pub(super) fn has_more_to_tell(&self) -> bool {
        let is_open = self.is_open() && self.ended.is_none();
        is_open && self.reading.kind.is_metered() && !self.is_final() && self.reading.entry.may_have_usage()
    }

    /// Returns true if the last event, or the end of the document, has been read.
    pub(super) fn is_final(&self) -> bool {
        self.reading.kind.is_final()
    }

    /// Returns true if the body is an event stream, encoded or not. Only valid while the record is
    /// open.
    pub(super) fn is_events(&self) -> bool {
        self.reading.kind.is_events()
    }

    /// The meter's findings in the last frame of a stream.
    pub(super) fn progress(&self) -> Progress {
        self.reading.progress
    }

    /// Returns true if an event of ours may be inserted. Only valid while the record is open.
    pub(super) fn takes_events(&self) -> bool {
        self.reading.kind.takes_events()
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The position within an event at the end of the last frame.
    pub(super) fn position(&self) -> Position {
        self.reading.kind.position()
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Closes the record, once. A stream is complete after its last event, however its body ends:
    /// many SDKs close without reading further.
    fn close(&mut self, end: End) {
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
        let (permit, usage) = EndFeedback::split(self.feedback.take());
        if let Some(mut tally) = self.reading.kind.take_tally(ended) {
            self.reading.entry.row().events = is_events.then_some(tally.events);
            if whole && tally.error.is_none() {
                tally.error = self.lack(is_events, &tally).map(Into::into);
            }
            if ended
                && self.status.is_success()
                && let Some(feedback) = usage
            {
                feedback.report(&tally);
            }
            whole |= is_events && tally.terminal && !self.is_aborted;
            lacks_end &= !tally.terminal && tally.error.is_none();
            cause = cause.or(tally.error.is_some().then_some(tally.cause));
            self.reading.entry.metered(tally, ended);
        }
        if let Some(permit) = permit {
            let is_cut = matches!(end, End::Failed(_)) || (lacks_end && self.ends_by_event());
            let ending = if is_cut { RelayEnd::Truncated } else { RelayEnd::Complete };
            // After the client left, the end of the response is unknown.
            if is_cut || whole {
                let opened = permit.record_end(ending, Instant::now());
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
            _ if whole => self.reading.entry.close(cause.map_or(Outcome::Complete, Outcome::from)),
            // The entry knows whether the client left or the process is stopping.
            _ => self.reading.entry.abandon(),
        }
    }
}

impl<B: ResponseFrames> Drop for Exchange<B> {
    fn drop(&mut self) {
        self.defers = false;
        let end = match self.ended.take() {
            Some(End::Whole) => End::Unsent,
            Some(end) => end,
            None => End::Left,
        };
        self.close(end);
    }
}

#[cfg(test)]
mod tests;

//! One response while it is read: its body, its meter and its record.

mod completeness;
mod cost;
mod end;
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

use super::{CostComment, IdWatch, MemberPermit, ResponseMeter, UsageFeedback};
use crate::balance::RelayEnd;
use crate::codec::sse::Position;
use crate::llm::usage::{Cause, Progress};
use crate::record::Entry;
use crate::record::error::{Error, EventStream, Kind};
use crate::support::flow::StreamTiming;
use crate::support::pieces::Relayed;
use end::End;
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
    /// Receives the findings about usage at the end of the response.
    feedback: Option<UsageFeedback>,
    /// The permit of the group's member.
    permit: Option<Box<MemberPermit>>,
    /// The media type is that of an event stream.
    promises_events: bool,
    /// Tells the client the use of the response. `None` after that, and nearly always.
    comment: Option<Box<CostComment>>,
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
        kind.count_in(entry.memory());
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
        if promises_events && status.is_success() {
            kind.keep_beginning();
        }
        if entry.row().endpoint.as_deref() == Some("completions") {
            kind.expect_completion();
        }
        let mut exchange = Box::new(Self {
            body,
            reading: Reading {
                kind,
                entry,
                progress: Progress::default(),
                events: None,
                timing,
                fresh: 0,
                cut: None,
                ids: None,
            },
            status,
            defers: false,
            is_aborted: false,
            ended: None,
            feedback: None,
            permit: None,
            promises_events,
            comment: None,
        });
        if exchange.body.is_end_stream() {
            exchange.close(End::Whole);
        }
        exchange
    }

    /// Reads the next frame and meters it. Closes the record at the last frame, since a connection
    /// does not poll beyond `is_end_stream`. After an error the caller calls [`Exchange::fail`].
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(error) = self.take_cut() {
            return Poll::Ready(Some(Err(error)));
        }
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
        if self.reading.cut.is_some()
            && self.body.as_pieces().is_some()
            && let Some(error) = self.take_cut()
        {
            return Some(Poll::Ready(Relayed::Failed(error)));
        }
        if self.comment.is_some() {
            return None;
        }
        let Self { body, reading, .. } = self;
        let mut last_read = None;
        let polled = body.as_pieces()?.poll_pieces(cx, &mut |data, read| {
            last_read = Some(read);
            reading.saw(data, read);
            match pass(data, reading.progress) {
                ControlFlow::Continue(withheld) => {
                    reading.passes(withheld);
                    // Nothing more may pass.
                    if reading.cut.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }
                ControlFlow::Break(withheld) => {
                    reading.passes(withheld);
                    ControlFlow::Break(())
                }
            }
        });
        if matches!(polled, Poll::Ready(Relayed::Whole(_))) {
            self.close_at(End::Whole, last_read);
        }
        Some(polled)
    }

    /// The error with which the stream must end before its last event.
    fn take_cut(&mut self) -> Option<Error> {
        self.reading.cut.take().filter(|_| self.is_open() && !self.is_final())
    }

    /// Counts the events of the last frame as passed on, except those withheld.
    pub(super) fn passes(&mut self, withheld: u32) {
        self.reading.passes(withheld);
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

    /// Reports to `feedback` at the end of the response.
    pub(super) fn teach(&mut self, feedback: UsageFeedback) {
        if !feedback.asked {
            self.reading.kind.expect_timings();
        }
        self.feedback = Some(feedback);
    }

    /// Remembers the ids in the response.
    pub(super) fn watch_ids(&mut self, ids: Box<IdWatch>) {
        match &mut self.reading.kind {
            ResponseMeter::Encoded(tap) => tap.watch_ids(ids),
            _ => self.reading.ids = Some(ids),
        }
    }

    /// Records the end of the response in `permit`.
    pub(super) fn keep_permit(&mut self, permit: Box<MemberPermit>) {
        if self.is_open() {
            self.permit = Some(permit);
        } else {
            permit.permit.record_end(RelayEnd::Complete, Instant::now());
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

    /// Returns true if the client has no byte of an unfinished event, apart from withheld ones.
    pub(super) fn is_between_events(&self) -> bool {
        let is_between = || self.reading.kind.position() == Position::BetweenEvents;
        self.comment.as_ref().map_or_else(is_between, |comment| comment.is_between_events())
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.tells_cost() {
            return SizeHint::default();
        }
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

//! One answer under way: its body, the meter beside it, and its record.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::{ResponseMeter, UsageFeedback};
use crate::error::{Error, EventStream, Kind};
use crate::flow::StreamTiming;
use crate::record::{Entry, Outcome};
use crate::sse::Position;
use crate::upstream::UpstreamBody;
use crate::usage::{Cause, Progress, Tally};

/// An answer's body, as everything here takes it.
pub trait ResponseFrames: Body<Data = Bytes, Error = Error> + Unpin + 'static {
    /// When the bytes of the frame that was polled last were read from the upstream's socket.
    fn read_at(&self) -> Instant;

    /// Whether its end is its connection's, which a cut looks like.
    fn ends_by_close(&self) -> bool;
}

/// Endpoints whose streams end with an event that says so.
const ENDED_BY_EVENT: [&str; 4] = ["chat/completions", "completions", "messages", "responses"];

impl ResponseFrames for UpstreamBody {
    fn read_at(&self) -> Instant {
        self.read_at()
    }

    fn ends_by_close(&self) -> bool {
        self.ends_by_close()
    }
}

/// Reads an answer, shows each frame to the meter, and closes the record when the answer ends. Who
/// reads it decides what becomes of the frames: `Metered` hands them to the client.
///
/// Dropping it closes the record of an exchange that did not come to its end, and tells the
/// upstream.
pub(super) struct Exchange<B: ResponseFrames> {
    body: B,
    kind: ResponseMeter,
    entry: Entry,
    status: StatusCode,
    /// What the last frame brought.
    progress: Progress,
    /// When the first event was here, and the last.
    events: Option<(Instant, Instant)>,
    /// Where the times of a stream's events are counted; `None` for other bodies.
    timing: Option<Rc<StreamTiming>>,
    /// How many events ended in the frame that was read last.
    fresh: u32,
    /// The record stays open when the answer has ended, until the client has been sent all of it.
    defers: bool,
    /// The client is given up: whatever the answer says, the client did not take it.
    is_given_up: bool,
    /// How the answer ended, while the record stays open.
    ended: Option<End>,
    feedback: Option<UsageFeedback>,
    /// The answer's type is that of an event stream.
    promises_events: bool,
}

/// How an exchange ends.
#[derive(Clone, Copy)]
enum End {
    /// The upstream's answer is complete.
    Whole,
    /// The upstream broke off, fell silent, or broke the protocol.
    Failed(Outcome),
    /// The upstream's answer is complete, and the client was not sent all of it.
    Unsent,
    /// Nobody reads it any longer.
    Left,
}

impl<B: ResponseFrames> Exchange<B> {
    /// Meters `body` as `kind`, into `entry`, and the times of its events into `timing`.
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
            kind,
            entry,
            status,
            progress: Progress::default(),
            events: None,
            timing,
            fresh: 0,
            defers: false,
            is_given_up: false,
            ended: None,
            feedback: None,
            promises_events,
        });
        if exchange.body.is_end_stream() {
            exchange.close(End::Whole);
        }
        exchange
    }

    /// The next frame, which the meter has seen. The record is closed with the last one, since
    /// nobody need ask for what comes after it. After an error the caller says what becomes of it,
    /// and calls [`Exchange::fail`].
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.saw(data);
                }
                if self.body.is_end_stream() {
                    self.close(End::Whole);
                }
            }
            // Its coding is broken behind all that it says.
            Some(Err(error)) if *error.kind() == Kind::Undecodable && self.kind.is_final() => {
                self.close(End::Whole);
                return Poll::Ready(None);
            }
            Some(Err(_)) => {}
            None => self.close(End::Whole),
        }
        Poll::Ready(polled)
    }

    /// The frame that was read last goes to the client now, but for so many of its events.
    pub(super) fn passes(&mut self, withheld: u32) {
        if let (Some(timing), Some((_, read))) = (&self.timing, self.events) {
            timing.passed(read, std::mem::take(&mut self.fresh).saturating_sub(withheld));
        }
    }

    /// The answer ends with `error`. What was stopped after the event that ends the answer is
    /// whole.
    pub(super) fn fail(&mut self, error: &Error) {
        if *error.kind() == Kind::Stopped && self.is_final() {
            return self.close(End::Left);
        }
        if self.is_open() {
            let row = self.entry.row();
            (row.error, row.code) = (Some(error.to_string().into()), Some(error.code()));
        }
        self.close(End::Failed(error.outcome()));
    }

    /// `error` as the last bytes of this stream: what ends an unfinished event, and an event in the
    /// form of the endpoint.
    ///
    /// `None` where no event may stand: in any other body, and behind the event that ends the
    /// answer. To be called before [`Exchange::fail`]. `held`: bytes that were not passed on;
    /// `None`: nor will those be that are unfinished.
    pub(super) fn last_words(&mut self, error: &Error, held: Option<&[u8]>) -> Option<Vec<u8>> {
        if !self.takes_events() || !self.status.is_success() || self.is_final() || !self.is_open() {
            return None;
        }
        let mut stream = EventStream::of(&mut self.entry);
        stream.model = self.kind.model().map(str::to_owned).or(stream.model);
        stream.events = self.kind.progress().map_or(0, |(events, _)| events);
        let separator = if held.is_some() { self.kind.separator() } else { b"" };
        Some([held.unwrap_or_default(), separator, &error.to_event(&stream)].concat())
    }

    /// The next frame, as [`Exchange::poll_frame`] gives it. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Not read to its end, for the reason that is told.
    pub(super) fn abort(&mut self, reason: String) {
        self.explain(reason);
        self.close(End::Left);
    }

    /// Leaves the record open at the end of the answer, until [`Exchange::sent`].
    pub(super) fn defer(&mut self) {
        self.defers = true;
    }

    /// The client has been sent everything that was read.
    pub(super) fn sent(&mut self) {
        self.defers = false;
        if let Some(end) = self.ended.take() {
            self.close(end);
        }
    }

    /// The client is given up, for the reason that is told.
    pub(super) fn explain(&mut self, reason: String) {
        self.is_given_up = true;
        if self.is_open() {
            self.entry.row().error = Some(reason.into());
        }
    }

    /// What the answer teaches is learnt at its end.
    pub(super) fn teach(&mut self, feedback: UsageFeedback) {
        if !feedback.asked {
            self.kind.expect_timings();
        }
        self.feedback = Some(feedback);
    }

    /// The record.
    pub(super) fn entry(&mut self) -> &mut Entry {
        &mut self.entry
    }

    fn is_open(&self) -> bool {
        !self.entry.is_closed()
    }

    /// Whether reading on could tell more of the usage.
    pub(super) fn has_more_to_tell(&self) -> bool {
        let is_open = self.is_open() && self.ended.is_none();
        is_open && self.kind.is_metered() && !self.is_final() && self.entry.may_have_usage()
    }

    /// Whether what has been read says that the answer is whole.
    pub(super) fn is_final(&self) -> bool {
        self.kind.is_final()
    }

    /// Whether the answer is an event stream, encoded or not; only while the record is open.
    pub(super) fn is_events(&self) -> bool {
        self.kind.is_events()
    }

    /// What the frame that was read last brought, if this is an event stream and it was data.
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether an event of the proxy's own may stand in the answer; only while the record is open.
    pub(super) fn takes_events(&self) -> bool {
        self.kind.takes_events()
    }

    /// The answer's status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Where in an event the frames that were read end.
    pub(super) fn position(&self) -> Position {
        self.kind.position()
    }

    /// Whether everything of the body has been read.
    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// What is left of the body.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn saw(&mut self, data: &Bytes) {
        // The record is open: it is closed only when the body has ended.
        self.entry.row().response_bytes += data.len() as u64;
        if !self.kind.is_events() {
            self.kind.push(data);
            return;
        }
        let progress = self.kind.push(data);
        self.progress = progress;
        if progress.events == 0 {
            return;
        }
        let read = self.body.read_at();
        if progress.first_token {
            self.entry.first_token(read);
        }
        self.events = Some((self.events.map_or(read, |(first, _)| first), read));
        self.fresh = progress.events;
        if let Some(timing) = &self.timing {
            timing.read(read, progress.events);
        }
        if let Some((events, output_tokens)) = self.kind.progress() {
            self.entry.progressed(events, output_tokens);
        }
    }

    /// Closes the record, once. After the event that ends a stream its answer is whole, however it
    /// ended: many SDKs close without reading further.
    fn close(&mut self, end: End) {
        if self.entry.is_closed() {
            return;
        }
        if self.defers && matches!(end, End::Whole | End::Failed(_)) {
            self.ended = Some(end);
            return;
        }
        if let Some((first, last)) = self.events {
            self.entry.events(first, last);
        }
        let is_events = self.kind.is_events();
        let ended = matches!(end, End::Whole | End::Unsent);
        let mut whole = matches!(end, End::Whole);
        let mut lacks_end = ended && is_events && self.status.is_success() && self.body.ends_by_close();
        // In the status, or inside the answer.
        let mut cause = Cause::of_status(self.status.as_u16());
        if let Some(mut tally) = self.kind.take_tally(ended) {
            self.entry.row().events = is_events.then_some(tally.events);
            if whole && tally.error.is_none() {
                tally.error = self.lack(is_events, &tally).map(Into::into);
            }
            if ended
                && self.status.is_success()
                && let Some(feedback) = self.feedback.take()
            {
                feedback.learn(&tally);
            }
            whole |= is_events && tally.terminal && !self.is_given_up;
            lacks_end &= !tally.terminal && tally.error.is_none();
            cause = cause.or(tally.error.is_some().then_some(tally.cause));
            self.entry.metered(tally, ended);
        }
        match end {
            // However a drain ends, unless it is cut: the entry says so.
            End::Whole | End::Failed(_) if self.entry.has_client_left() => {
                self.entry.close(Outcome::ClientDisconnected);
            }
            End::Left if self.entry.has_client_left() => self.entry.abandon(),
            End::Whole if lacks_end && self.ends_by_event() => {
                let error = "the connection ended before the event that ends the stream";
                self.entry.row().error.get_or_insert_with(|| error.into());
                self.entry.close(Outcome::Truncated);
            }
            End::Failed(outcome) => self.entry.close(outcome),
            _ if whole => self.entry.close(cause.map_or(Outcome::Complete, Outcome::from)),
            // The entry knows whether its client left or the process was stopped.
            _ => self.entry.abandon(),
        }
    }
}

impl<B: ResponseFrames> Exchange<B> {
    /// What a whole answer lacks that its status and its request promised, if it is no answer at
    /// all: some services fail like that (llama-cpp-python, where a prompt is too long for the
    /// model).
    fn lack(&mut self, is_events: bool, tally: &Tally) -> Option<&'static str> {
        let is_body = self.entry.method().is_some_and(|method| method != Method::HEAD);
        if self.status != StatusCode::OK || tally.skipped > 0 || !is_body {
            return None;
        }
        let is_empty = self.entry.row().response_bytes == 0;
        if is_events {
            return (tally.events == 0).then_some(if is_empty {
                "the upstream answered with an empty body"
            } else {
                "the upstream's event stream ended without an event"
            });
        }
        let has_output = tally.output.as_ref().is_some_and(|output| !output.is_empty());
        let is_answer = tally.usage.is_some() || tally.model.is_some() || tally.pending || has_output;
        (self.promises_events && !is_answer)
            .then_some("the upstream answered with neither an event stream nor a completion")
    }

    fn ends_by_event(&mut self) -> bool {
        self.entry.row().endpoint.as_deref().is_some_and(|endpoint| ENDED_BY_EVENT.contains(&endpoint))
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

//! Comments in the silences of an event stream, for whoever cuts silent connections: a load
//! balancer, a mobile network.
//!
//! They are sent only where the user asked for them, and only between events. A comment is no event
//! (WHATWG, section 9.2.6): clients pass over it. Before the upstream has answered, the first of
//! them commits the answer to status 200: what goes wrong after that is told as an error event in
//! the form that the endpoint's SDKs raise. Then the body fails, so that the answer is cut and
//! cannot be taken for an empty stream.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::attempt::Accepted;
use super::pending_response::PendingResponse;
use super::respond;
use crate::error::{Error, EventStream, Kind, Result, upstream_error_event};
use crate::flow::StreamTiming;
use crate::meter::ResponsePolicy;
use crate::record::Entry;

/// What is sent.
const COMMENT: &[u8] = b": keep-alive\n\n";

/// The most of a refusal's body that is put into the event that tells of it.
const REFUSAL: usize = 64 * 1024;

/// An event stream that is never silent for longer than its interval.
pub struct KeptAlive {
    stage: Stage,
    timing: Rc<StreamTiming>,
    interval: Duration,
    /// When the client got something last.
    last: Instant,
    timer: Pin<Box<Sleep>>,
    /// The record stays open until the client has been sent everything.
    defers: bool,
}

enum Stage {
    /// The upstream has not answered.
    Pending(PendingResponse),
    /// It answers as it should.
    Relaying(respond::MeteredResponse),
    /// It answers with something else than a stream.
    Refused(Box<Refusal>),
    /// The client has been told: the answer is cut once its connection has written what it holds.
    Flush(Error),
    /// The answer is cut.
    Cut(Error),
    Ended,
}

/// An answer that is no stream.
struct Refusal {
    response: respond::MeteredResponse,
    status: StatusCode,
    upstream: String,
    /// So much of its body is here.
    told: Vec<u8>,
    stream: EventStream,
}

impl KeptAlive {
    /// Begins before there is an answer, with a comment at once: the interval is over.
    pub(super) fn pending(pending: PendingResponse, interval: Duration) -> Self {
        Self {
            timing: Rc::clone(&pending.policy().timing),
            stage: Stage::Pending(pending),
            interval,
            last: Instant::now().checked_sub(interval).unwrap_or_else(Instant::now),
            timer: Box::pin(sleep(Duration::ZERO)),
            defers: false,
        }
    }

    /// Goes on with an answer that came in time.
    pub(super) fn relaying(body: respond::MeteredResponse, interval: Duration) -> Self {
        Self {
            timing: Rc::clone(body.timing()),
            stage: Stage::Relaying(body),
            interval,
            last: Instant::now(),
            timer: Box::pin(sleep(interval)),
            defers: false,
        }
    }

    /// Where the times of its events are counted.
    pub(super) fn timing(&self) -> &Rc<StreamTiming> {
        &self.timing
    }

    /// Its client is given up, for the reason that is told.
    pub(super) fn abort(&mut self, reason: String) {
        match &mut self.stage {
            Stage::Relaying(body) => body.abort(reason),
            Stage::Refused(refusal) => refusal.response.abort(reason),
            Stage::Pending(pending) => pending.explain(reason),
            Stage::Flush(_) | Stage::Cut(_) | Stage::Ended => {}
        }
    }

    /// Leaves the record open at the end of the response, until [`KeptAlive::sent`].
    pub(super) fn defer(&mut self) {
        self.defers = true;
        if let Stage::Relaying(body) = &mut self.stage {
            body.defer();
        }
    }

    /// The client has been sent everything that was polled.
    pub(super) fn sent(&mut self) {
        if let Stage::Relaying(body) = &mut self.stage {
            body.sent();
        }
    }

    /// The stream is cut, since the process is stopping: its client is told in the next poll.
    pub(super) fn stop(&mut self) {
        match &mut self.stage {
            Stage::Relaying(body) => body.stop(),
            Stage::Refused(refusal) => refusal.response.stop(),
            Stage::Pending(pending) => pending.stop(),
            Stage::Flush(_) | Stage::Cut(_) | Stage::Ended => {}
        }
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        loop {
            match &mut self.stage {
                Stage::Pending(pending) => {
                    let (result, entry) = ready!(Pin::new(&mut *pending).poll(cx));
                    let policy = pending.policy().clone();
                    match self.accept(result, entry, policy) {
                        Some(event) => return Poll::Ready(Some(Ok(event))),
                        None => continue,
                    }
                }
                Stage::Relaying(body) => return Pin::new(body).poll_frame(cx),
                Stage::Refused(refusal) => {
                    let frame = ready!(Pin::new(&mut refusal.response).poll_frame(cx));
                    if refusal.is_stream() {
                        if let Stage::Refused(refusal) = std::mem::replace(&mut self.stage, Stage::Ended) {
                            self.stage = Stage::Relaying(refusal.response);
                        }
                        return Poll::Ready(frame);
                    }
                    if let Some(Ok(frame)) = &frame {
                        refusal.add(frame.data_ref().map_or(&[][..], |data| data));
                        continue;
                    }
                    let (event, error) = refusal.event();
                    self.stage = Stage::Flush(error);
                    return Poll::Ready(Some(Ok(Frame::data(event.into()))));
                }
                Stage::Flush(_) => {
                    if let Stage::Flush(error) = std::mem::replace(&mut self.stage, Stage::Ended) {
                        self.stage = Stage::Cut(error);
                    }
                    // A connection flushes when a body is pending.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Cut(_) => {
                    if let Stage::Cut(error) = std::mem::replace(&mut self.stage, Stage::Ended) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }

    /// The upstream has answered, or will not. An event is returned if that is all there is to say.
    fn accept(
        &mut self,
        result: Result<Accepted>,
        mut entry: Entry,
        policy: ResponsePolicy,
    ) -> Option<Frame<Bytes>> {
        let stream = EventStream::of(&mut entry);
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                respond::close(&error, entry);
                let event = error.to_event(&stream);
                self.stage = Stage::Flush(error);
                return Some(Frame::data(event.into()));
            }
        };
        let upstream = entry.row().upstream.as_deref().unwrap_or_default().to_owned();
        let (head, mut response) = respond::meter(response, entry, policy);
        let status = head.status;
        let relays = status == StatusCode::OK && response.takes_events();
        if self.defers && relays {
            response.defer();
        }
        self.stage = if relays {
            Stage::Relaying(response)
        } else {
            Stage::Refused(Box::new(Refusal { response, status, upstream, told: Vec::new(), stream }))
        };
        None
    }

    fn is_between_events(&self) -> bool {
        match &self.stage {
            Stage::Pending(_) | Stage::Refused(_) => true,
            Stage::Relaying(body) => body.is_between_events(),
            Stage::Flush(_) | Stage::Cut(_) | Stage::Ended => false,
        }
    }
}

impl Refusal {
    /// Whether its first bytes have shown that it is a stream, whatever its type says.
    fn is_stream(&self) -> bool {
        self.status == StatusCode::OK && self.told.is_empty() && self.response.has_events()
    }

    fn add(&mut self, data: &[u8]) {
        let room = REFUSAL - self.told.len();
        self.told.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The event that tells of it: the upstream's own error where it is one, so that it is raised
    /// as such.
    fn event(&mut self) -> (Vec<u8>, Error) {
        let body = String::from_utf8_lossy(&self.told).into_owned();
        let upstream = std::mem::take(&mut self.upstream);
        let error = Kind::Refused { status: self.status.as_u16(), body }.at(upstream);
        let event = upstream_error_event(&self.told, &self.stream);
        (event.unwrap_or_else(|| error.to_event(&self.stream)), error)
    }
}

impl Body for KeptAlive {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.poll_stage(cx) {
            this.last = Instant::now();
            return Poll::Ready(frame);
        }
        while this.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = this.last + this.interval;
            let comment = now >= due && this.is_between_events();
            if comment {
                this.last = now;
            }
            // Inside an event the next look is an interval later.
            let next = if now >= due { now + this.interval } else { due };
            this.timer.as_mut().reset(next.into());
            if comment {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Relaying(body) => body.is_end_stream(),
            Stage::Pending(_) | Stage::Refused(_) | Stage::Flush(_) | Stage::Cut(_) => false,
            Stage::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        // Comments make any declared length wrong.
        SizeHint::default()
    }
}

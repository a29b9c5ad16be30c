//! Keep-alive comments in an event stream, for load balancers and mobile networks that close silent
//! connections.
//!
//! Comments are sent only if configured, and only between events. Clients ignore comments (WHATWG,
//! section 9.2.6). A comment before the upstream responds commits the response to status 200: a
//! later failure becomes an error event in the form that the endpoint's SDKs raise. Then the body
//! fails, so that the client sees a truncated response and not an empty stream.

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
use crate::codec::coding::Codings;
use crate::proxy::meter::ResponsePolicy;
use crate::record::Entry;
use crate::record::error::{Error, EventStream, Kind, Result, upstream_error_event};
use crate::support::flow::StreamTiming;

const COMMENT: &[u8] = b": keep-alive\n\n";

/// The largest part of an error response's body that is put into the error event, in bytes.
const REFUSAL: usize = 64 * 1024;

/// An event stream that is silent for no longer than its interval.
pub struct KeptAlive {
    stage: Stage,
    timing: Option<Rc<StreamTiming>>,
    interval: Duration,
    /// The time of the last bytes for the client.
    last: Instant,
    timer: Pin<Box<Sleep>>,
    /// The record stays open until the client has been sent everything.
    defers: bool,
}

enum Stage {
    /// The upstream has not responded.
    Pending(PendingResponse),
    /// The response is a stream.
    Relaying(respond::MeteredResponse),
    /// The response is not a stream.
    Refused(Box<Refusal>),
    /// The client has the error event: the body fails once the connection has written it.
    Flush(Error),
    /// The body fails.
    Cut(Error),
    Ended,
}

/// A response that is not a stream.
struct Refusal {
    response: respond::MeteredResponse,
    status: StatusCode,
    upstream: String,
    /// The body so far.
    body: Vec<u8>,
    stream: EventStream,
}

impl KeptAlive {
    /// Begins before the response, with a comment at once, since the interval is over.
    pub(super) fn pending(mut pending: PendingResponse, interval: Duration) -> Self {
        Self {
            timing: Some(pending.policy().timing()),
            stage: Stage::Pending(pending),
            interval,
            last: Instant::now().checked_sub(interval).unwrap_or_else(Instant::now),
            timer: Box::pin(sleep(Duration::ZERO)),
            defers: false,
        }
    }

    /// Begins with a response that arrived within the interval.
    pub(super) fn relaying(body: respond::MeteredResponse, interval: Duration) -> Self {
        Self {
            timing: body.timing().map(Rc::clone),
            stage: Stage::Relaying(body),
            interval,
            last: Instant::now(),
            timer: Box::pin(sleep(interval)),
            defers: false,
        }
    }

    pub(super) fn timing(&self) -> Option<&Rc<StreamTiming>> {
        self.timing.as_ref()
    }

    /// Notes the reason why the client is cut off.
    pub(super) fn abort(&mut self, reason: String) {
        match &mut self.stage {
            Stage::Relaying(body) => body.abort(reason),
            Stage::Refused(refusal) => refusal.response.abort(reason),
            Stage::Pending(pending) => pending.explain(reason),
            Stage::Flush(_) | Stage::Cut(_) | Stage::Ended => {}
        }
    }

    /// Leaves the record open at the end of the body, until [`KeptAlive::sent`].
    pub(super) fn defer(&mut self) {
        self.defers = true;
        if let Stage::Relaying(body) = &mut self.stage {
            body.defer();
        }
    }

    /// Closes a deferred record: the client has been sent everything.
    pub(super) fn sent(&mut self) {
        if let Stage::Relaying(body) = &mut self.stage {
            body.sent();
        }
    }

    /// Fails the stream with this error at the next poll.
    pub(super) fn end_with(&mut self, error: Error) {
        match &mut self.stage {
            Stage::Relaying(body) => body.end_with(error),
            Stage::Refused(refusal) => refusal.response.end_with(error),
            Stage::Pending(pending) => pending.end_with(error),
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
                        if let Stage::Refused(mut refusal) = std::mem::replace(&mut self.stage, Stage::Ended)
                        {
                            if !self.defers {
                                refusal.response.sent();
                            }
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
                    // A connection flushes when its body is pending.
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

    /// Continues with the response, or returns the event of an error.
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
        let policy = response.policy(policy);
        let (head, mut response) = respond::meter_begun(response, entry, policy);
        let status = head.status;
        let is_plain = matches!(Codings::of(&head.headers), Codings::Identity);
        let relays = status == StatusCode::OK && is_plain && response.takes_events();
        // A refusal's record waits for the error that the client gets in its place.
        if self.defers || !relays {
            response.defer();
        }
        self.stage = if relays {
            Stage::Relaying(response)
        } else {
            Stage::Refused(Box::new(Refusal { response, status, upstream, body: Vec::new(), stream }))
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
    /// Returns true if the first bytes are those of a stream, whatever the media type.
    fn is_stream(&self) -> bool {
        self.status == StatusCode::OK && self.body.is_empty() && self.response.has_events()
    }

    fn add(&mut self, data: &[u8]) {
        let room = REFUSAL - self.body.len();
        self.body.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The error event: the upstream's own error if the body is one, so that SDKs raise it.
    fn event(&mut self) -> (Vec<u8>, Error) {
        let body = String::from_utf8_lossy(&self.body).into_owned();
        let upstream = std::mem::take(&mut self.upstream);
        let error = Kind::Refused { status: self.status.as_u16(), body }.at(upstream);
        self.response.replaced_by(&error);
        let event = upstream_error_event(&self.body, &self.stream);
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
            // Inside an event the next check is an interval later.
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
        // Comments make a declared length wrong.
        SizeHint::default()
    }
}

//! One stream: a request, and its response as the client's windows allow.
//!
//! A response waits here, frame by frame, until the client has window for it, so that its record
//! ends when the last byte has left for the client. A client that leaves a stream without window
//! for `write_timeout` loses the stream (RFC 9113 section 5.2 would permit it to hold one open for
//! ever). Progress is defined as for a socket of HTTP/1.1, which becomes writable when a part of
//! its buffer is free: the client must accept [`PROGRESS`] bytes, or all waiting bytes, within the
//! time. A window that opens byte by byte is not progress.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderValue, Response, header};
use http_body::Body as _;
use tokio::time::{Sleep, sleep_until};

use super::{SMALL_BOUNDS, Seat};
use crate::codec::head::{KnownName, NameSet, ResponseHead};
use crate::server::conn_state::{ConnState, RequestMemory};
use crate::server::connection::WorkerContext;
use crate::server::in_flight::{Guard, InFlightBody};
use crate::server::{ClientResponse, Handler, ResponseBody};
use crate::support::flow::Limit;

/// The bytes that a client must accept within `write_timeout`, if this many wait.
const PROGRESS: usize = 4 * 1024;

/// The largest connection window that a stream requests in one step, so that streams take turns.
const SHARE: usize = 16 * 1024;

/// Headers that HTTP/2 forbids (RFC 9113 section 8.2.2).
const OF_CONNECTIONS: NameSet = NameSet::of(&[
    KnownName::Connection,
    KnownName::Te,
    KnownName::TransferEncoding,
    KnownName::Upgrade,
    KnownName::KeepAlive,
]);

/// Serves one request. `seat` is held until the stream ends.
pub(super) async fn run<H: Handler, F: Future<Output = ClientResponse<H::Body>> + Unpin>(
    mut handled: F,
    mut respond: SendResponse<Bytes>,
    running: Guard,
    state: Rc<ConnState>,
    context: Rc<WorkerContext<H>>,
    seat: Option<Seat>,
) {
    let response = poll_fn(|cx| match Pin::new(&mut handled).poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        // The client reset the stream, or has left.
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    let response = response.await;
    drop(handled);
    if let Some(response) = response {
        let memory = state.request_memory();
        let response = response.map(|body| InFlightBody::new(body, running, &state));
        if let Err(error) = send(response, respond, memory, &context).await {
            tracing::debug!(%error, "an HTTP/2 stream ended");
        }
    }
    drop(seat);
}

async fn send<H: Handler>(
    response: ClientResponse<InFlightBody<H::Body>>,
    mut respond: SendResponse<Bytes>,
    memory: RequestMemory,
    context: &WorkerContext<H>,
) -> Result<(), h2::Error> {
    let ClientResponse { head, mut body } = response;
    let is_whole = body.is_end_stream();
    let head = http2_head(head, body.size_hint().exact().filter(|_| !is_whole));
    // Dropping the stream before its end resets it.
    let stream = respond.send_response(head, is_whole)?;
    if is_whole {
        return Ok(());
    }
    body.defer_end();
    let (data, stall) = (Bytes::new(), Stall::default());
    let mut sender = ResponseSender { body, stream, data, is_last: false, stall, memory };
    poll_fn(|cx| sender.poll(cx, context)).await
}

/// Writes a head for HTTP/2.
fn http2_head(mut head: ResponseHead, length: Option<u64>) -> Response<()> {
    head.headers.retain(|field| !field.is_one_of(OF_CONNECTIONS));
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.to_map();
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    headers.entry(header::DATE).or_insert_with(|| {
        let date = httpdate::fmt_http_date(SystemTime::now());
        HeaderValue::try_from(date).expect("a date is visible ASCII")
    });
    response
}

/// Sends a response's body.
struct ResponseSender<B: ResponseBody> {
    body: InFlightBody<B>,
    stream: SendStream<Bytes>,
    /// Bytes that wait for the client's windows.
    data: Bytes,
    /// No frame follows.
    is_last: bool,
    stall: Stall,
    /// Counts the bytes that wait.
    memory: RequestMemory,
}

impl<B: ResponseBody> ResponseSender<B> {
    /// Ready once everything is passed to h2, or the stream is reset.
    fn poll<H>(&mut self, cx: &mut Context<'_>, context: &WorkerContext<H>) -> Poll<Result<(), h2::Error>> {
        loop {
            while !self.data.is_empty() {
                self.stream.reserve_capacity(self.data.len().min(SHARE));
                let room = match self.stream.capacity() {
                    0 => match self.stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(room))) => room,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        // The stream is reset.
                        Poll::Ready(None) => return Poll::Ready(Ok(())),
                        Poll::Pending => return self.poll_stalled(cx, context).map(Ok),
                    },
                    room => room,
                };
                let piece = self.data.split_to(room.min(self.data.len()));
                self.stall.took(piece.len());
                let ends = self.is_last && self.data.is_empty();
                self.stream.send_data(piece, ends)?;
                if ends {
                    self.body.on_sent();
                    return Poll::Ready(Ok(()));
                }
            }
            self.stall.end();
            self.memory.set(0);
            if self.is_last {
                self.body.on_sent();
                return Poll::Ready(self.stream.send_data(Bytes::new(), true));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                let reason = ready!(self.stream.poll_reset(cx))?;
                return Poll::Ready(Err(reason.into()));
            };
            match frame {
                None => self.is_last = true,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.data = data;
                        self.is_last = self.body.is_end_stream();
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.body.on_sent();
                            return Poll::Ready(self.stream.send_trailers(trailers));
                        }
                    }
                },
                Some(Err(_)) => {
                    // A reset, so that the client does not take the response for complete.
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Ready if the client has made no progress for too long; the stream is then reset.
    fn poll_stalled<H>(&mut self, cx: &mut Context<'_>, context: &WorkerContext<H>) -> Poll<()> {
        self.memory.set(self.data.len() + SMALL_BOUNDS.send_buffer);
        let Some(limit) = context.limits.get().write_timeout else { return Poll::Pending };
        ready!(self.stall.poll(cx, self.data.len(), limit));
        context.places.count(Limit::StreamWriteTimeout);
        self.body.abort(limit);
        self.stream.send_reset(Reason::CANCEL);
        Poll::Ready(())
    }
}

/// The wait for the client's progress.
#[derive(Debug, Default)]
struct Stall {
    /// The beginning of the wait, and the bytes still to be accepted.
    since: Option<(Instant, usize)>,
    /// Created once, and reset only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Records that the client accepted this many bytes.
    fn took(&mut self, bytes: usize) {
        self.since = self
            .since
            .and_then(|(since, owed)| Some((since, owed.checked_sub(bytes).filter(|&owed| owed > 0)?)));
    }

    /// Records that no bytes wait.
    fn end(&mut self) {
        self.since = None;
    }

    /// Polled while `waiting` bytes wait. Ready when the time is over.
    fn poll(&mut self, cx: &mut Context<'_>, waiting: usize, limit: Duration) -> Poll<()> {
        let (since, _) = *self.since.get_or_insert_with(|| (Instant::now(), waiting.min(PROGRESS)));
        let deadline = since + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        loop {
            // A timer set for an earlier deadline is reset when it fires.
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Returns true if the time is over now.
    async fn is_over(stall: &mut Stall, waiting: usize) -> bool {
        poll_fn(|cx| Poll::Ready(stall.poll(cx, waiting, LIMIT).is_ready())).await
    }

    #[tokio::test]
    async fn progress_is_all_that_waits_or_a_good_part_of_it() {
        let mut stall = Stall::default();
        for (waiting, taken, goes_on) in
            [(100, 99, true), (100, 100, false), (1 << 20, PROGRESS - 1, true), (1 << 20, PROGRESS, false)]
        {
            assert!(!is_over(&mut stall, waiting).await);
            for _ in 0..taken {
                stall.took(1);
            }
            assert_eq!(stall.since.is_some(), goes_on, "{taken} of {waiting}");
            stall.end();
        }
    }
}

//! Sends a request over HTTP/1.1 and waits for the head of its response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use super::error::{SendCause, SendError, SendPhase, Violation, alert, refuses_certificate};
use super::resend::Unanswered;
use super::response::{Http1ResponseBody, UpstreamBody, UpstreamResponse};
use super::stream::Stream;
use super::upgraded::UpgradedUpstream;
use super::upload::{Payload, Sent, Upload, UploadError};
use super::watchdog::{Expired, Watchdog};
use super::{OutboundRequest, UpstreamClient};
use crate::codec::h1::{HeadReader, ParsedResponse};
use crate::llm::rewrite::upgrade::WebSocketUpgrade;
use crate::record::error::Kind;

const SWITCHING_PROTOCOLS: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

/// The reason why `parts` is there.
const ONE_RESPONSE: &str = "a response is made once, which ends the future";

/// Writes the request and reads the response's head at once, since an upstream may respond before
/// it has read everything. An error of [`SendPhase::Unprocessed`] or
/// [`SendPhase::Crossed`] is only possible on a kept connection.
pub(super) struct SendRequest<'a> {
    upstream: &'a UpstreamClient,
    /// `None` after it was moved into the response.
    parts: Option<Parts>,
    reader: HeadReader,
    /// The bytes of an incomplete head.
    partial: Vec<u8>,
    /// The written part of the request when the first byte of the present head arrived; `None`: no
    /// byte of it has arrived.
    heard: Option<Sent>,
    /// The wait from the request's last byte to the first byte of the present head.
    silence: Duration,
    /// An interim response (1xx) has arrived, so the upstream is at work on the request.
    has_interim: bool,
    /// `None`: a new connection, on which no bytes of an earlier exchange can arrive.
    kept: Option<Kept>,
    /// The request asks for a WebSocket upgrade.
    may_switch: bool,
    /// The request asked for a stream.
    is_streamed: bool,
}

/// A request on a kept connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// The whole request can be sent again.
    pub(super) is_repeatable: bool,
}

struct Parts {
    stream: Stream,
    /// `None` when the request is written, or when the upstream takes no more.
    upload: Option<Upload>,
    /// The written part of the request when the upstream accepted no more. The connection is then
    /// not used again.
    broken: Option<Sent>,
    watchdog: Watchdog,
    /// The time of the first poll, if it is known.
    begun: Option<Instant>,
}

impl<'a> SendRequest<'a> {
    pub(super) fn new(
        upstream: &'a UpstreamClient,
        call: &OutboundRequest<'_>,
        head: Vec<u8>,
        payload: Payload,
        stream: Stream,
        total: Option<Instant>,
        kept: Option<Kept>,
    ) -> Self {
        let is_streamed = call.is_streamed;
        let silence = upstream.spec.timeouts.first_byte_of(is_streamed).0;
        let watchdog = Watchdog::new(silence, total).with_timer(upstream.scratch.take_timer());
        let upload = Upload::new(head, payload);
        // A connection that was just made took its time.
        let begun = (call.is_new && kept.is_some()).then_some(call.started);
        Self {
            upstream,
            parts: Some(Parts { stream, upload: Some(upload), broken: None, watchdog, begun }),
            reader: HeadReader::new(call.method),
            partial: Vec::new(),
            heard: None,
            silence: Duration::ZERO,
            has_interim: false,
            kept,
            may_switch: false,
            is_streamed,
        }
    }

    /// Allows 101, which grants the request's WebSocket upgrade.
    pub(super) fn for_upgrade(mut self) -> Self {
        self.may_switch = true;
        self
    }

    /// Parses the head after a read of the bytes `new`. `None`: it is not complete.
    fn take_head(&mut self, new: &mut [u8]) -> Result<Option<UpstreamResponse>, SendError> {
        if self.heard.is_none() {
            let sent = self.sent();
            self.heard = Some(sent);
            self.silence = self.waited();
            if self.kept.is_some() && sent == Sent::Nothing {
                return Err(SendError::new(SendPhase::Unprocessed, Violation::EarlyBytes));
            }
        }
        if self.partial.is_empty() {
            let (response, used) = self.parse_heads(new)?;
            if response.is_none() {
                self.partial = new[used..].to_vec();
            }
            return Ok(response);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(new);
        let (response, used) = self.parse_heads(&mut whole)?;
        whole.drain(..used);
        self.partial = whole;
        Ok(response)
    }

    /// Parses the heads at the beginning of `buf`. Without a response, the number is the bytes of
    /// the interim heads (1xx).
    fn parse_heads(&mut self, buf: &mut [u8]) -> Result<(Option<UpstreamResponse>, usize), SendError> {
        let mut at = 0;
        loop {
            match self.reader.read(&buf[at..]).map_err(|error| SendError::new(SendPhase::Head, error))? {
                None => return Ok((None, at)),
                Some((parsed, used))
                    if parsed.head.status == SWITCHING_PROTOCOLS
                        && self.may_switch
                        && WebSocketUpgrade::is_granted(&parsed.head.headers) =>
                {
                    return Ok((Some(self.upgraded(parsed, &buf[at + used..])?), at + used));
                }
                Some((parsed, _)) if parsed.head.status == SWITCHING_PROTOCOLS => {
                    return Err(SendError::new(SendPhase::Head, Violation::UnrequestedSwitch));
                }
                // Interim responses are dropped: 100 was not requested, and the others are
                // optional.
                Some((parsed, used)) if parsed.head.status.is_informational() => {
                    at += used;
                    self.has_interim = true;
                    // The next head is judged by its own first byte: an interim response often
                    // comes before the request's end, and tells nothing about the final one.
                    self.heard = (at < buf.len()).then(|| self.sent());
                }
                Some((parsed, _)) if let Some(violation) = self.early_response(parsed.head.status) => {
                    return Err(SendError::new(SendPhase::Unprocessed, violation));
                }
                Some((parsed, used)) => {
                    let response = self.response(parsed, &mut buf[at + used..])?;
                    return Ok((Some(response), at + used));
                }
            }
        }
    }

    fn sent(&self) -> Sent {
        match &self.parts {
            Some(Parts { broken: Some(sent), .. }) => *sent,
            Some(Parts { upload: Some(upload), .. }) => upload.sent(),
            _ => Sent::Everything,
        }
    }

    /// The reason why a response with this status is not a response to this request.
    ///
    /// On a kept connection, bytes that arrive before the request's last byte was written may
    /// belong to the previous exchange. An error is legal before the request's end (RFC 9112
    /// section 9.5), except 408, with which servers end idle connections. Any other response shows
    /// that the upstream does not wait for the rest, and is relayed if the request cannot be sent
    /// again. A new connection has no previous exchange.
    fn early_response(&self, status: StatusCode) -> Option<Violation> {
        let Kept { is_repeatable } = self.kept?;
        let is_timeout = status == StatusCode::REQUEST_TIMEOUT;
        match self.heard {
            Some(Sent::Everything) => {
                // The server "did not receive a complete request message" (RFC 9110 section
                // 15.5.9): its 408 for the idle connection crossed the request.
                let crossed = is_timeout
                    && is_repeatable
                    && !self.has_interim
                    && self.unanswered(self.silence).may_be_sent_again();
                crossed.then_some(Violation::IdleTimeout)
            }
            _ if !is_timeout && (!is_repeatable || status.is_client_error() || status.is_server_error()) => {
                None
            }
            _ => Some(Violation::EarlyStatus(status.as_u16())),
        }
    }

    fn waited(&self) -> Duration {
        self.parts.as_ref().map_or(Duration::ZERO, |parts| parts.watchdog.waited())
    }

    /// `waited`: the time since the request's last byte was written.
    fn unanswered(&self, waited: Duration) -> Unanswered {
        let parts = self.parts.as_ref();
        Unanswered {
            is_kept: self.kept.is_some(),
            connect: parts.map_or(Duration::ZERO, |parts| parts.stream.connect_time()),
            sent: (self.sent() == Sent::Everything).then_some(waited),
        }
    }

    /// After 101 the connection's bytes belong to another protocol.
    fn upgraded(&mut self, parsed: ParsedResponse, rest: &[u8]) -> Result<UpstreamResponse, SendError> {
        let Parts { stream, upload, .. } = self.parts.take().expect(ONE_RESPONSE);
        if upload.is_some() {
            return Err(SendError::new(SendPhase::Head, Violation::EarlySwitch));
        }
        let upgraded = UpgradedUpstream::new(stream, Bytes::copy_from_slice(rest), &self.upstream.spec);
        Ok(UpstreamResponse { body: UpstreamBody::upgraded(upgraded), head: parsed.head })
    }

    fn response(&mut self, parsed: ParsedResponse, rest: &mut [u8]) -> Result<UpstreamResponse, SendError> {
        let spec = &self.upstream.spec;
        let Parts { stream, upload, broken, mut watchdog, .. } = self.parts.take().expect(ONE_RESPONSE);
        watchdog.set_silence(spec.timeouts.idle);
        let keep = parsed.keep_alive && broken.is_none();
        let body = Http1ResponseBody::new(self.upstream, stream, upload, parsed.framing, watchdog, keep);
        let body = body.beginning_with(rest)?;
        Ok(UpstreamResponse { body: UpstreamBody::http1(body), head: parsed.head })
    }

    /// The error for a connection that ended before the response's head.
    fn ended(&self, error: io::Error) -> SendError {
        if self.heard.is_some() || self.has_interim {
            SendError::new(SendPhase::Head, error)
        } else if let Some(phase) = self.unanswered(self.waited()).resend_phase() {
            SendError::new(phase, error)
        } else if alert(&error).is_some_and(refuses_certificate) {
            SendError::tls(SendPhase::Request, error)
        } else {
            SendError::new(SendPhase::Request, error)
        }
    }
}

impl Future for SendRequest<'_> {
    type Output = Result<UpstreamResponse, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let parts = this.parts.as_mut().expect("a future is not polled after it was ready");
            if let Some(upload) = &mut parts.upload {
                match upload.poll(cx, &mut parts.stream) {
                    Poll::Pending if upload.take_progress() => parts.watchdog.heard(),
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => {
                        this.upstream.scratch.give_back_head(upload.take_head());
                        parts.upload = None;
                        parts.watchdog.heard();
                    }
                    Poll::Ready(Err(UploadError::Client(error))) => {
                        return Poll::Ready(Err(SendError::new(
                            SendPhase::Request,
                            SendCause::Client(error),
                        )));
                    }
                    // The upstream may have responded before it closed, for instance with 413.
                    Poll::Ready(Err(UploadError::Upstream)) => {
                        parts.broken = Some(upload.sent());
                        parts.upload = None;
                    }
                }
            }
            let scratch = this.upstream.scratch.clone();
            let mut scratch = scratch.borrow();
            match parts.stream.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(this.ended(io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Ok(read)) => {
                    if let Some(response) = this.take_head(&mut scratch[..read])? {
                        return Poll::Ready(Ok(response));
                    }
                    this.parts.iter_mut().for_each(|parts| parts.watchdog.heard());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(this.ended(error))),
                Poll::Pending => {
                    let begun = parts.begun.take();
                    let since = || begun.unwrap_or_else(Instant::now);
                    let expired = ready!(parts.watchdog.poll_expired_since(cx, since));
                    let spec = &this.upstream.spec;
                    let starved = parts.upload.as_ref().is_some_and(Upload::is_starved);
                    let was_sent = this.sent() == Sent::Everything;
                    let cause = match expired {
                        Expired::Silence if starved => {
                            let (limit, _) = spec.timeouts.first_byte_of(this.is_streamed);
                            SendCause::Client(Kind::BodyTimeout(limit).into())
                        }
                        Expired::Silence => spec.first_byte_timeout(this.is_streamed, was_sent),
                        Expired::Total => spec.total_timeout(was_sent),
                    };
                    return Poll::Ready(Err(SendError::new(SendPhase::Request, cause)));
                }
            }
        }
    }
}

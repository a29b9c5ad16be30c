//! A request that has been sent, until the head of its answer is here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use super::origin::describe_error;
use super::resend::Unanswered;
use super::response::{Http1ResponseBody, UpstreamBody, UpstreamResponse};
use super::stream::Stream;
use super::upgraded::UpgradedUpstream;
use super::upload::{Payload, Sent, Upload, UploadError};
use super::watchdog::{Expired, Watchdog};
use super::{OutboundRequest, Upstream};
use crate::error::Error;
use crate::h1::{HeadReader, ResponseHead};
use crate::rewrite::upgrade::WebSocketUpgrade;

const SWITCHING_PROTOCOLS: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The upstream cannot have worked on the request, for this reason: it may be sent again.
    Unprocessed(String),
    /// Nothing to be done.
    Final(Error),
}

/// Writes the request and reads the answer's head, both at once: an upstream may answer before it
/// has read everything.
pub(super) struct SendRequest<'a> {
    upstream: &'a Upstream,
    /// `None` once it has moved into the answer.
    parts: Option<Parts>,
    reader: HeadReader,
    /// Bytes of a head that did not come in one piece.
    partial: Vec<u8>,
    /// What the request had sent when the first byte came; `None`: nothing has come.
    heard: Option<Sent>,
    /// The connection has carried a request before, so that bytes of that exchange may still come.
    kept: Option<Kept>,
    /// The request wishes for a WebSocket.
    may_switch: bool,
    /// The request asked for a stream.
    is_streamed: bool,
}

/// A request on a kept connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// The request is still at hand as a whole.
    pub(super) is_repeatable: bool,
}

struct Parts {
    stream: Stream,
    /// `None` when the request is sent, or when the upstream takes no more of it.
    upload: Option<Upload>,
    /// What the request had sent when the upstream took no more of it: the connection is not used
    /// again.
    broken: Option<Sent>,
    watchdog: Watchdog,
}

impl<'a> SendRequest<'a> {
    pub(super) fn new(
        upstream: &'a Upstream,
        call: &OutboundRequest<'_>,
        head: Bytes,
        payload: Payload,
        stream: Stream,
        total: Option<Instant>,
    ) -> Self {
        let is_streamed = call.is_streamed;
        let watchdog = Watchdog::new(upstream.origin.timeouts.first_byte_of(is_streamed).0, total);
        let upload = Upload::new(head, payload);
        Self {
            upstream,
            parts: Some(Parts { stream, upload: Some(upload), broken: None, watchdog }),
            reader: HeadReader::new(call.method),
            partial: Vec::new(),
            heard: None,
            kept: None,
            may_switch: false,
            is_streamed,
        }
    }

    /// The same on a connection that has carried a request before.
    pub(super) fn on_kept(mut self, kept: Kept) -> Self {
        self.kept = Some(kept);
        self
    }

    /// The same of a request that wishes for a WebSocket, which 101 grants.
    pub(super) fn for_upgrade(mut self) -> Self {
        self.may_switch = true;
        self
    }

    /// Looks for a whole head in what has come, and makes the answer of it. `new` is what the last
    /// read brought.
    fn head_in(&mut self, new: &mut [u8]) -> Result<Option<UpstreamResponse>, Failure> {
        if self.heard.is_none() {
            let sent = self.sent();
            self.heard = Some(sent);
            if self.kept.is_some() && sent == Sent::Nothing {
                return Err(Failure::Unprocessed("it sent bytes before it was asked".to_owned()));
            }
        }
        if self.partial.is_empty() {
            let (answer, used) = self.head_at(new)?;
            if answer.is_none() {
                self.partial = new[used..].to_vec();
            }
            return Ok(answer);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(new);
        let (answer, used) = self.head_at(&mut whole)?;
        whole.drain(..used);
        self.partial = whole;
        Ok(answer)
    }

    /// Reads the heads at the beginning of `buf`. Without an answer: how many bytes the interim
    /// ones among them used.
    fn head_at(&mut self, buf: &mut [u8]) -> Result<(Option<UpstreamResponse>, usize), Failure> {
        let mut at = 0;
        loop {
            let protocol = |reason| Failure::Final(self.upstream.origin.unanswered(reason));
            match self.reader.read(&buf[at..]).map_err(|error| protocol(error.to_string()))? {
                None => return Ok((None, at)),
                Some((head, used))
                    if head.status == SWITCHING_PROTOCOLS
                        && self.may_switch
                        && WebSocketUpgrade::is_granted(&head.headers) =>
                {
                    return Ok((Some(self.switched(head, &buf[at + used..])?), at + used));
                }
                Some((head, _)) if head.status == SWITCHING_PROTOCOLS => {
                    return Err(protocol("it switched to a protocol that it was not asked for".to_owned()));
                }
                // 100 was not asked for, and the others are not passed on.
                Some((head, used)) if head.status.is_informational() => at += used,
                Some((head, _)) if let Some(failure) = self.disbelief(head.status) => return Err(failure),
                Some((head, used)) => {
                    let answer = self.answer(head, &mut buf[at + used..])?;
                    return Ok((Some(answer), at + used));
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

    /// Why an answer with this status is not taken for this request's.
    ///
    /// On a kept connection, bytes that came before the request's last byte may belong to the
    /// exchange before. An answer to an unfinished upload is legal (RFC 9112 section 9.5), and says
    /// that the upload is not wanted: an error, and no 408, with which servers end idle
    /// connections. Anything else is not believed. A new connection has no exchange before.
    fn disbelief(&self, status: StatusCode) -> Option<Failure> {
        let Kept { is_repeatable } = self.kept?;
        let is_timeout = status == StatusCode::REQUEST_TIMEOUT;
        match self.heard {
            Some(Sent::Everything) => {
                // The server "did not receive a complete request message" (RFC 9110 section
                // 15.5.9): it timed the idle connection out, and its word crossed the request.
                let crossed = is_timeout && is_repeatable && self.unanswered().may_be_sent_again();
                crossed.then(|| Failure::Unprocessed("it timed the idle connection out".to_owned()))
            }
            _ if !is_timeout && (status.is_client_error() || status.is_server_error()) => None,
            _ => {
                let reason = format!("it answered with status {} before it had the request", status.as_u16());
                Some(Failure::Unprocessed(reason))
            }
        }
    }

    fn unanswered(&self) -> Unanswered {
        let parts = self.parts.as_ref();
        Unanswered {
            is_kept: self.kept.is_some(),
            connect: parts.map_or(Duration::ZERO, |parts| parts.stream.connect_time()),
            sent: parts.filter(|_| self.sent() == Sent::Everything).map(|parts| parts.watchdog.waited()),
        }
    }

    /// Nothing more of HTTP is on the connection.
    fn switched(&mut self, head: ResponseHead, rest: &[u8]) -> Result<UpstreamResponse, Failure> {
        let origin = &self.upstream.origin;
        let Parts { stream, upload, .. } = self.parts.take().expect("the flight ends with its answer");
        if upload.is_some() {
            return Err(Failure::Final(origin.protocol("it switched protocols before it had the request")));
        }
        let switched = UpgradedUpstream::new(stream, Bytes::copy_from_slice(rest), origin);
        Ok(UpstreamResponse { body: UpstreamBody::switched(switched), head: head.into() })
    }

    fn answer(&mut self, head: ResponseHead, rest: &mut [u8]) -> Result<UpstreamResponse, Failure> {
        let origin = &self.upstream.origin;
        let Parts { stream, upload, broken, mut watchdog } =
            self.parts.take().expect("the flight ends with its answer");
        watchdog.set_silence(origin.timeouts.idle);
        let keep = head.keep_alive && broken.is_none();
        let body = Http1ResponseBody::new(self.upstream, stream, upload, head.framing, watchdog, keep);
        let body = body.beginning_with(rest).map_err(Failure::Final)?;
        Ok(UpstreamResponse { body: UpstreamBody::http1(body), head: head.into() })
    }

    /// The connection ended before the answer's head.
    fn ended(&self, error: &io::Error) -> Failure {
        let origin = &self.upstream.origin;
        if self.heard.is_some() {
            Failure::Final(
                origin.unanswered(format!("its answer's head broke off ({})", describe_error(error))),
            )
        } else if self.unanswered().may_be_sent_again() {
            Failure::Unprocessed(describe_error(error))
        } else {
            Failure::Final(origin.no_answer(error))
        }
    }
}

impl Future for SendRequest<'_> {
    type Output = Result<UpstreamResponse, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let parts = this.parts.as_mut().expect("polled after it was ready");
            if let Some(upload) = &mut parts.upload {
                match upload.poll(cx, &mut parts.stream) {
                    Poll::Pending if upload.take_progress() => parts.watchdog.heard(),
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => {
                        parts.upload = None;
                        parts.watchdog.heard();
                    }
                    Poll::Ready(Err(UploadError::Client(error))) => {
                        return Poll::Ready(Err(Failure::Final(error)));
                    }
                    // It may have answered before it closed, with 413 perhaps.
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
                    return Poll::Ready(Err(this.ended(&io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Ok(read)) => {
                    if let Some(answer) = this.head_in(&mut scratch[..read])? {
                        return Poll::Ready(Ok(answer));
                    }
                    this.parts.iter_mut().for_each(|parts| parts.watchdog.heard());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(this.ended(&error))),
                Poll::Pending => {
                    let expired = ready!(parts.watchdog.poll_expired(cx));
                    let origin = &this.upstream.origin;
                    let starved = parts.upload.as_ref().is_some_and(Upload::is_starved);
                    let was_sent = this.sent() == Sent::Everything;
                    return Poll::Ready(Err(Failure::Final(match expired {
                        Expired::Silence if starved => {
                            Error::BodyTimeout(origin.timeouts.first_byte_of(this.is_streamed).0)
                        }
                        Expired::Silence => origin.first_byte_timeout(this.is_streamed, was_sent),
                        Expired::Total => origin.total_timeout(was_sent),
                    })));
                }
            }
        }
    }
}

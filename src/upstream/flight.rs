//! A request that has been sent, until the head of its answer is here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::Upstream;
use super::answer::{Answer, AnswerBody, Http1Body};
use super::origin::in_words;
use super::stream::Stream;
use super::switched::Switched;
use super::upload::{Payload, Upload, UploadError};
use super::watchdog::{Expired, Watchdog};
use crate::error::Error;
use crate::h1::{HeadReader, ResponseHead};
use crate::rewrite::upgrade::Upgrade;

const SWITCHING_PROTOCOLS: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection ended before a byte of the answer. On a kept connection the request may be sent once more.
    ClosedBeforeAnswer(io::Error),
    /// Nothing to be done.
    Final(Error),
}

/// Writes the request and reads the answer's head, both at once: an upstream may answer before it has read
/// everything.
pub(super) struct Flight<'a> {
    upstream: &'a Upstream,
    /// `None` once it has moved into the answer.
    parts: Option<Parts>,
    reader: HeadReader,
    /// Bytes of a head that did not come in one piece.
    partial: Vec<u8>,
    /// The upstream has said something: the request must not be sent again.
    heard: bool,
    /// The request wishes for a WebSocket.
    may_switch: bool,
}

struct Parts {
    stream: Stream,
    /// `None` when the request is sent, or when the upstream takes no more of it.
    upload: Option<Upload>,
    /// The upstream takes no more of the request: its connection will not be used again.
    broken: bool,
    watchdog: Watchdog,
}

impl<'a> Flight<'a> {
    pub(super) fn new(
        upstream: &'a Upstream,
        method: &Method,
        head: Bytes,
        payload: Payload,
        stream: Stream,
        total: Option<Instant>,
    ) -> Self {
        let watchdog = Watchdog::new(upstream.origin.timeouts.first_byte, total);
        let upload = Upload::new(head, payload);
        Self {
            upstream,
            parts: Some(Parts { stream, upload: Some(upload), broken: false, watchdog }),
            reader: HeadReader::new(method),
            partial: Vec::new(),
            heard: false,
            may_switch: false,
        }
    }

    /// The same of a request that wishes for a WebSocket, which 101 grants.
    pub(super) fn switching(mut self) -> Self {
        self.may_switch = true;
        self
    }

    /// Looks for a whole head in what has come, and makes the answer of it. `new` is what the last read brought.
    fn head_in(&mut self, new: &mut [u8]) -> Result<Option<Answer>, Failure> {
        self.heard = true;
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

    /// Reads the heads at the beginning of `buf`. Without an answer: how many bytes the interim ones among them used.
    fn head_at(&mut self, buf: &mut [u8]) -> Result<(Option<Answer>, usize), Failure> {
        let mut at = 0;
        loop {
            let protocol = |reason| Failure::Final(self.upstream.origin.protocol(reason));
            match self.reader.read(&buf[at..]).map_err(|error| protocol(error.to_string()))? {
                None => return Ok((None, at)),
                Some((head, used))
                    if head.status == SWITCHING_PROTOCOLS
                        && self.may_switch
                        && Upgrade::is_granted(&head.headers) =>
                {
                    return Ok((Some(self.switched(head, &buf[at + used..])?), at + used));
                }
                Some((head, _)) if head.status == SWITCHING_PROTOCOLS => {
                    return Err(protocol("it switched to a protocol that it was not asked for".to_owned()));
                }
                // 100 was not asked for, and the others are not passed on.
                Some((head, used)) if head.status.is_informational() => at += used,
                Some((head, used)) => {
                    let answer = self.answer(head, &mut buf[at + used..])?;
                    return Ok((Some(answer), at + used));
                }
            }
        }
    }

    /// Nothing more of HTTP is on the connection.
    fn switched(&mut self, head: ResponseHead, rest: &[u8]) -> Result<Answer, Failure> {
        let origin = &self.upstream.origin;
        let Parts { stream, upload, .. } = self.parts.take().expect("the flight ends with its answer");
        if upload.is_some() {
            return Err(Failure::Final(origin.protocol("it switched protocols before it had the request")));
        }
        let switched = Switched::new(stream, Bytes::copy_from_slice(rest), origin);
        Ok(Answer { body: AnswerBody::switched(switched), head: head.into() })
    }

    fn answer(&mut self, head: ResponseHead, rest: &mut [u8]) -> Result<Answer, Failure> {
        let origin = &self.upstream.origin;
        let Parts { stream, upload, broken, mut watchdog } =
            self.parts.take().expect("the flight ends with its answer");
        watchdog.set_silence(origin.timeouts.idle);
        let keep = head.keep_alive && !broken;
        let body = Http1Body::new(self.upstream, stream, upload, head.framing, watchdog, keep);
        let body = body.beginning_with(rest).map_err(Failure::Final)?;
        Ok(Answer { body: AnswerBody::http1(body), head: head.into() })
    }

    /// The connection ended: is there still hope?
    fn ended(&self, error: io::Error) -> Failure {
        if self.heard {
            let reason = format!("its answer's head broke off ({})", in_words(&error));
            Failure::Final(self.upstream.origin.protocol(reason))
        } else {
            Failure::ClosedBeforeAnswer(error)
        }
    }
}

impl Future for Flight<'_> {
    type Output = Result<Answer, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let parts = this.parts.as_mut().expect("polled after it was ready");
            if let Some(upload) = &mut parts.upload {
                match upload.poll(cx, &mut parts.stream) {
                    Poll::Pending if upload.moved() => parts.watchdog.heard(),
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
                        parts.upload = None;
                        parts.broken = true;
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
                    parts.watchdog.heard();
                    if let Some(answer) = this.head_in(&mut scratch[..read])? {
                        return Poll::Ready(Ok(answer));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(this.ended(error))),
                Poll::Pending => {
                    let expired = ready!(parts.watchdog.poll_expired(cx));
                    let origin = &this.upstream.origin;
                    let starved = parts.upload.as_ref().is_some_and(Upload::is_starved);
                    return Poll::Ready(Err(Failure::Final(match expired {
                        Expired::Silence if starved => Error::BodyTimeout(origin.timeouts.first_byte),
                        Expired::Silence => origin.first_byte_timeout(),
                        Expired::Total => origin.total_timeout(),
                    })));
                }
            }
        }
    }
}

//! The answer, as a body that reads its connection when it is polled.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::http2::Http2Body;
use super::origin::{Origin, in_words};
use super::pool::Pool;
use super::stream::Stream;
use super::switched::Switched;
use super::upload::{Upload, UploadError};
use super::watchdog::{Expired, Watchdog};
use super::{Scratch, Upstream};
use crate::error::Error;
use crate::h1::{BodyDecoder, Framing, ResponseHead};

/// An upstream's answer.
pub struct Answer {
    /// Its head.
    pub head: AnswerHead,
    /// Its body, which may have to be polled to its end for the connection to be used again.
    pub body: AnswerBody,
}

/// What an answer begins with, whichever HTTP it came over.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status code, 200 or above.
    pub status: StatusCode,
    /// HTTP/1.1's words after the code, only where they are not the usual ones.
    pub reason: Option<Bytes>,
    /// The headers as they came.
    pub headers: HeaderMap,
}

impl From<ResponseHead> for AnswerHead {
    fn from(head: ResponseHead) -> Self {
        Self { status: head.status, reason: head.reason, headers: head.headers }
    }
}

/// The body of an answer. Dropping it before its end tells the upstream at once; it is read only as
/// it is polled.
pub struct AnswerBody {
    /// Data that was read ahead, which comes before all else.
    ahead: Bytes,
    /// What ended that reading. Boxed, as there seldom is such a thing, and streams wait long.
    after: Option<Box<Result<Frame<Bytes>, Error>>>,
    wire: Wire,
}

enum Wire {
    Http1(Http1Body),
    Http2(Http2Body),
    /// None: the connection speaks another protocol.
    Switched(Box<Switched>),
}

impl AnswerBody {
    pub(super) fn http1(body: Http1Body) -> Self {
        Self::new(Wire::Http1(body))
    }

    pub(super) fn http2(body: Http2Body) -> Self {
        Self::new(Wire::Http2(body))
    }

    pub(super) fn switched(connection: Switched) -> Self {
        Self::new(Wire::Switched(Box::new(connection)))
    }

    /// Whether there is none, for the connection speaks another protocol now.
    pub fn is_switched(&self) -> bool {
        matches!(self.wire, Wire::Switched(_))
    }

    /// The connection that speaks another protocol now.
    pub fn into_switched(self) -> Option<Box<Switched>> {
        match self.wire {
            Wire::Switched(connection) => Some(connection),
            Wire::Http1(_) | Wire::Http2(_) => None,
        }
    }

    fn new(wire: Wire) -> Self {
        Self { ahead: Bytes::new(), after: None, wire }
    }

    /// The data of the whole body, if it is here and no longer than `limit` bytes. Read as usual,
    /// the body begins with what was read ahead, whole or not. Cancel-safe in that nothing is lost
    /// but the place where frames were cut.
    pub async fn read_ahead(&mut self, limit: usize) -> Option<Bytes> {
        self.read_while(limit, |_, _| true).await;
        let failed = self.after.as_ref().is_some_and(|after| after.is_err());
        (self.has_ended() && !failed && self.ahead.len() <= limit).then(|| self.ahead.clone())
    }

    /// Reads ahead as long as `wants_more` says so of the data that are here, and whether they are
    /// all of the body; to its end at most, and hardly further than `limit` bytes.
    pub async fn read_while(&mut self, limit: usize, mut wants_more: impl FnMut(&[u8], bool) -> bool) {
        loop {
            let has_ended = self.has_ended();
            if !wants_more(&self.ahead, has_ended) || has_ended || self.ahead.len() > limit {
                return;
            }
            match poll_fn(|cx| self.wire.poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.ahead.is_empty() => self.ahead = data,
                    Ok(data) => self.ahead = [&self.ahead[..], &data].concat().into(),
                    Err(trailers) => self.after = Some(Box::new(Ok(trailers))),
                },
                Some(Err(error)) => self.after = Some(Box::new(Err(error))),
                None => {}
            }
        }
    }

    /// Whether what was read ahead is all of the body.
    fn has_ended(&self) -> bool {
        self.after.is_some() || self.wire.is_end_stream()
    }
}

impl Wire {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Switched(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Switched(_) => SizeHint::with_exact(0),
        }
    }
}

impl AnswerBody {
    /// Whether its end is its connection's, which a cut looks like.
    pub fn ends_by_close(&self) -> bool {
        matches!(&self.wire, Wire::Http1(body) if body.ends_by_close)
    }

    /// When the bytes of the frame that was polled last were read from the socket. Over HTTP/2,
    /// where a connection reads for many, when it was read last.
    pub fn read_at(&self) -> Instant {
        match &self.wire {
            Wire::Http1(body) => body.read_at,
            Wire::Http2(body) => body.read_at(),
            Wire::Switched(_) => Instant::now(),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ahead)))));
        }
        if let Some(after) = self.after.take() {
            return Poll::Ready(Some(*after));
        }
        self.wire.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.after.is_none() && self.wire.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.wire.size_hint();
        let ahead = self.ahead.len() as u64;
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest + ahead),
            None => SizeHint::default(),
        }
    }
}

/// The body of an answer over HTTP/1.1: what one read of the socket brings becomes one frame, with
/// the chunk framing taken off.
///
/// It also sends what is left of the request. When it has ended, the connection goes back to its
/// pool, if the upstream said nothing more than it should have; when it is dropped before, the
/// connection is closed, and the upstream knows at once.
pub(super) struct Http1Body {
    origin: Arc<Origin>,
    scratch: Scratch,
    pool: Rc<Pool>,
    /// `None` once the answer has ended or failed.
    stream: Option<Stream>,
    /// What is left of the request; `None` when it is sent, or when the upstream takes no more.
    upload: Option<Upload>,
    decoder: BodyDecoder,
    /// Whether the upstream said how long the body is.
    is_sized: bool,
    /// Whether the body ends with the connection, so that a cut looks like its end.
    ends_by_close: bool,
    watchdog: Watchdog,
    /// Whether the connection may be used again after this answer.
    keep: bool,
    /// When the socket was read last.
    read_at: Instant,
    /// What came together with the head.
    first: Bytes,
    /// Boxed, as there seldom are any, and streams wait long.
    trailers: Option<Box<HeaderMap>>,
}

impl Http1Body {
    pub(super) fn new(
        upstream: &Upstream,
        stream: Stream,
        upload: Option<Upload>,
        framing: Framing,
        watchdog: Watchdog,
        keep: bool,
    ) -> Self {
        Self {
            origin: Arc::clone(&upstream.origin),
            scratch: upstream.scratch.clone(),
            pool: Rc::clone(&upstream.pool),
            stream: Some(stream),
            upload,
            decoder: BodyDecoder::new(framing),
            is_sized: matches!(framing, Framing::None | Framing::Length(_)),
            ends_by_close: framing == Framing::UntilClose,
            watchdog,
            keep,
            read_at: Instant::now(),
            first: Bytes::new(),
            trailers: None,
        }
    }

    /// Takes in what the read that brought the head brought besides.
    pub(super) fn beginning_with(mut self, rest: &mut [u8]) -> Result<Self, Error> {
        self.first = self.decode(rest)?;
        Ok(self)
    }

    /// Takes the framing off; ends the exchange when the body is complete.
    fn decode(&mut self, buf: &mut [u8]) -> Result<Bytes, Error> {
        let read = buf.len();
        let decoded = self.decoder.decode(buf).map_err(|error| self.origin.protocol(error))?;
        let data = Bytes::copy_from_slice(&buf[decoded.data]);
        if self.decoder.is_done() {
            // Bytes after the end belong to no request: such a connection is not to be trusted.
            self.keep &= decoded.consumed == read;
            self.end();
        }
        Ok(data)
    }

    /// The answer is complete.
    fn end(&mut self) {
        self.trailers = self.decoder.take_trailers().map(Box::new);
        let Some(stream) = self.stream.take() else { return };
        if self.keep && self.upload.is_none() {
            self.pool.put(stream, self.origin.generation(), self.read_at);
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let (Some(stream), Some(upload)) = (&mut self.stream, &mut self.upload) else { return Ok(()) };
        match upload.poll(cx, stream) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(UploadError::Client(error))) => return Err(error),
            // It answered without wanting the rest.
            Poll::Ready(Err(UploadError::Upstream)) => self.keep = false,
        }
        self.upload = None;
        Ok(())
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        loop {
            self.poll_upload(cx)?;
            if self.stream.is_some() {
                // What was wrong behind the bytes that have been passed on comes to light now.
                self.decode(&mut [])?;
            }
            let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
            let scratch = self.scratch.clone();
            let mut scratch = scratch.borrow();
            match stream.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0)) => {
                    self.keep = false;
                    self.decoder.end_of_connection().map_err(|error| self.origin.truncated(error))?;
                    self.end();
                }
                Poll::Ready(Ok(read)) => {
                    self.read_at = Instant::now();
                    self.watchdog.heard();
                    let data = self.decode(&mut scratch[..read])?;
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Some(Err(self.origin.truncated(in_words(&error)))));
                }
                Poll::Pending => {
                    let expired = ready!(self.watchdog.poll_expired(cx));
                    return Poll::Ready(Some(Err(match expired {
                        Expired::Silence => self.origin.idle_timeout(),
                        Expired::Total => self.origin.total_timeout(true),
                    })));
                }
            }
        }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(self.poll_data(cx));
        if matches!(polled, Some(Err(_))) {
            // After an error nothing on this connection means anything.
            self.stream = None;
        }
        let frame = polled.map(|data| data.map(Frame::data));
        Poll::Ready(frame.or_else(|| self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers)))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.first.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // Known only where the upstream said it: a length would be declared to the client that the
        // upstream did not.
        match self.decoder.remaining() {
            Some(remaining) if self.is_sized => SizeHint::with_exact(remaining + self.first.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

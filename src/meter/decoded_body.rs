//! An answer whose content coding is undone on its way to the client.
//!
//! Only for a stream from which an event may be withheld: that cannot be done to encoded bytes. Any
//! other answer passes as it came.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::ResponseFrames;
use crate::coding::{Coding, ContentDecoder, DecodeError};
use crate::error::{Error, Kind};
use crate::rewrite;

/// So many encoded bytes are decoded at once: they bound what waits.
const SLICE: usize = 4 << 10;

/// A frame gets no more of them once it has so many decoded bytes.
const FRAME: usize = 64 << 10;

/// The most that one slice may become. What comes of a short answer may be as much, so it is a bomb
/// that comes to more.
const MAX_FRAME: usize = FRAME + crate::coding::FREE_OUTPUT as usize;

/// A body, with its codings undone if it was made so. Dropping it drops the body.
pub struct DecodedBody<B> {
    body: B,
    /// `None`: it passes as it is. Boxed, since most do.
    decoding: Option<Box<Decoding>>,
}

impl<B> DecodedBody<B> {
    /// One that passes as it is.
    pub fn plain(body: B) -> Self {
        Self { body, decoding: None }
    }

    /// The same, which was encoded with `codings`, applied in this order. What the encoder has
    /// flushed is in the frame that follows.
    ///
    /// What is not in these codings, grows beyond the [`ContentDecoder`]'s bounds, or ends inside of them,
    /// ends with [`Kind::Undecodable`], after what was decoded. What stands right before a break,
    /// and came with it, may be lost with it.
    #[must_use]
    pub fn undoing(self, codings: &[Coding], upstream: &str) -> Self {
        let decoding = Decoding {
            decoder: ContentDecoder::new(codings),
            upstream: upstream.into(),
            input: Bytes::new(),
            begun: false,
            ended: false,
            last: None,
        };
        Self { body: self.body, decoding: Some(Box::new(decoding)) }
    }
}

struct Decoding {
    decoder: ContentDecoder,
    /// Whose answer it is.
    upstream: Box<str>,
    /// What has come and is not decoded.
    input: Bytes,
    /// Anything has come.
    begun: bool,
    /// Nothing more is read.
    ended: bool,
    /// What comes after the data.
    last: Option<Result<Frame<Bytes>, Error>>,
}

impl Decoding {
    /// What can be decoded now, if anything.
    fn next(&mut self) -> Option<Bytes> {
        let mut decoded = Vec::new();
        while !self.input.is_empty() && decoded.len() < FRAME {
            self.begun = true;
            let slice = self.input.split_to(SLICE.min(self.input.len()));
            let mut fits = true;
            let result = self.decoder.push(&slice, &mut |piece| {
                fits &= decoded.len() + piece.len() <= MAX_FRAME;
                if fits {
                    decoded.extend_from_slice(piece);
                }
            });
            let result = if fits { result } else { Err(DecodeError::TooLarge) };
            if let Err(error) = result {
                self.input = Bytes::new();
                self.end(Some(Err(self.undecodable(error))));
            }
        }
        (!decoded.is_empty()).then(|| decoded.into())
    }

    /// Nothing more comes of the body, but for its trailers or its error.
    fn finish(&mut self, last: Option<Result<Frame<Bytes>, Error>>) {
        let is_error = matches!(last, Some(Err(_)));
        if !is_error && !self.is_whole() {
            return self.end(Some(Err(self.undecodable("it ends inside its Content-Encoding"))));
        }
        self.end(last.map(|last| {
            last.map(|frame| match frame.into_trailers() {
                Ok(trailers) => Frame::trailers(rewrite::headers::decoded(trailers)),
                Err(frame) => frame,
            })
        }));
    }

    fn end(&mut self, last: Option<Result<Frame<Bytes>, Error>>) {
        self.ended = true;
        self.last = last;
    }

    fn undecodable(&self, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Kind::Undecodable.at(&*self.upstream).because(reason)
    }

    /// Whether the codings have come to their ends. No bytes are whole in any coding.
    fn is_whole(&self) -> bool {
        self.input.is_empty() && (!self.begun || self.decoder.is_complete())
    }

    /// Whether nothing follows, where `read` says that nothing follows of the body.
    fn is_end_stream(&self, read: bool) -> bool {
        self.last.is_none() && self.input.is_empty() && (self.ended || (read && self.is_whole()))
    }
}

impl<B: ResponseFrames> ResponseFrames for DecodedBody<B> {
    fn read_at(&self) -> Instant {
        self.body.read_at()
    }

    fn ends_by_close(&self) -> bool {
        self.body.ends_by_close()
    }
}

impl<B: ResponseFrames> Body for DecodedBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { body, decoding } = &mut *self;
        let mut body = Pin::new(body);
        let Some(decoding) = decoding else { return body.poll_frame(cx) };
        loop {
            if let Some(data) = decoding.next() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if decoding.ended {
                return Poll::Ready(decoding.last.take());
            }
            match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => decoding.input = data,
                    Err(trailers) => decoding.finish(Some(Ok(trailers))),
                },
                last => decoding.finish(last),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.decoding {
            None => self.body.is_end_stream(),
            Some(decoding) => decoding.is_end_stream(self.body.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.decoding {
            None => self.body.size_hint(),
            Some(_) if self.is_end_stream() => SizeHint::with_exact(0),
            Some(_) => SizeHint::default(),
        }
    }
}

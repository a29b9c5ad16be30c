//! A response body that is decoded on its way to the client.
//!
//! Only a stream from which an event may be withheld is decoded, since encoded bytes cannot be
//! edited. Any other response passes unchanged.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::ResponseFrames;
use crate::codec::coding::{Coding, ContentDecoder, DecodeError};
use crate::llm::rewrite;
use crate::record::error::{Error, Kind};
use crate::support::memory::Memory;
use crate::support::pieces::Pieces;

/// The largest number of encoded bytes that are decoded in one step, which bounds the waiting
/// output.
const SLICE: usize = 4 << 10;

/// A frame with this many decoded bytes is complete.
const FRAME: usize = 64 << 10;

/// The largest number of bytes to which one slice may expand. A short response may expand this far,
/// so that anything beyond is a decompression bomb.
const MAX_FRAME: usize = FRAME + crate::codec::coding::FREE_OUTPUT as usize;

/// A body, decoded or unchanged. Dropping it drops the inner body.
pub struct DecodedBody<B> {
    body: B,
    /// `None`: the body passes unchanged. Boxed, since most do.
    decoding: Option<Box<Decoding>>,
}

impl<B> DecodedBody<B> {
    /// A body that passes unchanged.
    pub fn plain(body: B) -> Self {
        Self { body, decoding: None }
    }

    /// Decodes a body that was encoded with `codings`, applied in this order. Bytes that the
    /// encoder flushed are in the next frame.
    ///
    /// A body that is not in these codings, expands beyond the [`ContentDecoder`]'s bounds or ends
    /// inside them fails with `upstream_undecodable` after its decoded part. Bytes right before the
    /// failure may be lost. The decoder's memory counts in `memory`.
    #[must_use]
    pub fn undoing(self, codings: &[Coding], upstream: &str, memory: &Memory) -> Self {
        let decoding = Decoding {
            decoder: ContentDecoder::new(codings).counted(memory),
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
    /// The name of the upstream, for errors.
    upstream: Box<str>,
    /// Bytes that are not decoded yet.
    input: Bytes,
    /// A byte has arrived.
    begun: bool,
    /// The inner body is read no further.
    ended: bool,
    /// The frame after the data: trailers or an error.
    last: Option<Result<Frame<Bytes>, Error>>,
}

impl Decoding {
    /// Decodes the waiting bytes. `None` if they yield no output.
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

    /// The inner body has ended with `last`: its trailers, its error or nothing.
    fn finish(&mut self, last: Option<Result<Frame<Bytes>, Error>>) {
        let is_error = matches!(last, Some(Err(_)));
        if !is_error && !self.is_whole() {
            return self.end(Some(Err(self.undecodable("it ends inside its Content-Encoding"))));
        }
        self.end(last.map(|last| {
            last.map(|frame| match frame.into_trailers() {
                Ok(trailers) => Frame::trailers(rewrite::headers::decoded_trailers(trailers)),
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

    /// Returns true if the codings are complete. An empty body is complete in any coding.
    fn is_whole(&self) -> bool {
        self.input.is_empty() && (!self.begun || self.decoder.is_complete())
    }

    /// Returns true if no frame follows. `read`: the inner body is at its end.
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

    fn as_pieces(&mut self) -> Option<&mut dyn Pieces<Error = Error>> {
        if self.decoding.is_none() { self.body.as_pieces() } else { None }
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

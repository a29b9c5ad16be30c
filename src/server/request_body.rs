//! A request's body over either version of HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::http1::Http1RequestBody;
use super::http2::Http2RequestBody;

/// The body of a request, read as it is polled.
#[derive(Debug)]
pub enum RequestBody {
    Http1(Http1RequestBody),
    Http2(Http2RequestBody),
}

impl RequestBody {
    /// Takes a body that came with its head, over HTTP/1.1. `None`: it is read as it is polled.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1(body) => body.take_whole(),
            Self::Http2(_) => None,
        }
    }

    /// Returns true if [`RequestBody::take_whole`] returns the body.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Http1(body) if body.is_whole())
    }

    /// Appends the next bytes to `all`, over HTTP/1.1 with one copy less than a frame needs.
    /// `None`: the body is complete.
    ///
    /// While this is pending, `all` is lent to the connection and empty. Dropping the body then
    /// loses its bytes.
    pub fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        all: &mut BytesMut,
    ) -> Poll<Option<Result<(), io::Error>>> {
        if let Self::Http1(body) = self {
            return body.poll_append(cx, all);
        }
        let frame = ready!(Pin::new(self).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.into_data().into_iter().for_each(|data| all.extend_from_slice(&data));
            })
        }))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

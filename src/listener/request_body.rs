//! A request's body, over whichever HTTP it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::http1::Http1RequestBody;
use super::http2::Http2RequestBody;

/// The body of a request, which is read as it is polled.
#[derive(Debug)]
pub enum RequestBody {
    /// Over HTTP/1.1.
    Http1(Http1RequestBody),
    /// Over HTTP/2.
    Http2(Http2RequestBody),
}

impl RequestBody {
    /// Adds to `all` what comes next, over HTTP/1.1 with one copy less than a frame takes. `None`:
    /// there is no more.
    ///
    /// While this is pending `all` is lent to the connection and empty. Dropped then, the body and
    /// what came of it are lost.
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

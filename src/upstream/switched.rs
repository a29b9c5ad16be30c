//! A connection to an upstream after an answer with status 101: its bytes are another protocol's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::origin::{Origin, in_words};
use super::stream::Stream;
use super::{Answer, Call, Failure, Flight, Payload, Upstream, connect};
use crate::config::{HttpVersion, Timeouts};
use crate::error::{Error, Result};

/// The connection. It is never used for anything else again.
#[derive(Debug)]
pub struct Switched {
    stream: Stream,
    /// What came together with the head.
    first: Bytes,
    origin: Arc<Origin>,
}

impl Switched {
    pub(super) fn new(stream: Stream, first: Bytes, origin: &Arc<Origin>) -> Self {
        Self { stream, first, origin: Arc::clone(origin) }
    }

    /// Takes what came together with the head: it stands before what is read.
    pub fn take_first(&mut self) -> Bytes {
        std::mem::take(&mut self.first)
    }

    /// How long it may take.
    pub fn timeouts(&self) -> Timeouts {
        self.origin.timeouts
    }

    /// It broke off.
    pub fn broken(&self, error: &io::Error) -> Error {
        self.origin.truncated(in_words(error))
    }

    /// It ended without a word.
    pub fn ended(&self) -> Error {
        self.origin.truncated("the connection ended without a close frame")
    }

    /// Nothing was said for too long.
    pub fn silent(&self) -> Error {
        self.origin.idle_timeout()
    }

    /// It took too long altogether.
    pub fn overdue(&self) -> Error {
        self.origin.total_timeout(true)
    }
}

impl AsyncRead for Switched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.stream.poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

impl Upstream {
    /// Sends a request that wishes for a WebSocket: over HTTP/1.1, on a connection of its own, also
    /// where everything else goes over HTTP/2. That has no such wish, and few services speak its
    /// CONNECT of RFC 8441.
    pub(super) async fn send_upgrade(&self, call: &Call<'_>, payload: Payload) -> Result<Answer> {
        let total = self.origin.timeouts.total.map(|total| call.started + total);
        let stream = connect::connect(&self.origin, total, HttpVersion::Http1).await?;
        let flight = Flight::new(self, call, call.http1_head(), payload, stream, total);
        let answer = flight.switching().await.map_err(|failure| match failure {
            Failure::Unprocessed(reason) => self.origin.unreachable(reason),
            Failure::Final(error) => error,
        });
        self.checked(answer?)
    }
}

//! A connection to an upstream after status 101: its bytes belong to another protocol.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect_spec::ConnectSpec;
use super::error::{SendCause, SendError, SendPhase, Violation};
use super::stream::Stream;
use super::{OutboundRequest, Payload, SendRequest, UpstreamClient, UpstreamResponse, connect};
use crate::config::{HttpVersion, Timeouts};
use crate::record::error::Error;

/// An upgraded connection. It never returns to the pool.
#[derive(Debug)]
pub struct UpgradedUpstream {
    stream: Stream,
    /// Bytes that were read together with the head.
    first: Bytes,
    spec: Arc<ConnectSpec>,
}

impl UpgradedUpstream {
    pub(super) fn new(stream: Stream, first: Bytes, spec: &Arc<ConnectSpec>) -> Self {
        Self { stream, first, spec: Arc::clone(spec) }
    }

    /// Takes the bytes that were read together with the head; they come before all reads.
    pub fn take_first(&mut self) -> Bytes {
        std::mem::take(&mut self.first)
    }

    pub fn timeouts(&self) -> Timeouts {
        self.spec.timeouts
    }

    /// The error for a failed read or write.
    pub fn broken(&self, error: &io::Error) -> Error {
        self.fail(io::Error::new(error.kind(), error.to_string()))
    }

    /// The error for an end of file without a close frame.
    pub fn ended(&self) -> Error {
        self.fail(Violation::NoCloseFrame)
    }

    /// The error for `timeouts.idle`.
    pub fn silent(&self) -> Error {
        self.fail(self.spec.idle_timeout())
    }

    /// The error for `timeouts.total`.
    pub fn overdue(&self) -> Error {
        self.fail(self.spec.total_timeout(true))
    }

    fn fail(&self, cause: impl Into<SendCause>) -> Error {
        self.spec.fail(SendError::new(SendPhase::Body, cause))
    }
}

impl AsyncRead for UpgradedUpstream {
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

impl AsyncWrite for UpgradedUpstream {
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

impl UpstreamClient {
    /// Sends a request for a WebSocket upgrade over HTTP/1.1 on a new connection, also to an
    /// upstream with HTTP/2: HTTP/2 has no `Upgrade`, and few services support RFC 8441.
    pub(super) async fn send_upgrade(
        &self,
        request: &OutboundRequest<'_>,
        payload: Payload,
        total: Option<Instant>,
    ) -> Result<UpstreamResponse, SendError> {
        let stream = connect::connect(&self.spec, total, HttpVersion::Http1).await?;
        let head = request.http1_head(&self.scratch);
        SendRequest::new(self, request, head, payload, stream, total, None).for_upgrade().await
    }
}

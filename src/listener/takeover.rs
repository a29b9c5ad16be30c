//! What goes on with a client's connection after an answer with status 101.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Takes the connection over, and ends with it.
pub struct Takeover(Box<dyn FnOnce(ClientStream) -> Running>);

type Running = Pin<Box<dyn Future<Output = ()>>>;

impl Takeover {
    /// `run` gets the connection once the answer is written. Where it never is, it is dropped.
    pub fn new<F: Future<Output = ()> + 'static>(run: impl FnOnce(ClientStream) -> F + 'static) -> Self {
        Self(Box::new(|stream| Box::pin(run(stream))))
    }

    pub(super) async fn run(self, stream: ClientStream) {
        (self.0)(stream).await;
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover").finish_non_exhaustive()
    }
}

/// A client's connection, plain or through TLS.
pub struct ClientStream {
    io: Box<dyn Io>,
    /// What was read before.
    first: Bytes,
}

trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

impl ClientStream {
    pub(super) fn new(io: impl AsyncRead + AsyncWrite + Unpin + 'static, first: Bytes) -> Self {
        Self { io: Box::new(io), first }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let size = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(size));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

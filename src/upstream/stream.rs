//! A connection's bytes: plain or through TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Wire,
    is_http2: bool,
    generation: u64,
}

/// What carries it.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    /// Boxed: a TLS session is large, and most connections of a sidecar are plain or few.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the upstream inside TLS with a proxy.
    TlsInTls(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
}

impl Stream {
    /// `generation` is that of the certificates it was made with, see [`Origin::generation`](super::Origin::generation).
    pub(super) fn new(wire: Wire, is_http2: bool, generation: u64) -> Self {
        Self { wire, is_http2, generation }
    }

    /// Whether HTTP/2 is spoken on it.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Which certificates it was made with.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads what is there into `buf`; `Ready(0)` is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let polled = match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Wire::TlsInTls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        };
        polled.map_ok(|()| buf.filled().len())
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Wire::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Wire::TlsInTls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(_) => Poll::Ready(Ok(())),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Wire::TlsInTls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::TlsInTls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Whether an idle connection is still open and has nothing to say. Nobody polls it while it is idle, so this is
    /// the one look before it is used again.
    pub(super) fn is_quiet(&mut self, scratch: &mut [u8]) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop()), scratch).is_pending()
    }
}

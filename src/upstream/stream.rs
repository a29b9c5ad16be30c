//! A connection's bytes: plain or through TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::HttpVersion;

/// A connection to an upstream.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    /// Boxed: a TLS session is large, and most connections of a sidecar are plain or few.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the upstream inside TLS with a proxy.
    TlsInTls(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
}

impl Stream {
    /// Whether HTTP/2 is spoken on it: chosen in the TLS handshake, or known before (RFC 9113 sections 3.2 and 3.3).
    pub(super) fn is_http2(&self, http: HttpVersion) -> bool {
        match self {
            Self::Tcp(_) => http == HttpVersion::Http2,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::TlsInTls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Reads what is there into `buf`; `Ready(0)` is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let polled = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::TlsInTls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        };
        polled.map_ok(|()| buf.filled().len())
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::TlsInTls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsInTls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsInTls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Whether an idle connection is still open and has nothing to say. Nobody polls it while it is idle, so this is
    /// the one look before it is used again.
    pub(super) fn is_quiet(&mut self, scratch: &mut [u8]) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop()), scratch).is_pending()
    }
}

//! The byte stream of a connection: plain, TLS, or TLS inside TLS.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Wire,
    is_http2: bool,
    /// The connect time in microseconds. As `u32` it fits into the padding after the flag.
    connect: u32,
    generation: u64,
    /// The connection takes no further request after this instant.
    expires: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    /// Boxed, because a TLS session is large.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the upstream inside TLS with a forward proxy.
    TlsInTls(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
}

impl Stream {
    /// `generation` numbers the certificates with which it was made, see
    /// [`ConnectSpec::generation`](super::ConnectSpec::generation).
    pub(super) fn new(wire: Wire, is_http2: bool, generation: u64) -> Self {
        Self { wire, is_http2, connect: 0, generation, expires: None }
    }

    pub(super) fn connected_in(mut self, connect: Duration) -> Self {
        self.connect = u32::try_from(connect.as_micros()).unwrap_or(u32::MAX);
        self
    }

    /// Sets the instant after which it takes no further request.
    pub(super) fn expiring(mut self, expires: Option<Instant>) -> Self {
        self.expires = expires;
        self
    }

    /// `None`: it does not expire.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// The connect time: one round trip to the upstream, also through a forward proxy.
    pub(super) fn connect_time(&self) -> Duration {
        Duration::from_micros(self.connect.into())
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads available bytes into `buf`; `Ready(0)` is end of file.
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

    /// Half-closes the connection.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::TlsInTls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Returns true if the connection is open and has no unread bytes. Bytes before a request
    /// cannot be its response.
    ///
    /// Peeks at the socket, since tokio's readiness dates from the last turn of its driver. TLS
    /// records count as unread bytes: an alert or a late session ticket costs one new connection.
    pub(super) fn poll_still_idle(&mut self, scratch: &mut [u8]) -> bool {
        let is_silent = self.poll_read(&mut Context::from_waker(Waker::noop()), scratch).is_pending();
        let peeked = SockRef::from(self.tcp()).peek(&mut [MaybeUninit::uninit()]);
        is_silent && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn tcp(&self) -> &TcpStream {
        match &self.wire {
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => stream.get_ref().0,
            Wire::TlsInTls(stream) => stream.get_ref().0.get_ref().0,
        }
    }
}

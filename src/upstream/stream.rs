//! A connection's bytes: plain or through TLS.

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
    /// How long the connect took, in microseconds. It fits beside the flag: an idle connection
    /// costs no byte more.
    connect: u32,
    generation: u64,
    /// From when on it takes no further request.
    expires: Option<Instant>,
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
    /// `generation` is that of the certificates it was made with, see
    /// [`Origin::generation`](super::Origin::generation).
    pub(super) fn new(wire: Wire, is_http2: bool, generation: u64) -> Self {
        Self { wire, is_http2, connect: 0, generation, expires: None }
    }

    /// Notes how long the connect took.
    pub(super) fn connected_in(mut self, connect: Duration) -> Self {
        self.connect = u32::try_from(connect.as_micros()).unwrap_or(u32::MAX);
        self
    }

    /// It takes no further request from then on.
    pub(super) fn expiring(mut self, expires: Option<Instant>) -> Self {
        self.expires = expires;
        self
    }

    /// From when on it takes no further request; `None`: never.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// How long the connect took: one round trip to the upstream, or to its forward proxy and from
    /// there on.
    pub(super) fn connect_time(&self) -> Duration {
        Duration::from_micros(self.connect.into())
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

    /// Whether an idle connection is open and has nothing to read. Bytes that come before a request
    /// answer none.
    ///
    /// The system is asked, since tokio's readiness is as old as the last turn of its driver. Bytes
    /// of TLS count too: only an alert or a late session ticket can be among them, and either costs
    /// no more than a new connection.
    pub(super) fn is_quiet(&mut self, scratch: &mut [u8]) -> bool {
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

//! A connection with faults that HTTP cannot express.
//!
//! An order is executed when all bytes written before have left: hyper flushes the connection only
//! when its own buffer is empty. So exactly the bytes before the fault arrive. Over HTTP/2 an order
//! ends the connection too, with all its streams, and bytes that are still queued for it may be
//! lost.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Bytes that are neither HTTP nor a chunk.
pub(super) const GARBAGE: &[u8] = b"\x00\x16\xffthis is not HTTP\r\n\r\n\x80\x81";

/// The ways in which a connection can end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    /// Closed in the ordinary way of TCP.
    Close = 1,
    /// Reset; the system discards unsent bytes.
    Reset,
    /// [`GARBAGE`], then closed.
    Garbage,
}

/// The handle of a [`Wire`] that gives it orders. Used on one thread, but a connection that can be
/// upgraded must be `Send`. 0 means no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Order(Arc<AtomicU8>);

impl Order {
    /// Makes the connection end like this at its next flush.
    pub(super) fn give(&self, ending: Ending) {
        self.0.store(ending as u8, Ordering::Relaxed);
    }

    fn given(&self) -> Option<Ending> {
        let given = self.0.load(Ordering::Relaxed);
        [Ending::Close, Ending::Reset, Ending::Garbage].into_iter().find(|ending| *ending as u8 == given)
    }
}

/// The connection of a client.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The stream below TLS, if there is any.
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    fn stream(&mut self) -> Pin<&mut dyn Stream> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp as &mut dyn Stream),
            Self::Tls(tls) => Pin::new(&mut **tls as &mut dyn Stream),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// The connection.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    order: Order,
}

impl Wire {
    pub(super) fn new(socket: Socket, order: Order) -> Self {
        Self { socket, order }
    }

    /// Ends the connection; the error makes hyper drop it.
    fn end(&self, ending: Ending) -> io::Error {
        match ending {
            Ending::Close => {}
            Ending::Reset => {
                let _ = self.socket.tcp().set_zero_linger();
            }
            Ending::Garbage => {
                let _ = self.socket.tcp().try_write(GARBAGE);
            }
        }
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.stream().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.order.given() {
            Some(ending) => Poll::Ready(Err(self.end(ending))),
            None => self.socket.stream().poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.stream().poll_shutdown(cx)
    }
}

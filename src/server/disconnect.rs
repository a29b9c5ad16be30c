//! Detects that a client has left although it sent bytes that are not read yet.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rustix::io::Errno;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::server::TlsStream;

/// A stream over a TCP socket, with or without TLS.
pub(super) trait Socket {
    fn tcp(&self) -> &TcpStream;

    /// Writes at once, or returns `None`: then only a poll tells. It costs less than a poll where
    /// the socket is likely to accept bytes, and wakes no task.
    fn try_write(&self, _bytes: &[u8]) -> Option<io::Result<usize>> {
        None
    }

    /// Returns true if a drop ends the connection as a shutdown of both directions does. TLS has a
    /// last message (`close_notify`).
    fn ends_when_dropped(&self) -> bool {
        false
    }
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn ends_when_dropped(&self) -> bool {
        true
    }

    fn try_write(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        match TcpStream::try_write(self, bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            written => Some(written),
        }
    }
}

impl<S: Socket> Socket for Box<TlsStream<S>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.tcp()
    }
}

/// Returns true if bytes, or the end, wait in the kernel. On a busy worker, tokio's readiness dates
/// from an earlier turn of its driver.
pub(super) fn has_bytes(socket: &TcpStream) -> bool {
    SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]).is_ok()
}

/// The largest number of connections that are watched at the same time in this process. Each watch
/// needs one descriptor.
pub const MOST_WATCHED: usize = 256;

/// Permits that are withheld because the process may open few files.
static RESERVED: AtomicUsize = AtomicUsize::new(0);

/// Limits the watches of the whole process to `count`, and to [`MOST_WATCHED`].
pub fn watch_at_most(count: usize) {
    RESERVED.store(MOST_WATCHED.saturating_sub(count), Ordering::Relaxed);
}

/// One permit per descriptor.
pub(super) static WATCHED: Semaphore = Semaphore::const_new(MOST_WATCHED);

/// Waits until the other side has closed its direction, even behind unread bytes.
///
/// A read reaches the close only behind those bytes; the kernel reports it immediately. The watch
/// has its own descriptor for the same socket, so that it does not change the readiness of the
/// stream.
pub(super) struct DisconnectWatch {
    closed: Pin<Box<dyn Future<Output = ()>>>,
    /// Dropped after the descriptor.
    _permit: SemaphorePermit<'static>,
}

impl DisconnectWatch {
    /// Takes one of the `permits`, usually of [`WATCHED`].
    ///
    /// # Errors
    /// `None` if no permit is free, or if the process has no descriptor left.
    pub(super) fn watch(socket: &TcpStream, permits: &'static Semaphore) -> io::Result<Self> {
        if permits.available_permits() <= RESERVED.load(Ordering::Relaxed) {
            return Err(Errno::MFILE.into());
        }
        let permit = permits.try_acquire().map_err(io::Error::other)?;
        let socket = TcpStream::from_std(socket.as_fd().try_clone_to_owned()?.into())?;
        Ok(Self { closed: Box::pin(closed(socket)), _permit: permit })
    }

    /// Ready once the other side has closed. Cancel-safe.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.closed.as_mut().poll(cx)
    }
}

impl fmt::Debug for DisconnectWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisconnectWatch").finish_non_exhaustive()
    }
}

async fn closed(socket: TcpStream) {
    // An error means that the runtime is shutting down.
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            break;
        }
        // Clears the readiness without reading, so that only more bytes or the close wake this
        // task.
        let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn disconnect_watches_are_limited_to_the_permits() {
        static TWO: Semaphore = Semaphore::const_new(2);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let watch = || DisconnectWatch::watch(&client, &TWO);
        let (one, two) = (watch().unwrap(), watch().unwrap());
        watch().unwrap_err();
        drop(one);
        let three = watch().expect("the place of one that is gone is free");
        watch().unwrap_err();
        drop((two, three));
    }

    #[tokio::test]
    async fn disconnect_watch_reports_a_close_behind_unread_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let mut watch = DisconnectWatch::watch(&served, &WATCHED).unwrap();
        for _ in 0..3 {
            client.write_all(&[b'x'; 1000]).await.unwrap();
            served.readable().await.unwrap();
            let polled = poll_fn(|cx| Poll::Ready(watch.poll(cx))).await;
            assert!(polled.is_pending());
        }
        client.shutdown().await.unwrap();
        poll_fn(|cx| watch.poll(cx)).await;
        let mut read = Vec::new();
        while served.try_read_buf(&mut read).unwrap() > 0 {}
        assert_eq!(read.len(), 3000, "the stream itself is not disturbed");
    }
}

//! Adapts a connection to the I/O traits that h2 needs.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::error::alert;
use crate::upstream::stream::Stream;

/// A stream that records what h2 does not report.
pub(super) struct Io {
    stream: Stream,
    heard: Rc<Heard>,
    /// A write failed with this error.
    broken: Option<io::Error>,
}

/// Reads from the peer.
#[derive(Default)]
pub(super) struct Heard {
    /// The number of reads; a change means that the peer was heard in between.
    pub(super) times: Cell<u64>,
    /// The time of the last read.
    pub(super) last: Cell<Option<Instant>>,
    /// The alert with which it ended TLS.
    pub(super) alert: Cell<Option<AlertDescription>>,
}

impl Io {
    pub(super) fn new(stream: Stream, heard: Rc<Heard>) -> Self {
        Self { stream, heard, broken: None }
    }

    /// Delays a failed write until a read has ended: a peer that ends TLS sends an alert with the
    /// reason before it closes, and only a read returns it.
    fn poll_broken<T>(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Result<T>> {
        loop {
            match self.poll_bytes(cx, &mut [0; 256]) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.broken = Some(error);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.stream.poll_read(cx, buf));
        if let Err(error) = &read
            && let Some(alert) = alert(error)
        {
            self.heard.alert.set(Some(alert));
        }
        Poll::Ready(read)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_bytes(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        if read > 0 {
            self.heard.times.set(self.heard.times.get() + 1);
            self.heard.last.set(Some(Instant::now()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.broken.take() {
            return self.poll_broken(cx, error);
        }
        match ready!(self.stream.poll_write_vectored(cx, pieces)) {
            Err(error) => self.poll_broken(cx, error),
            written => Poll::Ready(written),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return self.poll_broken(cx, error);
        }
        match ready!(self.stream.poll_flush(cx)) {
            Err(error) => self.poll_broken(cx, error),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

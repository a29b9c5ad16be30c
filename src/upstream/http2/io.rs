//! A connection's bytes as h2 takes them.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::stream::Stream;

/// A stream that notes how often something was read, and when: whether a peer was heard after a certain moment.
pub(super) struct Io {
    stream: Stream,
    heard: Rc<Heard>,
}

/// What was heard of a peer.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// How often.
    pub(super) times: Cell<u64>,
    /// When it was last.
    pub(super) last: Cell<Option<Instant>>,
}

impl Io {
    pub(super) fn new(stream: Stream, heard: Rc<Heard>) -> Self {
        Self { stream, heard }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.stream.poll_read(cx, buf.initialize_unfilled()))?;
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
        self.stream.poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

//! One direction of an upgraded connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One direction. Bytes are written before more are read, so that a slow side slows the other
/// down.
#[derive(Default)]
pub(super) struct Pipe {
    /// Bytes that are read first: they came before the pipe, or a gate has not read them.
    pub(super) first: Bytes,
    /// Nothing is read.
    pub(super) paused: bool,
    /// Bytes that were read and are not written yet: at most those of one read, or of the messages
    /// that a gate lets pass.
    pub(super) waiting: Bytes,
    /// Written bytes wait for a flush.
    pub(super) unflushed: bool,
    /// The reading side is at its end.
    pub(super) ended: bool,
    /// The writing side was shut down.
    pub(super) told: bool,
    /// The writing side must not be shut down.
    pub(super) keeps_open: bool,
    /// Bytes moved since the last check of the limits.
    pub(super) moved: bool,
}

/// The decision about bytes that were read.
pub(super) enum Verdict {
    Pass,
    /// These pass in place of those that were read, except the last `unread` ones, which are read
    /// again. Then the pipe pauses if it `pauses`.
    Replace {
        bytes: Bytes,
        unread: usize,
        pauses: bool,
    },
    /// Nothing is written or read any more.
    Stop,
}

/// The end of a pipe that failed.
pub(super) enum Broken {
    From(io::Error),
    To(io::Error),
}

impl Pipe {
    /// Begins with bytes that were already read.
    pub(super) fn beginning_with(first: Bytes) -> Self {
        Self { first, ..Self::default() }
    }

    /// Copies until the end; `Ready` when everything is written. `saw` decides about what was read.
    pub(super) fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buf: &mut [u8],
        mut saw: impl FnMut(&[u8]) -> Verdict,
    ) -> Poll<Result<(), Broken>> {
        let (mut from, mut to) = (Pin::new(from), Pin::new(to));
        loop {
            while self.waiting.has_remaining() {
                let written = ready!(to.as_mut().poll_write(cx, &self.waiting)).map_err(Broken::To)?;
                if written == 0 {
                    return Poll::Ready(Err(Broken::To(io::ErrorKind::WriteZero.into())));
                }
                self.waiting.advance(written);
                self.moved = true;
            }
            if self.ended {
                if !self.told && !self.keeps_open {
                    ready!(to.as_mut().poll_shutdown(cx)).map_err(Broken::To)?;
                    self.told = true;
                }
                return Poll::Ready(Ok(()));
            }
            let first = if self.paused { Bytes::new() } else { std::mem::take(&mut self.first) };
            let mut read = ReadBuf::new(&mut *buf);
            let bytes = if first.is_empty() {
                let polled = if self.paused { Poll::Pending } else { from.as_mut().poll_read(cx, &mut read) };
                match polled {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::From(error))),
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(to.as_mut().poll_flush(cx)).map_err(Broken::To)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
                self.ended = read.filled().is_empty();
                if self.ended {
                    continue;
                }
                read.filled()
            } else {
                &first
            };
            match saw(bytes) {
                Verdict::Pass => {}
                Verdict::Replace { bytes: passed, unread, pauses } => {
                    (self.moved, self.unflushed) = (true, self.unflushed || !passed.is_empty());
                    self.first = Bytes::copy_from_slice(&bytes[bytes.len() - unread..]);
                    (self.waiting, self.paused) = (passed, pauses);
                    continue;
                }
                Verdict::Stop => return Poll::Pending,
            }
            (self.moved, self.unflushed) = (true, true);
            let written = match to.as_mut().poll_write(cx, bytes) {
                Poll::Ready(written) => written.map_err(Broken::To)?,
                Poll::Pending => 0,
            };
            self.waiting = Bytes::copy_from_slice(&bytes[written..]);
        }
    }
}

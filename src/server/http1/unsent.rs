//! Bytes that a socket has not accepted yet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::server::disconnect::Socket;

/// Three parts, in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pub(super) before: Bytes,
    pub(super) data: Bytes,
    pub(super) behind: &'static [u8],
}

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.data.is_empty() && self.behind.is_empty()
    }

    pub(super) fn advance(&mut self, mut written: usize) {
        for piece in [&mut self.before, &mut self.data] {
            let taken = written.min(piece.len());
            piece.advance(taken);
            written -= taken;
        }
        self.behind = &self.behind[written..];
    }
}

/// Writes some of the parts, in order.
pub(super) fn write_once(
    io: &mut (impl AsyncWrite + Socket + Unpin),
    cx: &mut Context<'_>,
    pieces: [IoSlice<'_>; 3],
) -> Poll<io::Result<usize>> {
    // A vectored write of one part costs more than a plain one.
    let written = match pieces {
        [piece, data, behind] if data.is_empty() && behind.is_empty() => match io.try_write(&piece) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(io).poll_write(cx, &piece),
        },
        pieces => Pin::new(io).poll_write_vectored(cx, &pieces),
    };
    match ready!(written)? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

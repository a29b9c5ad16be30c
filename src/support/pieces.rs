//! A body's bytes on their way from one socket to another, without an allocation.
//!
//! The frames of `http_body` own their bytes, so that each event of a stream would take an
//! allocation and a copy, and two polls of all adapters around the body. A piece is shown in the
//! buffer that it was read into, and one poll shows all pieces there are.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

/// A body that shows its pieces in the buffer into which they were read.
pub trait Pieces {
    type Error;

    /// Shows the payload of each read, with the time of the read, until `show` breaks.
    ///
    /// A pending body may have shown some before; the task is woken for the next.
    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        show: &mut dyn FnMut(&[u8], Instant) -> ControlFlow<()>,
    ) -> Poll<Relayed<Self::Error>>;
}

/// Takes the pieces of a body.
pub trait PieceSink {
    /// Takes a copy of a piece.
    fn copy(&mut self, piece: &[u8]);

    /// Takes a piece that is shared already.
    fn take(&mut self, piece: Bytes);

    /// Returns true if no further piece is wanted in this turn.
    fn is_full(&self) -> bool;
}

/// The reason why a body yields no further piece now. A pending body may have yielded some before.
#[derive(Debug)]
pub enum Relayed<E> {
    /// The sink is full.
    Full,
    /// The body is complete, with its trailers.
    Whole(Option<Box<HeaderMap>>),
    Failed(E),
}

/// Passes the frames of a body that has no pieces to `sink`.
pub fn poll_frames<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    cx: &mut Context<'_>,
    sink: &mut dyn PieceSink,
) -> Poll<Relayed<B::Error>> {
    while !sink.is_full() {
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Relayed::Failed(error)),
            None => return Poll::Ready(Relayed::Whole(None)),
        };
        match frame.into_data() {
            Ok(data) => {
                sink.take(data);
                if body.is_end_stream() && !sink.is_full() {
                    return Poll::Ready(Relayed::Whole(None));
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().ok().map(Box::new);
                return Poll::Ready(Relayed::Whole(trailers));
            }
        }
    }
    Poll::Ready(Relayed::Full)
}

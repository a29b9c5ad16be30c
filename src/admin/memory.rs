//! Limits the memory of responses that clients have not read yet.
//!
//! A response without a small bound holds a [`Reservation`] from before it is built until its
//! client has read it, or was disconnected for not reading (`server.write_timeout`). All
//! reservations together are [`UNITS`] MiB, or an eighth of the process's budget, which bounds the
//! cost of clients that do not read. A request that finds no memory gets 503 and `retry-after`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem, vec};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::reader::ReadError;
use super::{Admin, api};
use crate::support::memory::{Memory, MemoryHold, MemoryPart};

/// The memory of all responses, in [`UNIT`]s. Each response has at least one, so this also limits
/// their number.
const UNITS: usize = 64;

/// A MiB: nearly all responses are smaller.
const UNIT: usize = 1 << 20;

/// The time that a request waits for memory.
const TURN: Duration = Duration::from_secs(5);

/// The size of a piece of a response. hyper holds a few of them at most.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct ResponseMemory {
    all: Arc<Semaphore>,
    memory: Memory,
}

/// The memory of one response, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    all: Arc<Semaphore>,
    held: OwnedSemaphorePermit,
    counted: MemoryHold,
}

impl ResponseMemory {
    pub(super) fn new(memory: Memory) -> Self {
        let units = memory.at_most(UNITS * UNIT, 8) / UNIT;
        Self { all: Arc::new(Semaphore::new(units.max(1))), memory }
    }

    /// Reserves memory for one response. `None` if there was none for [`TURN`].
    async fn reserve(&self) -> Option<Reservation> {
        let held = timeout(TURN, Arc::clone(&self.all).acquire_owned()).await.ok()?.ok()?;
        let counted = self.memory.hold(MemoryPart::Admin);
        Some(Reservation { all: Arc::clone(&self.all), held, counted })
    }
}

/// A handler that writes into its reservation takes it as an argument.
impl FromRequestParts<Arc<Admin>> for Reservation {
    type Rejection = Response;

    async fn from_request_parts(_: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Response> {
        admin.memory.reserve().await.ok_or_else(|| api::unreadable(&ReadError::NoRoom))
    }
}

/// Reserves memory, builds the response, and has its body hold the memory.
pub(super) async fn reserve(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Some(memory) = admin.memory.reserve().await else { return api::unreadable(&ReadError::NoRoom) };
    let (head, body) = next.run(request).await.into_parts();
    // The handlers behind this layer build whole bodies.
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    match HeldBody::new(bytes, memory) {
        Some(body) => Response::from_parts(head, axum::body::Body::new(body)),
        None => api::unreadable(&ReadError::NoRoom),
    }
}

impl Reservation {
    /// Grows to `bytes` in all, if the memory is free now.
    fn grow_to(&mut self, bytes: usize) -> bool {
        self.counted.set(self.counted.bytes().max(bytes));
        let more = bytes.div_ceil(UNIT).saturating_sub(self.held.num_permits());
        if more == 0 {
            return true;
        }
        let Ok(more) = u32::try_from(more) else { return false };
        match Arc::clone(&self.all).try_acquire_many_owned(more) {
            Ok(more) => {
                self.held.merge(more);
                true
            }
            Err(_) => false,
        }
    }
}

/// A response that is being written in pieces, each within the reserved memory.
#[derive(Debug)]
pub(super) struct HeldText {
    pieces: Vec<Bytes>,
    last: Vec<u8>,
    length: usize,
    memory: Reservation,
}

impl HeldText {
    pub(super) fn new(memory: Reservation) -> Self {
        Self { pieces: Vec::new(), last: Vec::new(), length: 0, memory }
    }

    pub(super) fn finish(mut self) -> HeldBody {
        self.pieces.push(self.last.into());
        let (current, rest) = (Bytes::new(), self.pieces.into_iter());
        HeldBody { current, rest, left: self.length, _memory: self.memory }
    }
}

/// An error means that there is no memory.
impl io::Write for HeldText {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if !self.memory.grow_to(self.length + text.len()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.length += text.len();
        if !self.last.is_empty() && self.last.len() + text.len() > PIECE {
            // Every piece except the last has the capacity of its bytes.
            let full = mem::replace(&mut self.last, Vec::with_capacity(PIECE.max(text.len())));
            self.pieces.push(full.into());
        }
        self.last.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body of known length, given in pieces, that holds its memory until it is dropped.
pub(super) struct HeldBody {
    current: Bytes,
    rest: vec::IntoIter<Bytes>,
    left: usize,
    _memory: Reservation,
}

impl HeldBody {
    /// `None` if there is not enough memory.
    pub(super) fn new(bytes: Bytes, mut memory: Reservation) -> Option<Self> {
        let left = bytes.len();
        let has_memory = memory.grow_to(left);
        has_memory.then(|| Self { current: bytes, rest: Vec::new().into_iter(), left, _memory: memory })
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.current.is_empty() {
            let Some(piece) = self.rest.next() else { return Poll::Ready(None) };
            self.current = piece;
        }
        let length = self.current.len().min(PIECE);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(self.current.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn response_in_pieces_is_the_response() {
        let memory = ResponseMemory::new(Memory::default());
        let text: Vec<u8> = (0..3 * PIECE + 7).map(|byte| byte as u8).collect();
        let mut held = HeldText::new(memory.reserve().await.unwrap());
        for part in text.chunks(1000) {
            held.write_all(part).unwrap();
        }
        let written = held.finish();
        let whole = HeldBody::new(text.clone().into(), memory.reserve().await.unwrap()).unwrap();
        for mut body in [written, whole] {
            assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
            let mut pieces = Vec::new();
            while let Some(frame) = body.frame().await {
                pieces.push(frame.unwrap().into_data().unwrap());
            }
            assert!(pieces.len() > 2 && body.is_end_stream());
            assert_eq!(pieces.concat(), text);
        }
    }

    #[tokio::test]
    async fn large_response_leaves_memory_for_fewer_and_gives_it_back() {
        let memory = ResponseMemory::new(Memory::default());
        let mut held = HeldText::new(memory.reserve().await.unwrap());
        for _ in 0..UNITS - 1 {
            held.write_all(&[0; UNIT]).unwrap();
        }
        let other = memory.reserve().await.unwrap();
        assert!(held.write_all(&[0; UNIT]).is_err(), "another response has the last unit");
        drop(other);
        held.write_all(&[0; UNIT]).unwrap();
        assert_eq!(memory.all.available_permits(), 0);
        drop(held);
        assert_eq!((memory.all.available_permits(), memory.memory.used()), (UNITS, 0));
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn full_memory_is_reported_after_a_wait() {
        let memory = ResponseMemory::new(Memory::default());
        let _all = Arc::clone(&memory.all).acquire_many_owned(UNITS as u32).await.unwrap();
        assert!(memory.reserve().await.is_none());
    }
}

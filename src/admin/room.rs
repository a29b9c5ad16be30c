//! The memory of answers that are not taken yet.
//!
//! An answer of no small size holds a [`Place`] from before it is made until its client has taken
//! it, or was given up (`server.write_timeout`). All places together are [`UNITS`] MiB, so that
//! clients that ask and do not read cost no more than that. A request that finds no room gets 503
//! and `retry-after`.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What answers may hold in all, in [`UNIT`]s. One has a unit at least, so this is how many there
/// may be at once.
const UNITS: usize = 64;

/// A MiB: nearly all answers are smaller.
const UNIT: usize = 1 << 20;

/// How long to wait for room.
const TURN: Duration = Duration::from_secs(5);

/// A piece of an answer.
const PIECE: usize = 64 * 1024;

/// The room of all answers.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// What one answer holds of it, until this is dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Semaphore>,
    held: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(UNITS)))
    }

    /// A place for one answer; `None`: there was none for [`TURN`].
    pub(super) async fn enter(&self) -> Option<Place> {
        let held = timeout(TURN, Arc::clone(&self.0).acquire_owned()).await.ok()?.ok()?;
        Some(Place { room: Arc::clone(&self.0), held })
    }
}

impl Place {
    /// Makes it large enough for so many bytes in all, if there is room now.
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.div_ceil(UNIT).saturating_sub(self.held.num_permits());
        if more == 0 {
            return true;
        }
        let Ok(more) = u32::try_from(more) else { return false };
        match Arc::clone(&self.room).try_acquire_many_owned(more) {
            Ok(more) => {
                self.held.merge(more);
                true
            }
            Err(_) => false,
        }
    }
}

/// An answer that is being written, in pieces for which there is room.
#[derive(Debug)]
pub struct Held {
    pieces: Vec<Bytes>,
    last: Vec<u8>,
    length: usize,
    place: Place,
}

impl Held {
    pub(super) fn new(place: Place) -> Self {
        Self { pieces: Vec::new(), last: Vec::new(), length: 0, place }
    }

    /// The pieces in their order, the length of all of them, and what they hold.
    pub(super) fn finish(mut self) -> (Vec<Bytes>, usize, Place) {
        self.pieces.push(self.last.into());
        (self.pieces, self.length, self.place)
    }
}

/// An error says that there is no room.
impl io::Write for Held {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if !self.place.grow_to(self.length + text.len()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.length += text.len();
        if !self.last.is_empty() && self.last.len() + text.len() > PIECE {
            // A piece has no more room than it has bytes, except the last.
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn answer_in_pieces_is_the_answer() {
        let mut held = Held::new(Room::new().enter().await.unwrap());
        let text: Vec<u8> = (0..3 * PIECE + 7).map(|byte| byte as u8).collect();
        for part in text.chunks(1000) {
            held.write_all(part).unwrap();
        }
        let (pieces, length, _place) = held.finish();
        assert!(pieces.len() > 2 && length == text.len());
        assert_eq!(pieces.concat(), text);
    }

    #[tokio::test]
    async fn large_answer_leaves_room_for_fewer_and_gives_it_back() {
        let room = Room::new();
        let mut held = Held::new(room.enter().await.unwrap());
        for _ in 0..UNITS - 1 {
            held.write_all(&[0; UNIT]).unwrap();
        }
        let other = room.enter().await.unwrap();
        assert!(held.write_all(&[0; UNIT]).is_err(), "the last unit is another's");
        drop(other);
        held.write_all(&[0; UNIT]).unwrap();
        assert_eq!(room.0.available_permits(), 0);
        drop(held);
        assert_eq!(room.0.available_permits(), UNITS);
    }

    #[tokio::test(start_paused = true)]
    async fn full_room_is_told_after_a_wait() {
        let room = Room::new();
        let _all = Arc::clone(&room.0).acquire_many_owned(UNITS as u32).await.unwrap();
        assert!(room.enter().await.is_none());
    }
}

//! The memory budget of the process: the bytes that clients cause it to hold, by part.
//!
//! Parts with large pieces count each piece by a [`MemoryHold`]. Those with many small ones, the
//! connections and running requests, count stated sizes of each ([`WorkerMemory`]), so that a
//! request costs no atomic operation. The budget refuses nothing itself: new requests ask
//! [`Memory::is_full`], buffers that may grow ask before they do, and running streams go on.

mod hold;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use hold::MemoryHold;
pub use worker::{CONNECTION, HTTP2_CONNECTION, INCLUDED, REQUEST, TLS_CONNECTION, WorkerMemory};

/// A part of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPart {
    /// Buffered request bodies, and all else that `server.max_buffered_bytes` bounds.
    Bodies,
    /// Requests and responses that are kept for estimates.
    Estimates,
    /// Open connections of clients, with the bytes that they have sent too early or not accepted.
    Connections,
    /// Running and waiting requests, with their connections to upstreams.
    Requests,
    /// Windows of decoders of responses.
    Decoders,
    /// Responses that are read after their clients have left.
    Drains,
    /// Usage records that wait for their sinks.
    Records,
    /// Responses of the admin pages that were not read yet.
    Admin,
    /// Resident memory beyond that of the other parts and of the process itself.
    Uncounted,
}

impl MemoryPart {
    /// All parts, with their metric label `part`.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Bodies, "bodies"),
        (Self::Estimates, "estimates"),
        (Self::Connections, "connections"),
        (Self::Requests, "requests"),
        (Self::Decoders, "decoders"),
        (Self::Drains, "drains"),
        (Self::Records, "records"),
        (Self::Admin, "admin"),
        (Self::Uncounted, "uncounted"),
    ];
}

/// The budget. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `usize::MAX`: no limit.
    limit: usize,
    /// The sum of `parts`.
    used: AtomicUsize,
    parts: [AtomicUsize; MemoryPart::ALL.len()],
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Memory {
    /// `None`: no limit.
    pub fn new(limit: Option<usize>) -> Self {
        let parts = std::array::from_fn(|_| AtomicUsize::new(0));
        Self(Arc::new(Inner { limit: limit.unwrap_or(usize::MAX), used: AtomicUsize::new(0), parts }))
    }

    pub fn limit(&self) -> Option<usize> {
        Some(self.0.limit).filter(|&limit| limit != usize::MAX)
    }

    /// The bytes of all parts.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The bytes of one part.
    pub fn of(&self, part: MemoryPart) -> usize {
        self.0.parts[part as usize].load(Ordering::Relaxed)
    }

    /// Returns true if new requests must be refused: seven eighths are used. The rest is for
    /// requests that run.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.used() >= self.0.limit / 8 * 7
    }

    /// The bytes that must be given back before new requests are served.
    pub fn to_be_freed(&self) -> usize {
        (self.used() + 1).saturating_sub(self.0.limit / 8 * 7)
    }

    /// Returns true if buffers must be small: three quarters are used.
    #[inline]
    pub fn is_tight(&self) -> bool {
        self.used() >= self.0.limit / 4 * 3
    }

    /// Returns true if a connection fits into the half of the budget that connections may use.
    pub fn has_room_for_connection(&self) -> bool {
        self.of(MemoryPart::Connections) < self.0.limit / 2
    }

    /// The bytes beyond the limit.
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.0.limit)
    }

    /// The smaller of `size` and this fraction of the limit: one part in `parts`.
    pub fn at_most(&self, size: usize, parts: usize) -> usize {
        size.min(self.0.limit / parts)
    }

    /// Adds bytes whether they fit or not. Returns the part's bytes.
    pub fn add(&self, part: MemoryPart, bytes: usize) -> usize {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        self.0.parts[part as usize].fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Adds bytes if the part then has at most `most`, and the limit allows them.
    pub fn try_add(&self, part: MemoryPart, bytes: usize, most: usize) -> bool {
        let fits = self.add(part, bytes) <= most && self.excess() == 0;
        if !fits {
            self.subtract(part, bytes);
        }
        fits
    }

    /// Gives back bytes that were added.
    pub fn subtract(&self, part: MemoryPart, bytes: usize) {
        self.0.parts[part as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Sets a part that is measured from time to time, to which nothing else adds.
    pub fn set(&self, part: MemoryPart, bytes: usize) {
        let before = self.0.parts[part as usize].swap(bytes, Ordering::Relaxed);
        self.0.used.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// An empty hold.
    pub fn hold(&self, part: MemoryPart) -> MemoryHold {
        MemoryHold::new(self.clone(), part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn budget_is_tight_then_full_and_recovers() {
        let memory = Memory::new(Some(LIMIT));
        let state = |used: usize| {
            memory.set(MemoryPart::Records, used);
            (memory.is_tight(), memory.is_full(), memory.excess())
        };
        assert_eq!(state(LIMIT / 4 * 3 - 1), (false, false, 0));
        assert_eq!(state(LIMIT / 4 * 3), (true, false, 0));
        assert_eq!(memory.to_be_freed(), 0);
        assert_eq!(state(LIMIT / 8 * 7), (true, true, 0));
        assert_eq!(memory.to_be_freed(), 1);
        assert_eq!(state(LIMIT + 5), (true, true, 5));
        assert_eq!(state(0), (false, false, 0));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn part_takes_no_more_than_its_most_and_the_limit() {
        let memory = Memory::new(Some(LIMIT));
        assert!(memory.try_add(MemoryPart::Estimates, 100, 100));
        assert!(!memory.try_add(MemoryPart::Estimates, 1, 100));
        memory.add(MemoryPart::Bodies, LIMIT - 110);
        assert!(memory.try_add(MemoryPart::Estimates, 10, 200));
        assert!(!memory.try_add(MemoryPart::Estimates, 1, 200));
        assert_eq!((memory.used(), memory.of(MemoryPart::Estimates)), (LIMIT, 110));
    }

    #[test]
    fn budget_without_a_limit_is_never_full() {
        let memory = Memory::default();
        memory.add(MemoryPart::Bodies, usize::MAX / 2);
        assert!(!memory.is_full() && !memory.is_tight() && memory.limit().is_none());
        assert_eq!(memory.at_most(64, 8), 64);
    }

    #[test]
    fn labels_are_in_the_order_of_the_parts() {
        for (at, (part, _)) in MemoryPart::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, at);
        }
    }
}

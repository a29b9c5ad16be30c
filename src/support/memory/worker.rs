//! The connections and running requests of one worker.
//!
//! Each has a stated size. A worker takes the bytes from the budget in chunks, so that a request
//! costs an addition on its own thread; the budget is exact to two chunks for each worker and part.

use std::cell::Cell;

use super::{Memory, MemoryPart};

/// The memory of an open connection without a request, in bytes: its task, its state, its socket,
/// and [`INCLUDED`].
pub const CONNECTION: usize = 6 * 1024;

/// Bytes of a client that a connection holds without a further count: the beginning of a head, or
/// of the next request.
pub const INCLUDED: usize = 2 * 1024;

/// The memory of the TLS session of a connection, with the records that it holds.
pub const TLS_CONNECTION: usize = 32 * 1024;

/// The memory of an HTTP/2 connection without a stream, with the bodies that were not read yet.
pub const HTTP2_CONNECTION: usize = 272 * 1024;

/// The memory of a running request: its state, its connection to the upstream, and the bytes that
/// wait for the client while buffers are small.
pub const REQUEST: usize = 12 * 1024;

/// The largest chunk.
const CHUNK: usize = 256 * 1024;

/// The smallest chunk.
const LEAST_CHUNK: usize = 16 * 1024;

/// A chunk is one part in this many of the limit.
const CHUNKS: usize = 1024;

/// The memory of one worker. It stays on its thread.
#[derive(Debug)]
pub struct WorkerMemory {
    memory: Memory,
    connections: LocalUse,
    requests: LocalUse,
}

impl WorkerMemory {
    pub fn new(memory: Memory) -> Self {
        let local = |part| LocalUse::new(memory.clone(), part);
        let (connections, requests) = (local(MemoryPart::Connections), local(MemoryPart::Requests));
        Self { memory, connections, requests }
    }

    /// The budget of the process.
    pub fn budget(&self) -> &Memory {
        &self.memory
    }

    /// Changes the bytes of a connection.
    pub fn connection(&self, from: usize, to: usize) {
        self.connections.change(from, to);
    }

    /// Changes the bytes of a request.
    #[inline]
    pub fn request(&self, from: usize, to: usize) {
        self.requests.change(from, to);
    }
}

/// Bytes of one part that this thread uses.
#[derive(Debug)]
struct LocalUse {
    memory: Memory,
    part: MemoryPart,
    used: Cell<usize>,
    /// The bytes that were taken from the budget; at least `used`.
    taken: Cell<usize>,
    chunk: usize,
}

impl LocalUse {
    fn new(memory: Memory, part: MemoryPart) -> Self {
        let chunk = memory.at_most(CHUNK * CHUNKS, 1) / CHUNKS;
        Self { memory, part, used: Cell::new(0), taken: Cell::new(0), chunk: chunk.max(LEAST_CHUNK) }
    }

    #[inline]
    fn change(&self, from: usize, to: usize) {
        let used = (self.used.get() + to).saturating_sub(from);
        self.used.set(used);
        let taken = self.taken.get();
        if used > taken || taken - used > 2 * self.chunk {
            self.settle();
        }
    }

    /// Takes or gives back whole chunks, so that one is left.
    #[cold]
    fn settle(&self) {
        let wanted = (self.used.get() / self.chunk + 1) * self.chunk;
        let taken = self.taken.replace(wanted);
        if wanted > taken {
            self.memory.add(self.part, wanted - taken);
        } else {
            self.memory.subtract(self.part, taken - wanted);
        }
    }
}

impl Drop for LocalUse {
    fn drop(&mut self) {
        self.memory.subtract(self.part, self.taken.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_takes_chunks_and_gives_all_of_them_back() {
        let memory = Memory::new(Some(64 << 20));
        let worker = WorkerMemory::new(memory.clone());
        let chunk = worker.requests.chunk;
        assert_eq!(chunk, 64 * 1024);
        for requests in 1..=1000 {
            worker.request(0, REQUEST);
            let of = memory.of(MemoryPart::Requests);
            assert!((requests * REQUEST..=requests * REQUEST + 2 * chunk).contains(&of), "{requests}: {of}");
        }
        for requests in (0..1000).rev() {
            worker.request(REQUEST, 0);
            assert!(memory.of(MemoryPart::Requests) <= requests * REQUEST + 2 * chunk);
        }
        worker.connection(0, CONNECTION);
        assert_eq!(memory.of(MemoryPart::Connections), chunk);
        drop(worker);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn request_that_comes_and_goes_leaves_the_budget_alone() {
        let memory = Memory::default();
        let worker = WorkerMemory::new(memory.clone());
        worker.request(0, REQUEST);
        let taken = memory.used();
        for _ in 0..10 {
            worker.request(REQUEST, 0);
            worker.request(0, REQUEST);
            assert_eq!(memory.used(), taken);
        }
    }
}

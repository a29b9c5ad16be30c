//! The buffers that all streams of a worker share.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

use super::watchdog::Timer;
use crate::support::memory::Memory;

/// The largest number of bytes of one read. Events that arrive together are passed on together.
const SIZE: usize = 64 * 1024;

/// The same while memory is tight, so that a slow client has few bytes waiting.
const TIGHT: usize = 4 * 1024;

/// The initial capacity of a request's head.
const HEAD: usize = 1024;

/// The largest buffer of a head that is kept, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The largest memory of a target that is kept, in bytes.
const MAX_TARGET: usize = 1024;

/// The largest number of timers that are kept.
const MAX_TIMERS: usize = 64;

/// One read buffer per worker: a read fills it, the bytes are copied out at their exact size, and
/// none stay behind. A stream that waits for its next event therefore holds no buffer. Likewise one
/// buffer for the head of a request, which is held until the head is written. Timers of exchanges
/// that have ended are kept for the next.
#[derive(Clone)]
pub struct Scratch(Rc<Shared>);

struct Shared {
    memory: Memory,
    read: RefCell<Box<[u8]>>,
    head: Cell<Vec<u8>>,
    target: Cell<String>,
    first: Cell<Vec<u8>>,
    timers: RefCell<Vec<Timer>>,
}

impl Default for Scratch {
    /// Without a memory budget.
    fn default() -> Self {
        Self::new(Memory::default())
    }
}

impl Scratch {
    /// Buffers that are small while `memory` is tight.
    pub fn new(memory: Memory) -> Self {
        let read = RefCell::new(vec![0; SIZE].into_boxed_slice());
        Self(Rc::new(Shared {
            memory,
            read,
            head: Cell::default(),
            target: Cell::default(),
            first: Cell::default(),
            timers: RefCell::default(),
        }))
    }

    /// The memory budget of the process.
    pub(crate) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// The borrow must end before another stream can run (no `.await`).
    pub(crate) fn borrow(&self) -> RefMut<'_, [u8]> {
        let size = if self.0.memory.is_tight() { TIGHT } else { SIZE };
        RefMut::map(self.0.read.borrow_mut(), |read| &mut read[..size])
    }

    /// An empty buffer for the head of a request, to be returned with [`Scratch::give_back_head`].
    pub(super) fn take_head(&self) -> Vec<u8> {
        let mut head = self.0.head.take();
        head.clear();
        head.reserve(HEAD);
        head
    }

    pub(super) fn give_back_head(&self, head: Vec<u8>) {
        if head.capacity() <= MAX_HEAD {
            self.0.head.set(head);
        }
    }

    /// The memory of the last target, to be returned with [`Scratch::give_back_target`].
    pub(super) fn take_target(&self) -> String {
        self.0.target.take()
    }

    pub(super) fn give_back_target(&self, target: String) {
        if target.capacity() <= MAX_TARGET {
            self.0.target.set(target);
        }
    }

    /// An empty buffer for the data that was read together with a response's head, to be returned
    /// with [`Scratch::give_back_first`] once it is passed on.
    pub(super) fn take_first(&self) -> Vec<u8> {
        let mut first = self.0.first.take();
        first.clear();
        first
    }

    pub(super) fn give_back_first(&self, first: Vec<u8>) {
        if first.capacity() <= SIZE {
            self.0.first.set(first);
        }
    }

    pub(super) fn take_timer(&self) -> Option<Timer> {
        self.0.timers.borrow_mut().pop()
    }

    pub(super) fn give_back_timer(&self, timer: Timer) {
        let mut timers = self.0.timers.borrow_mut();
        if timers.len() < MAX_TIMERS {
            timers.push(timer);
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

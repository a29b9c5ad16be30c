//! The buffers of a worker, used by one connection at a time.

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::pin::Pin;

use crate::support::memory::Memory;

/// The size of the read buffer.
const READ: usize = 64 * 1024;

/// The size at which the gathered bytes of a response are written. One more piece, which is one
/// read at most, may be among them.
const GATHERED: usize = 16 * 1024;

/// Both sizes while memory is tight.
const TIGHT: usize = 4 * 1024;

/// A worker's buffers, used by one connection at a time. A waiting connection holds none.
pub(in crate::server) struct Buffers {
    read: RefCell<Box<[u8]>>,
    write: Cell<Vec<u8>>,
    memory: Memory,
    /// The memory of the last future of a handler: it is too large for the allocator's fast path.
    handled: Cell<Option<Box<dyn Any>>>,
}

/// A handler's future in its place, empty between two requests.
pub(super) type Place<F> = Box<Pin<Box<Option<F>>>>;

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

impl Buffers {
    pub(in crate::server) fn new(memory: Memory) -> Self {
        let read = RefCell::new(vec![0; READ].into_boxed_slice());
        Self { read, write: Cell::default(), memory, handled: Cell::default() }
    }

    /// The read buffer; never borrowed while another connection could run.
    pub(super) fn read(&self) -> RefMut<'_, [u8]> {
        let size = if self.memory.is_tight() { TIGHT } else { READ };
        RefMut::map(self.read.borrow_mut(), |read| &mut read[..size])
    }

    /// The size at which the gathered bytes of a response are written.
    pub(super) fn gathered(&self) -> usize {
        if self.memory.is_tight() { TIGHT } else { GATHERED }
    }

    /// An empty buffer for one write, to be returned with [`Buffers::give_back`].
    pub(super) fn take(&self) -> Vec<u8> {
        let mut buffer = self.write.take();
        buffer.clear();
        buffer
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        self.write.set(buffer);
    }

    /// Puts a future where the last one was, or into new memory. To be returned with
    /// [`Buffers::give_back_place`].
    pub(super) fn place<F: Future + 'static>(&self, future: F) -> Place<F> {
        let place = self.handled.take().and_then(|place| place.downcast::<Pin<Box<Option<F>>>>().ok());
        let mut place = place.unwrap_or_else(|| Box::new(Box::pin(None)));
        (*place).as_mut().set(Some(future));
        place
    }

    /// Drops the future, and keeps its memory.
    pub(super) fn give_back_place<F: Future + 'static>(&self, mut place: Place<F>) {
        (*place).as_mut().set(None);
        self.handled.set(Some(place));
    }
}

//! The buffers of a worker, used by one connection at a time.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;

/// The size of the read buffer.
const READ: usize = 64 * 1024;

/// A worker's buffers, used by one connection at a time. A waiting connection holds none.
pub(in crate::server) struct Buffers {
    read: RefCell<Box<[u8]>>,
    write: Cell<Vec<u8>>,
}

impl Default for Buffers {
    fn default() -> Self {
        let read = RefCell::new(vec![0; READ].into_boxed_slice());
        Self { read, write: Cell::default() }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

impl Buffers {
    /// The read buffer; never borrowed while another connection could run.
    pub(super) fn read(&self) -> RefMut<'_, Box<[u8]>> {
        self.read.borrow_mut()
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
}

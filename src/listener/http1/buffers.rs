//! What a worker's connections read and write into, one at a time.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;

use http::HeaderMap;

/// The most maps of headers that are kept for their room.
const SPARE_MAPS: usize = 32;

/// What one read may bring.
const READ: usize = 64 * 1024;

/// A worker's buffers: what one connection reads and writes at a time. A connection that waits
/// holds none.
pub(in crate::listener) struct Buffers {
    read: RefCell<Box<[u8]>>,
    write: Cell<Vec<u8>>,
    /// Maps of answers' headers that were written, for the next requests'.
    headers: RefCell<Vec<HeaderMap>>,
}

impl Default for Buffers {
    fn default() -> Self {
        let read = RefCell::new(vec![0; READ].into_boxed_slice());
        Self { read, write: Cell::default(), headers: RefCell::default() }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

impl Buffers {
    /// Where a read goes; never borrowed while another connection could run.
    pub(super) fn read(&self) -> RefMut<'_, Box<[u8]>> {
        self.read.borrow_mut()
    }

    /// An empty buffer to gather a write in. To be given back.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut buffer = self.write.take();
        buffer.clear();
        buffer
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        self.write.set(buffer);
    }

    /// An empty map.
    pub(super) fn headers(&self) -> HeaderMap {
        self.headers.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a map for its room.
    pub(super) fn give_back_headers(&self, mut headers: HeaderMap) {
        headers.clear();
        let mut spare = self.headers.borrow_mut();
        if spare.len() < SPARE_MAPS {
            spare.push(headers);
        }
    }
}

//! The read buffer that all streams of a worker share.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

/// The most bytes of one read. Events that arrive together are passed on together.
const SIZE: usize = 64 * 1024;

/// One read buffer per worker: a read fills it, the bytes are copied out at their exact size, and
/// none stay in it. A stream that waits for its next event therefore holds no buffer.
#[derive(Clone, Debug)]
pub struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; SIZE].into_boxed_slice())))
    }
}

impl Scratch {
    /// The borrow must end before another stream can run (no `.await`).
    pub(crate) fn borrow(&self) -> RefMut<'_, Box<[u8]>> {
        self.0.borrow_mut()
    }
}

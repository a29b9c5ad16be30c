//! The buffer that all streams of a worker read into.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

/// What one read may bring. A busy stream's events come together, and go out together.
const SIZE: usize = 64 * 1024;

/// One read buffer for a whole worker: a read fills it, what arrived is copied out at its own size,
/// and nothing stays behind. A stream that waits for its next event therefore holds no buffer at
/// all.
#[derive(Clone, Debug)]
pub struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; SIZE].into_boxed_slice())))
    }
}

impl Scratch {
    /// Borrows it; never across a point where another stream could run.
    pub(crate) fn borrow(&self) -> RefMut<'_, Box<[u8]>> {
        self.0.borrow_mut()
    }
}

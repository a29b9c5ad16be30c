//! A value that is replaced as a whole while others read it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// There is always a whole, valid value. Reading it takes no lock.
pub struct Live<T> {
    present: ArcSwap<T>,
    generation: AtomicU64,
}

impl<T> Live<T> {
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self { present: ArcSwap::from_pointee(value), generation: AtomicU64::new(0) })
    }

    /// The present value.
    pub fn load(&self) -> Arc<T> {
        self.present.load_full()
    }

    /// How often the value has been replaced. A reader that loads this first and then the value has one
    /// that is at least as new as the number says.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn replace(&self, value: T) {
        self.present.store(Arc::new(value));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Self { present: ArcSwap::default(), generation: AtomicU64::new(0) }
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

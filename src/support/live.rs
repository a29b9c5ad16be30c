//! A value that is replaced as a whole while other threads read it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// The value is always complete and valid. Reading it takes no lock.
pub struct Live<T> {
    present: ArcSwap<T>,
    generation: AtomicU64,
}

impl<T> Live<T> {
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self { present: ArcSwap::from_pointee(value), generation: AtomicU64::new(0) })
    }

    /// The present value, to be read at once: its count of references stays.
    pub fn peek(&self) -> impl Deref<Target = Arc<T>> {
        self.present.load()
    }

    /// The present value.
    pub fn load(&self) -> Arc<T> {
        self.present.load_full()
    }

    /// The number of replacements. A reader that loads it before the value gets a value that is at
    /// least as new.
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

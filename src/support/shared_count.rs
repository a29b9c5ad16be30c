//! Counts running work on all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of living [guards](SharedGuard). Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct SharedCount(Arc<AtomicUsize>);

impl SharedCount {
    /// Counts one more until the guard is dropped.
    pub fn enter(&self) -> SharedGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        SharedGuard(Arc::clone(&self.0))
    }

    /// Counts one more until the guard is dropped. `None` if `limit` guards live already.
    pub fn enter_below(&self, limit: usize) -> Option<SharedGuard> {
        let below = |count: usize| (count < limit).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(SharedGuard(Arc::clone(&self.0)))
    }

    /// The number of guards now.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts down when it is dropped.
#[derive(Debug)]
pub struct SharedGuard(Arc<AtomicUsize>);

impl Drop for SharedGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_is_counted_no_longer() {
        let count = SharedCount::default();
        let (first, second) = (count.enter(), count.clone().enter());
        assert_eq!(count.get(), 2);
        drop((first, second));
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn no_more_guards_than_the_limit_are_given() {
        let count = SharedCount::default();
        let first = count.enter_below(1);
        assert!(first.is_some() && count.enter_below(1).is_none());
        drop(first);
        assert!(count.enter_below(1).is_some());
    }
}

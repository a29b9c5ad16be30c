//! The bytes of request bodies that the whole process may hold at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Shared by all workers.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    /// At most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: Arc::default(), limit }
    }

    /// A reservation of nothing yet.
    pub(super) fn reserve(&self) -> Reserved {
        Reserved { budget: self.clone(), bytes: 0 }
    }
}

/// Bytes that are taken out of the budget until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: Budget,
    bytes: usize,
}

impl Reserved {
    /// Takes more, up to `bytes` in all.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let before = self.budget.held.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        // What is too much is given back when the refused request drops its reservation.
        if before + more > self.budget.limit { Err(Error::Overloaded) } else { Ok(()) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_budget_a_body_is_refused_and_what_was_held_is_given_back() {
        let budget = Budget::new(100);
        let mut first = budget.reserve();
        first.grow_to(60).unwrap();
        first.grow_to(50).unwrap();
        let mut second = budget.reserve();
        assert_eq!(second.grow_to(50), Err(Error::Overloaded));
        drop(second);
        first.grow_to(100).unwrap();
        drop(first);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}

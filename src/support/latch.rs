//! A latch, which opens once.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Clones are the same latch.
#[derive(Clone, Debug, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub fn open(&self) {
        let (is_open, opened) = &*self.0;
        *is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        opened.notify_all();
    }

    /// Waits for the opening, for at most `patience`. Returns true if it is open.
    pub fn wait(&self, patience: Duration) -> bool {
        let (is_open, opened) = &*self.0;
        let is_open = is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = opened.wait_timeout_while(is_open, patience, |is_open| !*is_open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn is_open(&self) -> bool {
        self.wait(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_ends_with_the_opening_or_the_time() {
        let latch = Latch::default();
        assert!(!latch.wait(Duration::from_millis(5)) && !latch.is_open());
        let opening = latch.clone();
        let thread = std::thread::spawn(move || opening.open());
        assert!(latch.wait(Duration::from_secs(20)));
        thread.join().unwrap();
        assert!(latch.is_open());
    }
}

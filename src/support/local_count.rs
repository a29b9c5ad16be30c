//! Counts running work on one thread.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// The number of living [guards](LocalGuard) on this thread. Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct LocalCount(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: Cell<usize>,
    empty: Notify,
}

impl LocalCount {
    /// Counts one more until the guard is dropped.
    pub fn enter(&self) -> LocalGuard {
        self.0.count.set(self.0.count.get() + 1);
        LocalGuard(Rc::clone(&self.0))
    }

    /// The number of guards now.
    pub fn get(&self) -> usize {
        self.0.count.get()
    }

    /// Waits until no guard lives. Supports one waiter at a time. Cancel-safe.
    pub async fn wait_empty(&self) {
        while self.0.count.get() > 0 {
            self.0.empty.notified().await;
        }
    }
}

/// Counts down when it is dropped.
#[derive(Debug)]
pub struct LocalGuard(Rc<Inner>);

impl Drop for LocalGuard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn waiting_ends_with_the_last_guard() {
        let count = LocalCount::default();
        let (first, second) = (count.enter(), count.enter());
        let mut waiting = pin!(count.wait_empty());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Pending);
        drop(first);
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Pending);
        drop(second);
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Ready(()));
    }
}

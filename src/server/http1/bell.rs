//! Remembers whether a socket was ready since its last poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Stands between a socket and the task that polls it: while it is silent, another poll of the
/// socket would be pending too. A task that polls two sockets is mostly woken for the other one.
#[derive(Debug)]
pub(super) struct Bell {
    task: Waker,
    is_silent: AtomicBool,
}

impl Bell {
    /// A bell that wakes this task.
    pub(super) fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self { task: task.clone(), is_silent: AtomicBool::new(false) })
    }

    /// Silences the bell until the returned waker, which a poll of the socket registers, is woken.
    pub(super) fn silence(self: &Arc<Self>) -> Waker {
        self.is_silent.store(true, Ordering::Relaxed);
        Waker::from(Arc::clone(self))
    }

    /// Must be called if the socket is polled with another waker.
    pub(super) fn ring(&self) {
        self.is_silent.store(false, Ordering::Release);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bell_is_silent_until_its_waker_is_woken() {
        let bell = Bell::new(Waker::noop());
        assert!(!bell.is_silent(), "the socket was not polled");
        let waker = bell.silence();
        assert!(bell.is_silent());
        waker.wake();
        assert!(!bell.is_silent());
        let _ = bell.silence();
        bell.ring();
        assert!(!bell.is_silent(), "the socket was polled for another reason");
    }
}

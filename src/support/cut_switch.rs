//! A switch that cuts running work, and the tasks that wait for it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A switch that is off at first. Any thread may throw it.
#[derive(Debug, Default)]
pub struct CutSwitch {
    is_thrown: AtomicBool,
    waiting: Notify,
}

impl CutSwitch {
    /// Wakes all waiting tasks. A second call does nothing.
    pub fn throw(&self) {
        self.is_thrown.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    pub fn is_thrown(&self) -> bool {
        self.is_thrown.load(Ordering::Acquire)
    }

    /// Waits until it is thrown. Cancel-safe.
    pub async fn thrown(&self) {
        // Notified of a throw from here on.
        let notified = self.waiting.notified();
        if !self.is_thrown() {
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn throw_wakes_present_tasks_and_stops_later_ones_from_waiting() {
        let switch = Arc::new(CutSwitch::default());
        let waiting = tokio::spawn({
            let switch = Arc::clone(&switch);
            async move { switch.thrown().await }
        });
        tokio::task::yield_now().await;
        assert!(!switch.is_thrown() && !waiting.is_finished());
        switch.throw();
        waiting.await.unwrap();
        switch.thrown().await;
        switch.throw();
        assert!(switch.is_thrown());
    }
}

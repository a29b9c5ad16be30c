//! Stops a process in two steps: first drain, then cut.
//!
//! *Drain*: no connection is accepted, keep-alive connections are closed after their request, and
//! running work finishes. *Cut*: running work is dropped, and its records say so.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

/// The phases in the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// Running work may finish.
    Draining,
    /// Running work is dropped.
    Cut,
}

/// The process-wide switch. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    /// The time at which the cut was requested.
    cut: OnceLock<Instant>,
    /// Held while the phase changes, for threads that wait without a runtime.
    changing: Mutex<()>,
    changed: Condvar,
}

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(Shared {
            phase: watch::Sender::new(Phase::Running),
            cut: OnceLock::new(),
            changing: Mutex::new(()),
            changed: Condvar::new(),
        }))
    }
}

impl Stop {
    /// Begins the drain, unless it has begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Cuts all running work immediately.
    pub fn cut(&self) {
        self.0.cut.get_or_init(Instant::now);
        self.advance(Phase::Cut);
    }

    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// The time at which the cut began.
    pub fn cut_since(&self) -> Option<Instant> {
        self.0.cut.get().copied()
    }

    /// Waits until `phase` is reached or passed. Cancel-safe.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Like [`Stop::reached`], without a runtime.
    pub fn wait(&self, phase: Phase) {
        let changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.changed.wait_while(changing, |()| self.phase() < phase));
    }

    fn advance(&self, phase: Phase) {
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_only_goes_forward() {
        let stop = Stop::default();
        stop.cut();
        stop.drain();
        assert_eq!(stop.phase(), Phase::Cut);
        stop.reached(Phase::Draining).await;
    }
}

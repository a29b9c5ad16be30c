//! Stopping: first drain, then cut.
//!
//! *Drain* means that no connection is accepted, keep-alive clients are told to close, and what is running
//! finishes. *Cut* means that what still runs is dropped; its records say so.

use std::sync::Arc;

use tokio::sync::watch;

/// How far the stop has come. The order is the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Running,
    /// What is running may finish.
    Draining,
    /// Nothing may go on.
    Cut,
}

/// The process-wide switch. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Phase>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Running)))
    }
}

impl Stop {
    /// Begins the drain, if it has not begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends everything at once.
    pub fn cut(&self) {
        self.advance(Phase::Cut);
    }

    /// Where the stop is.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the stop has come to `phase` or further. Cancel-safe.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }

    fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
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

//! Stopping: first drain, then cut.
//!
//! *Drain* means that no connection is accepted, keep-alive clients are told to close, and what is running
//! finishes. *Cut* means that what still runs is dropped; its records say so.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

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

/// One worker's connections: tells them that the drain has begun, and knows when the last is gone.
///
/// It stays on its thread, so that a connection which looks at it takes no lock that other workers hold.
#[derive(Clone, Debug, Default)]
pub struct Connections(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    draining: Cell<bool>,
    begun: Notify,
    open: Cell<usize>,
    empty: Notify,
}

impl Connections {
    /// Registers a connection for as long as the guard lives.
    pub fn register(&self) -> Registered {
        self.0.open.set(self.0.open.get() + 1);
        Registered(self.clone())
    }

    /// Tells every connection to finish.
    pub fn drain(&self) {
        self.0.draining.set(true);
        self.0.begun.notify_waiters();
    }

    /// Waits for [`Connections::drain`]. Cancel-safe.
    pub async fn draining(&self) {
        // On one thread nothing can come between the look and the wait.
        if !self.0.draining.get() {
            self.0.begun.notified().await;
        }
    }

    /// Waits until no connection is registered. Cancel-safe.
    pub async fn gone(&self) {
        while self.0.open.get() > 0 {
            self.0.empty.notified().await;
        }
    }
}

/// A registered connection.
#[derive(Debug)]
pub struct Registered(Connections);

impl Drop for Registered {
    fn drop(&mut self) {
        let inner = &self.0.0;
        inner.open.set(inner.open.get() - 1);
        if inner.open.get() == 0 {
            inner.empty.notify_one();
        }
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

    #[tokio::test]
    async fn a_worker_is_empty_when_its_last_connection_is_gone() {
        let connections = Connections::default();
        let first = connections.register();
        let second = connections.register();
        let waiter = async { connections.gone().await };
        let closer = async {
            drop(first);
            tokio::task::yield_now().await;
            assert_eq!(connections.0.open.get(), 1);
            drop(second);
        };
        tokio::join!(waiter, closer);
    }

    #[tokio::test]
    async fn a_connection_that_comes_after_the_drain_began_is_told_too() {
        let connections = Connections::default();
        connections.drain();
        connections.draining().await;
    }
}

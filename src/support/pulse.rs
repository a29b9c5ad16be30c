//! Detects a worker that does not respond to events any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The round of a worker that has ended.
const ENDED: u64 = u64::MAX;

/// The pulse of all workers: each confirms the rounds that it sees.
#[derive(Debug)]
pub struct Pulse {
    round: watch::Sender<u64>,
    seen: Arc<[AtomicU64]>,
}

impl Pulse {
    pub fn new(workers: usize) -> Self {
        Self { round: watch::Sender::new(0), seen: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Begins the next round. Returns true if every worker has confirmed the one before, or has
    /// ended.
    pub fn beat(&self) -> bool {
        let round = *self.round.borrow();
        let is_alive = self.seen.iter().all(|seen| seen.load(Ordering::Relaxed) >= round);
        self.round.send_replace(round + 1);
        is_alive
    }

    /// Confirms the rounds for a worker, on its runtime, until this is dropped.
    pub fn follow(&self, worker: usize) -> impl Future<Output = ()> + use<> {
        let mut rounds = self.round.subscribe();
        let confirmed = Confirmed { seen: Arc::clone(&self.seen), worker };
        async move {
            loop {
                let round = *rounds.borrow_and_update();
                confirmed.confirm(round);
                if rounds.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

struct Confirmed {
    seen: Arc<[AtomicU64]>,
    worker: usize,
}

impl Confirmed {
    fn confirm(&self, round: u64) {
        if let Some(seen) = self.seen.get(self.worker) {
            seen.store(round, Ordering::Relaxed);
        }
    }
}

impl Drop for Confirmed {
    fn drop(&mut self) {
        self.confirm(ENDED);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn pulse_stops_while_one_worker_does_not_respond() {
        let pulse = Pulse::new(2);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, other) = (pin!(pulse.follow(0)), pulse.follow(1));
        assert!(pulse.beat(), "the first round has no one before it");
        assert_eq!(one.as_mut().poll(&mut cx), Poll::Pending);
        assert!(!pulse.beat(), "the other has confirmed nothing");
        assert_eq!(one.as_mut().poll(&mut cx), Poll::Pending);
        drop(other);
        assert!(pulse.beat(), "a worker that has ended is not missing");
        assert!(!pulse.beat());
    }
}

//! Chooses the worker that serves a new connection.

use std::sync::Arc;

use crate::support::{SharedCount, SharedGuard};

/// A worker gives new connections away if it has this many more than the least loaded worker. The
/// kernel distributes by hash: good enough for short requests, not for streams of minutes.
const SLACK: usize = 1;

/// The load of each worker: its connections, plus its running requests.
#[derive(Clone, Debug)]
pub struct Balance(Arc<[SharedCount]>);

impl Balance {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| SharedCount::default()).collect())
    }

    /// The worker that should serve a connection which `me` has accepted.
    ///
    /// Reads the loads one after the other while other threads change them, so the result is
    /// approximate.
    pub fn choose(&self, me: usize) -> usize {
        let load = |worker: usize| self.0[worker].get();
        let least = (0..self.0.len()).min_by_key(|&worker| load(worker)).unwrap_or(me);
        if load(me) > load(least) + SLACK { least } else { me }
    }

    /// The load of each worker now.
    pub fn loads(&self) -> Vec<usize> {
        self.0.iter().map(|load| load.get()).collect()
    }

    /// Counts a connection or a running request for as long as the guard lives.
    pub fn load(&self, worker: usize) -> SharedGuard {
        self.0[worker].enter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_evens_out_arrivals_at_one_worker() {
        let balance = Balance::new(4);
        let mut loads = Vec::new();
        let mut counts = [0; 4];
        for _ in 0..64 {
            let worker = balance.choose(0);
            counts[worker] += 1;
            loads.push(balance.load(worker));
        }
        assert!(counts.iter().all(|&count| (15..=17).contains(&count)), "{counts:?}");
    }

    #[test]
    fn balance_forgets_ended_connections() {
        let balance = Balance::new(2);
        let load = [balance.load(0), balance.load(0), balance.load(0)];
        assert_eq!(balance.choose(0), 1);
        drop(load);
        assert_eq!(balance.choose(0), 0);
    }
}

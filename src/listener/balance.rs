//! Which worker takes a new connection.

use std::sync::Arc;

use crate::support::{SharedCount, SharedGuard};

/// How many connections more than the least loaded worker one may have before it gives new ones
/// away. The kernel's own spreading is by hash: good enough for short requests, not for streams
/// that last for minutes.
const SLACK: usize = 1;

/// What each worker carries: its connections, and once more those with a request running.
#[derive(Clone, Debug)]
pub struct Balance(Arc<[SharedCount]>);

impl Balance {
    /// For so many workers, all idle.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| SharedCount::default()).collect())
    }

    /// The worker that should take a connection which `me` has accepted.
    ///
    /// The loads are read one after the other while others change them: the answer is good, not
    /// exact.
    pub fn choose(&self, me: usize) -> usize {
        let load = |worker: usize| self.0[worker].get();
        let least = (0..self.0.len()).min_by_key(|&worker| load(worker)).unwrap_or(me);
        if load(me) > load(least) + SLACK { least } else { me }
    }

    /// What each worker carries now.
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
    fn however_uneven_the_arrivals_no_worker_has_more_than_its_share() {
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
    fn a_connection_that_ends_gives_its_place_back() {
        let balance = Balance::new(2);
        let load = [balance.load(0), balance.load(0), balance.load(0)];
        assert_eq!(balance.choose(0), 1);
        drop(load);
        assert_eq!(balance.choose(0), 0);
    }
}

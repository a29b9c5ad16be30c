//! A worker's connections: holds them to their limits, tells them of the drain, and knows when the
//! last is gone.
//!
//! One look over all of them at a fixed beat stands in for a timer in each: a connection that has
//! something to do looks at two cells and at no timer, and thousands of idle ones cost a look each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Limits;
use super::conn_state::{ConnState, Rank};
use super::places::Places;
use crate::flow::Limit;

/// The longest time between two looks: limits are kept to this, or an eighth of the shortest.
const BEAT: Duration = Duration::from_secs(1);

/// One in so many connections is given up at a time where places are short, and one at least: a
/// look at all of them for each newcomer would make a flood dear.
const EVICTED_AT_ONCE: usize = 256;

/// The registry. It stays on its thread; clones are the same registry.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Free places are `None`, and listed in `free`.
    open: RefCell<Vec<Option<Rc<ConnState>>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
    draining: Cell<bool>,
    empty: Notify,
}

impl Connections {
    /// Registers a connection for as long as the guard lives. One that comes after the drain began
    /// is told so.
    pub(super) fn register(&self, state: Rc<ConnState>) -> Registered {
        let inner = &*self.0;
        if inner.draining.get() {
            state.finish(Instant::now());
        }
        inner.count.set(inner.count.get() + 1);
        let mut open = inner.open.borrow_mut();
        let place = inner.free.borrow_mut().pop().unwrap_or_else(|| {
            open.push(None);
            open.len() - 1
        });
        open[place] = Some(state);
        Registered { connections: self.clone(), place }
    }

    /// How often [`Connections::keep`] is to be called.
    pub(super) fn beat(limits: &Limits) -> Duration {
        let shortest = limits.header_timeout.min(limits.keep_alive_timeout);
        let shortest = limits.write_timeout.map_or(shortest, |timeout| timeout.min(shortest));
        (shortest / 8).clamp(Duration::from_millis(5), BEAT)
    }

    /// Whether there is anything to look after.
    pub(super) fn is_empty(&self) -> bool {
        self.0.count.get() == 0
    }

    /// Holds every connection to its limits.
    pub(super) fn keep(&self, limits: &Limits, places: &Places) {
        let now = Instant::now();
        for state in self.0.open.borrow().iter().flatten() {
            if let Some(limit) = state.keep(now, limits) {
                places.count(limit);
            }
        }
    }

    /// Gives up those connections that can be missed best, for newcomers. False: there are none.
    pub(super) fn make_places(&self, places: &Places) -> bool {
        let now = Instant::now();
        let open = self.0.open.borrow();
        let mut ranked: Vec<(Rank, &Rc<ConnState>)> = open
            .iter()
            .flatten()
            .filter_map(|state| Some((state.rank(now, places.grace())?, state)))
            .collect();
        let most = 1 + self.0.count.get() / EVICTED_AT_ONCE;
        if ranked.len() > most {
            ranked.select_nth_unstable_by_key(most, |&(rank, _)| rank);
            ranked.truncate(most);
        }
        for (rank, state) in &ranked {
            places.count(if rank.is_idle { Limit::EvictedIdle } else { Limit::EvictedSilent });
            state.evict(now);
        }
        !ranked.is_empty()
    }

    /// Tells every connection to finish, also those to come.
    pub(super) fn drain(&self) {
        self.0.draining.set(true);
        let now = Instant::now();
        self.0.open.borrow().iter().flatten().for_each(|state| state.finish(now));
    }

    /// Tells every connection to cut what runs.
    pub(super) fn stop(&self) {
        let now = Instant::now();
        self.0.open.borrow().iter().flatten().for_each(|state| state.stop(now));
    }

    /// Waits until no connection is registered. Cancel-safe.
    pub(super) async fn gone(&self) {
        while !self.is_empty() {
            self.0.empty.notified().await;
        }
    }
}

/// A registered connection.
#[derive(Debug)]
pub(super) struct Registered {
    connections: Connections,
    place: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let inner = &*self.connections.0;
        inner.open.borrow_mut()[self.place] = None;
        inner.free.borrow_mut().push(self.place);
        inner.count.set(inner.count.get() - 1);
        if self.connections.is_empty() {
            // After a crowd, nothing of it is kept.
            *inner.open.borrow_mut() = Vec::new();
            *inner.free.borrow_mut() = Vec::new();
            inner.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conn_state::ConnCommand;
    use super::*;

    #[tokio::test]
    async fn a_worker_is_empty_when_its_last_connection_is_gone() {
        let connections = Connections::default();
        let register = || connections.register(ConnState::new(Instant::now()));
        let (first, second) = (register(), register());
        let closer = async {
            drop(first);
            tokio::task::yield_now().await;
            assert!(!connections.is_empty());
            drop(second);
        };
        tokio::join!(connections.gone(), closer);
    }

    #[test]
    fn every_connection_is_told_of_the_drain_also_one_that_comes_later() {
        let connections = Connections::default();
        let states = [ConnState::new(Instant::now()), ConnState::new(Instant::now())];
        let _first = connections.register(Rc::clone(&states[0]));
        connections.drain();
        let _second = connections.register(Rc::clone(&states[1]));
        assert!(states.iter().all(|state| state.command() == Some(ConnCommand::Finish)));
    }

    #[test]
    fn a_place_is_used_again() {
        let connections = Connections::default();
        let register = || connections.register(ConnState::new(Instant::now()));
        let _kept = register();
        for _ in 0..100 {
            drop(register());
        }
        assert_eq!(connections.0.open.borrow().len(), 2);
    }
}

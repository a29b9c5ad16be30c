//! The registry of a worker's connections: enforces their limits, passes on the drain, and detects
//! their end.
//!
//! One pass over all connections at a fixed interval replaces a timer in each: an active connection
//! touches two cells and no timer, and an idle one costs a glance per pass.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::conn_state::{ConnState, Patience};
use super::places::Places;
use super::{Limits, Rank};
use crate::support::{LocalCount, LocalGuard};

/// The longest interval between two passes: limits are exact to this, or to an eighth of the
/// shortest limit.
const BEAT: Duration = Duration::from_secs(1);

/// One in this many connections, and at least one, is evicted at once when places are short: a pass
/// over all connections for each new one would make a flood expensive.
const EVICTED_AT_ONCE: usize = 256;

/// The registry. It stays on its thread; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Free slots are `None`, and listed in `free`.
    open: RefCell<Vec<Option<Rc<ConnState>>>>,
    free: RefCell<Vec<usize>>,
    count: LocalCount,
    /// The drain's patience with new connections. `None`: there is no drain.
    draining: Cell<Option<Patience>>,
}

impl Connections {
    /// Registers a connection until the guard is dropped. During the drain, the connection is
    /// commanded to finish at once.
    pub(super) fn register(&self, state: Rc<ConnState>) -> Registered {
        let inner = &*self.0;
        if let Some(patience) = inner.draining.get() {
            state.drain(Instant::now(), patience);
        }
        let mut open = inner.open.borrow_mut();
        let place = inner.free.borrow_mut().pop().unwrap_or_else(|| {
            open.push(None);
            open.len() - 1
        });
        open[place] = Some(state);
        Registered { connections: self.clone(), place, _count: inner.count.enter() }
    }

    /// The interval of [`Connections::enforce_limits`].
    pub(super) fn beat(limits: &Limits) -> Duration {
        let shortest = limits.header_timeout.min(limits.keep_alive_timeout);
        let shortest = limits.write_timeout.map_or(shortest, |timeout| timeout.min(shortest));
        (shortest / 8).clamp(Duration::from_millis(5), BEAT)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.count.get() == 0
    }

    /// Enforces the limits of all connections.
    pub(super) fn enforce_limits(&self, limits: &Limits, places: &Places) {
        let now = Instant::now();
        for state in self.0.open.borrow().iter().flatten() {
            if let Some(limit) = state.enforce_limits(now, limits) {
                places.count(limit);
            }
        }
    }

    /// Evicts connections for new ones. Returns false if none can be evicted.
    pub(super) fn evict(&self, places: &Places) -> bool {
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
            places.count(rank.limit());
            state.yield_place(now);
        }
        !ranked.is_empty()
    }

    /// Commands every connection to finish, including later ones.
    pub(super) fn drain(&self, patience: Patience) {
        self.0.draining.set(Some(patience));
        let now = Instant::now();
        self.0.open.borrow().iter().flatten().for_each(|state| state.drain(now, patience));
    }

    /// Commands every connection to cut running requests.
    pub(super) fn stop(&self) {
        let now = Instant::now();
        self.0.open.borrow().iter().flatten().for_each(|state| state.stop(now));
    }

    /// Waits until no connection is registered. Cancel-safe.
    pub(super) async fn gone(&self) {
        self.0.count.wait_empty().await;
    }
}

/// A registered connection.
#[derive(Debug)]
pub(super) struct Registered {
    connections: Connections,
    place: usize,
    /// Dropped after the place is free.
    _count: LocalGuard,
}

impl Registered {
    /// The connection's state. It is there until this is dropped.
    pub(super) fn state(&self) -> Option<Rc<ConnState>> {
        self.connections.0.open.borrow()[self.place].clone()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let inner = &*self.connections.0;
        inner.open.borrow_mut()[self.place] = None;
        inner.free.borrow_mut().push(self.place);
        if inner.count.get() == 1 {
            // Frees the capacity that many connections needed.
            *inner.open.borrow_mut() = Vec::new();
            *inner.free.borrow_mut() = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conn_state::ConnCommand;
    use super::*;
    use crate::support::memory::{Memory, WorkerMemory};

    fn state() -> Rc<ConnState> {
        ConnState::new(Instant::now(), &Rc::new(WorkerMemory::new(Memory::default())))
    }

    #[tokio::test]
    async fn gone_waits_for_the_last_connection() {
        let connections = Connections::default();
        let register = || connections.register(state());
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
    fn drain_reaches_present_and_later_connections() {
        let connections = Connections::default();
        let states = [state(), state()];
        let _first = connections.register(Rc::clone(&states[0]));
        connections.drain(Patience::Short);
        let _second = connections.register(Rc::clone(&states[1]));
        assert!(states.iter().all(|state| state.command() == Some(ConnCommand::Finish)));
    }

    #[test]
    fn registry_reuses_free_slots() {
        let connections = Connections::default();
        let register = || connections.register(state());
        let _kept = register();
        for _ in 0..100 {
            drop(register());
        }
        assert_eq!(connections.0.open.borrow().len(), 2);
    }
}

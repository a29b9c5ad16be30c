//! The accept loop's view of one connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::server::Limits;
use crate::support::flow::Limit;

/// The shortest time without progress that counts as a client that does not read: handlers, and
/// live events while nothing changes, are silent for less.
const LEAST_STALL: Duration = Duration::from_secs(30);

/// One connection, shared by its task and the accept loop.
#[derive(Debug)]
pub(super) struct Conn(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    /// The last progress: the connection began, a head was complete, hyper took a frame of a
    /// response, or a response ended.
    progress: Instant,
    /// The connection has had a complete request head.
    has_asked: bool,
    /// Requests whose responses have not ended.
    running: usize,
}

/// Eviction order: connections that never sent a complete head come before those between two
/// requests; in each group the longest wait comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) has_asked: bool,
    since: Instant,
}

impl Conn {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { progress: now, has_asked: false, running: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request from the end of its head until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        let mut state = self.state();
        *state = State { progress: Instant::now(), has_asked: true, running: state.running + 1 };
        RequestGuard(Arc::clone(self))
    }

    /// The limit that closes the connection now. hyper takes a frame of a response only when the
    /// client has room for it, so a client that does not read makes no progress.
    pub(super) fn exceeded(&self, now: Instant, limits: &Limits) -> Option<Limit> {
        let state = *self.state();
        let (timeout, limit) = match state {
            State { running: 1.., .. } => (limits.write_timeout?.max(LEAST_STALL), Limit::WriteTimeout),
            State { has_asked: false, .. } => (limits.header_timeout, Limit::HeaderTimeout),
            State { has_asked: true, .. } => (limits.keep_alive_timeout, Limit::KeepAliveTimeout),
        };
        (now.saturating_duration_since(state.progress) >= timeout).then_some(limit)
    }

    /// The order of eviction; the least is evicted first. `None` if it cannot be evicted now. A
    /// connection has `grace` for its first head.
    pub(super) fn rank(&self, now: Instant, grace: Duration) -> Option<Rank> {
        let State { progress, has_asked, running } = *self.state();
        let is_new = !has_asked && now.saturating_duration_since(progress) < grace;
        (running == 0 && !is_new).then_some(Rank { has_asked, since: progress })
    }
}

/// Counts a running request.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Conn>);

impl RequestGuard {
    /// Records that hyper took a frame of the response.
    pub(super) fn progress(&self) {
        self.0.state().progress = Instant::now();
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.progress();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header_timeout: Duration::from_secs(30),
        keep_alive_timeout: Duration::from_secs(75),
        write_timeout: Some(Duration::from_secs(300)),
    };

    #[test]
    fn connection_is_closed_by_header_timeout_then_by_keep_alive() {
        let start = Instant::now();
        let conn = Conn::new(start);
        assert_eq!(conn.exceeded(start, &LIMITS), None);
        assert_eq!(conn.exceeded(start + LIMITS.header_timeout, &LIMITS), Some(Limit::HeaderTimeout));
        let guard = conn.begin();
        assert_eq!(conn.exceeded(start + LIMITS.keep_alive_timeout * 2, &LIMITS), None, "a request runs");
        drop(guard);
        let end = Instant::now();
        assert_eq!(conn.exceeded(end + LIMITS.header_timeout, &LIMITS), None);
        let idle = end + LIMITS.keep_alive_timeout;
        assert_eq!(conn.exceeded(idle, &LIMITS), Some(Limit::KeepAliveTimeout));
    }

    #[test]
    fn client_that_does_not_read_is_closed_by_write_timeout() {
        let conn = Conn::new(Instant::now());
        let guard = conn.begin();
        let stalled = Instant::now() + Duration::from_secs(299);
        assert_eq!(conn.exceeded(stalled, &LIMITS), None);
        let late = stalled + Duration::from_secs(2);
        assert_eq!(conn.exceeded(late, &Limits { write_timeout: None, ..LIMITS }), None);
        assert_eq!(conn.exceeded(late, &LIMITS), Some(Limit::WriteTimeout));
        let short = Limits { write_timeout: Some(Duration::from_secs(1)), ..LIMITS };
        assert_eq!(conn.exceeded(Instant::now() + LEAST_STALL / 2, &short), None, "a handler may be silent");
        guard.progress();
        assert_eq!(conn.exceeded(Instant::now() + LEAST_STALL, &short), Some(Limit::WriteTimeout));
    }

    #[test]
    fn silent_connection_is_evicted_before_an_idle_one() {
        let start = Instant::now();
        let (silent, idle) = (Conn::new(start), Conn::new(start));
        let running = idle.begin();
        let grace = Duration::from_secs(1);
        assert_eq!((silent.rank(start, grace), idle.rank(start, grace)), (None, None));
        drop(running);
        let later = start + grace;
        assert!(silent.rank(later, grace).unwrap() < idle.rank(later, grace).unwrap());
    }
}

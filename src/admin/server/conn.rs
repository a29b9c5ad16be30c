//! The accept loop's view of one connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::server::{Limits, Rank};
use crate::support::flow::Limit;

/// The shortest time without progress that counts as a client that does not read: handlers, and
/// live events while nothing changes, are silent for less.
const LEAST_STALL: Duration = Duration::from_secs(30);

/// One connection, shared by its task and the accept loop.
#[derive(Debug)]
pub(super) struct Conn(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The beginning of the connection, or the end of its last response.
    idle_since: Instant,
    /// The connection has had a complete request head.
    has_asked: bool,
    /// The requests whose responses have not ended, at most as many as the connection may have
    /// streams. A stream makes progress for itself: others do not hide that its client stopped
    /// reading it.
    running: Vec<Running>,
    /// The number of the next request.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    number: u64,
    /// The last progress: its head was complete, or hyper took a frame of its response.
    progress: Instant,
}

impl Conn {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        let state = State { idle_since: now, has_asked: false, running: Vec::new(), next: 0 };
        Arc::new(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request from the end of its head until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.has_asked = true;
        state.running.push(Running { number, progress: Instant::now() });
        RequestGuard { conn: Arc::clone(self), number }
    }

    /// The limit that closes the connection now. hyper takes a frame of a response only when the
    /// client has room for it, so a response that its client does not read makes no progress.
    pub(super) fn exceeded(&self, now: Instant, limits: &Limits) -> Option<Limit> {
        let state = self.state();
        let oldest = state.running.iter().map(|running| running.progress).min();
        let (since, timeout, limit) = match oldest {
            Some(progress) => (progress, limits.write_timeout?.max(LEAST_STALL), Limit::WriteTimeout),
            None if state.has_asked => (state.idle_since, limits.keep_alive_timeout, Limit::KeepAliveTimeout),
            None => (state.idle_since, limits.header_timeout, Limit::HeaderTimeout),
        };
        (now.saturating_duration_since(since) >= timeout).then_some(limit)
    }

    /// Its place in the order of eviction. `None` if it cannot be evicted now. It has `grace` for
    /// its first head.
    pub(super) fn rank(&self, now: Instant, grace: Duration) -> Option<Rank> {
        let state = self.state();
        match state.has_asked {
            _ if !state.running.is_empty() => None,
            false => Rank::in_head(false, state.idle_since, now, grace),
            true => Some(Rank::idle(state.idle_since)),
        }
    }
}

/// Counts a running request.
#[derive(Debug)]
pub(super) struct RequestGuard {
    conn: Arc<Conn>,
    number: u64,
}

impl RequestGuard {
    /// Records that hyper took a frame of the response.
    pub(super) fn progress(&self) {
        let mut state = self.conn.state();
        let running = state.running.iter_mut().find(|running| running.number == self.number);
        running.into_iter().for_each(|running| running.progress = Instant::now());
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.conn.state();
        state.running.retain(|running| running.number != self.number);
        state.idle_since = Instant::now();
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
    fn progress_of_one_stream_does_not_hide_that_another_is_unread() {
        let conn = Conn::new(Instant::now());
        let (stalled, read) = (conn.begin(), conn.begin());
        let limits = Limits { write_timeout: Some(LEAST_STALL), ..LIMITS };
        let late = Instant::now() + LEAST_STALL;
        std::thread::sleep(Duration::from_millis(1));
        read.progress();
        assert_eq!(conn.exceeded(late, &limits), Some(Limit::WriteTimeout));
        drop(stalled);
        assert_eq!(conn.exceeded(late, &limits), None);
        drop(read);
        assert_eq!(conn.exceeded(late, &limits), None, "it is idle");
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

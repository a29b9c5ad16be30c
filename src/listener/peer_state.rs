//! What the parts of one connection know of each other: hyper's IO, the service, and the task that drives both.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::Limits;

/// Shared by the parts of one connection, which all run in one task.
#[derive(Debug)]
pub(super) struct PeerState {
    running: Cell<u32>,
    /// HTTP/2 frames come outside requests too: there is no telling when a head begins.
    http2: bool,
    /// When the first byte of the next head came, while no request is running.
    head_since: Cell<Option<Instant>>,
    /// When the last request ended, or the connection began.
    idle_since: Cell<Instant>,
    /// The head did not come in time: the IO says so to the client and ends.
    pub(super) expired: Cell<bool>,
    /// A request was refused with its body unread: its bytes must be taken in, or the client's system
    /// throws the answer away.
    pub(super) linger: Cell<bool>,
}

/// What is to be done with a connection now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Look again then.
    At(Instant),
    /// The head took too long.
    Head,
    /// Nothing has been going on for too long.
    Idle,
}

impl PeerState {
    pub(super) fn new(now: Instant, http2: bool) -> Rc<Self> {
        Rc::new(Self {
            running: Cell::new(0),
            http2,
            head_since: Cell::new(None),
            idle_since: Cell::new(now),
            expired: Cell::new(false),
            linger: Cell::new(false),
        })
    }

    /// A request's head is complete; it runs for as long as the guard lives.
    pub(super) fn begin(self: &Rc<Self>) -> Running {
        self.running.set(self.running.get() + 1);
        self.head_since.set(None);
        Running(Rc::clone(self))
    }

    /// Whether a request is running.
    pub(super) fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// Bytes came from the client.
    pub(super) fn received(&self) {
        if !self.http2 && !self.is_running() && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }

    /// Which limit has been reached, or when to look again.
    pub(super) fn due(&self, now: Instant, limits: &Limits) -> Due {
        let (deadline, due) = match self.head_since.get() {
            // While a request runs its own timeouts apply.
            _ if self.is_running() => return Due::At(now + limits.header_timeout),
            Some(since) => (since + limits.header_timeout, Due::Head),
            None => (self.idle_since.get() + limits.keep_alive_timeout, Due::Idle),
        };
        if now >= deadline { due } else { Due::At(deadline.min(now + limits.header_timeout)) }
    }
}

/// A running request.
#[derive(Debug)]
pub(super) struct Running(Rc<PeerState>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits =
        Limits { header_timeout: Duration::from_secs(30), keep_alive_timeout: Duration::from_secs(75) };

    #[test]
    fn a_head_has_its_own_limit_from_its_first_byte() {
        let now = Instant::now();
        let state = PeerState::new(now, false);
        assert_eq!(state.due(now, &LIMITS), Due::At(now + LIMITS.header_timeout));
        state.received();
        let later = Instant::now() + LIMITS.header_timeout;
        assert_eq!(state.due(later, &LIMITS), Due::Head);
    }

    #[test]
    fn a_connection_is_idle_from_the_end_of_its_last_request() {
        let start = Instant::now();
        let state = PeerState::new(start, false);
        let running = state.begin();
        let late = start + LIMITS.keep_alive_timeout * 10;
        assert!(matches!(state.due(late, &LIMITS), Due::At(_)), "a running request is not idle");
        drop(running);
        assert_eq!(state.due(Instant::now() + LIMITS.keep_alive_timeout, &LIMITS), Due::Idle);
    }
}

//! What the parts of one connection know of each other: who reads and writes, the requests that
//! run, and the worker's keeper of limits.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Limits;
use crate::flow::{Limit, StreamTiming};

/// How long a connection that was told to end may take to do so.
const FINISH: Duration = Duration::from_secs(2);

/// Shared by the parts of one connection, which all run on one thread.
#[derive(Debug)]
pub(super) struct ConnState {
    /// The client's address.
    address: Cell<Option<SocketAddr>>,
    running: Cell<u32>,
    /// HTTP/2 frames come outside requests too: there is no telling when a head begins.
    http2: Cell<bool>,
    /// No byte of HTTP has come yet.
    silent: Cell<bool>,
    /// The last answer is out, and what the client still sends is taken in and dropped.
    lingers: Cell<bool>,
    /// A request's head has been complete.
    proven: Cell<bool>,
    /// Since when the next head is due, while no request is running: the first one from accept on,
    /// a later one from its first byte.
    head_since: Cell<Option<Instant>>,
    /// When the last request ended, or the connection began.
    idle_since: Cell<Instant>,
    /// What the connection is told to do, and since when.
    command: Cell<Option<(ConnCommand, Instant)>>,
    /// The task that drives the connection.
    waker: RefCell<Option<Waker>>,
    /// The connection is over; requests of it may still run for a moment, in tasks of their own
    /// (HTTP/2).
    over: Cell<bool>,
    /// Since when the client has taken nothing of what waits for it; `None`: nothing waits.
    stalled_since: Cell<Option<Instant>>,
    /// The connection is dropped because the client took nothing for so long.
    given_up: Cell<Option<Duration>>,
    /// What has events that are not written yet.
    timings: RefCell<Vec<Rc<StreamTiming>>>,
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnCommand {
    /// Finish what runs, and close.
    Finish,
    /// Close at once: no request runs, and a newcomer needs the place.
    Yield,
    /// The head took too long: say so, and close.
    RefuseHead,
    /// The drain's time is over: cut what runs, as an answer is cut whose upstream fails, and
    /// close.
    Stop,
    /// It was told to end and has not: drop it.
    Drop,
}

impl ConnState {
    pub(super) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            address: Cell::default(),
            running: Cell::new(0),
            http2: Cell::new(false),
            silent: Cell::new(true),
            lingers: Cell::new(false),
            proven: Cell::new(false),
            head_since: Cell::new(Some(now)),
            idle_since: Cell::new(now),
            command: Cell::new(None),
            waker: RefCell::new(None),
            over: Cell::new(false),
            stalled_since: Cell::default(),
            given_up: Cell::default(),
            timings: RefCell::default(),
        })
    }

    /// Notes where the client is.
    pub(super) fn set_address(&self, address: Option<SocketAddr>) {
        self.address.set(address);
    }

    /// Where the client is.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address.get()
    }

    pub(super) fn set_http2(&self) {
        self.http2.set(true);
        self.silent.set(false);
    }

    /// A request's head is complete; it runs for as long as the guard lives.
    pub(super) fn begin(self: &Rc<Self>) -> RequestGuard {
        self.running.set(self.running.get() + 1);
        self.head_since.set(None);
        self.proven.set(true);
        RequestGuard(Rc::clone(self))
    }

    /// Whether a request is running.
    pub(super) fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// What comes from now on is no head, and has limits of its own. The connection can be missed.
    pub(super) fn lingers(&self) {
        self.lingers.set(true);
        self.head_since.set(None);
    }

    /// Bytes came from the client.
    pub(super) fn received(&self) {
        self.silent.set(false);
        if !self.is_running() && !self.http2.get() && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }

    /// Notes whether the client takes what is written, as a write or a flush tells.
    pub(super) fn track_write<T>(&self, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Pending if self.stalled_since.get().is_none() => {
                self.stalled_since.set(Some(Instant::now()));
            }
            Poll::Pending => {}
            Poll::Ready(_) => self.stalled_since.set(None),
        }
        polled
    }

    /// For how long the client took nothing, if it was given up for that.
    pub(super) fn given_up(&self) -> Option<Duration> {
        self.given_up.get()
    }

    /// Adds a stream whose events the next writes carry; it gets the time of the write.
    pub(super) fn track_timing(&self, timing: &Rc<StreamTiming>) {
        self.timings.borrow_mut().push(Rc::clone(timing));
    }

    /// Everything was written.
    pub(super) fn flushed(&self) {
        let mut timings = self.timings.borrow_mut();
        if timings.is_empty() {
            return;
        }
        let now = Instant::now();
        timings.drain(..).for_each(|timing| timing.written(now));
    }

    /// The task that is woken when there is an order.
    pub(super) fn wake_me(&self, cx: &Context<'_>) {
        self.waker.replace(Some(cx.waker().clone()));
    }

    /// Waits until no request runs. To be called when the connection is over.
    pub(super) async fn settled(&self) {
        self.over.set(true);
        poll_fn(|cx| {
            self.wake_me(cx);
            if self.is_running() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// What the connection is told to do.
    pub(super) fn command(&self) -> Option<ConnCommand> {
        self.command.get().map(|(command, _)| command)
    }

    /// Tells the connection to finish what runs.
    pub(super) fn finish(&self, now: Instant) {
        if self.command().is_none() {
            self.tell(ConnCommand::Finish, now);
        }
    }

    /// Tells the connection to cut what runs.
    pub(super) fn stop(&self, now: Instant) {
        if self.command() != Some(ConnCommand::Drop) {
            self.tell(ConnCommand::Stop, now);
        }
    }

    /// Whether the client takes nothing of what waits for it.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.get().is_some()
    }

    /// Whether HTTP/2 is spoken.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.get()
    }

    fn tell(&self, command: ConnCommand, now: Instant) {
        self.command.set(Some((command, now)));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Holds the connection to its limits, and returns the one that closes it now. While a request
    /// runs its own timeouts apply, and that on writing.
    pub(super) fn keep(&self, now: Instant, limits: &Limits) -> Option<Limit> {
        let over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if let (Some(limit), Some(since)) = (limits.write_timeout, self.stalled_since.get())
            && over(since, limit)
            && self.given_up.replace(Some(limit)).is_none()
        {
            self.tell(ConnCommand::Drop, now);
            return Some(Limit::WriteTimeout);
        }
        if self.is_running() || (self.lingers.get() && self.command().is_none()) {
            return None;
        }
        match (self.command.get(), self.head_since.get()) {
            (Some((ConnCommand::Drop, _)), _) => {}
            (Some((_, since)), _) if over(since, FINISH) => self.tell(ConnCommand::Drop, now),
            (None, Some(since)) if over(since, limits.header_timeout) => {
                // HTTP/2 has no response for a head that did not come, and a client that said
                // nothing needs none.
                let has_begun = !self.silent.get() && !self.http2.get();
                self.tell(if has_begun { ConnCommand::RefuseHead } else { ConnCommand::Finish }, now);
                return Some(Limit::HeaderTimeout);
            }
            (None, Some(since)) if self.silent.get() && over(since, limits.keep_alive_timeout) => {
                self.finish(now);
                return Some(Limit::KeepAliveTimeout);
            }
            (None, None) if over(self.idle_since.get(), limits.keep_alive_timeout) => {
                self.finish(now);
                return Some(Limit::KeepAliveTimeout);
            }
            _ => {}
        }
        None
    }

    /// How readily the connection is given up for a newcomer, and since when: the least first.
    /// `None`: not now. One that waits for its first head has `grace` for it, so that a flood of
    /// connections does not close those that are about to speak.
    pub(super) fn rank(&self, now: Instant, grace: Duration) -> Option<Rank> {
        if self.is_running() || self.command().is_some() {
            return None;
        }
        match self.head_since.get() {
            Some(since) if now.saturating_duration_since(since) < grace => None,
            Some(since) if !self.proven.get() => Some(Rank { is_idle: false, since }),
            Some(since) => Some(Rank { is_idle: true, since }),
            None => Some(Rank { is_idle: true, since: self.idle_since.get() }),
        }
    }

    /// Gives the connection up for a newcomer.
    pub(super) fn evict(&self, now: Instant) {
        let in_head = self.head_since.get().is_some();
        self.tell(if in_head { ConnCommand::Drop } else { ConnCommand::Yield }, now);
    }
}

/// Which connection is given up first for a newcomer: one that never sent a complete head, then one
/// between two requests; of each kind the one that has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) is_idle: bool,
    since: Instant,
}

/// A running request.
#[derive(Debug)]
pub(super) struct RequestGuard(Rc<ConnState>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.idle_since.set(Instant::now());
        if self.0.over.get() {
            self.0.wake();
        }
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
    fn a_head_has_its_own_limit_from_its_first_byte() {
        let state = ConnState::new(Instant::now());
        state.received();
        state.keep(Instant::now(), &LIMITS);
        assert_eq!(state.command(), None);
        state.keep(Instant::now() + LIMITS.header_timeout, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::RefuseHead));
    }

    #[test]
    fn a_connection_is_idle_from_the_end_of_its_last_request() {
        let start = Instant::now();
        let state = ConnState::new(start);
        let running = state.begin();
        state.keep(start + LIMITS.keep_alive_timeout * 10, &LIMITS);
        assert_eq!(state.command(), None, "a running request is not idle");
        drop(running);
        state.keep(start + LIMITS.keep_alive_timeout / 2, &LIMITS);
        assert_eq!(state.command(), None);
        state.keep(Instant::now() + LIMITS.keep_alive_timeout, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Finish));
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_although_its_request_runs() {
        let start = Instant::now();
        let state = ConnState::new(start);
        let _running = state.begin();
        let late = || Instant::now() + LIMITS.write_timeout.unwrap();
        let _ = state.track_write(Poll::<()>::Pending);
        let _ = state.track_write(Poll::Ready(()));
        state.keep(late(), &LIMITS);
        assert_eq!((state.command(), state.given_up()), (None, None), "it has taken something");
        let _ = state.track_write(Poll::<()>::Pending);
        state.keep(Instant::now(), &LIMITS);
        assert_eq!(state.command(), None);
        state.keep(late(), &Limits { write_timeout: None, ..LIMITS });
        assert_eq!(state.command(), None);
        state.keep(late(), &LIMITS);
        assert_eq!((state.command(), state.given_up()), (Some(ConnCommand::Drop), LIMITS.write_timeout));
    }

    #[test]
    fn what_does_not_end_when_it_is_told_to_is_dropped_unless_a_request_runs() {
        let now = Instant::now();
        let state = ConnState::new(now);
        state.finish(now);
        let running = state.begin();
        state.keep(now + FINISH, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Finish));
        drop(running);
        state.keep(now + FINISH, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Drop));
    }
}

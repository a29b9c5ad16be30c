//! The state of one connection, shared by the code that reads and writes, its running requests, and
//! the worker's registry, which enforces limits.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{Limits, Rank};
use crate::support::flow::{Limit, StreamTiming};
use crate::support::memory::{CONNECTION, INCLUDED, REQUEST, WorkerMemory};

/// The time within which a connection must obey a command.
const FINISH: Duration = Duration::from_secs(2);

/// The time of a new connection for its first request, also during the drain: the round trip of a
/// distant client, with TLS.
const FIRST: Duration = Duration::from_millis(1500);

/// Shared by the parts of one connection, which all run on one thread.
pub(super) struct ConnState {
    address: Cell<Option<SocketAddr>>,
    running: Cell<u32>,
    /// HTTP/2 frames also arrive between requests, so the start of a head cannot be observed.
    http2: Cell<bool>,
    /// No byte of HTTP has arrived.
    silent: Cell<bool>,
    /// The last response is written; further bytes of the client are read and discarded.
    lingers: Cell<bool>,
    /// The connection has had a complete request head.
    proven: Cell<bool>,
    /// The time when the wait for the next head began, while no request runs: for the first head at
    /// accept, for later ones at their first byte.
    head_since: Cell<Option<Instant>>,
    /// The time when the last request ended, or the connection began.
    idle_since: Cell<Instant>,
    /// The command to the connection, and its time.
    command: Cell<Option<(ConnCommand, Instant)>>,
    /// The patience of a drain, as long as the connection may still be new.
    patience: Cell<Option<Patience>>,
    /// The connection was new, and silent, when a drain began.
    spared: Cell<bool>,
    /// The task that drives the connection.
    waker: RefCell<Option<Waker>>,
    /// The connection has ended. Its requests may run for a moment longer, in tasks of their own
    /// (HTTP/2).
    over: Cell<bool>,
    /// The time when the client stopped accepting bytes. `None`: nothing is pending.
    stalled_since: Cell<Option<Instant>>,
    /// The write timeout, if the connection is dropped because of it.
    stalled_for: Cell<Option<Duration>>,
    /// Streams with events that are not written yet.
    unwritten: Cell<Unwritten>,
    memory: Rc<WorkerMemory>,
    /// The stated size of the connection, in bytes.
    size: Cell<usize>,
    /// The counted bytes of the client that are not read yet.
    unread: Cell<usize>,
    /// The counted bytes that the client has not accepted.
    unsent: Cell<usize>,
}

/// Streams with events that are not written yet: over HTTP/1.1 at most one, which then needs no
/// memory of its own.
#[derive(Default)]
enum Unwritten {
    #[default]
    None,
    One(Rc<StreamTiming>),
    Several(Vec<Rc<StreamTiming>>),
}

/// The time that a drain leaves to a connection for a head that it awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// [`FIRST`], for the first head: a supervisor waits for the end of the process.
    Short,
    /// The header timeout, for a head that has begun too: another process serves already.
    Long,
}

/// A command to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnCommand {
    /// Finish running requests, then close.
    Finish,
    /// Close now: no request runs, and a new connection needs the place.
    Yield,
    /// Respond with 408 to the incomplete head, then close.
    RefuseHead,
    /// The drain timeout has expired: end running responses as if their upstream had failed, then
    /// close.
    Stop,
    /// Drop the connection: it did not obey an earlier command in time.
    Drop,
}

impl fmt::Debug for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnState").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ConnState {
    /// Counts in `memory`.
    pub(super) fn new(now: Instant, memory: &Rc<WorkerMemory>) -> Rc<Self> {
        memory.connection(0, CONNECTION);
        Rc::new(Self {
            memory: Rc::clone(memory),
            size: Cell::new(CONNECTION),
            unread: Cell::new(0),
            unsent: Cell::new(0),
            address: Cell::default(),
            running: Cell::new(0),
            http2: Cell::new(false),
            silent: Cell::new(true),
            lingers: Cell::new(false),
            proven: Cell::new(false),
            head_since: Cell::new(Some(now)),
            idle_since: Cell::new(now),
            command: Cell::new(None),
            patience: Cell::new(None),
            spared: Cell::new(false),
            waker: RefCell::new(None),
            over: Cell::new(false),
            stalled_since: Cell::default(),
            stalled_for: Cell::default(),
            unwritten: Cell::default(),
        })
    }

    pub(super) fn set_address(&self, address: Option<SocketAddr>) {
        self.address.set(address);
    }

    /// The client's address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address.get()
    }

    pub(super) fn set_http2(&self) {
        self.http2.set(true);
        self.silent.set(false);
    }

    /// Counts a request from the end of its head until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> RequestGuard {
        self.running.set(self.running.get() + 1);
        self.head_since.set(None);
        self.proven.set(true);
        self.memory.request(0, REQUEST);
        RequestGuard(Rc::clone(self))
    }

    /// Counts memory that the connection needs from now on to its end.
    pub(super) fn grow(&self, bytes: usize) {
        let size = self.size.get();
        self.memory.connection(size, size + bytes);
        self.size.set(size + bytes);
    }

    /// Counts the bytes that wait now to be read and written.
    pub(super) fn hold(&self, unread: usize, unsent: usize) {
        let unread = unread.saturating_sub(INCLUDED);
        self.memory.connection(self.unread.replace(unread), unread);
        self.memory.request(self.unsent.replace(unsent), unsent);
    }

    pub(super) fn has_memory_limit(&self) -> bool {
        self.memory.budget().limit().is_some()
    }

    /// Returns true if the connection holds many bytes of an incomplete head, and there is no
    /// memory for more.
    pub(super) fn is_short_of_memory(&self) -> bool {
        let memory = self.memory.budget();
        self.unread.get() > 0 && (memory.is_full() || !memory.has_room_for_connection())
    }

    /// Memory of a request of this connection, besides that of every request.
    pub(super) fn request_memory(self: &Rc<Self>) -> RequestMemory {
        RequestMemory { state: Rc::clone(self), bytes: 0 }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// Ends the header timeout: further bytes are not a head, and have limits of their own. The
    /// connection can be evicted.
    pub(super) fn set_lingering(&self) {
        self.lingers.set(true);
        self.head_since.set(None);
    }

    /// Records that bytes arrived.
    pub(super) fn received(&self) {
        self.silent.set(false);
    }

    /// Records that a head is incomplete: its first byte starts the header timeout. A head that
    /// arrives in one piece has none.
    pub(super) fn await_head(&self) {
        if !self.is_running() && !self.http2.get() && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }

    /// Tracks write backpressure: starts the stall clock when a write or flush is `Pending`, clears
    /// it on progress.
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

    /// The write timeout, if the connection is dropped because of it.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        self.stalled_for.get()
    }

    /// Adds a stream whose events the next writes carry; it gets the time of the write.
    pub(super) fn track_timing(&self, timing: &Rc<StreamTiming>) {
        let timing = Rc::clone(timing);
        self.unwritten.set(match self.unwritten.take() {
            Unwritten::None => Unwritten::One(timing),
            Unwritten::One(other) => Unwritten::Several(vec![other, timing]),
            Unwritten::Several(mut timings) => {
                timings.push(timing);
                Unwritten::Several(timings)
            }
        });
    }

    /// Records that everything was written.
    pub(super) fn flushed(&self) {
        match self.unwritten.take() {
            Unwritten::None => {}
            Unwritten::One(timing) => timing.on_written(Instant::now()),
            Unwritten::Several(mut timings) => {
                if !timings.is_empty() {
                    let now = Instant::now();
                    timings.drain(..).for_each(|timing| timing.on_written(now));
                }
                self.unwritten.set(Unwritten::Several(timings));
            }
        }
    }

    /// Registers the task that a command wakes.
    pub(super) fn wake_me(&self, cx: &Context<'_>) {
        self.waker.replace(Some(cx.waker().clone()));
    }

    /// Waits until no request runs. Called when the connection has ended.
    pub(super) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        self.over.set(true);
        self.wake_me(cx);
        if self.is_running() { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(super) fn command(&self) -> Option<ConnCommand> {
        self.command.get().map(|(command, _)| command)
    }

    /// Commands the connection to finish running requests.
    pub(super) fn finish(&self, now: Instant) {
        if self.command().is_none() {
            self.tell(ConnCommand::Finish, now);
        }
    }

    /// Commands the connection to finish running requests, and the first one if it is new: that may
    /// be on its way, and a client that sent it could not know whether it was executed.
    pub(super) fn drain(&self, now: Instant, patience: Patience) {
        let is_commanded = self.command().is_some();
        self.patience.set(Some(patience).filter(|_| !is_commanded));
        self.spared.set(!is_commanded && self.silent.get());
        self.finish(now);
    }

    /// Gives a connection that a drain found in its handshake the time of a new one: the client
    /// sends its request behind the last message.
    pub(super) fn on_handshake(&self, now: Instant) {
        if self.spared.get() {
            self.patience.set(self.patience.get().or(Some(Patience::Short)));
            self.head_since.set(Some(now));
        }
    }

    /// Returns true if a command ends the exchange before the first byte of HTTP (TLS, a header of
    /// the PROXY protocol). One that has begun when a drain finds it has [`FINISH`] for its rest,
    /// and bytes that wait in the kernel are read.
    pub(super) fn must_end_exchange(
        &self,
        now: Instant,
        has_begun: bool,
        has_bytes: impl FnOnce() -> bool,
    ) -> bool {
        let Some((ConnCommand::Finish, since)) = self.command.get() else { return self.must_end() };
        let has_time = has_begun && self.spared.get() && now.saturating_duration_since(since) < FINISH;
        self.must_end() && !has_time && !has_bytes()
    }

    /// Returns true if a command ends the connection unless a request runs.
    pub(super) fn must_end(&self) -> bool {
        match self.command() {
            None => false,
            Some(ConnCommand::Finish) => !self.awaits_first(Instant::now()),
            Some(_) => true,
        }
    }

    /// Returns true for a new connection that a drain leaves time: it has had no request.
    fn awaits_first(&self, now: Instant) -> bool {
        let since = self.head_since.get().filter(|_| !self.proven.get());
        match self.patience.get() {
            None => false,
            Some(Patience::Short) => since.is_some_and(|since| now.saturating_duration_since(since) < FIRST),
            // Its end is in `enforce_limits`.
            Some(Patience::Long) => since.is_some(),
        }
    }

    /// Returns true for a connection that a drain found new, as long as no byte was read from it.
    fn is_spared(&self, now: Instant, limits: &Limits) -> bool {
        let since = self.head_since.get().filter(|_| self.spared.get() && self.silent.get());
        since.is_some_and(|since| now.saturating_duration_since(since) < limits.header_timeout)
    }

    /// Commands the connection to cut running requests.
    pub(super) fn stop(&self, now: Instant) {
        if self.command() != Some(ConnCommand::Drop) {
            self.tell(ConnCommand::Stop, now);
        }
    }

    /// Returns true if a write is pending.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.get().is_some()
    }

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

    /// Enforces the limits and returns the one that closes the connection now. While a request
    /// runs, only the write timeout applies.
    pub(super) fn enforce_limits(&self, now: Instant, limits: &Limits) -> Option<Limit> {
        let over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if let (Some(limit), Some(since)) = (limits.write_timeout, self.stalled_since.get())
            && over(since, limit)
            && self.stalled_for.replace(Some(limit)).is_none()
        {
            self.tell(ConnCommand::Drop, now);
            return Some(Limit::WriteTimeout);
        }
        if self.is_running() || (self.lingers.get() && self.command().is_none()) {
            return None;
        }
        let head_since = self.head_since.get();
        let has_time = match self.patience.get() {
            None => false,
            Some(Patience::Short) => self.awaits_first(now),
            Some(Patience::Long) => head_since.is_some_and(|since| !over(since, limits.header_timeout)),
        };
        if !has_time && (self.patience.take().is_some() || self.is_spared(now, limits)) {
            self.wake();
        }
        match (self.command.get(), head_since) {
            (Some((ConnCommand::Drop, _)), _) => {}
            (Some((ConnCommand::Finish, _)), _) if has_time => {}
            // On a busy worker, the task of a new connection may not have seen its request yet. It
            // ends by itself.
            (Some((ConnCommand::Finish, _)), _) if self.is_spared(now, limits) => {}
            (Some((_, since)), _) if over(since, FINISH) => self.tell(ConnCommand::Drop, now),
            (None, Some(since)) if over(since, limits.header_timeout) => {
                // HTTP/2 has no response to a missing head, and a client that sent nothing needs
                // none.
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

    /// The rank in the order of eviction. `None` if it cannot be evicted now. A connection has `grace`
    /// for each head.
    pub(super) fn rank(&self, now: Instant, grace: Duration) -> Option<Rank> {
        if self.is_running() || self.command().is_some() {
            return None;
        }
        match self.head_since.get() {
            Some(since) => Rank::in_head(self.proven.get(), since, now, grace),
            None => Some(Rank::idle(self.idle_since.get())),
        }
    }

    pub(super) fn yield_place(&self, now: Instant) {
        let in_head = self.head_since.get().is_some();
        self.tell(if in_head { ConnCommand::Drop } else { ConnCommand::Yield }, now);
    }
}

/// Counts a running request.
#[derive(Debug)]
pub(super) struct RequestGuard(Rc<ConnState>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.memory.request(REQUEST, 0);
        self.0.running.set(self.0.running.get() - 1);
        self.0.idle_since.set(Instant::now());
        if self.0.over.get() {
            self.0.wake();
        }
    }
}

/// Counted bytes of one request, until this is dropped.
#[derive(Debug)]
pub(super) struct RequestMemory {
    state: Rc<ConnState>,
    bytes: usize,
}

impl RequestMemory {
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.state.memory.request(self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for RequestMemory {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Drop for ConnState {
    fn drop(&mut self) {
        self.memory.connection(self.size.get() + self.unread.get(), 0);
        self.memory.request(self.unsent.get(), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::support::memory::{Memory, MemoryPart};

    fn state_at(now: Instant) -> Rc<ConnState> {
        ConnState::new(now, &Rc::new(WorkerMemory::new(Memory::default())))
    }

    const LIMITS: Limits = Limits {
        header_timeout: Duration::from_secs(30),
        keep_alive_timeout: Duration::from_secs(75),
        write_timeout: Some(Duration::from_secs(300)),
    };

    #[test]
    fn connection_counts_until_its_end() {
        let memory = Memory::default();
        let worker = Rc::new(WorkerMemory::new(memory.clone()));
        let state = ConnState::new(Instant::now(), &worker);
        state.grow(1 << 20);
        state.hold(1 << 20, 1 << 19);
        let running = state.begin();
        let mut frame = state.request_memory();
        frame.set(1 << 20);
        assert!(memory.of(MemoryPart::Connections) >= 2 << 20);
        assert!(memory.of(MemoryPart::Requests) >= 3 << 19);
        state.hold(0, 0);
        assert!((1 << 20..2 << 20).contains(&memory.of(MemoryPart::Connections)));
        state.hold(1 << 20, 1 << 20);
        drop((running, frame, state, worker));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn header_timeout_begins_at_the_first_byte_of_a_head() {
        let state = state_at(Instant::now());
        state.begin();
        state.received();
        state.await_head();
        state.enforce_limits(Instant::now(), &LIMITS);
        assert_eq!(state.command(), None);
        state.enforce_limits(Instant::now() + LIMITS.header_timeout, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::RefuseHead));
    }

    #[test]
    fn flush_tells_each_stream_whose_events_were_waiting() {
        let state = state_at(Instant::now());
        for streams in [0, 1, 3, 1] {
            let timings: Vec<_> = (0..streams).map(|_| StreamTiming::new(Arc::default())).collect();
            let is_notified = |timing: &Rc<StreamTiming>| {
                timing.on_read(Instant::now(), 1);
                timing.on_passed(1);
                timing.take_notification()
            };
            for timing in &timings {
                assert!(is_notified(timing));
                state.track_timing(timing);
            }
            state.flushed();
            assert!(timings.iter().all(is_notified), "{streams}");
        }
    }

    #[test]
    fn keep_alive_timeout_begins_at_the_end_of_a_request() {
        let start = Instant::now();
        let state = state_at(start);
        let running = state.begin();
        state.enforce_limits(start + LIMITS.keep_alive_timeout * 10, &LIMITS);
        assert_eq!(state.command(), None, "a running request is not idle");
        drop(running);
        state.enforce_limits(start + LIMITS.keep_alive_timeout / 2, &LIMITS);
        assert_eq!(state.command(), None);
        state.enforce_limits(Instant::now() + LIMITS.keep_alive_timeout, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Finish));
    }

    #[test]
    fn write_timeout_closes_a_connection_with_a_running_request() {
        let start = Instant::now();
        let state = state_at(start);
        let _running = state.begin();
        let late = || Instant::now() + LIMITS.write_timeout.unwrap();
        let _ = state.track_write(Poll::<()>::Pending);
        let _ = state.track_write(Poll::Ready(()));
        state.enforce_limits(late(), &LIMITS);
        assert_eq!((state.command(), state.stalled_for()), (None, None), "it has taken something");
        let _ = state.track_write(Poll::<()>::Pending);
        state.enforce_limits(Instant::now(), &LIMITS);
        assert_eq!(state.command(), None);
        state.enforce_limits(late(), &Limits { write_timeout: None, ..LIMITS });
        assert_eq!(state.command(), None);
        state.enforce_limits(late(), &LIMITS);
        assert_eq!((state.command(), state.stalled_for()), (Some(ConnCommand::Drop), LIMITS.write_timeout));
    }

    #[test]
    fn finish_drops_a_late_connection_unless_a_request_runs() {
        let now = Instant::now();
        let state = state_at(now);
        state.finish(now);
        let running = state.begin();
        state.enforce_limits(now + FINISH, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Finish));
        drop(running);
        state.enforce_limits(now + FINISH, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Drop));
    }

    #[test]
    fn new_connection_has_time_for_its_first_request_in_a_drain() {
        let now = Instant::now();
        let state = state_at(now);
        assert!(!state.must_end());
        state.drain(now, Patience::Short);
        assert!(!state.must_end(), "its request may be on its way");
        state.enforce_limits(now + FINISH, &LIMITS);
        assert!(state.must_end());
        assert_eq!(state.command(), Some(ConnCommand::Finish), "a busy worker reads it late");
        state.enforce_limits(now + LIMITS.header_timeout, &LIMITS);
        assert_eq!(state.command(), Some(ConnCommand::Drop));

        let limited = state_at(now);
        limited.finish(now);
        limited.drain(now, Patience::Short);
        assert!(limited.must_end(), "a limit has ended it before");

        let used = state_at(now);
        drop(used.begin());
        used.drain(now, Patience::Short);
        assert!(used.must_end(), "it waits for a next request");
    }

    #[test]
    fn upgrade_leaves_a_head_its_whole_time() {
        let now = Instant::now();
        let (new, kept, idle) = (state_at(now), state_at(now), state_at(now));
        for used in [&kept, &idle] {
            used.received();
            drop(used.begin());
        }
        kept.await_head();
        for state in [&new, &kept, &idle] {
            state.drain(now, Patience::Long);
        }
        assert!(idle.must_end(), "it waits for a next request");
        assert!(!new.must_end());
        let late = now + LIMITS.header_timeout - FINISH;
        for state in [&new, &kept, &idle] {
            state.enforce_limits(late, &LIMITS);
        }
        assert!(!new.must_end(), "the other process has no use for its end");
        assert_eq!(kept.command(), Some(ConnCommand::Finish), "its head has begun");
        assert_eq!(idle.command(), Some(ConnCommand::Drop));
        for state in [&new, &kept] {
            state.enforce_limits(Instant::now() + LIMITS.header_timeout, &LIMITS);
            assert!(state.must_end());
        }
    }

    #[test]
    fn handshake_in_a_drain_ends_and_leaves_time_for_a_request() {
        let now = Instant::now();
        let past = now.checked_sub(FIRST).unwrap();
        let (state, limited) = (state_at(past), state_at(past));
        state.drain(now, Patience::Short);
        limited.finish(now);
        assert!(!state.must_end_exchange(now, true, || false), "it has begun");
        assert!(state.must_end_exchange(now, false, || false), "it has not begun in its time");
        assert!(!state.must_end_exchange(now, false, || true), "it begins");
        assert!(state.must_end_exchange(now + FINISH, true, || false));
        assert!(limited.must_end_exchange(now, true, || false));
        state.on_handshake(now);
        assert!(!state.must_end(), "the request follows");
    }
}

//! The state of one connection, shared by the code that reads and writes, its running requests, and
//! the worker's registry, which enforces limits.

mod commands;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub(super) use commands::{ConnCommand, Patience};

use crate::support::flow::StreamTiming;
use crate::support::memory::{CONNECTION, INCLUDED, REQUEST, WorkerMemory};

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

    /// Returns true if a write is pending.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.get().is_some()
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.get()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
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
mod tests;

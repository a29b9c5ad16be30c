//! The HTTP/2 connections of one worker to one upstream, and the choice of the HTTP version.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::Connection;
use super::error::Ending;
use super::{MAX_STREAMS, SMALL_STREAM_WINDOW, STREAM_WINDOW};
use crate::config::{HttpVersion, PoolLimits};
use crate::record::error::Kind;
use crate::support::memory::{Memory, MemoryHold, MemoryPart};
use crate::upstream::connect::connect;
use crate::upstream::connect_spec::ConnectSpec;
use crate::upstream::error::{SendCause, SendError, SendPhase};
use crate::upstream::pool::Pool;
use crate::upstream::resend::Tried;
use crate::upstream::stream::Stream;

/// Opens connections as streams need them. A request takes the first connection with room, so that
/// connections of a burst become idle after it. Idle connections are closed after their timeout,
/// and at once beyond the limit.
#[derive(Debug)]
pub(in crate::upstream) struct Connections {
    spec: Arc<ConnectSpec>,
    limits: PoolLimits,
    /// Gets connections that turn out to speak HTTP/1.1.
    http1: Rc<Pool>,
    memory: Memory,
    open: RefCell<Vec<Rc<Connection>>>,
    /// Connections that are being made.
    attempts: RefCell<Vec<Rc<Attempt>>>,
    /// The streams that a new connection will probably allow.
    expected: Cell<usize>,
    /// The version that the upstream chose last; `None`: not known.
    version: Cell<Option<HttpVersion>>,
    sweeping: Cell<bool>,
}

/// A connection that is being made, shared by the requests of a burst.
#[derive(Debug)]
struct Attempt {
    /// The requests that may still join.
    seats: Cell<usize>,
    outcome: watch::Receiver<Option<Result<(), SendError>>>,
}

/// The carrier of a request.
pub(in crate::upstream) enum Transport {
    /// A stream of this connection.
    Http2(Slot),
    /// HTTP/1.1, from the pool or on a new connection.
    Http1,
}

impl Connections {
    pub(in crate::upstream) fn new(
        spec: Arc<ConnectSpec>,
        limits: PoolLimits,
        http1: Rc<Pool>,
        memory: Memory,
    ) -> Rc<Self> {
        let version = match spec.http {
            HttpVersion::Auto if spec.tls.is_some() => None,
            // Without TLS there is no ALPN.
            HttpVersion::Auto | HttpVersion::Http1 => Some(HttpVersion::Http1),
            HttpVersion::Http2 => Some(HttpVersion::Http2),
        };
        Rc::new(Self {
            spec,
            limits,
            http1,
            memory,
            open: RefCell::default(),
            attempts: RefCell::default(),
            expected: Cell::new(MAX_STREAMS),
            version: Cell::new(version),
            sweeping: Cell::new(false),
        })
    }

    pub(in crate::upstream) fn is_http1(&self) -> bool {
        self.version.get() == Some(HttpVersion::Http1)
    }

    /// The carrier of a request that is there: HTTP/1.1, or a stream on another connection than
    /// `except`. `None`: a connection must be made first. `now` may be slightly in the past.
    pub(in crate::upstream) fn ready(
        self: &Rc<Self>,
        except: Option<&Tried>,
        now: Instant,
    ) -> Option<Transport> {
        if self.is_http1() {
            return Some(Transport::Http1);
        }
        self.pick(except, now).map(Transport::Http2)
    }

    /// Does the same, and connects if there is none. Cancel safe: a connection that is being made
    /// goes on for other requests.
    pub(in crate::upstream) async fn transport(
        self: &Rc<Self>,
        except: Option<&Tried>,
        now: Instant,
    ) -> Result<Transport, SendError> {
        loop {
            if let Some(ready) = self.ready(except, now) {
                return Ok(ready);
            }
            let mut outcome = self.join_attempt();
            let outcome = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            match outcome {
                Ok(Some(result)) => result?,
                Ok(None) | Err(_) => return Err(SendError::new(SendPhase::Connect, SendCause::Stopping)),
            }
        }
    }

    /// Keeps a new connection of either HTTP version. Fails if HTTP/2 is required and not spoken.
    pub(in crate::upstream) async fn adopt(self: &Rc<Self>, stream: Stream) -> Result<(), SendError> {
        if !stream.is_http2() {
            if self.spec.http == HttpVersion::Http2 {
                return Err(SendError::new(SendPhase::Connect, Ending::NotChosen));
            }
            self.version.set(Some(HttpVersion::Http1));
            self.http1.put(stream, self.spec.generation(), Instant::now());
            return Ok(());
        }
        let limit = self.spec.timeouts.connect;
        let connection = match timeout(limit, Connection::open(stream, window(&self.memory))).await {
            Ok(opened) => opened.map_err(|ending| SendError::new(SendPhase::Connect, ending))?,
            Err(_) => return Err(SendError::new(SendPhase::Connect, Kind::ConnectTimeout { limit })),
        };
        self.version.set(Some(HttpVersion::Http2));
        self.expected.set(connection.limit().max(1));
        self.open.borrow_mut().push(Rc::new(connection));
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
        Ok(())
    }

    fn pick(self: &Rc<Self>, except: Option<&Tried>, now: Instant) -> Option<Slot> {
        let mut open = self.open.borrow_mut();
        let generation = self.spec.generation();
        // Open streams keep their own reference to a connection that is removed here.
        open.retain(|connection| {
            connection.is_open() && connection.generation() == generation && !connection.is_expired(now)
        });
        let usable = |connection: &&Rc<Connection>| {
            connection.has_room()
                && !matches!(except, Some(Tried::Http2(tried)) if Weak::ptr_eq(tried, &Rc::downgrade(connection)))
        };
        let connection = Rc::clone(open.iter().find(usable)?);
        connection.begin();
        let window = self.memory.limit().map(|_| window(&self.memory) as usize);
        let memory = window.map(|window| self.memory.hold(MemoryPart::Requests).of(window));
        Some(Slot { connection, set: Rc::downgrade(self), _memory: memory })
    }

    /// Joins a connection that is being made, or begins one.
    fn join_attempt(self: &Rc<Self>) -> watch::Receiver<Option<Result<(), SendError>>> {
        let mut attempts = self.attempts.borrow_mut();
        if let Some(attempt) = attempts.iter().find(|attempt| attempt.seats.get() > 0) {
            attempt.seats.set(attempt.seats.get() - 1);
            return attempt.outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let attempt =
            Rc::new(Attempt { seats: Cell::new(self.expected.get() - 1), outcome: outcome.clone() });
        attempts.push(Rc::clone(&attempt));
        // A task of its own: the first request may be cancelled while others wait.
        let set = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let result = match connect(&set.spec, None, set.spec.http).await {
                Ok(stream) => set.adopt(stream).await,
                Err(error) => Err(error),
            };
            set.attempts.borrow_mut().retain(|other| !Rc::ptr_eq(other, &attempt));
            // All receivers may be dropped.
            let _ = tell.send(Some(result));
        });
        outcome
    }

    /// Drops a connection without streams if there are too many idle ones.
    fn on_idle(&self, connection: &Rc<Connection>) {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().filter(|connection| connection.idle_since().is_some()).count();
        if idle > self.limits.max_idle {
            open.retain(|other| !Rc::ptr_eq(other, connection));
        }
    }

    /// Closes expired idle connections; returns the time until the next may expire, `None` if no
    /// connection is left.
    fn close_old(&self) -> Option<Duration> {
        let mut open = self.open.borrow_mut();
        let keep = self.limits.idle_timeout;
        let old = |since: Instant| since.elapsed() >= keep;
        open.retain(|connection| connection.is_open() && !connection.idle_since().is_some_and(old));
        let oldest = open.iter().filter_map(|connection| connection.idle_since()).min();
        if open.is_empty() {
            self.sweeping.set(false);
            return None;
        }
        Some(oldest.map_or(keep, |since| keep.saturating_sub(since.elapsed())).max(SWEEP))
    }
}

/// The window of a stream.
fn window(memory: &Memory) -> u32 {
    if memory.limit().is_some() { SMALL_STREAM_WINDOW } else { STREAM_WINDOW }
}

/// The shortest pause between two sweeps.
const SWEEP: Duration = Duration::from_millis(10);

/// Runs while there is a connection, so that an idle process has no timer.
async fn sweep(set: Weak<Connections>) {
    while let Some(wait) = set.upgrade().and_then(|set| set.close_old()) {
        tokio::time::sleep(wait).await;
    }
}

/// A reserved stream of a connection. Drop frees it, and must come after the stream's drop.
#[derive(Debug)]
pub(in crate::upstream) struct Slot {
    pub(super) connection: Rc<Connection>,
    set: Weak<Connections>,
    /// The window, which bounds what waits for the client, if memory is limited.
    _memory: Option<MemoryHold>,
}

impl Slot {
    /// The connection, for `transport`'s `except`.
    pub(super) fn tried(&self) -> Tried {
        Tried::Http2(Rc::downgrade(&self.connection))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connection.end();
        if self.connection.idle_since().is_some()
            && let Some(set) = self.set.upgrade()
        {
            set.on_idle(&self.connection);
        }
    }
}

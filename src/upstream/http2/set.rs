//! The HTTP/2 connections of one worker to one upstream.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::MAX_STREAMS;
use super::connection::Connection;
use super::faults::unopened;
use crate::config::HttpVersion;
use crate::error::{Error, Result};
use crate::upstream::connect::connect;
use crate::upstream::origin::Origin;
use crate::upstream::pool::{Pool, PoolLimits};
use crate::upstream::stream::Stream;

/// Connections as streams need them. A request takes the first with room, so that those opened for
/// a burst grow idle when it is over; idle ones go after their time, and as soon as there are more
/// than may be kept.
#[derive(Debug)]
pub(in crate::upstream) struct Connections {
    origin: Arc<Origin>,
    limits: PoolLimits,
    /// Where connections go that turn out to be HTTP/1.1.
    http1: Rc<Pool>,
    open: RefCell<Vec<Rc<Connection>>>,
    /// Connections on their way.
    attempts: RefCell<Vec<Rc<Attempt>>>,
    /// How many streams a new connection will probably allow.
    expected: Cell<usize>,
    /// What the upstream chose last, where it has a choice.
    speaks: Cell<Option<HttpVersion>>,
    sweeping: Cell<bool>,
}

/// A connection on its way, and who waits for it: a burst of requests must not open a connection
/// each.
#[derive(Debug)]
struct Attempt {
    /// How many more may wait for it.
    seats: Cell<usize>,
    outcome: watch::Receiver<Option<Result<()>>>,
}

/// How a request gets to the upstream.
pub(in crate::upstream) enum Transport {
    /// As a stream of this connection.
    Http2(Slot),
    /// The upstream wants HTTP/1.1.
    Http1,
}

impl Connections {
    pub(in crate::upstream) fn new(origin: Arc<Origin>, limits: PoolLimits, http1: Rc<Pool>) -> Rc<Self> {
        let speaks = match origin.http {
            HttpVersion::Auto if origin.tls.is_some() => None,
            // Without TLS there is nothing that could choose.
            HttpVersion::Auto | HttpVersion::Http1 => Some(HttpVersion::Http1),
            HttpVersion::Http2 => Some(HttpVersion::Http2),
        };
        Rc::new(Self {
            origin,
            limits,
            http1,
            open: RefCell::default(),
            attempts: RefCell::default(),
            expected: Cell::new(MAX_STREAMS),
            speaks: Cell::new(speaks),
            sweeping: Cell::new(false),
        })
    }

    /// Whether a request had better look for an HTTP/1.1 connection first.
    pub(in crate::upstream) fn is_http1(&self) -> bool {
        self.speaks.get() == Some(HttpVersion::Http1)
    }

    /// A place for one stream, on another connection than `except`; connects if there is none.
    /// Dropping the future leaves the connection that it waited for to the others. `now` may be a
    /// little earlier.
    ///
    /// # Errors
    /// No connection, in time or at all.
    pub(in crate::upstream) async fn transport(
        self: &Rc<Self>,
        except: Option<&Tried>,
        now: Instant,
    ) -> Result<Transport> {
        loop {
            if self.is_http1() {
                return Ok(Transport::Http1);
            }
            if let Some(slot) = self.pick(except, now) {
                return Ok(Transport::Http2(slot));
            }
            let mut outcome = self.wait_for_one();
            let outcome = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            match outcome {
                Ok(Some(result)) => result?,
                Ok(None) | Err(_) => return Err(self.origin.unreachable("the process is stopping")),
            }
        }
    }

    /// Makes use of a new connection, whichever protocol was chosen on it.
    ///
    /// # Errors
    /// The upstream does not speak HTTP/2 where it must, or breaks it.
    pub(in crate::upstream) async fn adopt(self: &Rc<Self>, stream: Stream) -> Result<()> {
        if !stream.is_http2() {
            if self.origin.http == HttpVersion::Http2 {
                return Err(self.origin.not_http2("it chose no HTTP/2 in the TLS handshake (ALPN)"));
            }
            self.speaks.set(Some(HttpVersion::Http1));
            self.http1.put(stream, self.origin.generation(), Instant::now());
            return Ok(());
        }
        let limit = self.origin.timeouts.connect;
        let connection = match timeout(limit, Connection::open(stream)).await {
            Ok(opened) => opened.map_err(|ending| unopened(&self.origin, &ending))?,
            Err(_) => return Err(Error::ConnectTimeout { upstream: self.origin.name.to_string(), limit }),
        };
        self.speaks.set(Some(HttpVersion::Http2));
        self.expected.set(connection.limit().max(1));
        self.open.borrow_mut().push(Rc::new(connection));
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
        Ok(())
    }

    fn pick(self: &Rc<Self>, except: Option<&Tried>, now: Instant) -> Option<Slot> {
        let mut open = self.open.borrow_mut();
        let generation = self.origin.generation();
        // Streams keep their own hold of a connection that takes no more of them.
        open.retain(|connection| {
            connection.is_open() && connection.generation() == generation && !connection.is_expired(now)
        });
        let usable = |connection: &&Rc<Connection>| {
            connection.has_room()
                && except.is_none_or(|tried| !Weak::ptr_eq(&tried.0, &Rc::downgrade(connection)))
        };
        let connection = Rc::clone(open.iter().find(usable)?);
        connection.begin();
        Some(Slot { connection, set: Rc::downgrade(self) })
    }

    /// Joins those who wait for a connection that is on its way, or sends one on its way.
    fn wait_for_one(self: &Rc<Self>) -> watch::Receiver<Option<Result<()>>> {
        let mut attempts = self.attempts.borrow_mut();
        if let Some(attempt) = attempts.iter().find(|attempt| attempt.seats.get() > 0) {
            attempt.seats.set(attempt.seats.get() - 1);
            return attempt.outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let attempt =
            Rc::new(Attempt { seats: Cell::new(self.expected.get() - 1), outcome: outcome.clone() });
        attempts.push(Rc::clone(&attempt));
        // Its own task: whoever came first may leave before the others are served.
        let set = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let result = match connect(&set.origin, None, set.origin.http).await {
                Ok(stream) => set.adopt(stream).await,
                Err(error) => Err(error),
            };
            set.attempts.borrow_mut().retain(|other| !Rc::ptr_eq(other, &attempt));
            // Nobody may be waiting any more.
            let _ = tell.send(Some(result));
        });
        outcome
    }

    /// A connection has no stream any more.
    fn went_idle(&self, connection: &Rc<Connection>) {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().filter(|connection| connection.idle_since().is_some()).count();
        if idle > self.limits.max_idle {
            open.retain(|other| !Rc::ptr_eq(other, connection));
        }
    }

    /// Closes what was idle too long; returns how long the next has at least, or `None` if none is
    /// left.
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

/// The shortest pause between two looks at idle connections.
const SWEEP: Duration = Duration::from_millis(10);

/// Runs while there is a connection; an idle proxy has no timer.
async fn sweep(set: Weak<Connections>) {
    while let Some(wait) = set.upgrade().and_then(|set| set.close_old()) {
        tokio::time::sleep(wait).await;
    }
}

/// A place on a connection, for one stream. It is given back when this is dropped, which must be
/// after the stream.
#[derive(Debug)]
pub(in crate::upstream) struct Slot {
    pub(super) connection: Rc<Connection>,
    set: Weak<Connections>,
}

impl Slot {
    /// The connection, to ask for another one next time.
    pub(super) fn tried(&self) -> Tried {
        Tried(Rc::downgrade(&self.connection))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connection.end();
        if self.connection.idle_since().is_some()
            && let Some(set) = self.set.upgrade()
        {
            set.went_idle(&self.connection);
        }
    }
}

/// A connection that refused a request.
#[derive(Debug)]
pub(in crate::upstream) struct Tried(Weak<Connection>);

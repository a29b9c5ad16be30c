//! One HTTP/2 connection: the task that drives it, and what others see of it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::faults::words;
use super::io::{Heard, Io};
use super::{
    CONNECTION_WINDOW, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT, REMEMBERED_RESETS, SEND_BUFFER,
    SMALL_FRAMES, STREAM_WINDOW,
};
use crate::h1::MAX_HEAD;
use crate::upstream::origin::in_words;
use crate::upstream::stream::Stream;

/// A connection on which streams can be opened.
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    generation: u64,
    /// How long the connect took.
    connect: Duration,
    /// From when on it takes no further request.
    expires: Option<Instant>,
    /// How many requests it was given.
    requests: Cell<u64>,
    /// Since when it has no stream, if it has none.
    idle_since: Cell<Instant>,
}

/// Why a connection has ended, or was never one.
#[derive(Debug)]
pub(super) enum Ending {
    /// It broke.
    Error(h2::Error),
    /// The peer ended TLS and said why.
    Alert(io::Error),
    /// It came to an end.
    Closed(&'static str),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => f.write_str(&words(error)),
            Self::Alert(error) => f.write_str(&in_words(error)),
            Self::Closed(reason) => f.write_str(reason),
        }
    }
}

/// What the connection's task and its users tell each other.
#[derive(Default)]
struct State {
    /// The streams that the peer allows; 0 until it has said so.
    limit: Cell<usize>,
    /// What came, and when.
    heard: Rc<Heard>,
    /// Requests under way.
    active: Cell<usize>,
    ended: Cell<bool>,
}

impl State {
    /// Why the connection ended: h2 tells less than the peer that ended TLS with a reason.
    fn ending(&self, result: Result<(), h2::Error>) -> Ending {
        match (self.heard.alert.take(), result) {
            (Some(alert), _) => Ending::Alert(alert),
            (None, Err(error)) => Ending::Error(error),
            (None, Ok(())) => Ending::Closed("connection closed"),
        }
    }
}

impl Connection {
    /// Begins HTTP/2 on a new connection and waits for the peer's SETTINGS: before them it is not
    /// known how many streams it allows, nor whether it speaks HTTP/2 at all. Dropping the future
    /// closes the connection.
    ///
    /// # Errors
    /// Why there will be no SETTINGS.
    pub(super) async fn open(stream: Stream) -> Result<Self, Ending> {
        let state = Rc::new(State::default());
        let (generation, connect, expires) = (stream.generation(), stream.connect_time(), stream.expires());
        let io = Io::new(stream, Rc::clone(&state.heard));
        let handshake = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(SMALL_FRAMES)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            // None before the peer's SETTINGS, by which they are noticed too.
            .initial_max_send_streams(0)
            .handshake::<_, Bytes>(io);
        let (sender, mut connection) = handshake.await.map_err(|error| state.ending(Err(error)))?;
        let (tell, settled) = oneshot::channel();
        let pings = connection.ping_pong();
        let driver = Driver {
            connection,
            state: Rc::clone(&state),
            settled: Some(tell),
            pings,
            asked: None,
            timer: Box::pin(sleep(PING_INTERVAL)),
        };
        tokio::task::spawn_local(driver);
        match settled.await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(reason),
            Err(_) => return Err(Ending::Closed("the process is stopping")),
        }
        let idle_since = Cell::new(Instant::now());
        Ok(Self { sender, state, generation, connect, expires, requests: Cell::new(0), idle_since })
    }

    /// How many streams may be open at once.
    pub(super) fn limit(&self) -> usize {
        self.state.limit.get().min(MAX_STREAMS)
    }

    /// Whether another stream may be opened now.
    pub(super) fn has_room(&self) -> bool {
        self.state.active.get() < self.limit() && self.is_open()
    }

    /// Whether it takes new streams: it has not ended, and the peer has not said GOAWAY.
    pub(super) fn is_open(&self) -> bool {
        let mut sender = self.sender.clone();
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.state.ended.get() && matches!(ready, Poll::Ready(Ok(())))
    }

    /// Which certificates it was made with, see
    /// [`Origin::generation`](crate::upstream::Origin::generation).
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it is too old for a further request.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// How long the connect took.
    pub(super) fn connect_time(&self) -> Duration {
        self.connect
    }

    /// Since when no request is under way on it; `None`: there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.state.active.get() == 0).then(|| self.idle_since.get())
    }

    /// How often the peer was heard.
    pub(super) fn heard(&self) -> u64 {
        self.state.heard.times.get()
    }

    /// When the peer was heard last.
    pub(super) fn heard_at(&self) -> Instant {
        self.state.heard.last.get().unwrap_or_else(Instant::now)
    }

    /// Whether it has carried requests before.
    pub(super) fn is_used(&self) -> bool {
        self.requests.get() > 1
    }

    /// Counts a request in.
    pub(super) fn begin(&self) {
        self.requests.set(self.requests.get() + 1);
        self.state.active.set(self.state.active.get() + 1);
    }

    /// Counts it out.
    pub(super) fn end(&self) {
        self.state.active.set(self.state.active.get() - 1);
        self.idle_since.set(Instant::now());
    }

    /// Opens a stream. `is_whole`: no body follows.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(super) fn send(
        &self,
        request: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.sender.clone().send_request(request, is_whole)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("active", &self.state.active.get())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

/// Reads and writes the connection's frames until it has ended. It ends, after its last stream,
/// when nobody can open another one, or when the peer said GOAWAY.
struct Driver {
    connection: client::Connection<Io, Bytes>,
    state: Rc<State>,
    /// Told once, when the peer's SETTINGS are here.
    settled: Option<oneshot::Sender<Result<(), Ending>>>,
    pings: Option<PingPong>,
    /// A ping is out; what had been heard then.
    asked: Option<u64>,
    timer: Pin<Box<Sleep>>,
}

impl Driver {
    /// Asks a peer that has streams whether it is still there. `Ready`: it is not.
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            let pong = self.asked.is_some() && pings.poll_pong(cx).is_ready();
            if pong {
                self.asked = None;
                self.timer.as_mut().reset(tokio::time::Instant::now() + PING_INTERVAL);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let heard = self.state.heard.times.get();
            let wait = match self.asked {
                Some(before) if before == heard => return Poll::Ready(()),
                // Its answer is behind what else it sends.
                Some(_) => {
                    self.asked = Some(heard);
                    PING_TIMEOUT
                }
                None if self.state.active.get() > 0 && pings.send_ping(Ping::opaque()).is_ok() => {
                    self.asked = Some(heard);
                    PING_TIMEOUT
                }
                None => PING_INTERVAL,
            };
            self.timer.as_mut().reset(tokio::time::Instant::now() + wait);
        }
    }

    fn end(&mut self, reason: Ending) {
        tracing::debug!(%reason, "an HTTP/2 connection to an upstream has ended");
        self.state.ended.set(true);
        if let Some(settled) = self.settled.take() {
            // Whoever waited may be gone.
            let _ = settled.send(Err(reason));
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.connection).poll(cx) {
            let ending = this.state.ending(result);
            this.end(ending);
            return Poll::Ready(());
        }
        let limit = this.connection.max_concurrent_send_streams();
        this.state.limit.set(limit);
        if limit > 0
            && let Some(settled) = this.settled.take()
        {
            let _ = settled.send(Ok(()));
        }
        if this.poll_alive(cx).is_ready() {
            // What drops with this task are its streams, which then end with an error.
            this.end(Ending::Closed("it does not answer a ping"));
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

//! One HTTP/2 connection: the task that drives its frames, and the handle that opens streams.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use rustls::AlertDescription;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::error::Ending;
use super::io::{Heard, Io};
use super::{
    CONNECTION_WINDOW, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT, REMEMBERED_RESETS, SEND_BUFFER, SMALL_FRAMES,
};
use crate::codec::h1::MAX_HEAD;
use crate::upstream::stream::Stream;

/// The handle of a connection on which streams can be opened.
pub(in crate::upstream) struct Connection {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    generation: u64,
    connect: Duration,
    /// The connection takes no further request after this instant.
    expires: Option<Instant>,
    /// The number of all requests on the connection.
    requests: Cell<u64>,
    /// The end of its last stream.
    idle_since: Cell<Instant>,
}

/// State that the connection's task and its handles share.
#[derive(Default)]
struct State {
    /// The streams that the peer allows; 0 before its SETTINGS.
    limit: Cell<usize>,
    heard: Rc<Heard>,
    /// Requests in flight.
    active: Cell<usize>,
    ended: Cell<bool>,
}

impl State {
    /// The reason why the connection ended. A TLS alert says more than h2's error.
    fn ending(&self, result: Result<(), h2::Error>) -> Ending {
        match (self.heard.alert.get(), result) {
            (Some(alert), _) => Ending::Alert(alert),
            (None, Err(error)) => Ending::Error(error.into()),
            (None, Ok(())) => Ending::Closed("connection closed"),
        }
    }
}

impl Connection {
    /// Begins HTTP/2 on a new connection and waits for the peer's SETTINGS, which give the number
    /// of streams and prove that the peer speaks HTTP/2. Dropping the future closes the connection.
    pub(super) async fn open(stream: Stream, window: u32) -> Result<Self, Ending> {
        let state = Rc::new(State::default());
        let (generation, connect, expires) = (stream.generation(), stream.connect_time(), stream.expires());
        let io = Io::new(stream, Rc::clone(&state.heard));
        let handshake = client::Builder::new()
            .enable_push(false)
            .initial_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(SMALL_FRAMES)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            // The value is 0 until the peer's SETTINGS arrive, so that the driver notices them.
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
            pinged: None,
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

    /// The largest number of streams at the same time.
    pub(super) fn limit(&self) -> usize {
        self.state.limit.get().min(MAX_STREAMS)
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.active.get() < self.limit() && self.is_open()
    }

    /// Returns true if it accepts new streams: it has not ended, and the peer has not sent GOAWAY.
    pub(super) fn is_open(&self) -> bool {
        let mut sender = self.sender.clone();
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.state.ended.get() && matches!(ready, Poll::Ready(Ok(())))
    }

    /// See [`ConnectSpec::generation`](crate::upstream::ConnectSpec::generation).
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    pub(super) fn connect_time(&self) -> Duration {
        self.connect
    }

    /// `None`: a request is in flight.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.state.active.get() == 0).then(|| self.idle_since.get())
    }

    /// The number of reads from the peer.
    pub(super) fn heard(&self) -> u64 {
        self.state.heard.times.get()
    }

    /// The alert with which the peer ended TLS.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        self.state.heard.alert.get()
    }

    /// The time of the last read from the peer.
    pub(super) fn heard_at(&self) -> Instant {
        self.state.heard.last.get().unwrap_or_else(Instant::now)
    }

    /// Returns true if it carried a request before the current one.
    pub(super) fn is_used(&self) -> bool {
        self.requests.get() > 1
    }

    /// Counts a request that begins.
    pub(super) fn begin(&self) {
        self.requests.set(self.requests.get() + 1);
        self.state.active.set(self.state.active.get() + 1);
    }

    /// Counts a request that has ended.
    pub(super) fn end(&self) {
        self.state.active.set(self.state.active.get() - 1);
        self.idle_since.set(Instant::now());
    }

    /// Opens a stream. `is_whole`: no body follows. After an error nothing was sent.
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

/// Reads and writes the connection's frames until it ends: after its last stream, when the last
/// handle is dropped or the peer has sent GOAWAY.
struct Driver {
    connection: client::Connection<Io, Bytes>,
    state: Rc<State>,
    /// Used once, when the peer's SETTINGS arrive.
    settled: Option<oneshot::Sender<Result<(), Ending>>>,
    pings: Option<PingPong>,
    /// The number of reads when the outstanding ping was sent; `None`: none is outstanding.
    pinged: Option<u64>,
    timer: Pin<Box<Sleep>>,
}

impl Driver {
    /// Pings a peer that has streams. `Ready`: it does not respond.
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            let pong = self.pinged.is_some() && pings.poll_pong(cx).is_ready();
            if pong {
                self.pinged = None;
                self.timer.as_mut().reset(tokio::time::Instant::now() + PING_INTERVAL);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let heard = self.state.heard.times.get();
            let wait = match self.pinged {
                Some(before) if before == heard => return Poll::Ready(()),
                // The pong may be queued behind other frames.
                Some(_) => {
                    self.pinged = Some(heard);
                    PING_TIMEOUT
                }
                None if self.state.active.get() > 0 && pings.send_ping(Ping::opaque()).is_ok() => {
                    self.pinged = Some(heard);
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
            // The receiver may be dropped.
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
            // The streams are dropped with this task and end with an error.
            this.end(Ending::Closed("it does not respond to a ping"));
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

//! A response's body whose request counts as running until it is dropped.

use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::conn_state::{ConnCommand, ConnState, RequestGuard};
use super::{ResponseBody, Upgrade};
use crate::support::SharedGuard;
use crate::support::flow::StreamTiming;
use crate::support::pieces::{PieceSink, Relayed};

/// The result of polling the body.
type Polled<B> = Poll<Option<Result<Frame<Bytes>, <B as Body>::Error>>>;

/// Counts a running request until it is dropped.
pub(super) type Guard = (RequestGuard, SharedGuard);

/// A response's body.
pub(super) struct InFlightBody<B: ResponseBody> {
    body: B,
    /// Measures the time that its events wait for the client.
    timing: Option<Rc<StreamTiming>>,
    /// The connection, whose writes end the measurement.
    state: Rc<ConnState>,
    running: Option<Guard>,
    /// The body has been told to stop.
    stopped: bool,
    /// The error of the body, while the client reads the bytes before it. Boxed, since it is rare.
    cut: Option<Box<Cut<B::Error>>>,
}

/// The time for a client to read the end of a response that is cut.
const PATIENCE: Duration = Duration::from_secs(1);

/// The interval at which its progress is checked.
const LOOK: Duration = Duration::from_millis(10);

/// An error that is delayed until the client has accepted the bytes before it.
struct Cut<E> {
    error: E,
    until: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<E> Cut<E> {
    fn new(error: E) -> Self {
        Self { error, until: Instant::now() + PATIENCE, timer: Box::pin(sleep(LOOK)) }
    }

    /// Ready when the client has accepted the written bytes, or its time is over.
    fn poll_written(&mut self, state: &ConnState, cx: &mut Context<'_>) -> Poll<()> {
        while state.is_stalled() && Instant::now() < self.until {
            ready!(self.timer.as_mut().poll(cx));
            self.timer.as_mut().reset((Instant::now() + LOOK).into());
        }
        Poll::Ready(())
    }
}

/// The reason for which a client was disconnected.
fn reason(limit: Duration) -> String {
    format!("the client read nothing of its response for {limit:?} (server.write_timeout)")
}

impl<B: ResponseBody> InFlightBody<B> {
    pub(super) fn new(body: B, running: Guard, state: &Rc<ConnState>) -> Self {
        let timing = body.timing().map(Rc::clone);
        Self { body, timing, state: Rc::clone(state), running: Some(running), stopped: false, cut: None }
    }

    pub(super) fn defer_end(&mut self) {
        self.body.defer_end();
    }

    pub(super) fn on_sent(&mut self) {
        self.body.on_sent();
    }

    /// Takes the code that serves the upgraded connection, and the guard of the request, which runs
    /// until that ends.
    pub(super) fn take_upgrade(&mut self) -> Option<(Upgrade, Guard)> {
        self.body.take_upgrade().zip(self.running.take())
    }

    /// Delays an error over HTTP/2: a reset discards the bytes that h2 still holds for the stream.
    #[cold]
    fn fail(&mut self, polled: Polled<B>, cx: &mut Context<'_>) -> Polled<B> {
        match polled {
            Poll::Ready(Some(Err(error))) if self.state.is_http2() && self.state.is_stalled() => {
                self.cut = Some(Box::new(Cut::new(error)));
                self.poll_cut(cx)
            }
            polled => polled,
        }
    }

    #[cold]
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Polled<B> {
        if let Some(cut) = &mut self.cut {
            ready!(cut.poll_written(&self.state, cx));
        }
        Poll::Ready(self.cut.take().map(|cut| Err(cut.error)))
    }

    pub(super) fn abort(&mut self, limit: Duration) {
        self.body.abort(reason(limit));
    }

    /// Gives `sink` the data of all frames that there are. For HTTP/1.1, whose errors are not
    /// delayed.
    pub(super) fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn PieceSink,
    ) -> Poll<Relayed<B::Error>> {
        self.obey();
        let polled = self.body.poll_pieces(cx, sink);
        self.track_timing();
        polled
    }

    /// Tells the body to stop when the connection must stop.
    fn obey(&mut self) {
        if self.state.command() == Some(ConnCommand::Stop) && !mem::replace(&mut self.stopped, true) {
            self.body.stop();
        }
    }

    /// Has the connection note when the events that were passed on are written.
    fn track_timing(&self) {
        if let Some(timing) = self.timing.as_ref().filter(|timing| timing.take_notification()) {
            self.state.track_timing(timing);
        }
    }
}

impl<B: ResponseBody> Body for InFlightBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.cut.is_some() {
            return self.poll_cut(cx);
        }
        self.obey();
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            polled = self.fail(polled, cx);
        }
        self.track_timing();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: ResponseBody> Drop for InFlightBody<B> {
    fn drop(&mut self) {
        if let Some(limit) = self.state.stalled_for() {
            self.abort(limit);
        }
    }
}

//! A request that runs until its answer's body is dropped.

use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::conn_state::{ConnCommand, ConnState, RequestGuard};
use super::{Handler, Upgrade};
use crate::flow::StreamTiming;
use crate::support::SharedGuard;

/// What polling the body gives.
type Polled<H> = Poll<Option<Result<Frame<Bytes>, <<H as Handler>::Body as Body>::Error>>>;

/// A request runs for as long as this lives.
pub(super) type Guard = (RequestGuard, SharedGuard);

/// An answer's body.
pub(super) struct InFlightBody<H: Handler> {
    body: H::Body,
    /// Where its events' times are counted.
    timing: Option<Rc<StreamTiming>>,
    /// The connection, whose writes end them.
    state: Rc<ConnState>,
    running: Option<Guard>,
    /// The body has been told that the process is stopping.
    stopped: bool,
    /// The body has failed, and the client has not yet taken what comes before. Boxed, as that is
    /// rare.
    cut: Option<Box<Cut<<H::Body as Body>::Error>>>,
}

/// How long a client may take to take the end of an answer that is cut.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// The failure of a body, withheld for a while.
struct Cut<E> {
    error: E,
    until: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<E> Cut<E> {
    fn new(error: E) -> Self {
        Self { error, until: Instant::now() + PATIENCE, timer: Box::pin(sleep(LOOK)) }
    }

    /// Ready when the client has taken what was written, or has had its time.
    fn poll_written(&mut self, state: &ConnState, cx: &mut Context<'_>) -> Poll<()> {
        while state.is_stalled() && Instant::now() < self.until {
            ready!(self.timer.as_mut().poll(cx));
            self.timer.as_mut().reset((Instant::now() + LOOK).into());
        }
        Poll::Ready(())
    }
}

/// Why a client was given up.
fn reason(limit: Duration) -> String {
    format!("the client took nothing of its answer for {limit:?} (server.write_timeout)")
}

impl<H: Handler> InFlightBody<H> {
    pub(super) fn new(body: H::Body, running: Guard, state: &Rc<ConnState>) -> Self {
        let timing = H::timing(&body).map(Rc::clone);
        Self { body, timing, state: Rc::clone(state), running: Some(running), stopped: false, cut: None }
    }

    /// The end of the body is not the end of its response, until it is sent.
    pub(super) fn defer(&mut self) {
        H::defer(&mut self.body);
    }

    /// The client has been sent all of it.
    pub(super) fn sent(&mut self) {
        H::sent(&mut self.body);
    }

    /// Who takes the connection over, and the request, which then runs until that one is done.
    pub(super) fn upgrade(&mut self) -> Option<(Upgrade, Guard)> {
        H::upgrade(&mut self.body).zip(self.running.take())
    }

    /// A reset drops what h2 still holds for the stream, so the failure waits for the client to
    /// take it.
    #[cold]
    fn fail(&mut self, polled: Polled<H>, cx: &mut Context<'_>) -> Polled<H> {
        match polled {
            Poll::Ready(Some(Err(error))) if self.state.is_http2() && self.state.is_stalled() => {
                self.cut = Some(Box::new(Cut::new(error)));
                self.poll_cut(cx)
            }
            polled => polled,
        }
    }

    #[cold]
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Polled<H> {
        if let Some(cut) = &mut self.cut {
            ready!(cut.poll_written(&self.state, cx));
        }
        Poll::Ready(self.cut.take().map(|cut| Err(cut.error)))
    }

    /// The client took nothing of this response for `limit`.
    pub(super) fn abort(&mut self, limit: Duration) {
        H::abort(&mut self.body, reason(limit));
    }
}

impl<H: Handler> Body for InFlightBody<H> {
    type Data = Bytes;
    type Error = <H::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.cut.is_some() {
            return self.poll_cut(cx);
        }
        if self.state.command() == Some(ConnCommand::Stop) && !mem::replace(&mut self.stopped, true) {
            H::stop(&mut self.body);
        }
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            polled = self.fail(polled, cx);
        }
        if let Some(timing) = self.timing.as_ref().filter(|timing| timing.take_notification()) {
            self.state.track_timing(timing);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<H: Handler> Drop for InFlightBody<H> {
    fn drop(&mut self) {
        if let Some(limit) = self.state.given_up() {
            self.abort(limit);
        }
    }
}

//! A request that runs until its answer's body is dropped.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::balance::Load;
use super::peer_state::{PeerState, Running};
use super::{Handler, Takeover};
use crate::flow::Delivery;

/// A request runs for as long as this lives.
pub(super) type Guard = (Running, Load);

/// An answer's body.
pub(super) struct Counted<H: Handler> {
    body: H::Body,
    /// Where its events' times are counted.
    delivery: Option<Rc<Delivery>>,
    /// The connection, whose writes end them.
    state: Rc<PeerState>,
    running: Option<Guard>,
}

/// Why a client was given up.
fn reason(limit: Duration) -> String {
    format!("the client took nothing of its answer for {limit:?} (server.write_timeout)")
}

impl<H: Handler> Counted<H> {
    pub(super) fn new(body: H::Body, running: Guard, state: &Rc<PeerState>) -> Self {
        let delivery = H::delivery(&body).map(Rc::clone);
        Self { body, delivery, state: Rc::clone(state), running: Some(running) }
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
    pub(super) fn takeover(&mut self) -> Option<(Takeover, Guard)> {
        H::takeover(&mut self.body).zip(self.running.take())
    }

    /// The client took nothing of this response for `limit`.
    pub(super) fn give_up(&mut self, limit: Duration) {
        H::give_up(&mut self.body, reason(limit));
    }
}

impl<H: Handler> Body for Counted<H> {
    type Data = Bytes;
    type Error = <H::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(delivery) = self.delivery.as_ref().filter(|delivery| delivery.announces()) {
            self.state.delivers(delivery);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<H: Handler> Drop for Counted<H> {
    fn drop(&mut self) {
        if let Some(limit) = self.state.given_up() {
            self.give_up(limit);
        }
    }
}

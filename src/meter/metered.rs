//! The body that a client is served.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use super::exchange::{AnswerFrames, Exchange};
use super::{Drains, Kind};
use crate::error::Error;
use crate::flow::{Active, Delivery};
use crate::record::Entry;
use crate::sse::Position;

/// Passes on what its [`Exchange`] reads, and tells the client how it ends. It ends in one of these ways:
///
/// * the upstream's answer is complete: seen at the last frame, since hyper need not ask for what comes after it;
/// * the upstream breaks off or falls silent: an event stream gets one more event that bears the error, so that the
///   SDKs raise it, and then its end; any other body is cut, so that it cannot be taken for whole;
/// * the client leaves: hyper drops the body. After the event that ends a stream this is `complete`,
///   since many SDKs close without reading further. Before it, the upstream is stopped, or the rest is drained.
pub struct Metered<B: AnswerFrames> {
    /// `None` once it has gone elsewhere, which is the end of this.
    exchange: Option<Exchange<B>>,
    terms: Terms,
    /// It counts as a stream.
    _active: Option<Active>,
    /// The upstream has failed; what the client is told of it comes after the bytes that came before.
    failed: Option<Failed>,
}

/// What one request's answer goes by.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where the times of its events are counted, if it is a stream.
    pub delivery: Rc<Delivery>,
    /// Where the rest is read when the client leaves; `None`: nowhere.
    pub drains: Option<Drains>,
}

/// How an answer that failed is ended.
enum Failed {
    /// By cutting it, once hyper has written what it holds: it drops that when a body fails.
    Cut(Error),
    /// It has been told, and nothing may follow.
    Told,
}

impl<B: AnswerFrames> Metered<B> {
    /// Meters `body` as `kind`, into `entry`.
    pub fn new(body: B, kind: Kind, entry: Entry, status: StatusCode, terms: Terms) -> Self {
        let delivery = kind.is_events().then(|| Rc::clone(&terms.delivery));
        let active = delivery.as_ref().map(|delivery| Active::new(delivery.flow()));
        let exchange = Exchange::new(body, kind, entry, status, delivery);
        Self { exchange: Some(exchange), terms, _active: active, failed: None }
    }

    /// Where the times of its events are counted.
    pub fn delivery(&self) -> &Rc<Delivery> {
        &self.terms.delivery
    }

    /// Whether the answer is an event stream.
    pub fn is_events(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::is_events)
    }

    /// Whether the bytes that have passed end where an event does, so that a comment may follow.
    pub fn is_between_events(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.position() == Position::BetweenEvents)
    }

    /// What is metered, for who reads it without a client.
    pub(super) fn into_exchange(mut self) -> Option<Exchange<B>> {
        self.exchange.take()
    }

    /// The upstream failed inside its answer: records it, and says how the client learns of it.
    fn poll_failure(
        &mut self,
        error: Error,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        // An event that was begun is ended first; its bytes are with the client already.
        let separator: &[u8] = match exchange.position() {
            Position::BetweenEvents => b"",
            Position::InEvent => b"\n",
            Position::InLine => b"\n\n",
        };
        let is_stream = exchange.is_events() && exchange.status().is_success();
        exchange.fail(&error);
        if is_stream {
            self.failed = Some(Failed::Told);
            return Poll::Ready(Some(Ok(Frame::data([separator, &error.to_event()].concat().into()))));
        }
        self.failed = Some(Failed::Cut(error));
        // hyper flushes when a body is pending.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B: AnswerFrames> Body for Metered<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.failed.replace(Failed::Told) {
            None => self.failed = None,
            Some(Failed::Cut(error)) => return Poll::Ready(Some(Err(error))),
            Some(Failed::Told) => return Poll::Ready(None),
        }
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        match ready!(exchange.poll_frame(cx)) {
            Some(Err(error)) => self.poll_failure(error, cx),
            passing => {
                exchange.passes();
                Poll::Ready(passing)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.failed {
            None => self.exchange.as_ref().is_none_or(Exchange::is_end_stream),
            Some(Failed::Cut(_)) => false,
            Some(Failed::Told) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.exchange.as_ref().map_or_else(SizeHint::default, Exchange::size_hint)
    }
}

impl<B: AnswerFrames> Drop for Metered<B> {
    fn drop(&mut self) {
        if let (Some(exchange), Some(drains)) = (self.exchange.take(), &self.terms.drains) {
            drains.take_over(exchange);
        }
    }
}

//! The body that a client is served.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use super::exchange::{Exchange, ResponseFrames};
use super::{Drains, ResponseMeter, UsageFeedback};
use crate::error::{Error, Kind};
use crate::flow::{ActiveStream, StreamTiming};
use crate::record::Entry;
use crate::sse::Position;
use crate::usage::Withhold;

/// Passes on what its [`Exchange`] reads, and tells the client how it ends. It ends in one of these
/// ways:
///
/// * the upstream's answer is complete: seen at the last frame, since nobody need ask for what
///   comes after it;
/// * the upstream breaks off or falls silent, or the process stops: an event stream gets one more
///   event that bears the error, in the form that its SDKs raise. Then the body fails, so that its
///   connection cuts the answer and no client can take it for whole;
/// * the client leaves: its connection drops the body. After the event that ends a stream this is
///   `complete`, since many SDKs close without reading further. Before it, the upstream is stopped,
///   or the rest is drained.
pub struct Metered<B: ResponseFrames> {
    /// `None` after it was moved into a drain; this body then yields its end. Boxed, because a body
    /// is moved several times on its way to the connection.
    exchange: Option<Box<Exchange<B>>>,
    policy: ResponsePolicy,
    /// It counts as a stream.
    _active: Option<ActiveStream>,
    /// Takes out the usage event that the client did not ask for; `None`: everything passes.
    withhold: Option<Box<Withhold>>,
    /// Nothing more is read, and this is how it ends.
    last: Option<Last>,
}

/// What one request's answer goes by.
#[derive(Clone, Debug)]
pub struct ResponsePolicy {
    /// Where the times of its events are counted, if it is a stream.
    pub timing: Rc<StreamTiming>,
    /// Where the rest is read when the client leaves; `None`: nowhere.
    pub drains: Option<Drains>,
}

/// What is left when the last data has passed. Boxed, as there seldom is such a thing, and streams
/// wait long.
enum Last {
    /// The answer is to be cut, and nothing of it is recorded or said.
    Failed(Box<Error>),
    /// The client has been told: the answer is cut once its connection has written what it holds.
    Flush(Box<Error>),
    /// The answer is cut.
    Cut(Box<Error>),
    /// The upstream's trailers.
    Trailers(Box<Frame<Bytes>>),
    Nothing,
}

impl<B: ResponseFrames> Metered<B> {
    /// Meters `body` as `kind`, into `entry`.
    pub fn new(
        body: B,
        kind: ResponseMeter,
        entry: Entry,
        status: StatusCode,
        policy: ResponsePolicy,
    ) -> Self {
        let timing = kind.is_events().then(|| Rc::clone(&policy.timing));
        let active = timing.as_ref().map(|timing| ActiveStream::new(timing.flow()));
        let exchange = Exchange::new(body, kind, entry, status, timing);
        Self { exchange: Some(exchange), policy, _active: active, withhold: None, last: None }
    }

    /// Where the times of its events are counted.
    pub fn timing(&self) -> &Rc<StreamTiming> {
        &self.policy.timing
    }

    /// Withholds the usage event that comes of asking in the client's place, if this is a stream
    /// that can have one. Its length, if the upstream told one, is then not that of what passes.
    pub fn withhold_usage(&mut self) {
        let is_stream = |exchange: &Exchange<B>| exchange.takes_events() && exchange.status().is_success();
        if self.exchange.as_deref().is_some_and(is_stream) {
            self.withhold = Some(Box::default());
        }
    }

    /// If this is an event stream, it is one of llama.cpp's server, where asking moves what a
    /// client would have got.
    pub fn expect_llama_cpp(&mut self) {
        self.withhold.iter_mut().for_each(|withhold| withhold.expect_llama_cpp());
    }

    /// What the answer teaches is learnt at its end.
    pub fn teach(&mut self, feedback: UsageFeedback) {
        if let Some(exchange) = &mut self.exchange {
            exchange.teach(feedback);
        }
    }

    /// Whether an event may be withheld.
    pub fn withholds(&self) -> bool {
        self.withhold.is_some()
    }

    /// Whether the answer is an event stream, encoded or not.
    pub fn is_events(&self) -> bool {
        self.exchange.as_deref().is_some_and(Exchange::is_events)
    }

    /// Whether an event or a comment of the proxy's own may stand in the answer: in an event stream
    /// that is not encoded.
    pub fn takes_events(&self) -> bool {
        self.exchange.as_deref().is_some_and(Exchange::takes_events)
    }

    /// Whether events were among the bytes that were read last, or the answer is known to be an
    /// event stream.
    pub fn has_events(&self) -> bool {
        let has_events = |exchange: &Exchange<B>| exchange.takes_events() || exchange.progress().events > 0;
        self.exchange.as_deref().is_some_and(has_events)
    }

    /// Whether the bytes that have passed end where an event does, so that a comment may follow.
    pub fn is_between_events(&self) -> bool {
        // What waits is all that there is of its event.
        let withhold = self.withhold.as_ref();
        if withhold.is_some_and(|withhold| withhold.is_inside_event()) {
            return false;
        }
        withhold.is_some_and(|withhold| withhold.is_holding())
            || self.exchange.as_deref().is_some_and(|exchange| exchange.position() == Position::BetweenEvents)
    }

    /// The client is given up, for the reason that is told: this is dropped next.
    pub fn abort(&mut self, reason: String) {
        if let Some(exchange) = &mut self.exchange {
            exchange.explain(reason);
        }
    }

    /// Leaves the record open at the end of the answer, until [`Metered::sent`].
    pub fn defer(&mut self) {
        self.exchange.iter_mut().for_each(|exchange| exchange.defer());
    }

    /// The client has been sent everything that was polled.
    pub fn sent(&mut self) {
        self.exchange.iter_mut().for_each(|exchange| exchange.sent());
    }

    /// What is metered, for who reads it without a client.
    pub(super) fn into_exchange(mut self) -> Option<Box<Exchange<B>>> {
        self.exchange.take()
    }

    /// What of a frame may pass now, if anything. Where the answer has ended, so has what waits.
    fn passing(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let (Some(exchange), Some(withhold)) = (&mut self.exchange, &mut self.withhold) else {
            return Some(frame);
        };
        let data = match frame.into_data() {
            Ok(data) if exchange.progress().is_other => {
                self.withhold = None;
                exchange.passes(0);
                return Some(Frame::data(data));
            }
            Ok(mut data) => {
                let progress = exchange.progress();
                let before =
                    if progress.skipped > 0 { data.split_to(progress.skipped) } else { Bytes::new() };
                let earlier = withhold.withheld();
                let data = withhold.pass(data, progress);
                exchange.passes(withhold.withheld() - earlier);
                join(before, data)
            }
            Err(trailers) => {
                let rest = withhold.finish();
                if rest.is_empty() {
                    return Some(trailers);
                }
                self.last = Some(Last::Trailers(Box::new(trailers)));
                return Some(Frame::data(rest));
            }
        };
        let data = if exchange.is_end_stream() { join(data, withhold.finish()) } else { data };
        (!data.is_empty()).then(|| Frame::data(data))
    }

    /// The answer is cut now, as if its upstream had failed: the process is stopping. The next poll
    /// says so.
    pub fn stop(&mut self) {
        let is_whole = self.exchange.as_deref().is_none_or(Exchange::is_end_stream);
        if self.last.is_none() && !is_whole {
            self.last = Some(Last::Failed(Box::new(Kind::Stopped.into())));
        }
    }

    /// The answer broke off: records it, and says how the client learns of it.
    fn poll_failure(
        &mut self,
        error: Error,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // An event that filled a declared length would make the answer look whole.
        let room = self.size_hint().exact();
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let is_holding = self.withhold.as_ref().is_some_and(|withhold| withhold.is_holding());
        let held = self.withhold.as_mut().map(|withhold| withhold.finish()).unwrap_or_default();
        // Of an event that stays withheld the client has nothing that would have to be ended.
        let words = exchange.last_words(&error, (!is_holding || !held.is_empty()).then_some(&held));
        let words = words.filter(|words| room.is_none_or(|room| (words.len() as u64) < room));
        exchange.fail(&error);
        match words {
            Some(words) => {
                self.last = Some(Last::Flush(Box::new(error)));
                Poll::Ready(Some(Ok(Frame::data(words.into()))))
            }
            None if !held.is_empty() => {
                self.last = Some(Last::Flush(Box::new(error)));
                Poll::Ready(Some(Ok(Frame::data(held))))
            }
            None => self.poll_flush(Box::new(error), cx),
        }
    }

    /// Lets the connection write what it holds before the answer is cut: over HTTP/2 it is dropped
    /// when a body fails.
    fn poll_flush(
        &mut self,
        error: Box<Error>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.last = Some(Last::Cut(error));
        // A connection flushes when a body is pending.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Both in one piece; most often one of them is empty.
fn join(one: Bytes, other: Bytes) -> Bytes {
    match (one.is_empty(), other.is_empty()) {
        (_, true) => one,
        (true, false) => other,
        (false, false) => [one, other].concat().into(),
    }
}

impl<B: ResponseFrames> Body for Metered<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.last.replace(Last::Nothing) {
            None => self.last = None,
            Some(Last::Failed(error)) => return self.poll_failure(*error, cx),
            Some(Last::Flush(error)) => return self.poll_flush(error, cx),
            Some(Last::Cut(error)) => return Poll::Ready(Some(Err(*error))),
            Some(Last::Trailers(trailers)) => return Poll::Ready(Some(Ok(*trailers))),
            Some(Last::Nothing) => return Poll::Ready(None),
        }
        let everything = self.withhold.is_none();
        loop {
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
            match ready!(exchange.poll_frame(cx)) {
                Some(Err(error)) => return self.poll_failure(error, cx),
                passing if everything => {
                    exchange.passes(0);
                    return Poll::Ready(passing);
                }
                Some(Ok(frame)) => {
                    if let Some(frame) = self.passing(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                None => {
                    let rest = self.withhold.as_mut().map(|withhold| withhold.finish()).unwrap_or_default();
                    self.last = Some(Last::Nothing);
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.last {
            None => self.exchange.as_deref().is_none_or(Exchange::is_end_stream),
            Some(Last::Failed(_) | Last::Flush(_) | Last::Cut(_) | Last::Trailers(_)) => false,
            Some(Last::Nothing) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.withhold.is_some() {
            return SizeHint::default();
        }
        self.exchange.as_deref().map_or_else(SizeHint::default, Exchange::size_hint)
    }
}

impl<B: ResponseFrames> Drop for Metered<B> {
    fn drop(&mut self) {
        if let Some(drains) = &self.policy.drains
            && let Some(exchange) = self.exchange.take()
        {
            drains.take_over(exchange);
        }
    }
}

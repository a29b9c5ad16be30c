//! The response body for the client.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use super::exchange::{Exchange, ResponseFrames};
use super::{CostComment, Drains, IdWatch, MemberPermit, ResponseMeter, ResponsePolicy, UsageFeedback};
use crate::llm::usage::{Progress, Withhold};
use crate::record::error::Error;
use crate::record::{Entry, Outcome};
use crate::support::SharedGuard;
use crate::support::flow::StreamTiming;
use crate::support::pieces::{PieceSink, Relayed, poll_frames};

/// Passes on the frames that its [`Exchange`] reads. It ends in one of these ways:
///
/// * The response is complete. This is detected at the last frame, since a connection does not poll
///   beyond `is_end_stream`.
/// * The upstream breaks off or is silent for too long, a limit has no room for more, or the process
///   is stopping. An event stream gets one more event with the error, in the form that its SDKs raise. Then the body fails, so
///   that the connection truncates the response and no client takes it for complete.
/// * The client leaves, and its connection drops the body. After a stream's last event the outcome
///   is `complete`, since many SDKs close without reading further. Before it, the upstream is
///   stopped, or the rest is drained.
pub struct Metered<B: ResponseFrames> {
    /// `None` after the exchange was moved into a drain; this body then yields EOF. Boxed, because a
    /// body is moved several times on its way to the connection.
    exchange: Option<Box<Exchange<B>>>,
    timing: Option<Rc<StreamTiming>>,
    /// See [`ResponsePolicy::drains`].
    drains: Option<Drains>,
    /// Counts a stream.
    _active: Option<SharedGuard>,
    /// Withholds the usage event that the client did not request. `None`: everything passes.
    withhold: Option<Box<Withhold>>,
    /// The exchange is read no further, and this follows.
    last: Option<Last>,
}

/// The step after the last data. Boxed, since it is rare and many streams wait at the same time.
enum Last {
    /// The response fails; the record and the client do not have the error yet.
    Failed(Box<Error>),
    /// The client has the error event: the body fails once the connection has written it.
    Flush(Box<Error>),
    /// The body fails.
    Cut(Box<Error>),
    Trailers(Box<Frame<Bytes>>),
    Nothing,
}

impl<B: ResponseFrames> Metered<B> {
    /// Meters `body` with `kind` into `entry`.
    pub fn new(
        body: B,
        kind: ResponseMeter,
        entry: Entry,
        status: StatusCode,
        mut policy: ResponsePolicy,
    ) -> Self {
        let timing = kind.is_events().then(|| policy.timing());
        let active = timing.as_ref().map(|timing| timing.metrics().begin_stream());
        let exchange = Exchange::new(body, kind, entry, status, timing.clone());
        let drains = policy.drains;
        Self { exchange: Some(exchange), timing, drains, _active: active, withhold: None, last: None }
    }

    /// The times of the stream; `None`: the body has no events.
    pub fn timing(&self) -> Option<&Rc<StreamTiming>> {
        self.timing.as_ref()
    }

    /// Withholds the usage event that was requested in the client's place, if this is a stream. A
    /// declared length is then wrong.
    pub fn withhold_usage(&mut self) {
        let is_stream = |exchange: &Exchange<B>| exchange.takes_events() && exchange.status().is_success();
        if self.exchange.as_deref().is_some_and(is_stream) {
            self.withhold = Some(Box::default());
        }
    }

    /// Marks a stream of llama.cpp's server, where a request for usage moves events that the client
    /// would get anyway.
    pub fn expect_llama_cpp(&mut self) {
        self.withhold.iter_mut().for_each(|withhold| withhold.expect_llama_cpp());
    }

    /// Reports to `feedback` at the end of the response.
    pub fn teach(&mut self, feedback: UsageFeedback) {
        if let Some(exchange) = &mut self.exchange {
            exchange.teach(feedback);
        }
    }

    /// Remembers the ids in the response.
    pub fn watch_ids(&mut self, ids: Box<IdWatch>) {
        if let Some(exchange) = &mut self.exchange {
            exchange.watch_ids(ids);
        }
    }

    /// Tells the client the use of the response in a comment, if this is a stream. A declared length
    /// is then wrong.
    pub fn tell_cost(&mut self, comment: Box<CostComment>) {
        if let Some(exchange) = &mut self.exchange {
            exchange.tell_cost(comment);
        }
    }

    /// Keeps the permit of a group's member until the end of the response, and records that end.
    pub fn keep_permit(&mut self, permit: Box<MemberPermit>) {
        if let Some(exchange) = &mut self.exchange {
            exchange.keep_permit(permit);
        }
    }

    /// Returns true if an event may be withheld, or a comment added.
    pub fn is_edited(&self) -> bool {
        self.withhold.is_some() || self.exchange.as_deref().is_some_and(Exchange::tells_cost)
    }

    /// Returns true if the body is an event stream, encoded or not.
    pub fn is_events(&self) -> bool {
        self.exchange.as_deref().is_some_and(Exchange::is_events)
    }

    /// Returns true if an event or a comment of ours may be inserted: the body is an event stream
    /// without a content coding.
    pub fn takes_events(&self) -> bool {
        self.exchange.as_deref().is_some_and(Exchange::takes_events)
    }

    /// Returns true if the last frame had events, or the body is known to be an event stream.
    pub fn has_events(&self) -> bool {
        let has_events = |exchange: &Exchange<B>| exchange.takes_events() || exchange.progress().events > 0;
        self.exchange.as_deref().is_some_and(has_events)
    }

    /// Returns true if the bytes passed on end between two events, so that a comment may follow.
    pub fn is_between_events(&self) -> bool {
        // The client has no byte of an event whose beginning is withheld.
        let withhold = self.withhold.as_ref();
        if withhold.is_some_and(|withhold| withhold.is_inside_event()) {
            return false;
        }
        withhold.is_some_and(|withhold| withhold.is_holding())
            || self.exchange.as_deref().is_some_and(Exchange::is_between_events)
    }

    /// Records the reason for which the client is cut off. The connection drops this body next.
    pub fn abort(&mut self, reason: String) {
        if let Some(exchange) = &mut self.exchange {
            exchange.explain(reason);
        }
    }

    /// Leaves the record open at the end of the body, until [`Metered::sent`].
    pub fn defer(&mut self) {
        self.exchange.iter_mut().for_each(|exchange| exchange.defer());
    }

    /// Closes a deferred record: the client has been sent everything.
    pub fn sent(&mut self) {
        self.exchange.iter_mut().for_each(|exchange| exchange.sent());
    }

    /// Closes a deferred record whose client gets `error` in place of the response.
    pub fn replaced_by(&mut self, error: &Error) {
        self.exchange.iter_mut().for_each(|exchange| exchange.replaced_by(error));
    }

    /// The exchange, for a drain.
    pub(super) fn into_exchange(mut self) -> Option<Box<Exchange<B>>> {
        self.exchange.take()
    }

    /// The part of a frame that passes now, if any. At the end of the response only the usage event
    /// stays withheld.
    fn passing(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let Some(exchange) = &mut self.exchange else { return Some(frame) };
        let data = match (frame.into_data(), &mut self.withhold) {
            (Ok(data), _) if exchange.progress().is_other => {
                self.withhold = None;
                exchange.tell_nothing();
                exchange.passes(0);
                return Some(Frame::data(data));
            }
            (Ok(data), None) => {
                exchange.passes(0);
                data
            }
            (Ok(mut data), Some(withhold)) => {
                let progress = exchange.progress();
                let before =
                    if progress.skipped > 0 { data.split_to(progress.skipped) } else { Bytes::new() };
                let earlier = withhold.withheld();
                let data = withhold.pass(data, progress);
                exchange.passes(withhold.withheld() - earlier);
                join(before, data)
            }
            (Err(trailers), _) => {
                let rest = self.finish();
                if rest.is_empty() {
                    return Some(trailers);
                }
                self.last = Some(Last::Trailers(Box::new(trailers)));
                return Some(Frame::data(rest));
            }
        };
        let is_last = exchange.is_end_stream();
        let rest = self.withhold.as_mut().filter(|_| is_last).map(|withhold| withhold.finish());
        let data = exchange.pass_told(join(data, rest.unwrap_or_default()), is_last);
        (!data.is_empty()).then(|| Frame::data(data))
    }

    /// The waiting bytes at the end of the response.
    fn finish(&mut self) -> Bytes {
        let rest = self.withhold.as_mut().map(|withhold| withhold.finish()).unwrap_or_default();
        match &mut self.exchange {
            Some(exchange) => exchange.pass_told(rest, true),
            None => rest,
        }
    }

    /// Fails the response with this error at the next poll.
    pub fn end_with(&mut self, error: Error) {
        let is_whole = self.exchange.as_deref().is_none_or(Exchange::is_end_stream);
        if self.last.is_none() && !is_whole {
            self.last = Some(Last::Failed(Box::new(error)));
        }
    }

    /// Records the error, and passes it to the client as an event if one may be inserted.
    fn poll_failure(
        &mut self,
        error: Error,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // An event that filled the declared length would make the response look complete.
        let room = self.size_hint().exact();
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let is_holding = self.withhold.as_ref().is_some_and(|withhold| withhold.is_holding());
        let held = self.withhold.as_mut().map(|withhold| withhold.finish()).unwrap_or_default();
        let held = join(exchange.take_waiting(), held);
        // The client has no byte of an event that stays withheld, so that it needs no end.
        let words = exchange.last_words(&error, (!is_holding || !held.is_empty()).then_some(&held));
        let words = words.filter(|words| room.is_none_or(|room| (words.len() as u64) < room));
        exchange.fail(&error);
        if error.outcome() == Outcome::Cut {
            // The upstream generates, and bills, until it is left.
            self.exchange = None;
        }
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

    /// Gives `sink` all available data, without a frame for each piece if the body has pieces.
    pub fn poll_pieces(&mut self, cx: &mut Context<'_>, sink: &mut dyn PieceSink) -> Poll<Relayed<Error>> {
        let Self { exchange: Some(exchange), withhold, last: None, .. } = self else {
            return poll_frames(self, cx, sink);
        };
        let polled = exchange.poll_pieces(cx, &mut |data, progress| {
            let withheld = pass_piece(withhold, data, progress, sink);
            if sink.is_full() { ControlFlow::Break(withheld) } else { ControlFlow::Continue(withheld) }
        });
        let Some(polled) = polled else { return poll_frames(self, cx, sink) };
        match ready!(polled) {
            Relayed::Full => Poll::Ready(Relayed::Full),
            Relayed::Whole(trailers) => {
                sink.copy(&withhold.as_mut().map(|withhold| withhold.finish()).unwrap_or_default());
                self.last = Some(Last::Nothing);
                Poll::Ready(Relayed::Whole(trailers))
            }
            Relayed::Failed(error) => match ready!(self.poll_failure(error, cx)) {
                Some(Ok(words)) => {
                    sink.copy(words.data_ref().map_or(&[][..], |words| words));
                    poll_frames(self, cx, sink)
                }
                Some(Err(error)) => Poll::Ready(Relayed::Failed(error)),
                None => Poll::Ready(Relayed::Whole(None)),
            },
        }
    }

    /// Lets the connection write its buffer before the body fails: over HTTP/2 a failed body drops
    /// the buffer.
    fn poll_flush(
        &mut self,
        error: Box<Error>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.last = Some(Last::Cut(error));
        // A connection flushes when its body is pending.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Passes a piece on without the withheld events; returns the number of these.
fn pass_piece(
    withhold: &mut Option<Box<Withhold>>,
    data: &[u8],
    progress: Progress,
    sink: &mut dyn PieceSink,
) -> u32 {
    let Some(filter) = withhold.as_mut().filter(|_| !progress.is_other) else {
        *withhold = None;
        sink.copy(data);
        return 0;
    };
    let (before, data) = data.split_at(progress.skipped);
    sink.copy(before);
    if filter.passes_whole(data, progress) {
        sink.copy(data);
        return 0;
    }
    let earlier = filter.withheld();
    sink.copy(&filter.pass(Bytes::copy_from_slice(data), progress));
    filter.withheld() - earlier
}

/// Joins two pieces, of which one is usually empty.
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
        let tells_cost = self.exchange.as_deref().is_some_and(Exchange::tells_cost);
        let everything = self.withhold.is_none() && !tells_cost;
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
                    let rest = self.finish();
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
        if let Some(drains) = &self.drains
            && let Some(exchange) = self.exchange.take()
        {
            drains.take_over(exchange);
        }
    }
}

#[cfg(test)]
mod tests;

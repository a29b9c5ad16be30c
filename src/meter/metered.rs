//! The body adapter.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use super::Kind;
use crate::error::Error;
use crate::record::{Entry, Outcome};
use crate::sse::Position;

/// Passes frames on, shows each to the meter, and closes the record when the exchange ends. It ends in one of these ways:
///
/// * the upstream's answer is complete: seen at the last frame, since hyper need not ask for what comes after it;
/// * the upstream breaks off or falls silent: an event stream gets one more event that bears the error, so that the
///   SDKs raise it, and then its end; any other body is cut, so that it cannot be taken for whole;
/// * the client leaves: hyper drops the body. After the event that ends a stream this is `complete`,
///   since many SDKs close without reading further.
pub struct Metered<B> {
    body: B,
    kind: Kind,
    entry: Entry,
    status: StatusCode,
    /// The upstream has failed; what the client is told of it comes after the bytes that came before.
    failed: Option<Failed>,
}

/// How an answer that failed is ended.
enum Failed {
    /// By cutting it, once hyper has written what it holds: it drops that when a body fails.
    Cut(Error),
    /// It has been told, and nothing may follow.
    Told,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Metered<B> {
    /// Meters `body` as `kind`, into `entry`.
    pub fn new(body: B, kind: Kind, entry: Entry, status: StatusCode) -> Self {
        let mut metered = Self { body, kind, entry, status, failed: None };
        if metered.body.is_end_stream() {
            metered.close(true, None);
        }
        metered
    }

    /// Whether the answer is an event stream.
    pub fn is_events(&self) -> bool {
        self.kind.is_events()
    }

    /// Whether the bytes that have passed end where an event does, so that a comment may follow.
    pub fn is_between_events(&self) -> bool {
        self.kind.position() == Position::BetweenEvents
    }

    fn saw(&mut self, data: &Bytes) {
        // The record is open: it is closed only when the body has ended.
        self.entry.row().response_bytes += data.len() as u64;
        if self.kind.push(data) {
            self.entry.first_token();
        }
    }

    /// The upstream failed inside its answer: records it, and says how the client learns of it.
    fn poll_failure(
        &mut self,
        error: Error,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // An event that was begun is ended first; its bytes are with the client already.
        let separator: &[u8] = match self.kind.position() {
            Position::BetweenEvents => b"",
            Position::InEvent => b"\n",
            Position::InLine => b"\n\n",
        };
        let is_stream = self.kind.is_events() && self.status.is_success();
        if !self.entry.is_closed() {
            self.entry.row().error = Some(error.to_string().into());
        }
        self.close(false, Some(error.outcome()));
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

impl<B> Metered<B> {
    /// Closes the record. `failed` is the outcome if the upstream failed; else the answer is whole, or its client has left.
    fn close(&mut self, ended: bool, failed: Option<Outcome>) {
        if self.entry.is_closed() {
            return;
        }
        let is_events = self.kind.is_events();
        let mut whole = ended;
        // In the status, or inside the answer.
        let mut reports_error = self.status.is_client_error() || self.status.is_server_error();
        if let Some(tally) = self.kind.take_tally() {
            self.entry.row().events = is_events.then_some(tally.events);
            whole |= is_events && tally.terminal;
            reports_error |= tally.error.is_some();
            self.entry.metered(tally, ended);
        }
        match failed {
            Some(outcome) => self.entry.close(outcome),
            None if whole && reports_error => self.entry.close(Outcome::UpstreamError),
            None if whole => self.entry.close(Outcome::Complete),
            // The entry knows whether its client left or the process was stopped.
            None => self.entry.abandon(),
        }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Metered<B> {
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
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.saw(data);
                }
                if self.body.is_end_stream() {
                    self.close(true, None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => self.poll_failure(error, cx),
            None => {
                self.close(true, None);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.failed {
            None => self.body.is_end_stream(),
            Some(Failed::Cut(_)) => false,
            Some(Failed::Told) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Metered<B> {
    fn drop(&mut self) {
        self.close(false, None);
    }
}

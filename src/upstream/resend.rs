//! The conditions for sending a request without a response again: only if the upstream cannot have
//! worked on it, since a completion that is executed twice is billed twice.
//!
//! RFC 9110 section 9.2.2 lets a proxy repeat a request that is not idempotent only if it "has some
//! means to detect that the original request was never applied". RFC 9112 section 9.3.1 names the
//! means for HTTP/1.1: a kept connection may be closed at any time, and a request can cross that
//! close on the wire. The rule is the same for all methods, since SDKs repeat idempotent
//! requests themselves.
//!
//! Over HTTP/2, the upstream can report that it did not process a request (RFC 9113 section 8.7:
//! `REFUSED_STREAM`, or `GOAWAY` with a lower last stream). [`Unanswered`] is for connections that
//! end without such a report. The one loop that sends again is [`super::UpstreamClient::send`].

use std::rc::Weak;
use std::time::Duration;

use super::error::{SendCause, SendError, SendPhase};
use super::http2::Connection;
use super::upload::Payload;
use crate::record::error::Kind;

/// The reason why an attempt on one connection yielded no response.
pub(super) enum Unsent {
    /// Nothing was sent, because the new connection speaks the other HTTP version.
    Switched(Payload),
    /// The upstream cannot have worked on the request.
    Unprocessed {
        error: SendError,
        /// The body, if all of it is still there.
        payload: Option<Payload>,
        tried: Tried,
    },
    /// The request must not be sent again.
    Final(SendError),
}

impl From<SendError> for Unsent {
    fn from(error: SendError) -> Self {
        Self::Final(error)
    }
}

/// A connection that did not process a request, which the next attempt avoids.
#[derive(Debug)]
pub(super) enum Tried {
    /// A connection of the HTTP/1.1 pool.
    Pooled,
    Http2(Weak<Connection>),
}

/// A sending that yielded no response, before the one other that may follow.
pub(super) struct FirstSending {
    pub(super) tried: Tried,
    error: SendError,
}

impl FirstSending {
    /// Boxed, because most requests have none.
    pub(super) fn new(tried: Tried, error: SendError) -> Box<Self> {
        Box::new(Self { tried, error })
    }

    /// The error of a request whose other sending failed with `second`.
    ///
    /// An upstream that accepts no connection right after a close, or closes another one too, did
    /// not close an idle connection: it ended, and may have begun to work on the request before.
    /// A proxy between, which closes a connection when the service behind it ends, and then responds
    /// with 502, cannot be told from one that closed an idle connection.
    pub(super) fn or(self, mut second: SendError) -> SendError {
        let unprocessed = [SendPhase::Connect, SendPhase::Unprocessed, SendPhase::Crossed];
        if self.error.phase != SendPhase::Crossed || !unprocessed.contains(&second.phase) {
            return second;
        }
        if let SendCause::Limit(Kind::TotalTimeout { was_sent, .. }) = &mut second.cause {
            *was_sent = true;
            return second;
        }
        SendError { phase: SendPhase::Request, ..self.error }
    }
}

/// The shortest time within which the close of a kept connection counts as having crossed the
/// request: the scheduling delay of a busy machine with a near upstream.
const LEAST_CROSSING: Duration = Duration::from_millis(5);

/// The longest such time, however slow the connect was, since an upstream can begin to work within
/// a second.
const MOST_CROSSING: Duration = Duration::from_secs(1);

/// A request whose connection ended before the first byte of the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered {
    /// The connection carried a request before.
    pub(super) is_kept: bool,
    /// Its connect time: about one round trip.
    pub(super) connect: Duration,
    /// The time since the request's last byte was written; `None`: the request is incomplete.
    pub(super) sent: Option<Duration>,
}

impl Unanswered {
    /// Returns true if the upstream cannot have worked on the request:
    ///
    /// * The close of a new connection cannot have crossed the request.
    /// * An incomplete request is not executed.
    /// * If the upstream closed the connection before it had the request, the close or reset
    ///   arrives within one round trip after the request's last byte. A second one allows for
    ///   jitter.
    pub(super) fn may_be_sent_again(self) -> bool {
        let crossing = (self.connect * 2).clamp(LEAST_CROSSING, MOST_CROSSING);
        self.is_kept && self.sent.is_none_or(|sent| sent <= crossing)
    }

    /// The phase of the error if the request may be sent again.
    pub(super) fn resend_phase(self) -> Option<SendPhase> {
        let phase = if self.sent.is_some() { SendPhase::Crossed } else { SendPhase::Unprocessed };
        self.may_be_sent_again().then_some(phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn may(is_kept: bool, connect: Duration, sent: Option<Duration>) -> bool {
        Unanswered { is_kept, connect, sent }.may_be_sent_again()
    }

    #[test]
    fn crossed_request_is_doubtful_where_no_upstream_was_reached() {
        use SendPhase::{Body, Connect, Crossed, Head, Request, Unprocessed};
        let error = |phase| SendError::new(phase, std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        for first in [Unprocessed, Crossed] {
            for second in [Connect, Unprocessed, Crossed, Request, Head, Body] {
                let is_doubtful = first == Crossed && matches!(second, Connect | Unprocessed | Crossed);
                let found = FirstSending::new(Tried::Pooled, error(first)).or(error(second)).phase;
                assert_eq!(found, if is_doubtful { Request } else { second }, "{first:?}, {second:?}");
            }
        }
        let total = SendCause::Limit(Kind::TotalTimeout { limit: ms(1), was_sent: false });
        let found = FirstSending::new(Tried::Pooled, error(Crossed)).or(SendError::new(Connect, total));
        assert!(matches!(found.cause, SendCause::Limit(Kind::TotalTimeout { was_sent: true, .. })));
    }

    #[test]
    fn request_on_new_connection_is_never_sent_again() {
        assert!(!may(false, ms(1), None));
        assert!(!may(false, ms(1), Some(ms(0))));
    }

    #[test]
    fn incomplete_request_on_kept_connection_is_sent_again() {
        assert!(may(true, ms(0), None));
    }

    #[test]
    fn complete_request_is_sent_again_within_two_round_trips() {
        assert!(may(true, ms(40), Some(ms(80))));
        assert!(!may(true, ms(40), Some(ms(81))));
    }

    #[test]
    fn crossing_time_has_a_least_and_a_most() {
        assert!(may(true, Duration::ZERO, Some(LEAST_CROSSING)));
        assert!(!may(true, Duration::ZERO, Some(ms(6))));
        assert!(may(true, ms(30_000), Some(MOST_CROSSING)));
        assert!(!may(true, ms(30_000), Some(ms(1_001))));
    }
}

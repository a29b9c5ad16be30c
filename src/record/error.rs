//! The errors of requests: their kind, their cause, the side at fault, and the response for the
//! client.
//!
//! [`Kind`] is the table of all errors. This module alone turns one into HTTP: OpenAI-style JSON
//! with `type: "streamgauge_error"`, which distinguishes it from an upstream's error, and a message
//! that says what to do. Messages contain no secrets, and name upstreams as the configuration does.

mod event;
mod kind;
mod message;
mod response;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::codec::authority::HostFault;
use crate::codec::coding::DecodeError;
use crate::record::Outcome;

pub use event::{EventForm, EventStream, upstream_error_event};
pub use kind::{Blame, Info, KINDS, Kind, LimitReached, NotMetered, Retry};
pub use response::ERROR_TYPE;

/// The pause before a client sends a request again for which there is no place: a running request
/// may end at any time.
const UNTIL_A_PLACE: Duration = Duration::from_secs(1);

/// The reason for which a request failed. Boxed, so that a result on the path of each frame stays
/// small.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    upstream: Option<Arc<str>>,
    source: Option<Source>,
    attempts: Option<AttemptList>,
}

/// The attempts at the members of a group, of which the error is the last one's.
#[derive(Clone, Debug)]
struct AttemptList {
    text: Box<str>,
    may_be_executed: bool,
}

/// Shared, because several requests may wait for one connection that fails.
type Source = Arc<dyn StdError + Send + Sync>;

/// The result of one step of a request.
pub type Result<T> = std::result::Result<T, Error>;

impl Kind {
    /// The error of this kind at the upstream of this name.
    pub fn at(self, upstream: impl Into<Arc<str>>) -> Error {
        Error(Box::new(Inner { kind: self, upstream: Some(upstream.into()), source: None, attempts: None }))
    }
}

impl Error {
    /// Adds the cause, which the message names and [`StdError::source`] returns.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into().into());
        self
    }

    /// Adds the attempts at the members of a group, of which this is the error of the last one.
    #[must_use]
    pub fn after_attempts(mut self, list: String, may_be_executed: bool) -> Self {
        self.0.attempts = Some(AttemptList { text: list.into(), may_be_executed });
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The upstream's configured name, if the error concerns one.
    pub fn upstream(&self) -> Option<&str> {
        self.0.upstream.as_deref()
    }

    /// The side at fault.
    pub fn blame(&self) -> Blame {
        self.0.kind.info().blame
    }

    /// The safety of another attempt. An incomplete request is not executed.
    pub fn retry(&self) -> Retry {
        match self.0.kind {
            Kind::FirstByteTimeout { was_sent: false, .. } | Kind::TotalTimeout { was_sent: false, .. } => {
                Retry::NotSent
            }
            _ => self.0.kind.info().retry,
        }
    }

    /// Returns true if the upstream may have executed the request, so that the client's own
    /// repetition may execute it twice.
    pub fn may_be_executed(&self) -> bool {
        let has_response = matches!(self.0.kind, Kind::Protocol | Kind::Truncated | Kind::Undecodable);
        let earlier = self.0.attempts.as_ref().is_some_and(|attempts| attempts.may_be_executed);
        has_response || earlier || self.retry() == Retry::BeforeResponse
    }

    /// The time after which the client can send the request again, if it is known.
    fn retry_after(&self) -> Option<Duration> {
        match self.0.kind {
            Kind::UpstreamsRateLimited { retry_after, .. } => retry_after,
            Kind::UpstreamsBusy { .. }
            | Kind::UpstreamBusy
            | Kind::QueueFull
            | Kind::Overloaded
            | Kind::ClientOverloaded
            | Kind::LimitsUnavailable
            | Kind::MemoryFull
            | Kind::NoPlace => Some(UNTIL_A_PLACE),
            Kind::LimitReached(ref reached) => reached.retry_after,
            _ => None,
        }
    }

    /// Returns true if the response must wait, since its client seems to guess keys.
    pub fn is_slowed(&self) -> bool {
        matches!(self.0.kind, Kind::KeyUnknown { is_slowed: true } | Kind::KeyMistyped { is_slowed: true })
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.kind.info().status
    }

    /// The machine-readable `code`.
    pub fn code(&self) -> &'static str {
        self.0.kind.info().code
    }

    /// The outcome of the usage record.
    pub fn outcome(&self) -> Outcome {
        match self.0.kind {
            Kind::ConnectTimeout { .. }
            | Kind::ProxySilent { .. }
            | Kind::FirstByteTimeout { .. }
            | Kind::IdleTimeout { .. }
            | Kind::TotalTimeout { .. } => Outcome::TimedOut,
            Kind::Truncated => Outcome::Truncated,
            Kind::BodyIncomplete => Outcome::ClientDisconnected,
            Kind::UpstreamsRateLimited { .. } => Outcome::RateLimited,
            Kind::BudgetExhausted(_) | Kind::KeyRevoked | Kind::SessionOutlived | Kind::Stopped => {
                Outcome::Cut
            }
            _ if self.blame() == Blame::Upstream => Outcome::UpstreamError,
            _ => Outcome::Rejected,
        }
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(Inner { kind, upstream: None, source: None, attempts: None }))
    }
}

impl From<HostFault> for Error {
    fn from(fault: HostFault) -> Self {
        Kind::HostInvalid(fault).into()
    }
}

/// The error of a request's body; an upstream's is [`Kind::Undecodable`].
impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let kind = match error {
            DecodeError::Corrupt => Kind::BodyUndecodable,
            DecodeError::TooLarge => Kind::BodyExpandsTooFar,
            DecodeError::NoMemory => Kind::MemoryFull,
        };
        Self::from(kind).because(error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn outcome_follows_kind_and_blame() {
        let limit = Duration::from_secs(1);
        for (kind, outcome) in [
            (Kind::KeyMissing, Outcome::Rejected),
            (Kind::Overloaded, Outcome::Rejected),
            (Kind::BodyIncomplete, Outcome::ClientDisconnected),
            (Kind::IdleTimeout { limit }, Outcome::TimedOut),
            (Kind::Truncated, Outcome::Truncated),
            (Kind::Stopped, Outcome::Cut),
            (Kind::KeyRevoked, Outcome::Cut),
            (Kind::Protocol, Outcome::UpstreamError),
        ] {
            assert_eq!(kind.at("u").outcome(), outcome);
        }
    }

    #[test]
    fn incomplete_request_may_be_repeated_after_timeout() {
        let limit = Duration::from_secs(1);
        for (was_sent, retry) in [(true, Retry::BeforeResponse), (false, Retry::NotSent)] {
            let error = Kind::TotalTimeout { limit, was_sent }.at("u");
            assert_eq!((error.retry(), error.may_be_executed()), (retry, was_sent));
        }
    }

    #[test]
    fn source_can_be_downcast() {
        let error = Error::from(DecodeError::Corrupt);
        let source = error.source().and_then(|source| source.downcast_ref());
        assert_eq!((error.kind(), source), (&Kind::BodyUndecodable, Some(&DecodeError::Corrupt)));
    }
}

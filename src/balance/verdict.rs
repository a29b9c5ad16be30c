//! The meaning of a failure: may another member be asked, and what is closed for how long.
//!
//! A verdict that the request's content or model can cause closes at most the pair of the member
//! and its model. Only refused credentials, an exhausted account and failed connections close the
//! upstream.

mod upstream_error;

use std::time::Duration;

use super::circuit::Opening;
use super::rate_limit::{Clock, Cooldown, cooldown};
use super::{OutReason, RetryOn, RetryWord};
use crate::codec::head::Headers;

pub use upstream_error::UpstreamError;
use upstream_error::Words;

/// The event at a member instead of a response to relay.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'a> {
    /// There was no connection, TLS session or tunnel: nothing was sent.
    Connect,
    /// The connection ended after the request was sent.
    Closed,
    /// There was no response within this time. The time counts as a latency.
    FirstByte(Duration),
    /// A response with an error status, and the beginning of its body.
    Response { status: u16, headers: &'a Headers, error: &'a UpstreamError },
    /// The first event of a 200 stream is an error.
    FirstEvent { error: &'a UpstreamError },
    /// A 200 stream ended without an event.
    EmptyStream,
}

/// The permission to ask another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// Allowed if `retry.on` has its word: the request was not billed.
    Retryable,
    /// Allowed if `retry.on` has its word: the request may have been billed.
    Doubtful,
    /// Allowed: the refusal concerns the member, and is not billed.
    OtherMember,
    /// Not allowed: the response is the client's.
    Relay,
}

/// The part that a failure closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    Nothing,
    /// A failure in the breaker of the upstream. No request can cause it.
    Connection,
    /// A failure in the breaker of the model at this member.
    Run,
    /// The model at this member, until its rate limit ends. `None`: the end is unknown.
    Limit(Option<Cooldown>),
    /// The model at this member.
    Model(Opening),
    /// The upstream with all models.
    Upstream(Opening),
}

/// The meaning of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub class: RetryClass,
    /// The words of `retry.on` that name it: any of them suffices.
    words: [Option<RetryWord>; 2],
    pub closes: Closes,
    /// The reason why something is newly out, for logs and counters.
    pub opened: Option<OutReason>,
}

const FORBIDDEN: Opening = Opening::fixed(OutReason::Forbidden, Duration::from_secs(60));
const UNKNOWN_MODEL: Opening = Opening::fixed(OutReason::UnknownModel, Duration::from_secs(60));
const QUOTA: Opening = Opening::fixed(OutReason::Quota, Duration::from_secs(5 * 60));
/// A 401, and 403 for several models or clients.
pub(super) const CREDENTIALS: Opening = Opening {
    reason: OutReason::Credentials,
    first: Duration::from_secs(60),
    longest: Duration::from_secs(30 * 60),
};

impl Verdict {
    const RELAY: Self = Self::new(RetryClass::Relay, None, Closes::Nothing);

    pub fn of(failure: &Failure<'_>, clock: Clock) -> Self {
        use RetryClass::{Doubtful, Retryable};
        match failure {
            Failure::Connect => Self::new(Retryable, Some(RetryWord::Connect), Closes::Connection),
            Failure::Closed => Self::new(Doubtful, Some(RetryWord::Closed), Closes::Run),
            Failure::FirstByte(_) => Self::new(Doubtful, Some(RetryWord::FirstByte), Closes::Run),
            Failure::EmptyStream => {
                Self::new(Retryable, Some(RetryWord::BadGateway), Closes::Run).or(RetryWord::FirstEvent)
            }
            Failure::FirstEvent { error } => Self::of_first_event(error, clock),
            Failure::Response { status, headers, error } => Self::of_status(*status, headers, error, clock),
        }
    }

    /// Returns true if another member is asked after it.
    pub fn may_retry(&self, on: RetryOn) -> bool {
        match self.class {
            RetryClass::OtherMember => true,
            RetryClass::Relay => false,
            RetryClass::Retryable | RetryClass::Doubtful => {
                self.words.iter().flatten().any(|&word| on.contains(word))
            }
        }
    }

    /// Returns true if the member does not have the state that the request names.
    pub fn is_of_state(&self) -> bool {
        self.class == RetryClass::OtherMember && self.closes == Closes::Nothing
    }

    /// The verdict on a refusal whose words tell only the reader of the request that the member does
    /// not have the named state.
    #[must_use]
    pub fn or_of_state(self) -> Self {
        let is_clients = self.class == RetryClass::Relay && self.closes == Closes::Nothing;
        if is_clients { Self { class: RetryClass::OtherMember, ..self } } else { self }
    }

    /// Returns true if the member refused the request because of its rate limit or quota. An
    /// attempt at another member does not use the retry budget.
    pub fn is_rate_limit(&self) -> bool {
        self.words.contains(&Some(RetryWord::TooManyRequests))
    }

    const fn new(class: RetryClass, word: Option<RetryWord>, closes: Closes) -> Self {
        Self { class, words: [word, None], closes, opened: None }
    }

    fn or(mut self, word: RetryWord) -> Self {
        self.words[1] = Some(word);
        self
    }

    fn of_status(status: u16, headers: &Headers, error: &UpstreamError, clock: Clock) -> Self {
        use RetryClass::{Doubtful, OtherMember, Relay, Retryable};
        let words = error.words();
        match status {
            429 if words == Words::Quota => {
                Self::new(Retryable, Some(RetryWord::TooManyRequests), Closes::Upstream(QUOTA))
            }
            429 => {
                let limit = Closes::Limit(cooldown(headers, error, clock));
                Self::new(Retryable, Some(RetryWord::TooManyRequests), limit)
            }
            401 => Self::new(OtherMember, None, Closes::Upstream(CREDENTIALS)),
            403 => Self::new(OtherMember, None, Closes::Model(FORBIDDEN)),
            404 if words == Words::UnknownModel => Self::new(OtherMember, None, Closes::Model(UNKNOWN_MODEL)),
            400 | 404 if words == Words::OtherAccount => Self::new(OtherMember, None, Closes::Nothing),
            408 => Self::new(Doubtful, Some(RetryWord::RequestTimeout), Closes::Nothing),
            501 | 505 => Self::RELAY,
            500..=599 => match server_error(status) {
                Some((class, word)) => Self::new(class, Some(word), Closes::Run),
                None => Self::new(Relay, None, Closes::Run),
            },
            _ => Self::RELAY,
        }
    }

    /// The error's words stand for a status. Without one it is the client's error.
    fn of_first_event(error: &UpstreamError, clock: Clock) -> Self {
        let status = match error.words() {
            Words::Quota => 429,
            Words::Status(status @ (429 | 500..=599)) => status,
            _ => return Self::RELAY,
        };
        let verdict = Self::of_status(status, &Headers::default(), error, clock);
        if verdict.class == RetryClass::Retryable { verdict.or(RetryWord::FirstEvent) } else { verdict }
    }
}

impl Opening {
    const fn fixed(reason: OutReason, pause: Duration) -> Self {
        Self { reason, first: pause, longest: pause }
    }
}

/// The statuses of services that are asked again.
fn server_error(status: u16) -> Option<(RetryClass, RetryWord)> {
    match status {
        500 => Some((RetryClass::Retryable, RetryWord::InternalError)),
        502 => Some((RetryClass::Retryable, RetryWord::BadGateway)),
        503 => Some((RetryClass::Retryable, RetryWord::Unavailable)),
        529 => Some((RetryClass::Retryable, RetryWord::Overloaded)),
        504 => Some((RetryClass::Doubtful, RetryWord::GatewayTimeout)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

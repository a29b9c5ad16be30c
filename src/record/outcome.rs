//! The end of an exchange, as records, metrics and logs name it.

use serde::Serialize;

use crate::llm::usage::Cause;

/// The end of an exchange.
///
/// If the upstream responded with an error, its [`Cause`] decides between the three outcomes of
/// errors: the status alone decides if it is one of an error, otherwise the `code` or `type` of the
/// first error in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client got the whole response, or left after its terminal event.
    Complete,
    /// The upstream ended its response early.
    Truncated,
    /// The client left first.
    ClientDisconnected,
    /// The upstream refused the request: 400, 404, 422 and every 4xx that no other outcome covers.
    InvalidRequest,
    /// The upstream refused the request because a rate limit or quota was exhausted: 429.
    RateLimited,
    /// The upstream was unreachable, violated HTTP, or reported an error: 5xx, 401, 403, 408, or an
    /// error in a stream without another cause.
    UpstreamError,
    /// One of the four timeouts expired.
    TimedOut,
    /// This proxy refused the request.
    Rejected,
    /// This proxy ended the response: a limit that cuts had no room for more, the process was stopped,
    /// or the client's key was revoked.
    Cut,
}

impl Outcome {
    /// The name in records, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::ClientDisconnected => "client_disconnected",
            Self::InvalidRequest => "invalid_request",
            Self::RateLimited => "rate_limited",
            Self::UpstreamError => "upstream_error",
            Self::TimedOut => "timed_out",
            Self::Rejected => "rejected",
            Self::Cut => "cut",
        }
    }
}

impl From<Cause> for Outcome {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Upstream => Self::UpstreamError,
            Cause::Request => Self::InvalidRequest,
            Cause::Rate => Self::RateLimited,
        }
    }
}

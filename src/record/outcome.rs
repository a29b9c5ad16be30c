//! How an exchange ended.

use serde::Serialize;

use crate::llm::usage::Cause;

/// How an exchange ended.
///
/// Where the upstream answered with an error, its [`Cause`] decides between the three outcomes that
/// name one: a status of the upstream decides alone, and under a status of success the `code` or
/// `type` of the first error in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole response went out, or the client left after the event that ends it.
    Complete,
    /// The upstream ended its response early.
    Truncated,
    /// The client left first.
    ClientDisconnected,
    /// The upstream refused the request: 400, 404, 422 and every other 4xx that no outcome below
    /// has.
    InvalidRequest,
    /// The upstream refused the request because a rate or a quota is used up: 429.
    RateLimited,
    /// The upstream could not be reached, broke HTTP, or reported an error: 5xx, 401, 403, 408, or
    /// an error in a stream that tells of nothing else.
    UpstreamError,
    /// One of the four timeouts ended it.
    TimedOut,
    /// This proxy refused the request.
    Rejected,
}

impl Outcome {
    /// The name as records, metrics and logs bear it.
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

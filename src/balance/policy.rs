//! The conditions for sending a request to another member of its target.

use std::time::Duration;

use super::RetryOn;

/// The largest number of attempts at one request if the configuration has no number.
const DEFAULT_ATTEMPTS: usize = 4;

/// The bounds of the attempts at one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The largest number of attempts, including the first. 0: as many as there are members, at
    /// most 4.
    pub attempts: usize,
    /// The failures after which another member is asked.
    pub on: RetryOn,
    /// The time since the request's start after which no further attempt begins.
    pub deadline: Duration,
    /// `timeouts.first_byte` of all attempts except the last. `None`: the upstream's own.
    pub first_byte: Option<Duration>,
    /// The share of the requests of the last 10 s that may be sent again.
    pub budget: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 0,
            on: RetryOn::RETRYABLE,
            deadline: Duration::from_secs(60),
            first_byte: None,
            budget: 0.2,
        }
    }
}

impl RetryPolicy {
    /// The largest number of attempts at a request to this many members.
    pub fn attempts_of(&self, members: usize) -> usize {
        let attempts = if self.attempts == 0 { DEFAULT_ATTEMPTS } else { self.attempts };
        attempts.min(members)
    }
}

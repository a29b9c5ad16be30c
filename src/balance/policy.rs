//! When a request is sent to another member of its target.

use std::time::Duration;

/// The bounds of the attempts at one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most members that are tried.
    pub members: usize,
    /// The time since the request's start after which no further member is tried.
    pub deadline: Duration,
}

impl RetryPolicy {
    /// Of an upstream that is in no group, and of a request whose body cannot be sent again.
    pub const SINGLE: Self = Self { members: 1, deadline: Duration::ZERO };
}

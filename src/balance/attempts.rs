//! The attempts at a request.

use std::time::Instant;

/// The form of a request for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// All that the member's configuration adds.
    Standard,
    /// All that without `stream_options`, which the member refused.
    WithoutStreamOptions,
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The number of a member of the target.
    pub member: usize,
    pub variant: Variant,
}

/// The attempts at one request, with the current one. A member is tried once in each variant.
#[derive(Debug)]
pub struct Attempts {
    started: Instant,
    current: Attempt,
}

impl Attempts {
    /// Creates the attempts at a request that arrived at `started`, of which the first is at this
    /// member.
    pub fn new(member: usize, started: Instant) -> Self {
        Self { started, current: Attempt { member, variant: Variant::Standard } }
    }

    pub fn current(&self) -> Attempt {
        self.current
    }

    /// The time of the request's arrival.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The next attempt at the same member, which refused `stream_options`, without them.
    pub fn without_stream_options(&mut self) -> Attempt {
        self.current.variant = Variant::WithoutStreamOptions;
        self.current
    }

    /// Makes the attempt at this member the current one.
    pub fn begin(&mut self, member: usize) {
        self.current = Attempt { member, variant: Variant::Standard };
    }
}

#[cfg(test)]
mod tests;

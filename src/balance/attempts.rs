//! The attempts at one request.

use std::time::Instant;

use super::RetryPolicy;

/// How a request is written for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// With everything that the member's configuration adds.
    Standard,
    /// Without `stream_options`, which the member refused.
    WithoutStreamOptions,
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The number of a member of the target.
    pub member: usize,
    pub variant: Variant,
}

/// Decides after each attempt what the next one is. A member is tried once in each variant.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    /// The number of members of the target.
    members: usize,
    started: Instant,
    current: Attempt,
}

impl Attempts {
    /// The attempts at a request that arrived at `started`, to a target with so many members. The
    /// first attempt is the current one.
    pub fn new(policy: RetryPolicy, members: usize, started: Instant) -> Self {
        Self { policy, members, started, current: Attempt { member: 0, variant: Variant::Standard } }
    }

    pub fn current(&self) -> Attempt {
        self.current
    }

    /// When the request arrived.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The member refused `stream_options`: the next attempt is at the same member without them.
    pub fn without_stream_options(&mut self) -> Attempt {
        self.current.variant = Variant::WithoutStreamOptions;
        self.current
    }

    /// The attempt failed at `now`, and the member cannot have worked on it: the next attempt is at
    /// the next member. `None`: no further attempt is allowed.
    pub fn next_member(&mut self, now: Instant) -> Option<Attempt> {
        let member = self.current.member + 1;
        let in_time = now.saturating_duration_since(self.started) < self.policy.deadline;
        if member >= self.members.min(self.policy.members) || !in_time {
            return None;
        }
        self.current = Attempt { member, variant: Variant::Standard };
        Some(self.current)
    }
}

#[cfg(test)]
mod tests;

//! The attempts at a request.

use std::time::Instant;

use super::{Permit, Plan};

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
    planned: Option<Box<Planned>>,
}

/// The group's part of the attempts.
#[derive(Debug)]
struct Planned {
    plan: Plan,
    permit: Option<Permit>,
}

impl Attempts {
    /// Creates the attempts at a request that arrived at `started`, for a target with one upstream.
    pub fn single(started: Instant) -> Self {
        Self { started, current: Attempt { member: 0, variant: Variant::Standard }, planned: None }
    }

    /// Creates the attempts at a request to a group. `permit` names the first member.
    pub fn planned(plan: Plan, permit: Permit, started: Instant) -> Self {
        let current = Attempt { member: permit.number(), variant: Variant::Standard };
        Self { started, current, planned: Some(Box::new(Planned { plan, permit: Some(permit) })) }
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

    /// The plan of a request to a group.
    pub fn plan(&mut self) -> Option<&mut Plan> {
        self.planned.as_mut().map(|planned| &mut planned.plan)
    }

    /// The permit of the current attempt.
    pub fn permit(&mut self) -> Option<&mut Permit> {
        self.planned.as_mut().and_then(|planned| planned.permit.as_mut())
    }

    /// Takes the permit of the current attempt, to record its result or to keep it while the
    /// response runs.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.planned.as_mut().and_then(|planned| planned.permit.take())
    }

    /// Makes the attempt of this permit the current one. Does nothing for a single upstream.
    pub fn begin(&mut self, permit: Permit) -> Attempt {
        self.current = Attempt { member: permit.number(), variant: Variant::Standard };
        if let Some(planned) = &mut self.planned {
            planned.permit = Some(permit);
        }
        self.current
    }
}

#[cfg(test)]
mod tests;

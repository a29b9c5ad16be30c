//! The attempts at a request.

use std::time::Instant;

use super::{Permit, Plan, Waiting};

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
    /// `None` while the request waits: the queue has it.
    plan: Option<Plan>,
    permit: Option<Permit>,
    /// Set until the wait begins that precedes the first attempt.
    waiting: Option<Waiting>,
}

impl Attempts {
    /// Creates the attempts at a request that arrived at `started`, for a target with one upstream.
    pub fn single(started: Instant) -> Self {
        Self { started, current: Attempt { member: 0, variant: Variant::Standard }, planned: None }
    }

    /// Creates the attempts at a request to a group. `permit` names the first member.
    pub fn planned(plan: Plan, permit: Permit, started: Instant) -> Self {
        let current = Attempt { member: permit.number(), variant: Variant::Standard };
        let planned = Planned { plan: Some(plan), permit: Some(permit), waiting: None };
        Self { started, current, planned: Some(Box::new(planned)) }
    }

    /// Creates the attempts at a request to a group that waits for its first member.
    pub fn waiting(waiting: Waiting, started: Instant) -> Self {
        let planned = Planned { plan: None, permit: None, waiting: Some(waiting) };
        let current = Attempt { member: 0, variant: Variant::Standard };
        Self { started, current, planned: Some(Box::new(planned)) }
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
        self.planned.as_mut().and_then(|planned| planned.plan.as_mut())
    }

    /// Takes the plan for the queue.
    pub fn take_plan(&mut self) -> Option<Plan> {
        self.planned.as_mut().and_then(|planned| planned.plan.take())
    }

    /// Sets the plan that the queue returned.
    pub fn return_plan(&mut self, plan: Plan) {
        if let Some(planned) = &mut self.planned {
            planned.plan = Some(plan);
        }
    }

    /// Returns true if the request waits for its first member.
    pub fn has_to_wait(&self) -> bool {
        self.planned.as_ref().is_some_and(|planned| planned.waiting.is_some())
    }

    /// Takes the wait that precedes the first attempt.
    pub fn take_waiting(&mut self) -> Option<Waiting> {
        self.planned.as_mut().and_then(|planned| planned.waiting.take())
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

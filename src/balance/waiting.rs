//! Requests that wait at a group until a member is available for them.
//!
//! A permit that is dropped, or closes a breaker, notifies the [`WaitRoom`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::time::Instant;

use super::plan::{PlanClass, Unavailable};
use super::{Plan, Step};
use crate::support::wait_room::{self, Blocked, WaitRoom, WaitTurn, Waits};

/// The end of waiting for a member.
pub type Waited = wait_room::WaitEnd<Plan>;

/// A request that waits for a member. On drop it leaves the queue at once.
pub type Waiting = wait_room::Wait<Plan>;

/// The limits of a group that a reload changes for requests that run or wait already.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomLimits {
    /// The largest number of waiting requests.
    pub(super) queue: usize,
    /// The largest number of requests that run at each member. 0: any number.
    pub(super) concurrent: u32,
    /// Some members are upstreams with such a number of their own.
    pub(super) limits_upstreams: bool,
    /// Requests may wait.
    pub(super) may_wait: bool,
}

/// The running and waiting requests of a group. A reload keeps it.
#[derive(Debug)]
pub(super) struct GroupRoom {
    waiting: Arc<WaitRoom<Plan>>,
    concurrent: AtomicU32,
    limits_upstreams: AtomicBool,
}

impl GroupRoom {
    /// `all` has the number of waiting requests of all groups.
    pub(super) fn counted_in(all: &Arc<AtomicUsize>) -> Self {
        Self {
            waiting: Arc::new(WaitRoom::new(0, all)),
            concurrent: AtomicU32::new(0),
            limits_upstreams: AtomicBool::new(false),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn set_limits(&self, limits: &RoomLimits) {
        self.concurrent.store(limits.concurrent, Relaxed);
        self.limits_upstreams.store(limits.limits_upstreams, Relaxed);
        self.waiting.set_limit(limits.queue);
        // A larger number is room for waiting requests.
        self.notify();
    }

    /// [`RoomLimits::concurrent`] and [`RoomLimits::limits_upstreams`].
    #[inline]
    pub(super) fn concurrent(&self) -> (u32, bool) {
        (self.concurrent.load(Relaxed), self.limits_upstreams.load(Relaxed))
    }

    pub(super) fn enter(&self, mut plan: Plan, turn: WaitTurn, now: Instant) -> Waiting {
        let deadline = plan.begin_to_wait(now);
        self.waiting.enter(plan, turn, deadline)
    }

    /// Lets waiting requests look again, since a member may be available.
    pub(super) fn notify(&self) {
        self.waiting.notify();
    }

    /// The next step of a request that is not in the queue, after those of all waiting requests that
    /// can be served.
    pub(super) fn step_behind(&self, plan: &mut Plan, now: Instant, random: u64) -> Step {
        self.waiting.step_behind(plan, now, random)
    }
}

impl Waits for Plan {
    type Time = Instant;
    type Class = PlanClass;
    type Step = Step;
    const HAS_ONE_CLASS: bool = false;

    fn class(&self) -> PlanClass {
        self.class()
    }

    fn step(&mut self, now: Instant, random: u64) -> Step {
        self.next(now, random)
    }

    fn blocked(step: &Step) -> Option<Blocked<Instant>> {
        match step {
            Step::Wait(Unavailable { until, may_be_sooner, .. }) => {
                Some(Blocked { until: *until, may_be_sooner: *may_be_sooner })
            }
            Step::Ask(_) | Step::End(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;

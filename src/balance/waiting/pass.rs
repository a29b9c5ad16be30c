//! One pass over the queue: requests that need the same members are looked at once.

use std::time::Instant;

use crate::balance::plan::{PlanClass, Unavailable};
use crate::balance::{Plan, Step};

/// The largest number of kinds of requests that are looked at in a pass: each look costs a choice.
const LOOKS: usize = 32;

/// The requests for which no place was found, by the members that they need.
pub(super) struct Pass {
    now: Instant,
    blocked: Vec<(PlanClass, Blocked)>,
    /// The class of the request that makes the pass, which is looked at in any case.
    pub(super) own: Option<PlanClass>,
    /// The step of the request that was served last.
    pub(super) step: Option<Step>,
}

/// The reason for which requests of a class wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocked {
    /// See [`Unavailable::until`].
    pub(super) until: Option<Instant>,
    /// A member may be available before that.
    may_be_sooner: bool,
}

impl Pass {
    pub(super) fn new(now: Instant) -> Self {
        Self { now, blocked: Vec::new(), own: None, step: None }
    }

    /// Returns true if the next step of the plan is known, and keeps that step.
    pub(super) fn try_serve(&mut self, plan: &mut Plan, random: u64) -> bool {
        let class = plan.class();
        let is_looked_at = self.blocked.len() < LOOKS || self.own == Some(class);
        if !is_looked_at || self.find(class).is_some() {
            return false;
        }
        match plan.next(self.now, random) {
            Step::Wait(Unavailable { until, may_be_sooner, .. }) => {
                let blocked = Blocked { until, may_be_sooner };
                self.blocked.push((class, blocked));
                // The request may ask a member again that it has asked before.
                if plan.class() != class {
                    self.blocked.push((plan.class(), blocked));
                }
                false
            }
            step => {
                self.step = Some(step);
                true
            }
        }
    }

    /// The state of the own class. `None`: the request waits no longer.
    pub(super) fn blocked(&self) -> Option<Blocked> {
        self.own.map(|own| self.find(own).unwrap_or_default())
    }

    fn find(&self, class: PlanClass) -> Option<Blocked> {
        self.blocked.iter().find(|(other, _)| *other == class).map(|(_, blocked)| *blocked)
    }
}

impl Blocked {
    /// Returns true if no member can be available before `deadline`.
    pub(super) fn ends_after(&self, deadline: Instant) -> bool {
        !self.may_be_sooner && self.until.is_some_and(|until| until > deadline)
    }
}

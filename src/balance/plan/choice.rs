//! The choice of one member.

mod candidates;
mod pick;

use std::cell::RefCell;
use std::time::Instant;

use fastrand::Rng;

use super::Plan;
use super::members::Members;
use super::view::{Availability, View};
use crate::balance::circuit::Circuit;
use crate::balance::sticky::StickyResult;
use crate::balance::{OutReason, Permit};
use candidates::Candidates;

/// One step of a plan.
pub(super) struct Choice<'a> {
    plan: &'a Plan,
    view: View<'a>,
    random: RefCell<Rng>,
}

/// The reasons why no member is available, and the alternatives.
#[derive(Debug)]
pub(super) struct Nothing {
    /// The first end of a rate limit that a service has named.
    pub(super) limited_until: Option<u64>,
    /// The members with a rate limit.
    pub(super) limited: Members,
    pub(super) has_full: bool,
    /// A breaker may close at any moment.
    pub(super) has_trial: bool,
    /// The time at which the first member comes back of those that are out for another reason, or
    /// for an unknown time.
    out: Option<u64>,
    /// The one of them that may be asked nevertheless and comes back first.
    least_bad: Option<(u64, usize)>,
}

impl Nothing {
    const NEW: Self = Self {
        limited_until: None,
        limited: Members::NONE,
        has_full: false,
        has_trial: false,
        out: None,
        least_bad: None,
    };

    /// The time at which the first member may be available again.
    pub(super) fn first_end(&self) -> Option<u64> {
        [self.limited_until, self.out].into_iter().flatten().min()
    }
}

impl<'a> Choice<'a> {
    /// `tick` is that of `now`.
    pub(super) fn new(plan: &'a Plan, now: Instant, tick: u64, random: u64) -> Self {
        let view = View::new(&plan.group, &plan.row, now, tick);
        Self { plan, view, random: RefCell::new(Rng::with_seed(random)) }
    }

    /// The best member that is available.
    pub(super) fn available(&self) -> Result<Permit, Nothing> {
        let mut nothing = Nothing::NEW;
        if let Some(pinned) = self.plan.pin {
            return self.pinned(pinned, nothing);
        }
        let (has_tried, has_unfit) = (!self.plan.tried.is_empty(), !self.plan.unfit.is_empty());
        for tier in self.plan.group.tiers() {
            if tier.len() == 1 {
                match self.only_one(tier.start, &mut nothing) {
                    Some(permit) => return Ok(permit),
                    None => continue,
                }
            }
            let [mut ample, mut short] = [Candidates::NONE; 2];
            for number in tier.clone() {
                let bound = self.view.bound(number);
                if bound.weight == 0 || (has_unfit && self.plan.unfit.contains(number)) {
                    continue;
                }
                match self.view.availability(number) {
                    Availability::Available if has_tried && self.plan.tried.contains(number) => {}
                    Availability::Available => {
                        let is_short = self.view.model(number).is_short_of(self.plan.tokens, self.view.tick);
                        let list = if is_short { &mut short } else { &mut ample };
                        list.push(number, bound);
                    }
                    unavailable => self.note(&mut nothing, number, &unavailable),
                }
            }
            for candidates in [&mut ample, &mut short] {
                while !candidates.is_empty() {
                    let (number, sticky) = self.pick(candidates, tier);
                    if let Some(permit) = self.view.take(number, sticky, self.plan.fingerprint) {
                        return Ok(permit);
                    }
                    // Another request was faster.
                    candidates.remove(number, self.view.bound(number));
                    nothing.has_full = true;
                }
            }
        }
        Err(nothing)
    }

    /// The only member of its tier, if it is available: there is nothing to choose.
    fn only_one(&self, number: usize, nothing: &mut Nothing) -> Option<Permit> {
        if self.view.bound(number).weight == 0 || self.plan.unfit.contains(number) {
            return None;
        }
        match self.view.availability(number) {
            Availability::Available if self.plan.tried.contains(number) => None,
            Availability::Available => {
                // The first tier is that of all conversations.
                let sticky = StickyResult::of(self.plan.sticky, number == 0);
                let permit = self.view.take(number, sticky, self.plan.fingerprint);
                // `None`: another request was faster.
                nothing.has_full |= permit.is_none();
                permit
            }
            unavailable => {
                self.note(nothing, number, &unavailable);
                None
            }
        }
    }

    /// The member that comes back first, if none is available. The attempt is not a trial.
    pub(super) fn least_bad(&self, nothing: &Nothing) -> Option<Permit> {
        let (_, number) = nothing.least_bad.filter(|_| !nothing.has_full)?;
        self.view.enter(number).then(|| {
            let sticky = StickyResult::of(self.plan.sticky, false);
            let mut permit = self.view.permit(number, sticky, self.plan.fingerprint);
            permit.is_least_bad = true;
            permit
        })
    }

    fn pinned(&self, number: usize, mut nothing: Nothing) -> Result<Permit, Nothing> {
        if self.plan.tried.contains(number) || self.plan.unfit.contains(number) {
            return Err(nothing);
        }
        if let Some(limit) = self.view.model(number).rate_limit(self.view.tick) {
            nothing.limited_until = Some(limit.until);
            nothing.limited = nothing.limited.with(number);
            return Err(nothing);
        }
        // A place that is taken and given back wakes waiting requests, this one among them.
        if self.view.is_full(self.view.bound(number)) || !self.view.enter(number) {
            nothing.has_full = true;
            return Err(nothing);
        }
        let mut permit = self.view.permit(number, StickyResult::Kept, self.plan.fingerprint);
        // A breaker never refuses it.
        let _ = self.view.try_trials(&mut permit);
        Ok(permit)
    }

    fn note(&self, nothing: &mut Nothing, number: usize, unavailable: &Availability) {
        let is_untried = !self.plan.tried.contains(number);
        let first = |one: Option<u64>, other| Some(one.map_or(other, |one: u64| one.min(other)));
        match *unavailable {
            Availability::Available => {}
            Availability::Full => nothing.has_full |= is_untried,
            Availability::Limited(limit) => {
                nothing.limited = nothing.limited.with(number);
                if limit.is_known {
                    nothing.limited_until = first(nothing.limited_until, limit.until);
                } else if is_untried {
                    self.note_out(nothing, number, limit.until);
                }
            }
            Availability::Out(until) if is_untried => self.note_out(nothing, number, until),
            Availability::Trial(until) if is_untried => {
                nothing.has_trial = true;
                self.note_out(nothing, number, until);
            }
            Availability::Out(_) | Availability::Trial(_) => {}
        }
    }

    fn note_out(&self, nothing: &mut Nothing, number: usize, until: u64) {
        nothing.out = Some(nothing.out.map_or(until, |first| first.min(until)));
        let is_first = nothing.least_bad.is_none_or(|(first, _)| until < first);
        if is_first && self.may_be_least_bad(number) {
            nothing.least_bad = Some((until, number));
        }
    }

    /// Returns true if a member that is out may be asked nevertheless. A further attempt asks none
    /// that refuses requests regardless of its health.
    fn may_be_least_bad(&self, number: usize) -> bool {
        let (bound, model) = (self.view.bound(number), self.view.model(number));
        let refuses = |circuit: &Circuit| circuit.reason().is_some_and(OutReason::is_refusal);
        !self.view.is_full(bound)
            && (self.plan.attempts == 0
                || ![&bound.upstream.circuit, &model.circuit].into_iter().any(refuses))
    }
}

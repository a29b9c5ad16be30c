//! The choice of one member.

mod candidates;
mod pick;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::Plan;
use super::members::Members;
use crate::balance::circuit::{Circuit, CircuitState};
use crate::balance::group::Bound;
use crate::balance::health::{ModelHealth, RateLimit};
use crate::balance::sticky::StickyResult;
use crate::balance::{OutReason, Permit};
use candidates::Candidates;

/// One step of a plan.
pub(super) struct Choice<'a> {
    plan: &'a Plan,
    now: Instant,
    tick: u64,
    /// The largest number of requests that run at each member. 0: any number.
    concurrent: u32,
    /// Some upstreams have such a number of their own.
    limits_upstreams: bool,
    random: RefCell<Rng>,
}

/// The availability of a member.
enum Availability {
    Available,
    Limited(RateLimit),
    /// Its breaker, or its upstream's, is open until this tick.
    Out(u64),
    /// Another request is the trial of a breaker, at most until this tick.
    Trial(u64),
    Full,
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
        let (concurrent, limits_upstreams) = plan.group.room.concurrent();
        let random = RefCell::new(Rng::with_seed(random));
        Self { plan, now, tick, concurrent, limits_upstreams, random }
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
                let bound = self.bound(number);
                if bound.weight == 0 || (has_unfit && self.plan.unfit.contains(number)) {
                    continue;
                }
                match self.availability(number) {
                    Availability::Available if has_tried && self.plan.tried.contains(number) => {}
                    Availability::Available => {
                        let is_short = self.model(number).is_short_of(self.plan.tokens, self.tick);
                        let list = if is_short { &mut short } else { &mut ample };
                        list.push(number, bound);
                    }
                    unavailable => self.note(&mut nothing, number, &unavailable),
                }
            }
            for candidates in [&mut ample, &mut short] {
                while !candidates.is_empty() {
                    let (number, sticky) = self.pick(candidates, tier);
                    if let Some(permit) = self.take(number, sticky) {
                        return Ok(permit);
                    }
                    // Another request was faster.
                    candidates.remove(number, self.bound(number));
                    nothing.has_full = true;
                }
            }
        }
        Err(nothing)
    }

    /// The only member of its tier, if it is available: there is nothing to choose.
    fn only_one(&self, number: usize, nothing: &mut Nothing) -> Option<Permit> {
        if self.bound(number).weight == 0 || self.plan.unfit.contains(number) {
            return None;
        }
        match self.availability(number) {
            Availability::Available if self.plan.tried.contains(number) => None,
            Availability::Available => {
                let sticky = match self.plan.sticky {
                    // The first tier is that of all conversations.
                    Some(_) if number == 0 => StickyResult::Kept,
                    Some(_) => StickyResult::Moved,
                    None => StickyResult::None,
                };
                let permit = self.take(number, sticky);
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
        self.enter(number).then(|| {
            let sticky = if self.plan.sticky.is_some() { StickyResult::Moved } else { StickyResult::None };
            let mut permit = self.permit(number, sticky);
            permit.is_least_bad = true;
            permit
        })
    }

    fn pinned(&self, number: usize, mut nothing: Nothing) -> Result<Permit, Nothing> {
        if self.plan.tried.contains(number) || self.plan.unfit.contains(number) {
            return Err(nothing);
        }
        if let Some(limit) = self.model(number).rate_limit(self.tick) {
            nothing.limited_until = Some(limit.until);
            nothing.limited = nothing.limited.with(number);
            return Err(nothing);
        }
        // A place that is taken and given back wakes waiting requests, this one among them.
        if self.is_full(self.bound(number)) || !self.enter(number) {
            nothing.has_full = true;
            return Err(nothing);
        }
        let mut permit = self.permit(number, StickyResult::Kept);
        // A breaker never refuses it.
        let _ = self.try_trials(&mut permit);
        Ok(permit)
    }

    #[inline]
    fn bound(&self, number: usize) -> &Bound {
        &self.plan.group.bound[number]
    }

    #[inline]
    fn model(&self, number: usize) -> &ModelHealth {
        &self.plan.row[number]
    }

    #[inline]
    fn availability(&self, number: usize) -> Availability {
        let (bound, model) = (self.bound(number), self.model(number));
        if let Some(limit) = model.rate_limit(self.tick) {
            return Availability::Limited(limit);
        }
        let (mut until, mut has_trial) = (0, false);
        for circuit in [&bound.upstream.circuit, &model.circuit] {
            match circuit.state(self.tick) {
                CircuitState::Closed | CircuitState::HalfOpen => {}
                CircuitState::Open(end) => until = end.max(until),
                CircuitState::Trial(end) => (until, has_trial) = (end.max(until), true),
            }
        }
        match until {
            0 if self.is_full(bound) => Availability::Full,
            0 => Availability::Available,
            until if has_trial => Availability::Trial(until),
            until => Availability::Out(until),
        }
    }

    /// Returns true if as many requests run as may.
    #[inline]
    fn is_full(&self, bound: &Bound) -> bool {
        bound.load.is_full(self.concurrent) || (self.limits_upstreams && bound.upstream.is_full())
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
        let (bound, model) = (self.bound(number), self.model(number));
        let refuses = |circuit: &Circuit| circuit.reason().is_some_and(OutReason::is_refusal);
        !self.is_full(bound)
            && (self.plan.attempts == 0
                || ![&bound.upstream.circuit, &model.circuit].into_iter().any(refuses))
    }

    /// Takes a place at a member, and the trial of its breakers. `None`: another request was faster.
    fn take(&self, number: usize, sticky: StickyResult) -> Option<Permit> {
        if !self.enter(number) {
            return None;
        }
        let mut permit = self.permit(number, sticky);
        self.try_trials(&mut permit)?;
        Some(permit)
    }

    /// Takes the trials of the member's breakers, as far as they are half open. `None`: one is open.
    fn try_trials(&self, permit: &mut Permit) -> Option<()> {
        let (bound, model) = (self.bound(permit.number), self.model(permit.number));
        let lease = self.plan.group.spec().breaker.trial;
        for (place, circuit) in [&bound.upstream.circuit, &model.circuit].into_iter().enumerate() {
            match circuit.state(self.tick) {
                CircuitState::Closed => {}
                CircuitState::HalfOpen => permit.trials[place] = Some(circuit.try_trial(self.tick, lease)?),
                CircuitState::Open(_) | CircuitState::Trial(_) => return None,
            }
        }
        Some(())
    }

    /// Counts one more request at the member. False: as many run as may.
    fn enter(&self, number: usize) -> bool {
        let bound = self.bound(number);
        if !bound.load.try_enter(self.concurrent) {
            return false;
        }
        if self.limits_upstreams && !bound.upstream.try_enter() {
            bound.load.leave();
            // Another request may have seen the member full meanwhile.
            self.plan.group.registry.notify();
            return false;
        }
        true
    }

    /// The caller has [entered](Self::enter).
    fn permit(&self, number: usize, sticky: StickyResult) -> Permit {
        Permit {
            group: Arc::clone(&self.plan.group),
            row: Arc::clone(&self.plan.row),
            number,
            started: self.now,
            latest: (self.now, self.tick),
            fingerprint: self.plan.fingerprint,
            sticky,
            is_least_bad: false,
            holds_upstream: self.limits_upstreams,
            trials: [None; 2],
        }
    }
}

//! The choice of one member.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::Plan;
use super::members::Members;
use crate::balance::circuit::CircuitState;
use crate::balance::group::Bound;
use crate::balance::health::{ModelHealth, RateLimit};
use crate::balance::sticky::{Rank, StickyKey, StickyResult, rank};
use crate::balance::{ChoiceBy, Permit};

/// A member that more requests run at than this many times its share of the tier's, and
/// [`LOAD_SLACK`] more, is passed over by new conversations.
const LOAD_FACTOR: f64 = 1.25;
const LOAD_SLACK: f64 = 4.0;

/// One step of a plan.
pub(super) struct Choice<'a> {
    plan: &'a Plan,
    now: Instant,
    tick: u64,
    random: RefCell<Rng>,
}

/// Whether a member may be asked.
enum Availability {
    Available,
    Limited(RateLimit),
    /// Its breaker, or its upstream's, is open until this tick.
    Out(u64),
    Full,
}

/// No member is available: what there is in its place.
#[derive(Debug)]
pub(super) struct Nothing {
    /// The first end of a rate limit that a service has told.
    pub(super) limited_until: Option<u64>,
    /// The members with a rate limit.
    pub(super) limited: Members,
    pub(super) has_full: bool,
    /// The member that comes back first of those that are out for another reason, or for how long is
    /// unknown.
    out: Option<(u64, usize)>,
}

/// The members of a tier that are available, and how much runs there.
#[derive(Default)]
struct Survey {
    running: f64,
    weight: f64,
    least: u32,
    most: u32,
}

impl Nothing {
    const NEW: Self = Self { limited_until: None, limited: Members::NONE, has_full: false, out: None };

    /// When the first member may be available again.
    pub(super) fn first_end(&self) -> Option<u64> {
        [self.limited_until, self.out.map(|(until, _)| until)].into_iter().flatten().min()
    }
}

impl<'a> Choice<'a> {
    pub(super) fn new(plan: &'a Plan, now: Instant, random: u64) -> Self {
        let tick = plan.group.registry.tick(now);
        Self { plan, now, tick, random: RefCell::new(Rng::with_seed(random)) }
    }

    /// The best member that is available.
    pub(super) fn available(&self) -> Result<Permit, Nothing> {
        let mut nothing = Nothing::NEW;
        if let Some(pinned) = self.plan.pin {
            return self.pinned(pinned, nothing);
        }
        for tier in self.plan.group.tiers() {
            let (mut ample, mut short) = (Members::NONE, Members::NONE);
            for number in tier.clone() {
                if self.bound(number).weight == 0 {
                    continue;
                }
                match self.availability(number) {
                    Availability::Available if self.plan.tried.contains(number) => {}
                    Availability::Available => {
                        let is_short = self.model(number).is_short_of(self.plan.tokens, self.tick);
                        let list = if is_short { &mut short } else { &mut ample };
                        *list = list.with(number);
                    }
                    unavailable => self.note(&mut nothing, number, &unavailable),
                }
            }
            for mut candidates in [ample, short] {
                while !candidates.is_empty() {
                    let (number, sticky) = self.pick(candidates, tier);
                    if let Some(permit) = self.take(number, sticky) {
                        return Ok(permit);
                    }
                    // Another request was faster.
                    candidates.remove(number);
                    nothing.has_full = true;
                }
            }
        }
        Err(nothing)
    }

    /// The member that comes back first, where none is available. It is no trial.
    pub(super) fn least_bad(&self, nothing: &Nothing) -> Option<Permit> {
        let (_, number) = nothing.out.filter(|_| !nothing.has_full)?;
        let bound = self.bound(number);
        bound.load.try_enter(bound.concurrent).then(|| {
            let sticky = if self.plan.sticky.is_some() { StickyResult::Moved } else { StickyResult::None };
            let mut permit = self.permit(number, sticky);
            permit.is_least_bad = true;
            permit
        })
    }

    fn pinned(&self, number: usize, mut nothing: Nothing) -> Result<Permit, Nothing> {
        if self.plan.tried.contains(number) {
            return Err(nothing);
        }
        if let Some(limit) = self.model(number).rate_limit(self.tick) {
            nothing.limited_until = Some(limit.until);
            nothing.limited = nothing.limited.with(number);
            return Err(nothing);
        }
        if let Some(permit) = self.take(number, StickyResult::Kept) {
            return Ok(permit);
        }
        // A breaker never refuses it.
        let bound = self.bound(number);
        if bound.load.try_enter(bound.concurrent) {
            return Ok(self.permit(number, StickyResult::Kept));
        }
        nothing.has_full = true;
        Err(nothing)
    }

    fn bound(&self, number: usize) -> &Bound {
        &self.plan.group.bound[number]
    }

    fn model(&self, number: usize) -> &ModelHealth {
        &self.plan.row[number]
    }

    fn availability(&self, number: usize) -> Availability {
        let (bound, model) = (self.bound(number), self.model(number));
        if let Some(limit) = model.rate_limit(self.tick) {
            return Availability::Limited(limit);
        }
        let out = [&bound.upstream.circuit, &model.circuit].map(|circuit| match circuit.state(self.tick) {
            CircuitState::Closed | CircuitState::HalfOpen => 0,
            CircuitState::Open(until) | CircuitState::Trial(until) => until,
        });
        match out[0].max(out[1]) {
            0 if bound.concurrent > 0 && bound.load.running() >= bound.concurrent => Availability::Full,
            0 => Availability::Available,
            until => Availability::Out(until),
        }
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
                    nothing.note_out(limit.until, number);
                }
            }
            Availability::Out(until) if is_untried => nothing.note_out(until, number),
            Availability::Out(_) => {}
        }
    }

    /// Chooses one of several.
    fn pick(&self, candidates: Members, tier: &Range<usize>) -> (usize, StickyResult) {
        match (self.plan.sticky, self.plan.group.spec().choice) {
            (Some(key), _) => self.by_key(key, candidates, tier),
            (None, ChoiceBy::Weight) => (self.draw(candidates), StickyResult::None),
            (None, ChoiceBy::Latency) => (self.by_latency(candidates), StickyResult::None),
        }
    }

    /// The first member in the key's order that is not loaded more than the others.
    fn by_key(&self, key: StickyKey, candidates: Members, tier: &Range<usize>) -> (usize, StickyResult) {
        let all = Members::of(tier);
        let tier_weights = self.survey(all);
        let survey = if candidates == all { None } else { Some(self.survey(candidates)) };
        let survey = survey.as_ref().unwrap_or(&tier_weights);
        let is_even = tier_weights.least == tier_weights.most;
        let [mut home, mut best, mut first] = [(Rank::LAST, 0); 3];
        for number in tier.clone() {
            let bound = self.bound(number);
            if bound.weight == 0 {
                continue;
            }
            let ranked = (rank(key, bound.seed, bound.weight, is_even), number);
            let keep = |kept: &mut (Rank, usize)| {
                if ranked.0 < kept.0 {
                    *kept = ranked;
                }
            };
            keep(&mut home);
            if candidates.contains(number) {
                keep(&mut first);
                if survey.has_room(bound) {
                    keep(&mut best);
                }
            }
        }
        let chosen = if best.0 < Rank::LAST { best } else { first };
        let is_home = chosen.1 == home.1 && tier.start == 0;
        (chosen.1, if is_home { StickyResult::Kept } else { StickyResult::Moved })
    }

    fn survey(&self, members: Members) -> Survey {
        let mut survey = Survey { least: u32::MAX, ..Survey::default() };
        for number in members.iter() {
            let bound = self.bound(number);
            if bound.weight > 0 {
                survey.running += f64::from(bound.load.running());
                survey.weight += f64::from(bound.weight);
                survey.least = survey.least.min(bound.weight);
                survey.most = survey.most.max(bound.weight);
            }
        }
        survey
    }

    /// Of two drawn members, the one from which a first event is expected sooner.
    fn by_latency(&self, candidates: Members) -> usize {
        let one = self.draw(candidates);
        let mut others = candidates;
        others.remove(one);
        if others.is_empty() {
            return one;
        }
        let other = self.draw(others);
        let cost = |number: usize| {
            let running = self.bound(number).load.running() as f32 + 1.0;
            (self.model(number).latency.expected(self.tick) * running, running)
        };
        if cost(other) < cost(one) { other } else { one }
    }

    /// One at random, by weight.
    fn draw(&self, candidates: Members) -> usize {
        let total: u64 = candidates.iter().map(|number| u64::from(self.bound(number).weight)).sum();
        let mut drawn = self.random.borrow_mut().u64(..total.max(1));
        for number in candidates.iter() {
            let weight = u64::from(self.bound(number).weight);
            if drawn < weight {
                return number;
            }
            drawn -= weight;
        }
        candidates.iter().next().unwrap_or_default()
    }

    /// Takes a place at a member, and the trial of its breakers. `None`: another request was faster.
    fn take(&self, number: usize, sticky: StickyResult) -> Option<Permit> {
        let (bound, model) = (self.bound(number), self.model(number));
        if !bound.load.try_enter(bound.concurrent) {
            return None;
        }
        let mut permit = self.permit(number, sticky);
        let lease = self.plan.group.spec().breaker.trial;
        for (place, circuit) in [&bound.upstream.circuit, &model.circuit].into_iter().enumerate() {
            match circuit.state(self.tick) {
                CircuitState::Closed => {}
                CircuitState::HalfOpen => permit.trials[place] = Some(circuit.try_trial(self.tick, lease)?),
                CircuitState::Open(_) | CircuitState::Trial(_) => return None,
            }
        }
        Some(permit)
    }

    /// The caller has entered the member's load.
    fn permit(&self, number: usize, sticky: StickyResult) -> Permit {
        Permit {
            group: Arc::clone(&self.plan.group),
            row: Arc::clone(&self.plan.row),
            number,
            started: self.now,
            fingerprint: self.plan.fingerprint,
            sticky,
            is_least_bad: false,
            trials: [None; 2],
        }
    }
}

impl Nothing {
    fn note_out(&mut self, until: u64, number: usize) {
        if self.out.is_none_or(|(first, _)| until < first) {
            self.out = Some((until, number));
        }
    }
}

impl Survey {
    /// One more request leaves the member within its bound.
    fn has_room(&self, bound: &Bound) -> bool {
        let share = self.running * f64::from(bound.weight) / self.weight;
        f64::from(bound.load.running()) + 1.0 <= LOAD_FACTOR * share + LOAD_SLACK
    }
}

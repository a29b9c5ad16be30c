//! The members of a group at one moment.

use std::sync::Arc;
use std::time::Instant;

use crate::balance::circuit::CircuitState;
use crate::balance::group::{Bound, Row};
use crate::balance::health::{ModelHealth, RateLimit};
use crate::balance::sticky::{Fingerprint, StickyResult};
use crate::balance::{Permit, UpstreamGroup};

/// The members of a group, with one model, at one moment.
pub(super) struct View<'a> {
    group: &'a Arc<UpstreamGroup>,
    row: &'a Arc<Row>,
    bound: &'a [Bound],
    models: &'a Row,
    now: Instant,
    pub(super) tick: u64,
    /// The largest number of requests that run at each member. 0: any number.
    concurrent: u32,
    /// Some upstreams have such a number of their own.
    limits_upstreams: bool,
}

/// The availability of a member.
pub(super) enum Availability {
    Available,
    Limited(RateLimit),
    /// Its breaker, or its upstream's, is open until this tick.
    Out(u64),
    /// Another request is the trial of a breaker, at most until this tick.
    Trial(u64),
    Full,
}

impl<'a> View<'a> {
    /// `tick` is that of `now`.
    pub(super) fn new(group: &'a Arc<UpstreamGroup>, row: &'a Arc<Row>, now: Instant, tick: u64) -> Self {
        let (concurrent, limits_upstreams) = group.room.concurrent();
        Self { group, row, bound: &group.bound, models: row, now, tick, concurrent, limits_upstreams }
    }

    #[inline]
    pub(super) fn bound(&self, number: usize) -> &'a Bound {
        &self.bound[number]
    }

    #[inline]
    pub(super) fn model(&self, number: usize) -> &'a ModelHealth {
        &self.models[number]
    }

    #[inline]
    pub(super) fn availability(&self, number: usize) -> Availability {
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

    /// Returns true if both breakers of a member are closed, so that no request is their trial.
    #[inline]
    pub(super) fn is_closed(&self, number: usize) -> bool {
        let circuits = [&self.bound(number).upstream.circuit, &self.model(number).circuit];
        circuits.into_iter().all(|circuit| circuit.end().is_none())
    }

    /// Returns true if as many requests run as may.
    #[inline]
    pub(super) fn is_full(&self, bound: &Bound) -> bool {
        bound.load.is_full(self.concurrent) || (self.limits_upstreams && bound.upstream.is_full())
    }

    /// Takes a place at a member, and the trial of its breakers. `None`: another request was faster.
    #[inline]
    pub(super) fn take(
        &self,
        number: usize,
        sticky: StickyResult,
        fingerprint: Fingerprint,
    ) -> Option<Permit> {
        if !self.enter(number) {
            return None;
        }
        let mut permit = self.permit(number, sticky, fingerprint);
        self.try_trials(&mut permit)?;
        Some(permit)
    }

    /// Takes the trials of the member's breakers, as far as they are half open. `None`: one is open.
    #[inline]
    pub(super) fn try_trials(&self, permit: &mut Permit) -> Option<()> {
        let (bound, model) = (self.bound(permit.number), self.model(permit.number));
        let lease = self.group.spec().breaker.trial;
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
    pub(super) fn enter(&self, number: usize) -> bool {
        let bound = self.bound(number);
        if !bound.load.try_enter(self.concurrent) {
            return false;
        }
        if self.limits_upstreams && !bound.upstream.try_enter() {
            bound.load.leave();
            // Another request may have seen the member full meanwhile.
            self.group.registry.notify();
            return false;
        }
        true
    }

    /// The caller has [entered](Self::enter).
    #[inline]
    pub(super) fn permit(&self, number: usize, sticky: StickyResult, fingerprint: Fingerprint) -> Permit {
        Permit {
            group: Arc::clone(self.group),
            row: Arc::clone(self.row),
            number,
            started: self.now,
            latest: (self.now, self.tick),
            fingerprint,
            sticky,
            is_least_bad: false,
            holds_upstream: self.limits_upstreams,
            trials: [None; 2],
        }
    }
}

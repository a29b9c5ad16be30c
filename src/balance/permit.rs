//! The permission to ask one member, which records the results.

use std::sync::Arc;
use std::time::Instant;

use super::circuit::Trial;
use super::group::{Bound, Row};
use super::health::{ModelHealth, UpstreamHealth, ticks};
use super::rate_limit::{Clock, may_have_limits, remaining};
use super::sticky::{Fingerprint, StickyResult};
use super::verdict::{Closes, Failure, Verdict};
use super::{OutReason, UpstreamGroup};
use crate::codec::head::Headers;

/// The end of a relayed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    Complete,
    /// The upstream ended it early.
    Truncated,
}

/// The permission to ask one member once. The request counts as running there until the permit is
/// dropped, so it is kept as long as the response runs.
///
/// A permit that is dropped without a result, because the client has left, is no evidence about the
/// member. If it was the trial of a breaker, the next request becomes the trial.
#[derive(Debug)]
pub struct Permit {
    pub(super) group: Arc<UpstreamGroup>,
    pub(super) row: Arc<Row>,
    pub(super) number: usize,
    pub(super) started: Instant,
    /// The last time that was noted, with its tick: the head of a small response is also its end.
    pub(super) latest: (Instant, u64),
    pub(super) fingerprint: Fingerprint,
    pub(super) sticky: StickyResult,
    pub(super) is_least_bad: bool,
    /// The request counts at the upstream too.
    pub(super) holds_upstream: bool,
    /// The trials of the upstream's breaker and of the model's.
    pub(super) trials: [Option<Trial>; 2],
}

impl Permit {
    /// The number of the member.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns true if the request decides whether a breaker closes.
    pub fn is_trial(&self) -> bool {
        self.trials.iter().any(Option::is_some)
    }

    /// Returns true if all members are out, and this one comes back first.
    pub fn is_least_bad(&self) -> bool {
        self.is_least_bad
    }

    /// The effect of the conversation's key.
    pub fn sticky(&self) -> StickyResult {
        self.sticky
    }

    pub fn model(&self) -> &Arc<ModelHealth> {
        &self.row[self.number]
    }

    pub fn upstream(&self) -> &Arc<UpstreamHealth> {
        &self.bound().upstream
    }

    fn bound(&self) -> &Bound {
        &self.group.bound[self.number]
    }

    fn tick(&self, now: Instant) -> u64 {
        if now == self.latest.0 { self.latest.1 } else { self.group.registry.tick(now) }
    }

    /// Records the first event that is not an error, or the head of a good response that is not a
    /// stream. Adds a sample to the latency, and decides a trial.
    pub fn record_first_event(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started);
        // Until now, the latest time is the start.
        let tick = self.latest.1 + ticks(elapsed);
        self.latest = (now, tick);
        self.model().latency.record(tick, elapsed.as_secs_f32() * 1000.0);
        self.decide_trials(tick);
    }

    /// Records the rate limits in the headers of a good response. `clock` is called if there are
    /// some.
    pub fn record_headers(&self, headers: &Headers, clock: impl FnOnce() -> Clock) {
        self.model().record_accepted();
        if may_have_limits(headers) {
            let clock = clock();
            self.model().record_remaining(&remaining(headers, clock), self.tick(clock.now));
        }
    }

    /// Records the end of a relayed response.
    pub fn record_end(mut self, ending: RelayEnd, now: Instant) -> Option<OutReason> {
        let tick = self.tick(now);
        let [upstream, model] = std::mem::take(&mut self.trials);
        self.upstream().circuit.record_success(tick, upstream);
        let circuit = &self.model().circuit;
        match ending {
            RelayEnd::Complete => {
                circuit.record_success(tick, model);
                None
            }
            RelayEnd::Truncated => {
                let fingerprint = Some(self.fingerprint.whole());
                let opened = circuit.record_failure(tick, model, fingerprint, &self.group.spec().breaker);
                if opened.is_some() {
                    self.group.registry.note_change();
                }
                opened
            }
        }
    }

    /// Records that the attempt failed before any part of a response was relayed. Closes what the
    /// verdict closes. A failure that counts in a breaker is a sample of the latency: the longest
    /// wait for a first byte.
    pub fn record_failure(mut self, failure: &Failure<'_>, clock: Clock, random: u64) -> Verdict {
        let tick = self.tick(clock.now);
        let mut verdict = Verdict::of(failure, clock);
        if matches!(verdict.closes, Closes::Run | Closes::Connection) {
            // A member that fails at once must not look fast.
            let policy = &self.group.spec().breaker;
            let limit = if let Failure::FirstByte(limit) = failure { *limit } else { policy.trial };
            self.model().latency.record(tick, limit.as_secs_f32() * 1000.0);
        }
        verdict.opened = self.apply(&verdict, tick, random);
        if verdict.opened.is_some() {
            self.group.registry.note_change();
        }
        verdict
    }

    /// Returns the reason if something is newly out.
    fn apply(&mut self, verdict: &Verdict, tick: u64, random: u64) -> Option<OutReason> {
        let [upstream_trial, model_trial] = std::mem::take(&mut self.trials);
        let (upstream, model) = (self.upstream(), self.model());
        let policy = &self.group.spec().breaker;
        if !matches!(verdict.closes, Closes::Connection | Closes::Upstream(_)) {
            // The service has accepted the request.
            upstream.circuit.record_success(tick, upstream_trial);
        }
        match &verdict.closes {
            Closes::Connection => {
                if let Some(trial) = model_trial {
                    model.circuit.free_trial(trial);
                }
                upstream.circuit.record_failure(tick, upstream_trial, None, policy)
            }
            Closes::Run => {
                let fingerprint = Some(self.fingerprint.whole());
                model.circuit.record_failure(tick, model_trial, fingerprint, policy)
            }
            Closes::Limit(cooldown) => {
                if let Some(trial) = model_trial {
                    // The model works, and is busy.
                    model.circuit.record_success(tick, Some(trial));
                }
                model.limit(*cooldown, tick, random);
                None
            }
            Closes::Nothing => {
                if let Some(trial) = model_trial {
                    model.circuit.record_success(tick, Some(trial));
                }
                None
            }
            Closes::Model(opening) => {
                let is_new = model.circuit.open(tick, opening);
                let is_refused = opening.reason == OutReason::Forbidden
                    && upstream.record_forbidden(tick, model.tag(), self.fingerprint);
                if is_refused { Some(OutReason::Credentials) } else { is_new.then_some(opening.reason) }
            }
            Closes::Upstream(opening) => {
                if let Some(trial) = model_trial {
                    model.circuit.free_trial(trial);
                }
                upstream.circuit.open(tick, opening).then_some(opening.reason)
            }
        }
    }

    fn decide_trials(&mut self, tick: u64) {
        let [upstream, model] = std::mem::take(&mut self.trials);
        if upstream.is_some() {
            self.upstream().circuit.record_success(tick, upstream);
        }
        if model.is_some() {
            self.model().circuit.record_success(tick, model);
        }
        if upstream.or(model).is_some() {
            self.group.registry.notify();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let bound = &self.group.bound[self.number];
        let circuits = [&bound.upstream.circuit, &self.row[self.number].circuit];
        for (circuit, trial) in circuits.into_iter().zip(self.trials) {
            if let Some(trial) = trial {
                circuit.free_trial(trial);
            }
        }
        bound.load.leave();
        if self.holds_upstream {
            bound.upstream.leave();
        }
        self.group.registry.notify();
    }
}

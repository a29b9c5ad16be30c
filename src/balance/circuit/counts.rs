//! The results that a circuit has counted.

use std::time::Duration;

use super::window::{BUCKETS, SuccessWindow};
use super::{BreakerPolicy, Opening, OutReason};

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) window: SuccessWindow,
    /// The failures since the last success came from at least two fingerprints.
    has_two_fingerprints: bool,
    /// The reason of the last opening.
    pub(super) reason: OutReason,
    /// The number of doublings of the pause.
    doublings: u8,
    /// 1 + the number of buckets since the circuit was last closed, at most 255. 0: it never was
    /// open.
    since_closed: u8,
}

impl Counts {
    pub(super) fn advance(&mut self, tick: u64) {
        let passed = u8::try_from(self.window.advance(tick)).unwrap_or(u8::MAX);
        if self.since_closed > 0 {
            self.since_closed = self.since_closed.saturating_add(passed);
        }
    }

    pub(super) fn on_closed(&mut self, tick: u64) {
        self.window.advance(tick);
        self.window.clear();
        self.since_closed = 1;
    }

    /// The tick at which the circuit opened, in whole seconds. Defined while it is not closed.
    pub(super) fn opened(&self) -> u64 {
        u64::from(self.window.opened()) * 1000
    }

    pub(super) fn on_failure(
        &mut self,
        tick: u64,
        fingerprint: Option<u32>,
        policy: &BreakerPolicy,
    ) -> Option<OutReason> {
        let has_changed = self.window.record_bad(tick, fingerprint.unwrap_or_default());
        let is_first = self.window.run() == 1;
        self.has_two_fingerprints =
            fingerprint.is_none() || (!is_first && (has_changed || self.has_two_fingerprints));
        if policy.failures > 0 && self.window.run() >= policy.failures && self.has_two_fingerprints {
            return Some(OutReason::Failures);
        }
        let (good, bad) = self.window.totals();
        let is_enough = good + bad >= policy.requests.max(1);
        let is_low = f64::from(good) < policy.success_rate * f64::from(good + bad);
        let is_mixed = fingerprint.is_none() || self.window.has_two_fingerprints();
        (is_enough && is_low && is_mixed).then_some(OutReason::SuccessRate)
    }

    /// The end of a pause that begins now. It is twice as long as the last one if that had the same
    /// reason and continues, or if the circuit was closed only briefly since.
    pub(super) fn pause(&mut self, tick: u64, opening: &Opening, goes_on: bool) -> u64 {
        if !goes_on {
            self.window.note_opened(u32::try_from(tick / 1000).unwrap_or(u32::MAX));
        }
        self.doublings = self.doublings_of(opening, goes_on);
        self.reason = opening.reason;
        Self::end(tick, opening, self.doublings)
    }

    /// Begins the pause after a bad trial, if `set` makes its end that of the circuit. Returns the
    /// result of `set`: false if the trial has lost its place, which must not make the pause longer.
    pub(super) fn pause_again(
        &mut self,
        tick: u64,
        opening: &Opening,
        set: impl FnOnce(u64) -> bool,
    ) -> bool {
        let doublings = self.doublings_of(opening, true);
        let is_set = set(Self::end(tick, opening, doublings));
        if is_set {
            (self.doublings, self.reason) = (doublings, opening.reason);
        }
        is_set
    }

    fn doublings_of(&self, opening: &Opening, goes_on: bool) -> u8 {
        let was_steady = usize::from(self.since_closed) > 1 + BUCKETS;
        let is_doubled =
            self.reason.is_like(opening.reason) && (goes_on || (self.since_closed != 0 && !was_steady));
        if is_doubled { self.doublings.saturating_add(1) } else { 0 }
    }

    fn end(tick: u64, opening: &Opening, doublings: u8) -> u64 {
        let factor = 2_u32.saturating_pow(u32::from(doublings.min(20)));
        after(tick, opening.first.saturating_mul(factor).min(opening.longest))
    }
}

pub(super) fn after(tick: u64, pause: Duration) -> u64 {
    // 63 bits are 292 million years.
    tick.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)).clamp(1, u64::MAX >> 2)
}

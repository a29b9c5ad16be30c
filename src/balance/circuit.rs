//! A circuit breaker: closed, open until a time, half open with one trial.

mod counts;
mod policy;
mod window;

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::verdict::CREDENTIALS;
use counts::{Counts, after};
pub use policy::{BreakerPolicy, Opening, OutReason};

/// The state of a circuit at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CircuitState {
    Closed,
    /// Open until this tick, and then half open.
    Open(u64),
    /// One request may be the trial.
    HalfOpen,
    /// A trial runs. After this tick another request may take its place.
    Trial(u64),
}

/// The place of a trial: exactly one request has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial(NonZeroU64);

/// Times are ticks: milliseconds since the registry's start, never 0.
///
/// One word shows whether requests may pass, so that a choice reads it without a lock. Its upper 63
/// bits are the end of the pause, or of the trial's lease if the lowest bit is set. 0: closed.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    word: AtomicU64,
    counts: Mutex<Counts>,
}

const TRIAL: u64 = 1;

impl Circuit {
    #[inline]
    pub(super) fn state(&self, tick: u64) -> CircuitState {
        let word = self.word.load(Ordering::Relaxed);
        match (word, word >> 1) {
            (0, _) => CircuitState::Closed,
            (_, end) if end <= tick => CircuitState::HalfOpen,
            (_, end) if word & TRIAL != 0 => CircuitState::Trial(end),
            (_, end) => CircuitState::Open(end),
        }
    }

    /// The reason for which it is not closed.
    pub(super) fn reason(&self) -> Option<OutReason> {
        let counts = self.counts.lock().expect("no holder panics");
        (self.word.load(Ordering::Relaxed) != 0).then_some(counts.reason)
    }

    /// The reason for which it is not closed, and the tick at which it opened.
    pub(super) fn opened(&self) -> Option<(OutReason, u64)> {
        let counts = self.counts.lock().expect("no holder panics");
        (self.word.load(Ordering::Relaxed) != 0).then(|| (counts.reason, counts.opened()))
    }

    /// Takes the trial of a half-open circuit, until `lease` is over. `None`: another request has
    /// it, or the circuit is not half open.
    pub(super) fn try_trial(&self, tick: u64, lease: Duration) -> Option<Trial> {
        let word = self.word.load(Ordering::Relaxed);
        if word == 0 || word >> 1 > tick {
            return None;
        }
        self.take_trial(word, tick, lease)
    }

    /// The end of the pause or of the trial's lease. `None`: it is closed.
    pub(super) fn end(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Relaxed);
        (word != 0).then_some(word >> 1)
    }

    /// Takes the trial for a probe, until `lease` is over, if the pause ends at `latest` or before.
    /// `None`: a request has it, or the pause continues.
    pub(super) fn try_probe(&self, tick: u64, latest: u64, lease: Duration) -> Option<Trial> {
        let word = self.word.load(Ordering::Relaxed);
        let is_due = word >> 1 <= if word & TRIAL == 0 { latest } else { tick };
        if word == 0 || !is_due { None } else { self.take_trial(word, tick, lease) }
    }

    fn take_trial(&self, word: u64, tick: u64, lease: Duration) -> Option<Trial> {
        let trial = after(tick, lease) << 1 | TRIAL;
        // The same lease again would be the same trial.
        let trial = if trial == word { trial + 2 } else { trial };
        self.word.compare_exchange(word, trial, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        NonZeroU64::new(trial).map(Trial)
    }

    /// Ends a trial without a result: the next request may be the trial.
    pub(super) fn free_trial(&self, trial: Trial) {
        // Half open since the first tick.
        let _ = self.exchange(trial, 1 << 1);
    }

    /// Returns true if the trial still had its place.
    fn exchange(&self, trial: Trial, word: u64) -> bool {
        self.word.compare_exchange(trial.0.get(), word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Records a good result. That of a trial closes the circuit. Others count while it is closed.
    pub(super) fn record_success(&self, tick: u64, trial: Option<Trial>) {
        let mut counts = self.counts.lock().expect("no holder panics");
        match trial {
            Some(trial) if self.exchange(trial, 0) => counts.on_closed(tick),
            None if self.word.load(Ordering::Relaxed) == 0 => {
                counts.advance(tick);
                counts.window.record_good();
            }
            _ => {}
        }
    }

    /// Records a bad result. That of a trial opens the circuit again. Others open it according to
    /// `policy`. Without a fingerprint the request cannot be the cause. Returns the reason if the
    /// circuit has opened.
    pub(super) fn record_failure(
        &self,
        tick: u64,
        trial: Option<Trial>,
        fingerprint: Option<u32>,
        policy: &BreakerPolicy,
    ) -> Option<OutReason> {
        let opening = |reason| Opening { reason, first: policy.pause, longest: policy.longest_pause };
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.advance(tick);
        if let Some(trial) = trial {
            let is_rate = counts.reason == OutReason::SuccessRate;
            let reason = if is_rate { OutReason::SuccessRate } else { OutReason::Failures };
            let is_set = counts.pause_again(tick, &opening(reason), |end| self.exchange(trial, end << 1));
            return is_set.then_some(reason);
        }
        if self.word.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let reason = counts.on_failure(tick, fingerprint, policy)?;
        let end = counts.pause(tick, &opening(reason), false);
        self.word.store(end << 1, Ordering::Relaxed);
        Some(reason)
    }

    /// Records that a probe failed: the circuit opens again, for the same reason.
    pub(super) fn fail_probe(&self, tick: u64, trial: Trial, policy: &BreakerPolicy) {
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.advance(tick);
        let opening = match counts.reason {
            OutReason::Credentials => CREDENTIALS,
            reason => Opening { reason, first: policy.pause, longest: policy.longest_pause },
        };
        counts.pause_again(tick, &opening, |end| self.exchange(trial, end << 1));
    }

    /// Opens the circuit, regardless of the counts. Returns true if it was not open for this reason
    /// before.
    pub(super) fn open(&self, tick: u64, opening: &Opening) -> bool {
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.advance(tick);
        let state = self.state(tick);
        if matches!(state, CircuitState::Open(_)) && counts.reason == opening.reason {
            return false;
        }
        let end = counts.pause(tick, opening, state != CircuitState::Closed);
        let end = if let CircuitState::Open(until) = state { end.max(until) } else { end };
        self.word.store(end << 1, Ordering::Relaxed);
        true
    }

    /// Closes the circuit, and clears the counts.
    pub(super) fn close(&self) {
        let mut counts = self.counts.lock().expect("no holder panics");
        self.word.store(0, Ordering::Relaxed);
        *counts = Counts::default();
    }
}

#[cfg(test)]
mod tests;

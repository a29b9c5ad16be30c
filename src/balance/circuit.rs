//! A circuit breaker: closed, open until a time, half open with one trial.

mod window;

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use window::{SuccessWindow, WINDOW_MS};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// So many failures in a row open it. 0: no number does.
    pub failures: u32,
    /// It opens when less than this share of at least `requests` results in 30 s was good. 0: never.
    pub success_rate: f64,
    pub requests: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause. Each is twice the one before if the breaker was not closed for 30 s in
    /// between.
    pub longest_pause: Duration,
    /// After this time without a result, another request may be the trial: `timeouts.first_byte`.
    pub trial: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            success_rate: 0.5,
            requests: 20,
            pause: Duration::from_secs(2),
            longest_pause: Duration::from_secs(60),
            trial: Duration::from_secs(60),
        }
    }
}

/// Why a member is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OutReason {
    /// Too many failures in a row.
    Failures,
    /// Too few good results in 30 s.
    SuccessRate,
    /// 401, or 403 for several models or clients.
    Credentials,
    /// 403 for this model.
    Forbidden,
    /// The member does not have this model.
    UnknownModel,
    /// `insufficient_quota`.
    Quota,
}

impl OutReason {
    const ALL: [Self; 6] = [
        Self::Failures,
        Self::SuccessRate,
        Self::Credentials,
        Self::Forbidden,
        Self::UnknownModel,
        Self::Quota,
    ];

    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::SuccessRate => "success_rate",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::UnknownModel => "unknown_model",
            Self::Quota => "quota",
        }
    }
}

/// The state of a circuit at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CircuitState {
    Closed,
    /// Until this tick, and then half open.
    Open(u64),
    /// One request may be the trial.
    HalfOpen,
    /// A trial runs. From this tick on another request may take its place.
    Trial(u64),
}

/// The place of a trial: exactly one request has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial(NonZeroU64);

/// What opens a circuit and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub reason: OutReason,
    /// The first pause; each is twice the one before, up to the longest.
    pub first: Duration,
    pub longest: Duration,
}

/// Times are ticks: milliseconds since the registry's start, and never 0.
///
/// One word tells whether requests may pass, so that a choice reads it without a lock. Its upper 63
/// bits are the end of the pause, or of the trial's lease if the lowest bit is set. 0: closed.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    word: AtomicU64,
    reason: AtomicU8,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Failures since the last success.
    run: u32,
    /// The fingerprint of the run's first failure.
    fingerprint: u32,
    has_two_fingerprints: bool,
    /// How often the pause was doubled.
    doublings: u8,
    /// When the circuit was last closed, in seconds.
    closed_at: u32,
    window: SuccessWindow,
}

const TRIAL: u64 = 1;

impl Circuit {
    pub(super) fn state(&self, tick: u64) -> CircuitState {
        let word = self.word.load(Ordering::Relaxed);
        match (word, word >> 1) {
            (0, _) => CircuitState::Closed,
            (_, end) if end <= tick => CircuitState::HalfOpen,
            (_, end) if word & TRIAL != 0 => CircuitState::Trial(end),
            (_, end) => CircuitState::Open(end),
        }
    }

    /// Why it is not closed.
    pub(super) fn reason(&self) -> Option<OutReason> {
        (self.word.load(Ordering::Relaxed) != 0).then(|| self.last_reason())
    }

    fn last_reason(&self) -> OutReason {
        OutReason::ALL[usize::from(self.reason.load(Ordering::Relaxed))]
    }

    /// Takes the trial of a half-open circuit, until `lease` is over. `None`: another request has
    /// it, or the circuit is not half open.
    pub(super) fn try_trial(&self, tick: u64, lease: Duration) -> Option<Trial> {
        let word = self.word.load(Ordering::Relaxed);
        if word == 0 || word >> 1 > tick {
            return None;
        }
        let trial = after(tick, lease) << 1 | TRIAL;
        // The same lease again would be the same trial.
        let trial = if trial == word { trial + 2 } else { trial };
        self.word.compare_exchange(word, trial, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        NonZeroU64::new(trial).map(Trial)
    }

    /// The trial has no result: the next request may take it.
    pub(super) fn free_trial(&self, trial: Trial) {
        // Half open since the first tick.
        let _ = self.exchange(trial, 1 << 1);
    }

    /// Whether the trial still had its place.
    fn exchange(&self, trial: Trial, word: u64) -> bool {
        self.word.compare_exchange(trial.0.get(), word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A good result. That of a trial closes the circuit. Other results count while it is closed.
    pub(super) fn record_success(&self, tick: u64, trial: Option<Trial>) {
        let mut counts = self.counts.lock().expect("no holder panics");
        match trial {
            Some(trial) if self.exchange(trial, 0) => counts.on_closed(tick),
            None if self.word.load(Ordering::Relaxed) == 0 => {
                counts.run = 0;
                counts.window.record_good(tick);
            }
            _ => {}
        }
    }

    /// A bad result. That of a trial opens the circuit again. Others open it as `policy` says.
    /// Without a fingerprint the request cannot be the cause. Returns why the circuit has opened.
    pub(super) fn record_failure(
        &self,
        tick: u64,
        trial: Option<Trial>,
        fingerprint: Option<u32>,
        policy: &BreakerPolicy,
    ) -> Option<OutReason> {
        let opening = |reason| Opening { reason, first: policy.pause, longest: policy.longest_pause };
        let mut counts = self.counts.lock().expect("no holder panics");
        if let Some(trial) = trial {
            let is_rate = self.last_reason() == OutReason::SuccessRate;
            let reason = if is_rate { OutReason::SuccessRate } else { OutReason::Failures };
            let end = counts.pause(tick, &opening(reason), true, true);
            self.reason.store(reason as u8, Ordering::Relaxed);
            return self.exchange(trial, end << 1).then_some(reason);
        }
        if self.word.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let reason = counts.on_failure(tick, fingerprint, policy)?;
        let is_same = matches!(self.last_reason(), OutReason::Failures | OutReason::SuccessRate);
        let end = counts.pause(tick, &opening(reason), is_same, false);
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.word.store(end << 1, Ordering::Relaxed);
        Some(reason)
    }

    /// Opens the circuit, whatever was counted. Returns whether it was not open for this reason
    /// before.
    pub(super) fn open(&self, tick: u64, opening: &Opening) -> bool {
        let mut counts = self.counts.lock().expect("no holder panics");
        let state = self.state(tick);
        let is_same = self.last_reason() == opening.reason;
        if matches!(state, CircuitState::Open(_)) && is_same {
            return false;
        }
        let end = counts.pause(tick, opening, is_same, state != CircuitState::Closed);
        let end = if let CircuitState::Open(until) = state { end.max(until) } else { end };
        self.reason.store(opening.reason as u8, Ordering::Relaxed);
        self.word.store(end << 1, Ordering::Relaxed);
        true
    }

    /// Closes the circuit, and forgets what was counted.
    pub(super) fn close(&self, tick: u64) {
        let mut counts = self.counts.lock().expect("no holder panics");
        self.word.store(0, Ordering::Relaxed);
        counts.on_closed(tick);
        counts.doublings = 0;
    }
}

impl Counts {
    fn on_closed(&mut self, tick: u64) {
        *self = Self { doublings: self.doublings, closed_at: seconds(tick), ..Self::default() };
    }

    fn on_failure(
        &mut self,
        tick: u64,
        fingerprint: Option<u32>,
        policy: &BreakerPolicy,
    ) -> Option<OutReason> {
        match fingerprint {
            None => self.has_two_fingerprints = true,
            Some(fingerprint) if self.run == 0 => {
                (self.fingerprint, self.has_two_fingerprints) = (fingerprint, false);
            }
            Some(fingerprint) => self.has_two_fingerprints |= self.fingerprint != fingerprint,
        }
        self.run = self.run.saturating_add(1);
        self.window.record_bad(tick, fingerprint.unwrap_or_default());
        if policy.failures > 0 && self.run >= policy.failures && self.has_two_fingerprints {
            return Some(OutReason::Failures);
        }
        let (good, bad) = self.window.totals();
        let is_enough = good + bad >= policy.requests.max(1);
        let is_low = f64::from(good) < policy.success_rate * f64::from(good + bad);
        let is_mixed = fingerprint.is_none() || self.window.has_two_fingerprints();
        (is_enough && is_low && is_mixed).then_some(OutReason::SuccessRate)
    }

    /// The end of a pause that begins now. It is twice the last one if that had the same reason and
    /// goes on, or the circuit was not closed for long since.
    fn pause(&mut self, tick: u64, opening: &Opening, is_same: bool, goes_on: bool) -> u64 {
        let was_steady = tick.saturating_sub(u64::from(self.closed_at) * 1000) > WINDOW_MS;
        let is_doubled = is_same && (goes_on || (self.closed_at != 0 && !was_steady));
        self.doublings = if is_doubled { self.doublings.saturating_add(1) } else { 0 };
        let factor = 2_u32.saturating_pow(u32::from(self.doublings.min(20)));
        after(tick, opening.first.saturating_mul(factor).min(opening.longest))
    }
}

fn after(tick: u64, pause: Duration) -> u64 {
    // 63 bits are 292 million years.
    tick.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)).clamp(1, u64::MAX >> 2)
}

/// Never 0.
fn seconds(tick: u64) -> u32 {
    u32::try_from(tick / 1000).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;

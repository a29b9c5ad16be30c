//! The health of one model at one upstream.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{HealthRegistry, UpstreamHealth};
use crate::balance::OutReason;
use crate::balance::circuit::Circuit;
use crate::balance::latency::LatencyAverage;
use crate::balance::rate_limit::{Cooldown, Remaining, guessed_pause};
use crate::balance::sticky::name_tag;

/// The longest beginning of a model's name that is kept, in bytes.
const MAX_NAME: usize = 64;
/// The utilisation is unknown.
const UNKNOWN: u16 = u16::MAX;

/// The health of one model at one upstream: its breaker, its rate limits and its latency.
#[derive(Debug)]
pub struct ModelHealth {
    /// [`UpstreamHealth::index`].
    upstream: u16,
    name: Box<str>,
    pub(in crate::balance) circuit: Circuit,
    pub(in crate::balance) latency: LatencyAverage,
    /// The tick at which its rate limit ends, shifted by one; the lowest bit is set if the end is
    /// known. 0: none.
    limited: AtomicU64,
    /// 429s in a row without a known end.
    guesses: AtomicU8,
    /// The utilisation of Azure's provisioned deployments, in per mille.
    utilization: AtomicU16,
    /// The remaining tokens until `refilled`, a tick in seconds.
    tokens: AtomicU32,
    refilled: AtomicU32,
}

/// A rate limit that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::balance) struct RateLimit {
    /// The tick at which it ends.
    pub(in crate::balance) until: u64,
    /// The service named the end. Otherwise it is a guess.
    pub(in crate::balance) is_known: bool,
}

impl ModelHealth {
    pub(super) fn new(upstream: &UpstreamHealth, name: &str) -> Self {
        Self {
            upstream: upstream.index(),
            name: name[..name.floor_char_boundary(MAX_NAME)].into(),
            circuit: Circuit::default(),
            latency: LatencyAverage::default(),
            limited: AtomicU64::new(0),
            guesses: AtomicU8::new(0),
            utilization: AtomicU16::new(UNKNOWN),
            tokens: AtomicU32::new(0),
            refilled: AtomicU32::new(0),
        }
    }

    /// The [index](UpstreamHealth::index) of its upstream.
    pub fn upstream(&self) -> u16 {
        self.upstream
    }

    /// The model's name, or its beginning. Empty for requests without a model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The reason why this model is left out, besides those of the upstream as a whole.
    pub fn out(&self) -> Option<OutReason> {
        self.circuit.reason()
    }

    /// Lets requests in at once, after a successful probe.
    pub fn readmit(&self) {
        self.circuit.close();
    }

    /// The rest of a rate limit.
    pub fn cooldown(&self, registry: &HealthRegistry, now: Instant) -> Option<Duration> {
        let tick = registry.tick(now);
        self.rate_limit(tick).map(|limit| Duration::from_millis(limit.until - tick))
    }

    /// The utilisation that an Azure deployment reported last; 1 is full.
    pub fn utilization(&self) -> Option<f64> {
        let value = self.utilization.load(Relaxed);
        (value != UNKNOWN).then(|| f64::from(value) / 1000.0)
    }

    /// A number that differs between models of one upstream.
    pub(in crate::balance) fn tag(&self) -> u32 {
        name_tag(&self.name)
    }

    #[inline]
    pub(in crate::balance) fn rate_limit(&self, tick: u64) -> Option<RateLimit> {
        let word = self.limited.load(Relaxed);
        (word >> 1 > tick).then_some(RateLimit { until: word >> 1, is_known: word & 1 != 0 })
    }

    /// Returns true if fewer tokens remain until the next refill than a request of this size needs.
    #[inline]
    pub(in crate::balance) fn is_short_of(&self, tokens: u32, tick: u64) -> bool {
        self.tokens.load(Relaxed) < tokens.max(1) && u64::from(self.refilled.load(Relaxed)) * 1000 > tick
    }

    /// Records that the service refused a request because of its rate limit. Of two limits the
    /// later end counts.
    pub(in crate::balance) fn limit(&self, cooldown: Option<Cooldown>, tick: u64, random: u64) {
        let (pause, is_known) = match cooldown {
            Some(Cooldown(pause)) => (pause, true),
            None => {
                // Refusals of the same burst count as one.
                let is_new = self.rate_limit(tick).is_none();
                let guesses = self.guesses.load(Relaxed).saturating_add(u8::from(is_new));
                self.guesses.store(guesses, Relaxed);
                (guessed_pause(guesses, random), false)
            }
        };
        let until = tick + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX >> 2).max(1);
        self.limited.fetch_max(until << 1 | u64::from(is_known), Relaxed);
    }

    /// Records that the service has accepted a request.
    pub(in crate::balance) fn record_accepted(&self) {
        if self.guesses.load(Relaxed) != 0 {
            self.guesses.store(0, Relaxed);
        }
    }

    /// Records the remaining tokens that the headers of a response report.
    pub(in crate::balance) fn record_remaining(&self, remaining: &Remaining, tick: u64) {
        if let Some(utilization) = remaining.utilization {
            self.utilization.store(utilization.min(UNKNOWN - 1), Relaxed);
        }
        if let Some((tokens, reset)) = remaining.tokens {
            self.tokens.store(tokens, Relaxed);
            // The time in whole seconds, rounded up, which suffices for 136 years.
            let refilled = (u128::from(tick) + reset.as_millis()).div_ceil(1000);
            self.refilled.store(u32::try_from(refilled).unwrap_or(u32::MAX), Relaxed);
        }
    }
}

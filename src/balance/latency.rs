//! The expected time to the first event of a response.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The time in which the average forgets 63 % of its value.
const DECAY_MS: f32 = 10_000.0;
/// The unit of the time stamps, so that 32 bits wrap after 2 years.
const STAMP_MS: u64 = 16;

/// An exponentially weighted moving average that takes a higher sample at once ("peak EWMA") and
/// decays towards lower ones, and towards 0 without samples, so that a slow member is tried again.
///
/// The average in milliseconds and the time of the last sample share one word. 0: no sample yet.
#[derive(Debug, Default)]
pub(super) struct LatencyAverage(AtomicU64);

impl LatencyAverage {
    /// Adds a sample, in milliseconds.
    pub(super) fn record(&self, tick: u64, sample: f32) {
        let update = |word: u64| {
            let (average, recency) = unpack(word, tick);
            let peak = sample >= average * recency;
            let next = if peak { sample } else { average * recency + sample * (1.0 - recency) };
            Some(pack(next.max(f32::MIN_POSITIVE), tick))
        };
        // The closure never declines.
        let _ = self.0.fetch_update(Relaxed, Relaxed, update);
    }

    /// The expected time at `tick`, in milliseconds. 0: unknown.
    pub(super) fn expected(&self, tick: u64) -> f32 {
        let (average, recency) = unpack(self.0.load(Relaxed), tick);
        average * recency
    }
}

fn pack(average: f32, tick: u64) -> u64 {
    u64::from(average.to_bits()) << 32 | (tick / STAMP_MS) & u64::from(u32::MAX)
}

/// The average, and the share of it that counts at `tick`.
fn unpack(word: u64, tick: u64) -> (f32, f32) {
    let average = f32::from_bits((word >> 32) as u32);
    let elapsed = ((tick / STAMP_MS) as u32).wrapping_sub(word as u32);
    // Another thread's sample may be slightly younger than `tick`.
    let elapsed = if elapsed > u32::MAX / 2 { 0 } else { elapsed };
    let recency = match elapsed {
        // Most samples under load.
        0 => 1.0,
        elapsed => (-(elapsed as f32 * STAMP_MS as f32) / DECAY_MS).exp(),
    };
    (average, recency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_sample_counts_at_once_and_lower_ones_slowly() {
        let latency = LatencyAverage::default();
        assert_eq!(latency.expected(0), 0.0);
        latency.record(16, 100.0);
        latency.record(32, 900.0);
        assert_eq!(latency.expected(32), 900.0);
        latency.record(32, 100.0);
        assert_eq!(latency.expected(32), 900.0, "no time has passed");
        latency.record(10_032, 100.0);
        let expected = latency.expected(10_032);
        assert!((390.0..400.0).contains(&expected), "{expected}");
    }

    #[test]
    fn average_decays_without_samples() {
        let latency = LatencyAverage::default();
        latency.record(0, 1000.0);
        let expected = [10_000, 20_000, 100_000].map(|tick| latency.expected(tick));
        assert!((367.0..369.0).contains(&expected[0]), "{expected:?}");
        assert!((134.0..136.0).contains(&expected[1]), "{expected:?}");
        assert!(expected[2] < 0.1 && expected[2] > 0.0, "{expected:?}");
    }

    #[test]
    fn sample_of_a_later_clock_does_not_decay() {
        let latency = LatencyAverage::default();
        latency.record(160, 50.0);
        assert_eq!(latency.expected(100), 50.0);
    }
}

//! Histograms of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first bound is two to this power, in microseconds.
const FIRST: u32 = 3;

/// The number of bounds: from 8 µs to 134 s, each twice the one before.
pub const BOUNDS: usize = 25;

/// One thread writes, any thread reads. A reader may see a duration in the counts and not yet in
/// the sum.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Counts by bound. The last one counts durations beyond all bounds.
    counts: [AtomicU64; BOUNDS + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Its counts.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        counts.add(self);
        counts
    }

    /// Counts a duration several times. Only one thread may call this.
    pub fn observe(&self, nanoseconds: u64, times: u64) {
        add(&self.counts[place(nanoseconds)], times);
        add(&self.nanoseconds, nanoseconds.saturating_mul(times));
    }
}

/// A load and a store are enough, as there is a single writer.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// The index of the first bound that is not smaller.
fn place(nanoseconds: u64) -> usize {
    let microseconds = nanoseconds.saturating_sub(1) / 1000;
    let power = u64::BITS - microseconds.leading_zeros();
    (power.saturating_sub(FIRST) as usize).min(BOUNDS)
}

/// The sum of several histograms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    counts: [u64; BOUNDS + 1],
    nanoseconds: u64,
}

impl Counts {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        self.nanoseconds = self.nanoseconds.wrapping_add(histogram.nanoseconds.load(Ordering::Relaxed));
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
    }

    /// Each bound in seconds, with the number of durations up to it and beyond the bound before.
    /// The last bound is [`f64::INFINITY`].
    pub fn by_bound(&self) -> Vec<(f64, u64)> {
        let bound = |place: usize| match place {
            BOUNDS => f64::INFINITY,
            place => (1_u64 << (FIRST as usize + place)) as f64 / 1e6,
        };
        self.counts.iter().enumerate().map(|(place, &count)| (bound(place), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_the_first_bound_that_is_not_smaller() {
        for (duration, bound) in [
            (Duration::ZERO, 8e-6),
            (Duration::from_nanos(1), 8e-6),
            (Duration::from_micros(8), 8e-6),
            (Duration::from_nanos(8_001), 16e-6),
            (Duration::from_micros(16), 16e-6),
            (Duration::from_millis(1), 1.024e-3),
            (Duration::from_secs(134), 134.217_728),
            (Duration::from_secs(135), f64::INFINITY),
            (Duration::MAX, f64::INFINITY),
        ] {
            let histogram = Histogram::default();
            histogram.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), 3);
            let mut counts = Counts::default();
            counts.add(&histogram);
            let found: Vec<_> = counts.by_bound().into_iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(found, [(bound, 3)], "{duration:?}");
            // The oracle.
            let naive = counts.by_bound().into_iter().find(|(bound, _)| duration.as_secs_f64() <= *bound);
            assert_eq!(naive.map(|(bound, _)| bound), Some(bound), "{duration:?}");
        }
    }

    #[test]
    fn histograms_add_up() {
        let (first, second) = (Histogram::default(), Histogram::default());
        first.observe(3_000_000, 2);
        second.observe(5_000_000, 1);
        let mut counts = Counts::default();
        counts.add(&first);
        counts.add(&second);
        assert_eq!((counts.count(), counts.sum()), (3, Duration::from_millis(11)));
    }
}

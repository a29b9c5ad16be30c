//! Times to the first token: percentiles in all and by step, and how often each length of time was.

use std::collections::BTreeMap;

use super::{MOST_SAMPLES, Percentiles};
use crate::sinks::ledger::rollup::times::{self, CLASSES, Counted};

/// The bounds of the classes of times in milliseconds. The first class is below the first bound.
pub(in crate::sinks::ledger) const BOUNDS: [f64; 15] =
    [50.0, 100.0, 200.0, 300.0, 500.0, 700.0, 1e3, 1.5e3, 2e3, 3e3, 5e3, 7e3, 10e3, 30e3, 60e3];

/// The number of times in each class.
pub(in crate::sinks::ledger) type Histogram = [u64; BOUNDS.len() + 1];

/// Durations in milliseconds, each with its step. Beyond [`MOST_SAMPLES`] each new one replaces a
/// random one, or is dropped (Vitter's algorithm R).
#[derive(Default)]
pub(super) struct Samples {
    pub(super) kept: Vec<(u16, f64)>,
    seen: u64,
    histogram: Histogram,
    /// The times of each step by class, instead of each time.
    classes: Option<BTreeMap<usize, Box<[u64; CLASSES]>>>,
}

impl Samples {
    /// Keeps classes of times instead of a sample.
    pub(super) fn by_class() -> Self {
        Self { classes: Some(BTreeMap::new()), ..Self::default() }
    }

    /// Adds times of a class, if classes are kept.
    pub(super) fn add_class(&mut self, step: usize, (class, count): Counted) {
        if let Some(classes) = &mut self.classes {
            self.seen += count;
            let counts = classes.entry(step).or_insert_with(|| Box::new([0; CLASSES]));
            counts[usize::from(class).min(CLASSES - 1)] += count;
        }
    }

    pub(super) fn add(&mut self, step: usize, millis: f64) {
        if self.classes.is_some() {
            return self.add_class(step, (times::class_of(millis), 1));
        }
        self.seen += 1;
        self.histogram[histogram_class(millis)] += 1;
        let sample = (u16::try_from(step).unwrap_or(u16::MAX), millis);
        if self.kept.len() < MOST_SAMPLES {
            return self.kept.push(sample);
        }
        let place = fastrand::u64(..self.seen);
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| self.kept.get_mut(place)) {
            *kept = sample;
        }
    }

    /// Adds another sample, so that each value seen has the same odds.
    pub(super) fn add_all(&mut self, mut other: Self) {
        let (mut here, mut there) = (self.seen, other.seen);
        self.seen += other.seen;
        self.histogram.iter_mut().zip(other.histogram).for_each(|(count, more)| *count += more);
        if let (Some(classes), Some(others)) = (&mut self.classes, other.classes.take()) {
            for (step, more) in others {
                let counts = classes.entry(step).or_insert_with(|| Box::new([0; CLASSES]));
                counts.iter_mut().zip(*more).for_each(|(count, more)| *count += more);
            }
            return;
        }
        if self.seen <= MOST_SAMPLES as u64 {
            return self.kept.append(&mut other.kept);
        }
        fastrand::shuffle(&mut self.kept);
        fastrand::shuffle(&mut other.kept);
        let mut kept = Vec::with_capacity(MOST_SAMPLES);
        while kept.len() < MOST_SAMPLES {
            let is_here = fastrand::u64(..here + there) < here;
            let (left, from) =
                if is_here { (&mut here, &mut self.kept) } else { (&mut there, &mut other.kept) };
            *left -= 1;
            kept.extend(from.pop());
        }
        self.kept = kept;
    }

    /// The percentiles of all, of each of `steps`, and the classes.
    pub(super) fn finish(mut self, steps: usize) -> (Percentiles, Vec<Percentiles>, Histogram) {
        if let Some(classes) = self.classes {
            let mut all = Box::new([0_u64; CLASSES]);
            let mut by_step = vec![Percentiles::default(); steps];
            for (step, counts) in classes {
                all.iter_mut().zip(*counts).for_each(|(count, more)| *count += more);
                if let Some(place) = by_step.get_mut(step) {
                    *place = percentiles_of_classes(&counts);
                }
            }
            for (class, count) in (0..).zip(all.iter()) {
                self.histogram[histogram_class(times::place(class).0)] += count;
            }
            return (percentiles_of_classes(&all), by_step, self.histogram);
        }
        let sampled = self.seen > MOST_SAMPLES as u64;
        let mut by_step = vec![Percentiles::default(); steps];
        self.kept.sort_unstable_by_key(|(step, _)| *step);
        for part in self.kept.chunk_by_mut(|(one, _), (other, _)| one == other) {
            let step = part.first().map_or(0, |(step, _)| usize::from(*step));
            if let Some(place) = by_step.get_mut(step) {
                *place = Percentiles { sampled, ..percentiles(part) };
            }
        }
        let all = Percentiles { rows: self.seen, sampled, ..percentiles(&mut self.kept) };
        (all, by_step, self.histogram)
    }
}

/// The class of a time in a [`Histogram`].
fn histogram_class(millis: f64) -> usize {
    BOUNDS.partition_point(|bound| *bound <= millis)
}

/// The percentiles as the middles of their classes.
fn percentiles_of_classes(counts: &[u64; CLASSES]) -> Percentiles {
    let rows: u64 = counts.iter().sum();
    let rank = |percent: u64| {
        let mut left = rows.saturating_mul(percent).div_ceil(100).max(1);
        let found = counts.iter().position(|count| {
            let is_here = *count >= left;
            left = left.saturating_sub(*count);
            is_here
        });
        let class = found.and_then(|class| u16::try_from(class).ok());
        class.map_or(0.0, |class| times::place(class).1)
    };
    Percentiles { p50: rank(50), p95: rank(95), p99: rank(99), rows, sampled: rows > 0 }
}

fn percentiles(samples: &mut [(u16, f64)]) -> Percentiles {
    let rows = samples.len();
    let mut rank = |percent: usize| {
        let rank = (rows * percent).div_ceil(100).max(1) - 1;
        match rows {
            0 => 0.0,
            _ => samples.select_nth_unstable_by(rank, |(_, a), (_, b)| a.total_cmp(b)).1.1,
        }
    };
    Percentiles { p50: rank(50), p95: rank(95), p99: rank(99), rows: rows as u64, sampled: false }
}

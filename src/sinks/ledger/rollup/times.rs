//! Times by class.
//!
//! A class is a thirty-second part of an octave, so its middle is at most 1.6 % away from each of
//! its times. A class that contains a bound of the histogram is split there, so that histograms are
//! exact.

use std::sync::LazyLock;

use crate::sinks::ledger::query::CLASS_BOUNDS;

/// The times of a class, and how many there are.
pub(in crate::sinks::ledger) type Counted = (u16, u64);

/// The parts of an octave, as a power of two.
const PARTS: u32 = 5;

/// The shift that leaves the exponent and the first bits of the mantissa (IEEE 754).
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - PARTS;

/// The least and the greatest time that differs from shorter or longer ones, in milliseconds.
const LEAST: f64 = 1.0 / 1024.0;
const GREATEST: f64 = (1_u64 << 40) as f64;

/// The number of classes.
pub(in crate::sinks::ledger) const CLASSES: usize = (51 << PARTS) << 1;

/// The parts with a bound of the histogram behind their beginning.
static SPLIT: LazyLock<Vec<(u64, f64)>> = LazyLock::new(|| {
    let bounds = CLASS_BOUNDS.into_iter().map(|bound| (part_of(bound), bound));
    bounds.filter(|(part, bound)| begin(*part) < *bound).collect()
});

/// The class of a time in milliseconds.
pub(in crate::sinks::ledger) fn class_of(millis: f64) -> u16 {
    let part = part_of(millis);
    let is_behind = bound_in(part).is_some_and(|bound| bound <= millis);
    u16::try_from(part * 2 + u64::from(is_behind)).unwrap_or(u16::MAX)
}

fn part_of(millis: f64) -> u64 {
    // The comparison is false for what is no number.
    let millis = if millis > LEAST { millis.min(GREATEST) } else { LEAST };
    (millis.to_bits() >> SHIFT) - (LEAST.to_bits() >> SHIFT)
}

/// The bound of the histogram within a part, without the part's beginning.
fn bound_in(part: u64) -> Option<f64> {
    SPLIT.iter().find(|(split, _)| *split == part).map(|(_, bound)| *bound)
}

fn begin(part: u64) -> f64 {
    f64::from_bits((part + (LEAST.to_bits() >> SHIFT)) << SHIFT)
}

/// The first time and the middle of a class.
pub(in crate::sinks::ledger) fn place(class: u16) -> (f64, f64) {
    let part = u64::from(class / 2);
    let (first, end) = (begin(part), begin(part + 1));
    let (first, end) = match bound_in(part) {
        Some(bound) if class % 2 == 1 => (bound, end),
        Some(bound) => (first, bound),
        None => (first, end),
    };
    (first, (first + end) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_of_a_class_is_near_and_bounds_are_exact() {
        let mut random = fastrand::Rng::with_seed(5);
        let bounds = CLASS_BOUNDS.into_iter().flat_map(|bound| [bound, bound.next_down(), bound.next_up()]);
        let times = (0..50_000).map(|_| 2_f64.powf(random.f64() * 40.0 - 9.0)).chain(bounds);
        for millis in times {
            let class = class_of(millis);
            assert!(usize::from(class) < CLASSES);
            let (first, middle) = place(class);
            assert!((middle / millis - 1.0).abs() <= 1.0 / 64.0, "{millis} is in {first}, {middle}");
            for bound in CLASS_BOUNDS {
                assert_eq!(bound <= millis, bound <= first, "{millis} and {first} at {bound}");
            }
        }
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX] {
            assert!(usize::from(class_of(odd)) < CLASSES, "{odd}");
        }
    }

    #[test]
    fn classes_are_in_the_order_of_times() {
        let mut times: Vec<_> = (0..10_000).map(|at| f64::from(at) * 0.37).collect();
        times.sort_unstable_by(f64::total_cmp);
        assert!(times.iter().map(|millis| class_of(*millis)).is_sorted());
    }
}

//! The axis of values: its end, its ticks, and values as text.

use super::numbers::{compact, grouped, millis};
use crate::llm::price::Currency;

/// The unit of a chart's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Whole things.
    Count,
    Money(Currency),
    /// Milliseconds.
    Time,
    /// Parts of 1.
    Share,
}

/// The largest number of ticks above zero.
const MOST_TICKS: f64 = 4.0;

/// The highest value of an axis, and its ticks above zero.
#[derive(Debug, PartialEq)]
pub(super) struct Scale {
    /// The value at the upper end: the largest one, so that the chart has no empty part.
    pub(super) top: f64,
    pub(super) ticks: Vec<f64>,
}

impl Scale {
    pub(super) fn of(most: f64, unit: Unit) -> Self {
        if most <= 0.0 {
            return Self { top: 1.0, ticks: Vec::new() };
        }
        let least = most / MOST_TICKS;
        let power = 10_f64.powf(least.log10().floor());
        let factors = [1.0, 2.0, 5.0, 10.0];
        let step = factors.into_iter().map(|factor| factor * power).find(|step| *step >= least * 0.999);
        let mut step = step.unwrap_or(most);
        if unit == Unit::Count {
            step = step.max(1.0);
        }
        let count = (most / step * 1.0001).floor() as usize;
        Self { top: most, ticks: (1..=count).map(|tick| tick as f64 * step).collect() }
    }
}

/// A tick as text. All ticks of an axis have the same decimals.
pub(super) fn tick(value: f64, unit: Unit, scale: &Scale) -> String {
    match unit {
        Unit::Count => compact(value.round() as u64),
        Unit::Time => millis(value),
        Unit::Share => format!("{:.*}%", decimals(scale, 100.0), value * 100.0),
        Unit::Money(currency) if value >= 10_000.0 => {
            format!("{}{}", currency.sign(), compact(value.round() as u64))
        }
        Unit::Money(currency) => format!("{}{:.*}", currency.sign(), decimals(scale, 1.0), value),
    }
}

fn decimals(scale: &Scale, factor: f64) -> usize {
    let step = scale.ticks.first().map_or(1.0, |first| first * factor);
    let digits = -step.log10().floor();
    if digits > 0.0 { digits.min(9.0) as usize } else { 0 }
}

/// A value as text, with all the digits that matter.
pub(super) fn text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => grouped(value.round() as u64),
        Unit::Time => millis(value),
        Unit::Share => format!("{:.1}%", value * 100.0),
        Unit::Money(currency) => {
            let decimals = match value {
                ..0.1 => 4,
                ..10_000.0 => 2,
                _ => 0,
            };
            let text = format!("{value:.decimals$}");
            let (whole, rest) = text.split_once('.').map_or((&*text, ""), |(whole, rest)| (whole, rest));
            let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
            let point = if rest.is_empty() { "" } else { "." };
            format!("{}{whole}{point}{rest}", currency.sign())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_at_whole_units_and_end_with_the_data() {
        for (most, unit, ticks) in [
            (1.0, Unit::Count, vec![1.0]),
            (3.0, Unit::Count, vec![1.0, 2.0, 3.0]),
            (41.0, Unit::Count, vec![20.0, 40.0]),
            (1735.0, Unit::Count, vec![500.0, 1000.0, 1500.0]),
            (0.5, Unit::Share, vec![0.2, 0.4]),
            (1640.0, Unit::Time, vec![500.0, 1000.0, 1500.0]),
        ] {
            let scale = Scale::of(most, unit);
            assert_eq!(scale.top, most);
            assert_eq!(scale.ticks.len(), ticks.len(), "{most}: {:?}", scale.ticks);
            for (tick, wanted) in scale.ticks.iter().zip(ticks) {
                assert!((tick - wanted).abs() < 1e-9, "{most}: {tick}");
            }
        }
        assert_eq!(Scale::of(0.0, Unit::Count), Scale { top: 1.0, ticks: Vec::new() });
    }

    #[test]
    fn ticks_of_one_axis_have_equal_decimals() {
        let dollars = Unit::Money(Currency::parse("USD").unwrap());
        for (most, first) in [(4.1, "$2"), (0.041, "$0.02"), (0.9, "$0.5"), (41_000.0, "$20K")] {
            let scale = Scale::of(most, dollars);
            assert_eq!(tick(scale.ticks[0], dollars, &scale), first, "{most}");
        }
        assert_eq!(text(1234.5, dollars), "$1,234.50");
        assert_eq!(text(0.01234, dollars), "$0.0123");
    }
}

//! Numbers and times for people: short, with their unit, and exact on demand.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::llm::price::{Amount, Currency};
use crate::sinks::ledger::Sums;
pub(super) use crate::sinks::ledger::output::numbers::{grouped, percent};

/// Replaces an unknown number.
pub(super) const UNKNOWN: &str = "–";

/// Three digits and a letter: `1.23M`. Up to 9,999 the number itself. Truncated, so that no part
/// seems larger than its whole.
pub(super) fn compact(number: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")];
    if number < 10_000 {
        return grouped(number);
    }
    let (unit, letter) = UNITS.into_iter().find(|(unit, _)| number >= *unit).unwrap_or((1, ""));
    let (whole, hundredths) = (number / unit, number % unit / (unit / 100).max(1));
    match whole {
        0..10 if hundredths > 0 => {
            format!("{whole}.{hundredths:02}").trim_end_matches('0').to_owned() + letter
        }
        10..100 if hundredths >= 10 => format!("{whole}.{}{letter}", hundredths / 10),
        _ => format!("{}{letter}", grouped(whole)),
    }
}

/// The short number, with all digits in the title and for programs.
pub(super) fn count(number: u64) -> Markup {
    html! { data value=(number) title=(grouped(number)) { (compact(number)) } }
}

/// A number that may be unknown, as in [`count`].
pub(super) fn maybe(number: Option<u64>) -> Markup {
    match number {
        Some(number) => count(number),
        None => html! { span.unknown title="not reported" { (UNKNOWN) } },
    }
}

/// Milliseconds with a fitting unit: `8.2 ms`, `820 ms`, `1.24 s`, `2 min 5 s`.
pub(super) fn millis(millis: f64) -> String {
    // Rounding must not carry a number out of its unit: 999.7 ms is 1.00 s.
    match millis {
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        ..9_995.0 => format!("{:.2} s", millis / 1e3),
        ..59_950.0 => format!("{:.1} s", millis / 1e3),
        _ => seconds(Duration::from_millis(millis.round() as u64)),
    }
}

/// Whole seconds of a running time: `7 s`, `2 min 05 s`, `3 h 12 min`.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number as in [`maybe`], marked if a part of it is estimated.
pub(super) fn marked(number: Option<u64>, estimated: Option<u64>) -> Markup {
    html! {
        @if let Some(part) = estimated.filter(|part| *part > 0) {
            abbr title={ (grouped(part)) " of it are estimated" } { "~" }
        }
        (maybe(number))
    }
}

/// The cost in one currency. Empty if no price is known, which differs from 0.
pub(super) fn money(sums: &Sums, currency: Currency) -> Markup {
    match sums.cost.amount(currency) {
        Some(amount) => {
            let value = amount.to_f64();
            let decimals = if value >= 10_000.0 {
                0
            } else if value >= 0.095 {
                2
            } else {
                4
            };
            let text = amount.rounded(decimals);
            let (whole, rest) =
                text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
            let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
            let part = sums.estimated().cost.amount(currency).filter(|part| *part > Amount::default());
            html! {
            @if let Some(part) = part {
                abbr title={ "estimated tokens cost " (part) " " (currency) " of it" } { "~" }
            }
            data value=(amount) title={ (amount) " " (currency) } { (currency.sign()) (whole) @if let Some(rest) = rest { "." (rest) } } }
        }
        None => maybe(None),
    }
}

/// A moment in a zone, which the page names once.
pub(super) fn time(at: Timestamp, zone: &TimeZone) -> Markup {
    html! {
        time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) { (at.to_zoned(zone.clone()).strftime("%b %-d, %H:%M:%S")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_letter() {
        for (number, text) in [
            (0, "0"),
            (950, "950"),
            (9_999, "9,999"),
            (10_000, "10K"),
            (12_345, "12.3K"),
            (99_999, "99.9K"),
            (123_456, "123K"),
            (999_999, "999K"),
            (1_000_000, "1M"),
            (1_200_000, "1.2M"),
            (1_234_567, "1.23M"),
            (12_345_678, "12.3M"),
            (1_234_567_890, "1.23B"),
            (u64::MAX, "18,446,744T"),
        ] {
            assert_eq!(compact(number), text);
        }
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        for (number, text) in [
            (0.04, "0.0 ms"),
            (8.24, "8.2 ms"),
            (9.96, "10 ms"),
            (820.4, "820 ms"),
            (999.7, "1.00 s"),
            (1_239.0, "1.24 s"),
            (45_000.0, "45.0 s"),
            (59_999.0, "59 s"),
            (125_000.0, "2 min 05 s"),
            (11_520_000.0, "3 h 12 min"),
        ] {
            assert_eq!(millis(number), text, "{number}");
        }
    }
}

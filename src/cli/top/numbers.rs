//! Numbers in few columns.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::llm::price::Currency;
use crate::sinks::ledger::output::numbers::grouped;

/// From this number on, digits are left out.
const SHORT: u64 = 100_000;

/// At most seven characters: `99,999`, `123.4k`, `12.3M`.
pub(super) fn count(number: u64) -> String {
    if number < SHORT {
        return grouped(number);
    }
    let mut value = number as f64;
    let mut unit = "";
    for larger in ["k", "M", "G", "T", "P"] {
        if value < 999.95 {
            break;
        }
        value /= 1e3;
        unit = larger;
    }
    format!("{value:.1}{unit}")
}

/// `None` is unknown. Estimated parts are marked.
pub(super) fn tokens(number: Option<u64>, estimated: Option<u64>) -> String {
    let mark = if estimated.is_some_and(|part| part > 0) { "~" } else { "" };
    number.map_or_else(|| "-".to_owned(), |number| format!("{mark}{}", count(number)))
}

/// An amount of what a limit counts.
pub(super) fn amount(number: f64) -> String {
    match number {
        number if number >= SHORT as f64 || number.fract() == 0.0 => count(number as u64),
        number if number < 0.01 => "<0.01".to_owned(),
        number => format!("{}.{:02}", grouped(number as u64), (number.fract() * 100.0) as u64),
    }
}

/// Money with the sign of its currency. Nothing but zero is written as 0.
pub(super) fn money(currency: &str, amount: Option<f64>) -> String {
    let Some(amount) = amount else { return "-".to_owned() };
    let sign = Currency::parse(currency).map(|currency| currency.sign()).unwrap_or_default();
    match amount {
        0.0 => format!("{sign}0"),
        amount if amount >= SHORT as f64 => format!("{sign}{}", count(amount as u64)),
        amount if amount >= 100.0 => {
            let cents = (amount * 100.0).round() as u64;
            format!("{sign}{}.{:02}", grouped(cents / 100), cents % 100)
        }
        amount if amount < 0.000_1 => format!("<{sign}0.0001"),
        amount => format!("{sign}{amount:.4}"),
    }
}

/// Per second, with one digit behind the point below 10.
pub(super) fn speed(speed: f64) -> String {
    if speed < 9.95 { format!("{speed:.1}") } else { count(speed.round() as u64) }
}

/// A length of time: `340 ms`, `12.3 s`, `4:05`, `1:02:03`.
pub(super) fn length(millis: f64) -> String {
    let seconds = (millis / 1e3).round() as u64;
    match millis {
        millis if millis < 999.5 => format!("{millis:.0} ms"),
        millis if millis < 59_950.0 => format!("{:.1} s", millis / 1e3),
        _ if seconds < 3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// A time of today without its date.
pub(super) fn time(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%m-%d %H:%M" };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_at_most_seven_characters() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99,999"),
            (100_000, "100.0k"),
            (999_949, "999.9k"),
            (999_950, "1.0M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18446.7P"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn money_is_zero_only_for_nothing() {
        for (amount, text) in [
            (0.0, "$0"),
            (0.000_01, "<$0.0001"),
            (0.042, "$0.0420"),
            (99.5, "$99.5000"),
            (1234.567, "$1,234.57"),
            (1e6, "$1.0M"),
        ] {
            assert_eq!(money("USD", Some(amount)), text);
        }
        assert_eq!(money("CHF", Some(1.0)), "1.0000");
        assert_eq!(money("USD", None), "-");
    }

    #[test]
    fn amounts_of_limits_keep_cents() {
        for (number, text) in [(7.0, "7"), (0.001, "<0.01"), (12.345, "12.34"), (123_456.7, "123.5k")] {
            assert_eq!(amount(number), text);
        }
    }

    #[test]
    fn lengths_grow_from_milliseconds_to_hours() {
        for (millis, text) in [
            (0.4, "0 ms"),
            (999.6, "1.0 s"),
            (59_949.0, "59.9 s"),
            (59_951.0, "1:00"),
            (245_000.0, "4:05"),
            (3_723_000.0, "1:02:03"),
        ] {
            assert_eq!(length(millis), text);
        }
    }

    #[test]
    fn time_of_another_day_has_its_date() {
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        assert_eq!(time(now, now, &TimeZone::UTC), "12:00:00");
        let later: Timestamp = "2026-12-02T00:00:00Z".parse().unwrap();
        assert_eq!(time(later, now, &TimeZone::UTC), "12-02 00:00");
    }
}

//! Durations in the notation of the configuration: `30s`, `200ms`, `1m30s`.

use std::time::Duration;

/// The longest duration. A longer one is a typing error, and clocks overflow if it is added to now.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Milliseconds in each unit.
const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 7 * 86_400_000)];

/// The longest duration into the past: a hundred years.
const LONGEST_PAST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A duration up to a year: whole numbers, each with a unit.
///
/// # Errors
/// Fails with the mistake in the text, and the right form.
pub fn duration(text: &str) -> Result<Duration, String> {
    let total = sum(text)?;
    if total > LONGEST { Err(format!("{text:?} is longer than a year")) } else { Ok(total) }
}

/// Parses a duration into the past: longer than zero, and possibly years.
///
/// # Errors
/// Fails with the mistake in the text, and the right form.
pub fn past(text: &str) -> Result<Duration, String> {
    match sum(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        total if total > LONGEST_PAST => Err(format!("{text:?} is longer than a hundred years")),
        total => Ok(total),
    }
}

fn sum(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    loop {
        let (number, behind) = split(rest, |letter| letter.is_ascii_digit());
        let (unit, behind) = split(behind, |letter| letter.is_ascii_alphabetic());
        if !number.is_empty() && unit.is_empty() && behind.is_empty() {
            return Err(format!(
                "{text:?} has no unit: write {:?}, or one of the units ms, s, m, h, d, w",
                format!("{text}s")
            ));
        }
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (false, Some((_, millis))) = (number.is_empty(), unit) else {
            return Err(format!(
                "{text:?} is not a duration: write for example \"30s\", \"200ms\" or \"1m30s\""
            ));
        };
        // A number beyond u64 is beyond the longest too.
        let millis = number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(*millis);
        total = total.saturating_add(Duration::from_millis(millis));
        if behind.is_empty() {
            return Ok(total);
        }
        rest = behind;
    }
}

/// A duration longer than zero.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

fn split(text: &str, takes: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !takes(letter)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_adds_up_numbers_with_units() {
        for (text, millis) in [
            ("200ms", 200),
            ("0s", 0),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
            ("1m30s", 90_000),
            ("007s", 7_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn duration_refusal_says_what_to_write() {
        for (text, reason) in [
            ("30", "write \"30s\""),
            ("1m30", "no unit"),
            ("", "not a duration"),
            ("s", "not a duration"),
            ("5 s", "not a duration"),
            ("-5s", "not a duration"),
            ("1.5s", "not a duration"),
            ("5sec", "not a duration"),
            ("5S", "not a duration"),
            ("five", "not a duration"),
            ("367d", "longer than a year"),
            ("99999999999999999999d", "longer than a year"),
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn past_may_be_years_long_and_not_zero() {
        assert_eq!(past("730d"), Ok(Duration::from_secs(730 * 86_400)));
        assert!(past("0d").unwrap_err().contains("longer than zero"));
        assert!(past("99999999d").unwrap_err().contains("a hundred years"));
        assert!(past("90").unwrap_err().contains("no unit"));
    }

    #[test]
    fn timeout_of_zero_is_refused() {
        assert!(timeout("0ms").unwrap_err().contains("longer than zero"));
        assert_eq!(timeout("1ms"), Ok(Duration::from_millis(1)));
    }
}

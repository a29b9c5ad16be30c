//! A time as a user writes it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::calendar::Period;
use crate::config;

/// The accepted forms, for messages.
const FORMS: &str = "write a length of time back from now (30m, 24h, 7d, 1w), a day (2026-07-30) or a time (2026-07-30T08:00, \
                     2026-07-30T08:00:00Z, 2026-07-30T08:00+02:00), or one of now, today, yesterday, and this or last before week, \
                     month, year (\"last month\"); without an offset all are of the time zone";

/// A duration back from now (`30m`, `24h`, `1w`), a day, a time with or without seconds and zone,
/// or a word.
///
/// Days, weeks, months and years are those of the requested zone, as is a time without a zone. A
/// period means its beginning: `yesterday` is the midnight before last, also as the end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSpec {
    /// A duration before now.
    Ago(Duration),
    /// A moment.
    At(Timestamp),
    /// A time in the zone; for a day, its beginning.
    Civil(DateTime),
    /// The beginning of this period of the calendar, or of the one before it.
    Begin(Period, Relative),
}

/// Selects a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relative {
    /// The period that contains now.
    This,
    /// The period before it.
    Last,
}

impl TimeSpec {
    /// Parses one of the forms.
    ///
    /// # Errors
    /// Fails with a message that names the mistake and the accepted forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(when) = word(text) {
            return Ok(when);
        }
        // A number and a unit. A day begins with more digits.
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let is_length = digits > 0 && text.as_bytes().get(digits).is_none_or(u8::is_ascii_alphabetic);
        if is_length {
            return config::past(text).map(Self::Ago).map_err(|reason| format!("{reason}; or {FORMS}"));
        }
        civil(text).ok_or_else(|| format!("{text:?} is not a time: {FORMS}"))
    }

    /// Parses a day or a time.
    pub fn at(text: &str, zone: &TimeZone) -> Option<Timestamp> {
        civil(text).map(|spec| spec.before(Timestamp::UNIX_EPOCH, zone))
    }

    /// The period of the calendar that it names.
    pub fn period(self) -> Option<Period> {
        match self {
            Self::Begin(period, _) => Some(period),
            _ => None,
        }
    }

    /// The moment itself, if now is `now`.
    pub fn before(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            Self::At(at) => at,
            Self::Civil(at) => zone.to_timestamp(at).unwrap_or(Timestamp::MAX),
            Self::Begin(period, Relative::This) => period.around(now, zone).0,
            Self::Begin(period, Relative::Last) => period.before(now, zone),
        }
    }

    /// The beginning and the end of a query, if now is `now`. Without `until` it ends now.
    ///
    /// # Errors
    /// Fails with a message if the range is empty or reversed.
    pub fn range(
        since: Self,
        until: Option<Self>,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<(Timestamp, Option<Timestamp>), String> {
        let (since, until) = (since.before(now, zone), until.map(|until| until.before(now, zone)));
        match until {
            Some(until) if until <= since => Err(format!("until: is not after since ({until}, {since})")),
            None if now == since => Err("since: is now, so the range is empty".to_owned()),
            None if now < since => Err(format!("since: {since} is in the future")),
            _ => Ok((since, until)),
        }
    }
}

/// The time before a range, for a comparison. A range that begins with a `period` of the calendar
/// is compared with the one before: a part of it with the same part. Any other range is compared
/// with the time of equal length before it.
pub fn earlier(
    period: Option<Period>,
    since: Timestamp,
    until: Option<Timestamp>,
    now: Timestamp,
    zone: &TimeZone,
) -> (Timestamp, Timestamp) {
    let length = until.unwrap_or(now).duration_since(since).unsigned_abs();
    let Some(period) = period else {
        return (since.checked_sub(length).unwrap_or(Timestamp::MIN), since);
    };
    let begin = period.before(since, zone);
    let is_whole = until.is_some_and(|until| until == period.around(since, zone).1);
    let end = begin.checked_add(length).unwrap_or(since).min(since);
    (begin, if is_whole { since } else { end })
}

fn word(text: &str) -> Option<TimeSpec> {
    let text = text.to_ascii_lowercase();
    let mut words = text.split([' ', '-', '_']).filter(|word| !word.is_empty());
    let when = match (words.next()?, words.next()) {
        ("now", None) => TimeSpec::Ago(Duration::ZERO),
        ("today", None) => TimeSpec::Begin(Period::Day, Relative::This),
        ("yesterday", None) => TimeSpec::Begin(Period::Day, Relative::Last),
        (turn, Some(span)) => {
            let turn = match turn {
                "this" => Relative::This,
                "last" => Relative::Last,
                _ => return None,
            };
            let periods = [Period::Week, Period::Month, Period::Year];
            TimeSpec::Begin(periods.into_iter().find(|period| period.name() == span)?, turn)
        }
        _ => return None,
    };
    words.next().is_none().then_some(when)
}

/// A day or a time, with or without an offset.
fn civil(text: &str) -> Option<TimeSpec> {
    if let Ok(at) = text.parse() {
        return Some(TimeSpec::At(at));
    }
    // jiff ignores a zone that it does not need, so only digits may be there.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"-T: .t".contains(&byte));
    if !is_plain {
        return None;
    }
    let civil = match text.len() {
        10 => text.parse::<Date>().ok()?.to_datetime(Time::midnight()),
        _ => text.parse::<DateTime>().ok()?,
    };
    Some(TimeSpec::Civil(civil))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        // A Thursday.
        "2026-07-30T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn moment_is_duration_day_time_or_word() {
        for (text, expected) in [
            ("24h", "2026-07-29T12:00:00Z"),
            ("1w", "2026-07-23T12:00:00Z"),
            ("1w2d", "2026-07-21T12:00:00Z"),
            ("730d", "2024-07-30T12:00:00Z"),
            ("2026-07-01", "2026-07-01T00:00:00Z"),
            ("2026-07-28T10:00", "2026-07-28T10:00:00Z"),
            ("2026-07-28 10:00", "2026-07-28T10:00:00Z"),
            ("2026-07-28T10", "2026-07-28T10:00:00Z"),
            ("2026-07-28T10:00:30", "2026-07-28T10:00:30Z"),
            ("2026-07-28T10:00:30.5", "2026-07-28T10:00:30.5Z"),
            ("2026-07-28T10:00Z", "2026-07-28T10:00:00Z"),
            ("2026-07-30T08:00:00+02:00", "2026-07-30T06:00:00Z"),
            ("2026-07-30T08:00+02:00", "2026-07-30T06:00:00Z"),
            (" now ", "2026-07-30T12:00:00Z"),
            ("today", "2026-07-30T00:00:00Z"),
            ("Yesterday", "2026-07-29T00:00:00Z"),
            ("this week", "2026-07-27T00:00:00Z"),
            ("last-week", "2026-07-20T00:00:00Z"),
            ("this month", "2026-07-01T00:00:00Z"),
            ("last month", "2026-06-01T00:00:00Z"),
            ("last_year", "2025-01-01T00:00:00Z"),
            ("this year", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                TimeSpec::parse(text).unwrap().before(now(), &TimeZone::UTC).to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn other_text_is_refused_with_accepted_forms() {
        for (text, reason) in [
            ("24", "no unit"),
            ("0s", "longer than zero"),
            ("tomorrow", "is not a time"),
            ("", "is not a time"),
            ("last", "is not a time"),
            ("last month or so", "is not a time"),
            ("2026-07-28T25:00", "is not a time"),
            ("2026-02-30", "is not a time"),
            ("2026-07-28T10:00[Europe/Berlin]", "is not a time"),
            ("2026-07-28T10:00 CEST", "is not a time"),
            ("28.07.2026", "is not a time"),
            ("2026-07", "is not a time"),
        ] {
            let error = TimeSpec::parse(text).unwrap_err();
            assert!(error.contains(reason) && error.contains("2026-07-30T08:00+02:00"), "{text}: {error}");
        }
    }

    #[test]
    fn times_and_spans_are_those_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (text, now, expected) in [
            ("2026-07-28T10:00", now(), "2026-07-28T08:00:00Z"),
            ("2026-07-28T10:00Z", now(), "2026-07-28T10:00:00Z"),
            ("2026-03-29", now(), "2026-03-28T23:00:00Z"),
            ("2026-03-29T02:30", now(), "2026-03-29T01:30:00Z"),
            ("2026-10-25T02:30", now(), "2026-10-25T00:30:00Z"),
            ("today", "2026-07-30T22:30:00Z".parse().unwrap(), "2026-07-30T22:00:00Z"),
            ("yesterday", "2026-10-26T12:00:00Z".parse().unwrap(), "2026-10-24T22:00:00Z"),
            ("last week", now(), "2026-07-19T22:00:00Z"),
            ("last month", "2026-03-31T22:30:00Z".parse().unwrap(), "2026-02-28T23:00:00Z"),
            ("24h", now(), "2026-07-29T12:00:00Z"),
        ] {
            assert_eq!(TimeSpec::parse(text).unwrap().before(now, &berlin).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn empty_or_backward_range_is_refused() {
        let range = |since: &str, until: Option<&str>| {
            let until = until.map(|until| TimeSpec::parse(until).unwrap());
            TimeSpec::range(TimeSpec::parse(since).unwrap(), until, now(), &TimeZone::UTC)
        };
        assert!(range("24h", None).is_ok());
        assert!(range("yesterday", Some("today")).is_ok());
        assert!(range("today", Some("yesterday")).unwrap_err().contains("is not after since"));
        assert!(range("1h", Some("1h")).unwrap_err().contains("is not after since"));
        assert!(range("now", None).unwrap_err().contains("the range is empty"));
        assert!(range("2026-08-01", None).unwrap_err().contains("in the future"));
    }
}

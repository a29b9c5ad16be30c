//! Hours, days, weeks and months of a time zone, as ranges of UTC.
//!
//! A day has 23 or 25 hours if the zone's clocks change on it, so every range is computed from the
//! civil calendar, never by division.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// A period of the civil calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// The time from a full hour of the zone to the next. An hour that occurs twice in autumn is
    /// two periods.
    Hour,
    /// The day from midnight, or from the first moment of a day without a midnight.
    Day,
    /// The week from Monday (ISO 8601).
    Week,
    /// The month from its first day.
    Month,
    /// The year from the first of January.
    Year,
}

impl Period {
    /// The name in the configuration and in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The beginning and the end of the period that contains `at`.
    pub fn around(self, at: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
        if self == Self::Hour {
            return hour(at, zone);
        }
        let mut first = self.first(zone.to_datetime(at).date());
        loop {
            let next = self.next(first);
            let (begin, end) = (midnight(first, zone), midnight(next, zone));
            // Clocks that go back just after midnight repeat the end of the day before.
            if at < end || next == first {
                return (begin, end);
            }
            first = next;
        }
    }

    /// The beginning of the period before the one that contains `at`.
    pub fn before(self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let (begin, _) = self.around(at, zone);
        let last = begin.checked_sub(Duration::from_nanos(1)).unwrap_or(Timestamp::MIN);
        self.around(last, zone).0
    }

    /// The beginnings of all periods from the one with `first` to the one with `last`.
    pub fn beginnings(self, first: Timestamp, last: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let (begin, mut end) = self.around(first, zone);
        let mut beginnings = vec![begin];
        while end <= last && end < Timestamp::MAX {
            beginnings.push(end);
            end = self.around(end, zone).1;
        }
        beginnings
    }

    /// The beginnings of the periods that overlap one of the spans. The spans are ordered, and each
    /// has its first and its last moment.
    pub fn beginnings_within(self, spans: &[(Timestamp, Timestamp)], zone: &TimeZone) -> Vec<Timestamp> {
        let beginnings = spans.iter().flat_map(|(first, last)| self.beginnings(*first, *last, zone));
        let mut beginnings: Vec<_> = beginnings.collect();
        beginnings.dedup();
        beginnings
    }

    /// The name of the period that begins at `begin`, unique within a zone.
    pub fn label(self, begin: Timestamp, zone: &TimeZone) -> String {
        let form = match self {
            Self::Hour if *zone == TimeZone::UTC => "%Y-%m-%dT%H:%MZ",
            Self::Hour => "%Y-%m-%dT%H:%M%:z",
            Self::Day | Self::Week => "%Y-%m-%d",
            Self::Month => "%Y-%m",
            Self::Year => "%Y",
        };
        begin.to_zoned(zone.clone()).strftime(form).to_string()
    }

    /// The first day of the period that contains `date`.
    fn first(self, date: Date) -> Date {
        match self {
            Self::Hour | Self::Day => date,
            Self::Week => later(date, i64::from(-date.weekday().to_monday_zero_offset()).days()),
            Self::Month => date.first_of_month(),
            Self::Year => date.first_of_year(),
        }
    }

    /// The first day of the period after the one that begins at `first`.
    fn next(self, first: Date) -> Date {
        match self {
            Self::Hour | Self::Day => later(first, 1.day()),
            Self::Week => later(first, 1.week()),
            Self::Month => later(first, 1.month()),
            Self::Year => later(first, 1.year()),
        }
    }
}

pub fn later(date: Date, span: Span) -> Date {
    date.checked_add(span).unwrap_or(date)
}

/// The first moment of a day.
pub fn midnight(date: Date, zone: &TimeZone) -> Timestamp {
    zone.to_timestamp(date.to_datetime(Time::midnight())).unwrap_or(Timestamp::MAX)
}

/// An hour ends early or begins late if the clocks change within it.
fn hour(at: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
    const HOUR: i64 = 3600;
    let offset = zone.to_offset(at);
    let local = at.as_second().saturating_add(offset.seconds().into());
    let begin = local.div_euclid(HOUR) * HOUR - i64::from(offset.seconds());
    let second = |second: i64| Timestamp::from_second(second);
    let (mut begin, mut end) =
        (second(begin).unwrap_or(Timestamp::MIN), second(begin + HOUR).unwrap_or(Timestamp::MAX));
    if zone.to_offset(begin) != offset {
        let after = at.checked_add(Duration::from_nanos(1)).unwrap_or(at);
        begin = zone.preceding(after).next().map_or(begin, |change| change.timestamp());
    }
    if zone.to_offset(end.checked_sub(Duration::from_nanos(1)).unwrap_or(end)) != offset {
        end = zone.following(at).next().map_or(end, |change| change.timestamp());
    }
    (begin, end)
}

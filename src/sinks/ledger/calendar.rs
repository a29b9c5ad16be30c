//! Hours, days, weeks and months of a time zone, as ranges of UTC.
//!
//! A day has 23 or 25 hours if the zone's clocks change on it, so every range is computed from the
//! civil calendar, never by division. Databases get the boundaries as values and need no time
//! zones.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// A period of the civil calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The beginning and the end of the period that contains `at`.
    pub(super) fn around(self, at: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
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
    pub(super) fn before(self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let (begin, _) = self.around(at, zone);
        let last = begin.checked_sub(Duration::from_nanos(1)).unwrap_or(Timestamp::MIN);
        self.around(last, zone).0
    }

    /// The beginnings of all periods from the one with `first` to the one with `last`.
    pub(super) fn beginnings(self, first: Timestamp, last: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
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
    pub(super) fn beginnings_within(
        self,
        spans: &[(Timestamp, Timestamp)],
        zone: &TimeZone,
    ) -> Vec<Timestamp> {
        let beginnings = spans.iter().flat_map(|(first, last)| self.beginnings(*first, *last, zone));
        let mut beginnings: Vec<_> = beginnings.collect();
        beginnings.dedup();
        beginnings
    }

    /// The name of the period that begins at `begin`, unique within a zone.
    pub(super) fn label(self, begin: Timestamp, zone: &TimeZone) -> String {
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

fn later(date: Date, span: Span) -> Date {
    date.checked_add(span).unwrap_or(date)
}

/// The first moment of a day.
fn midnight(date: Date, zone: &TimeZone) -> Timestamp {
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

/// The beginnings of a chart's steps, from the one that contains `since` to the last before
/// `until`: at least one, at most `most`.
///
/// Steps shorter than a day are counted from each midnight of the zone, steps of several days from
/// a Monday.
pub(super) fn steps(
    since: Timestamp,
    until: Timestamp,
    step: Duration,
    zone: &TimeZone,
    most: usize,
) -> Vec<Timestamp> {
    let day = Duration::from_hours(24);
    let mut steps = Vec::new();
    let days = i64::try_from(step.as_secs() / day.as_secs()).unwrap_or(i64::MAX).max(1);
    let today = zone.to_datetime(since).date();
    let since_monday = today.since(MONDAY).map_or(0, |span| i64::from(span.get_days()));
    let mut date = if step < day { today } else { later(today, (-since_monday.rem_euclid(days)).days()) };
    while steps.len() < most {
        let next = later(date, days.days());
        let (mut begin, end) = (midnight(date, zone), midnight(next, zone));
        while begin < end && begin < until && steps.len() < most {
            let after = if step < day { begin.checked_add(step).unwrap_or(end).min(end) } else { end };
            if after > since {
                steps.push(begin);
            }
            begin = after;
        }
        if end >= until || next == date {
            break;
        }
        date = next;
    }
    if steps.is_empty() {
        steps.push(since);
    }
    steps
}

/// A Monday before all records.
const MONDAY: Date = Date::constant(1969, 12, 29);

/// The periods of rows, cached, since rows come approximately in the order of their times.
pub(super) struct Periods<'a> {
    period: Period,
    zone: &'a TimeZone,
    /// Ends by beginnings, in nanoseconds since 1970.
    known: BTreeMap<i64, i64>,
    last: (i64, i64),
}

impl<'a> Periods<'a> {
    pub(super) fn new(period: Period, zone: &'a TimeZone) -> Self {
        Self { period, zone, known: BTreeMap::new(), last: (0, 0) }
    }

    /// The beginning of the period that contains a time, both in nanoseconds since 1970.
    pub(super) fn begin(&mut self, at: i64) -> i64 {
        if self.last.0 <= at && at < self.last.1 {
            return self.last.0;
        }
        let known = self.known.range(..=at).next_back().map(|(begin, end)| (*begin, *end));
        self.last = known.filter(|(_, end)| at < *end).unwrap_or_else(|| {
            let time = Timestamp::from_nanosecond(at.into()).unwrap_or(Timestamp::MIN);
            let (begin, end) = self.period.around(time, self.zone);
            let (begin, end) = (nanoseconds(begin), nanoseconds(end));
            self.known.insert(begin, end);
            (begin, end)
        });
        self.last.0
    }
}

/// A time in the unit of SQLite's column, saturated outside of the years 1678 to 2262.
pub(super) fn nanoseconds(at: Timestamp) -> i64 {
    let at = at.as_nanosecond();
    i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;

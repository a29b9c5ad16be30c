//! The periods of rows, and the steps of charts. Databases get their boundaries as values and need
//! no time zones.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

pub(super) use crate::support::calendar::Period;
use crate::support::calendar::{later, midnight};

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

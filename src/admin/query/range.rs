//! The period of the dashboard, with the one before it, and the steps of its charts.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::sinks::ledger::earlier;
use crate::support::calendar::Period;

/// The period of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Range {
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Today,
    Yesterday,
    ThisWeek,
    ThisMonth,
    LastMonth,
    /// The time from the first timestamp until the second.
    Custom(Timestamp, Timestamp),
}

/// Hours of the ranges that end now.
const DAY: u64 = 24;

impl Range {
    /// All ranges with a name, in the order of the page.
    pub(in crate::admin) const NAMED: [Self; 10] = [
        Self::Today,
        Self::Yesterday,
        Self::ThisWeek,
        Self::ThisMonth,
        Self::LastMonth,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
    ];

    /// The name in the query.
    pub(in crate::admin) fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
            Self::Quarter => "90d",
            Self::Today => "today",
            Self::Yesterday => "yesterday",
            Self::ThisWeek => "this-week",
            Self::ThisMonth => "this-month",
            Self::LastMonth => "last-month",
            Self::Custom(..) => "custom",
        }
    }

    /// The name on the page.
    pub(in crate::admin) fn title(self) -> &'static str {
        match self {
            Self::Hour => "Last hour",
            Self::Day => "Last 24 hours",
            Self::Week => "Last 7 days",
            Self::Month => "Last 30 days",
            Self::Quarter => "Last 90 days",
            Self::Today => "Today",
            Self::Yesterday => "Yesterday",
            Self::ThisWeek => "This week",
            Self::ThisMonth => "This month",
            Self::LastMonth => "Last month",
            Self::Custom(..) => "Custom",
        }
    }

    /// The name of the period before it.
    pub(in crate::admin) fn title_before(self) -> &'static str {
        match self {
            Self::Hour => "the hour before",
            Self::Day => "the 24 hours before",
            Self::Week => "the 7 days before",
            Self::Month => "the 30 days before",
            Self::Quarter => "the 90 days before",
            Self::Today => "yesterday until this time",
            Self::Yesterday => "the day before",
            Self::ThisWeek => "last week until this time",
            Self::ThisMonth => "last month until this time",
            Self::LastMonth => "the month before",
            Self::Custom(..) => "the time before, of equal length",
        }
    }

    /// The values of `since` and `until` for `/usage` and `/records`.
    pub(in crate::admin) fn data(self) -> (String, Option<String>) {
        match self {
            Self::Custom(since, until) => (since.to_string(), Some(until.to_string())),
            Self::Yesterday => (self.name().to_owned(), Some("today".to_owned())),
            Self::LastMonth => (self.name().to_owned(), Some("this-month".to_owned())),
            _ => (self.name().to_owned(), None),
        }
    }

    /// The bounds at `now`. `None`: no end.
    pub(in crate::admin) fn bounds(self, now: Timestamp, zone: &TimeZone) -> (Timestamp, Option<Timestamp>) {
        let begin = |period: Period| period.around(now, zone).0;
        match self {
            Self::Custom(since, until) => (since, Some(until)),
            Self::Today => (begin(Period::Day), None),
            Self::Yesterday => (Period::Day.before(now, zone), Some(begin(Period::Day))),
            Self::ThisWeek => (begin(Period::Week), None),
            Self::ThisMonth => (begin(Period::Month), None),
            Self::LastMonth => (Period::Month.before(now, zone), Some(begin(Period::Month))),
            Self::Hour => (back(now, 1), None),
            Self::Day => (back(now, DAY), None),
            Self::Week => (back(now, 7 * DAY), None),
            Self::Month => (back(now, 30 * DAY), None),
            Self::Quarter => (back(now, 90 * DAY), None),
        }
    }

    /// The bounds of the period before it: a part of the calendar's period is compared with the
    /// same part of the one before.
    pub(in crate::admin) fn before(self, now: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let (since, until) = self.bounds(now, zone);
        let period = match self {
            Self::Today | Self::Yesterday => Some(Period::Day),
            Self::ThisWeek => Some(Period::Week),
            Self::ThisMonth | Self::LastMonth => Some(Period::Month),
            _ => None,
        };
        earlier(period, since, until, now, zone)
    }

    /// The width of a column in the charts: at most [`MOST_STEPS`] of them.
    pub(in crate::admin) fn step(self, now: Timestamp, zone: &TimeZone) -> Duration {
        const MINUTE: u64 = 60;
        const STEPS: [u64; 11] = [
            MINUTE,
            5 * MINUTE,
            10 * MINUTE,
            30 * MINUTE,
            60 * MINUTE,
            180 * MINUTE,
            360 * MINUTE,
            1440 * MINUTE,
            7 * 1440 * MINUTE,
            28 * 1440 * MINUTE,
            364 * 1440 * MINUTE,
        ];
        let hours = match self {
            Self::Day | Self::Today | Self::Yesterday => Some(1),
            Self::ThisWeek => Some(6),
            Self::ThisMonth | Self::LastMonth => Some(24),
            _ => None,
        };
        if let Some(hours) = hours {
            return Duration::from_hours(hours);
        }
        let (since, until) = self.bounds(now, zone);
        let seconds = until.unwrap_or(now).as_second() - since.as_second();
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let step = STEPS.into_iter().find(|step| seconds / step <= MOST_STEPS);
        Duration::from_secs(step.unwrap_or(STEPS[STEPS.len() - 1]))
    }
}

/// The largest number of columns that are distinguishable on a phone.
pub(super) const MOST_STEPS: u64 = 60;

fn back(now: Timestamp, hours: u64) -> Timestamp {
    now.checked_sub(Duration::from_hours(hours)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn part_of_a_period_is_compared_with_the_same_part() {
        let now = at("2026-03-30T12:00:00Z");
        for (range, since, until) in [
            (Range::Today, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"),
            (Range::Yesterday, "2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z"),
            (Range::ThisWeek, "2026-03-23T00:00:00Z", "2026-03-23T12:00:00Z"),
            // February is shorter than this part of March.
            (Range::ThisMonth, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Range::LastMonth, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            (Range::Hour, "2026-03-30T10:00:00Z", "2026-03-30T11:00:00Z"),
        ] {
            assert_eq!(range.before(now, &TimeZone::UTC), (at(since), at(until)), "{range:?}");
        }
    }

    #[test]
    fn ranges_have_at_most_sixty_columns() {
        let now = at("2026-07-30T12:00:00Z");
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let custom = [1, 2, 40, 300, 4000, 20_000].map(|days| Range::Custom(day(0), day(days)));
        for range in Range::NAMED.into_iter().chain(custom) {
            let (since, until) = range.bounds(now, &TimeZone::UTC);
            let seconds = until.unwrap_or(now).as_second() - since.as_second();
            let columns = seconds as u64 / range.step(now, &TimeZone::UTC).as_secs();
            assert!((1..=MOST_STEPS).contains(&columns), "{range:?}: {columns}");
        }
    }
}

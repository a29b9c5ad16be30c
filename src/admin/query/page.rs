//! The query of the dashboard.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{FILTERS, Fields};
use crate::sinks::ledger::{Selection, TimeSpec};
use crate::support::tags::TagName;

/// The period of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Range {
    Hour,
    Day,
    Week,
    Month,
    /// The time from the first timestamp until the second.
    Custom(Timestamp, Timestamp),
}

impl Range {
    /// The ranges that end now.
    pub(in crate::admin) const LAST: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The name in the query.
    pub(in crate::admin) fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
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
            Self::Custom(..) => "Custom",
        }
    }

    /// The bounds at `now`. `None`: no end.
    pub(in crate::admin) fn bounds(self, now: Timestamp) -> (Timestamp, Option<Timestamp>) {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
            Self::Custom(since, until) => return (since, Some(until)),
        };
        (now.checked_sub(Duration::from_hours(hours)).unwrap_or(Timestamp::MIN), None)
    }

    /// The width of a column in the charts: at most [`MOST_STEPS`] of them.
    pub(in crate::admin) fn step(self) -> Duration {
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
        let (since, until) = self.bounds(Timestamp::UNIX_EPOCH);
        let seconds = until.unwrap_or(Timestamp::UNIX_EPOCH).as_second() - since.as_second();
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let step = STEPS.into_iter().find(|step| seconds / step <= MOST_STEPS);
        Duration::from_secs(step.unwrap_or(STEPS[STEPS.len() - 1]))
    }
}

/// The largest number of columns that are distinguishable on a phone.
pub(super) const MOST_STEPS: u64 = 60;

/// `/?...`: the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) struct PageQuery {
    /// The zone of its days and times.
    pub(in crate::admin) zone: TimeZone,
    pub(in crate::admin) range: Range,
    /// The filters in the order of [`FILTERS`].
    pub(in crate::admin) filters: [Option<String>; FILTERS.len()],
    /// The filters by tags, each name once.
    pub(in crate::admin) tags: Vec<(TagName, String)>,
}

impl PageQuery {
    /// # Errors
    /// Fails with a message about the mistake.
    pub(in crate::admin) fn parse(query: &str, zone: &TimeZone) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        let filters = FILTERS.map(|name| fields.get(name).map(str::to_owned));
        let range = match fields.get("range") {
            None => Range::Day,
            Some("custom") => {
                let (since, until) = (moment(&fields, "since", zone)?, moment(&fields, "until", zone)?);
                if until <= since {
                    return Err("The end of the time must come after its beginning.".to_owned());
                }
                Range::Custom(since, until)
            }
            Some(name) => Range::LAST
                .into_iter()
                .find(|range| range.name() == name)
                .ok_or_else(|| format!("There is no range {name:?}."))?,
        };
        Ok(Self { zone: zone.clone(), range, filters, tags: fields.tags() })
    }

    /// The default page.
    pub(in crate::admin) fn plain(zone: &TimeZone) -> Self {
        Self { zone: zone.clone(), range: Range::Day, filters: Default::default(), tags: Vec::new() }
    }

    /// The rows at `now`.
    pub(in crate::admin) fn selection(&self, now: Timestamp) -> Selection {
        let (since, until) = self.range.bounds(now);
        let [client, user, upstream, model] = self.filters.clone();
        let (tags, zone) = (self.tags.clone(), self.zone.clone());
        Selection { until, client, user, upstream, model, tags, zone, ..Selection::since(since) }
    }

    /// The query of this page with another range.
    pub(in crate::admin) fn with_range(&self, range: Range) -> String {
        Self { range, ..self.clone() }.encode()
    }

    /// The query of this page with another value of a filter.
    pub(in crate::admin) fn with_filter(&self, filter: usize, value: Option<&str>) -> String {
        let mut query = self.clone();
        query.filters[filter] = value.map(str::to_owned);
        query.encode()
    }

    /// The query of this page with another value of a tag's filter.
    pub(in crate::admin) fn with_tag(&self, name: TagName, value: Option<&str>) -> String {
        let mut query = self.clone();
        query.tags.retain(|(known, _)| *known != name);
        query.tags.extend(value.map(|value| (name, value.to_owned())));
        query.encode()
    }

    /// The query of this page without filters.
    pub(in crate::admin) fn without_filters(&self) -> String {
        Self { filters: Default::default(), tags: Vec::new(), ..self.clone() }.encode()
    }

    /// Returns true if there is a filter.
    pub(in crate::admin) fn is_filtered(&self) -> bool {
        self.filters.iter().any(Option::is_some) || !self.tags.is_empty()
    }

    /// The value of a tag's filter.
    pub(in crate::admin) fn tag(&self, name: TagName) -> Option<&str> {
        self.tags.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The query of this page.
    pub(in crate::admin) fn encode(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("range", self.range.name());
        if let Range::Custom(since, until) = self.range {
            query
                .append_pair("since", &minute(since, &self.zone))
                .append_pair("until", &minute(until, &self.zone));
        }
        self.append_filters(&mut query);
        query.finish()
    }

    /// The query for the same rows of `/usage` and `/records`, after `more`.
    pub(in crate::admin) fn data_query(&self, more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(more);
        match self.range {
            Range::Custom(since, until) => {
                query.append_pair("since", &since.to_string()).append_pair("until", &until.to_string());
            }
            range => {
                query.append_pair("since", range.name());
            }
        }
        self.append_filters(&mut query);
        query.finish()
    }

    fn append_filters(&self, query: &mut form_urlencoded::Serializer<'_, String>) {
        for (name, value) in FILTERS.iter().zip(&self.filters) {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        for (name, value) in &self.tags {
            query.append_pair(name.field(), value);
        }
    }
}

/// The format of `<input type="datetime-local">`, in the zone that the page names.
pub(in crate::admin) fn minute(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M").to_string()
}

fn moment(fields: &Fields, name: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let Some(text) = fields.get(name) else {
        return Err("Choose when the time begins and when it ends.".to_owned());
    };
    TimeSpec::at(text, zone).ok_or_else(|| format!("{text:?} is not a time such as 2026-07-30T08:00."))
}

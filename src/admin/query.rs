//! The queries of requests.

mod listing;
mod page;
mod range;
mod view;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config;
use crate::sinks::ledger::{By, Selection, Teams, TimeSpec};
use crate::support::tags::{MAX_TAGS, TagName};
pub(super) use listing::{RunningQuery, limits};
pub(super) use page::{PageQuery, minute};
pub(super) use range::Range;
pub(super) use view::{Metric, SPLITS, TABS};

/// The largest `limit` of records.
const MOST_RECORDS: usize = 10_000;

/// The default `limit` of records.
const RECORDS: usize = 100;

/// The pairs of a query or a form, in order. Empty values are omitted, since forms send their empty
/// fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text).into_owned();
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The first value of the name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Refuses unknown names.
    fn check(&self, known: &[&str]) -> Result<(), String> {
        let is_known = |key: &str| known.contains(&key) || TagName::of_field(key).is_some();
        match self.0.iter().find(|(key, _)| !is_known(key)) {
            Some((key, _)) => Err(format!("{key:?} is none of {}, tag.NAME", known.join(", "))),
            None => Ok(()),
        }
    }

    /// `time_zone`, or `zone` if it is missing.
    fn zone(&self, zone: &TimeZone) -> Result<TimeZone, String> {
        let named = self.get("time_zone").map(config::time_zone).transpose();
        Ok(named.map_err(|reason| format!("time_zone: {reason}"))?.unwrap_or_else(|| zone.clone()))
    }

    fn selection(&self, now: Timestamp, zone: &TimeZone, teams: &Teams) -> Result<Selection, String> {
        let zone = self.zone(zone)?;
        let when = |name: &str| -> Result<_, String> {
            let Some(text) = self.get(name) else { return Ok(None) };
            let when = TimeSpec::parse(text).map_err(|reason| format!("{name}: {reason}"))?;
            Ok(Some(when))
        };
        let since = when("since")?.unwrap_or(TimeSpec::Ago(DEFAULT_SINCE));
        let (since, until) = TimeSpec::range(since, when("until")?, now, &zone)?;
        Ok(Selection { until, zone, teams: Teams::clone(teams), ..self.filters(since) })
    }

    fn filters(&self, since: Timestamp) -> Selection {
        let text = |name| self.get(name).map(str::to_owned);
        let [client, user, upstream, model, team, endpoint, outcome] = FILTERS.map(text);
        let tags = self.tags();
        Selection { client, user, upstream, model, team, endpoint, outcome, tags, ..Selection::since(since) }
    }

    /// The values of tags, of which the first one of a name counts, like that of other fields.
    fn tags(&self) -> Vec<(TagName, String)> {
        let mut tags: Vec<(TagName, String)> = Vec::new();
        for (key, value) in &self.0 {
            if let Some(name) = TagName::of_field(key)
                && tags.iter().all(|(known, _)| *known != name)
                && tags.len() < MAX_TAGS
            {
                tags.push((name, value.clone()));
            }
        }
        tags
    }
}

/// The fields by which rows can be selected, except time and tags.
pub(super) const FILTERS: [&str; 7] = ["client", "user", "upstream", "model", "team", "endpoint", "outcome"];

/// The default period of `usage`.
const DEFAULT_SINCE: Duration = Duration::from_hours(24);

/// The format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

impl Format {
    fn of(fields: &Fields) -> Result<Self, String> {
        match fields.get("format") {
            None | Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some(other) => Err(format!("format: {other:?} is neither json nor csv")),
        }
    }
}

/// `/usage?...`: sums.
#[derive(Clone, Debug)]
pub(super) struct UsageQuery {
    pub(super) selection: Selection,
    pub(super) by: Vec<By>,
    pub(super) format: Format,
}

impl UsageQuery {
    /// # Errors
    /// Fails with a message about the mistake.
    pub(super) fn parse(query: &str, now: Timestamp, zone: &TimeZone, teams: &Teams) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        fields.check(&[
            "since",
            "until",
            "by",
            "client",
            "user",
            "upstream",
            "model",
            "team",
            "endpoint",
            "outcome",
            "format",
            "time_zone",
        ])?;
        let by = By::list(fields.get("by").unwrap_or_default()).map_err(|reason| format!("by: {reason}"))?;
        Ok(Self { selection: fields.selection(now, zone, teams)?, by, format: Format::of(&fields)? })
    }
}

/// `/records?...`: the latest records.
#[derive(Clone, Debug)]
pub(super) struct RecordsQuery {
    pub(super) selection: Selection,
    pub(super) limit: usize,
    pub(super) format: Format,
}

impl RecordsQuery {
    /// # Errors
    /// Fails with a message about the mistake.
    pub(super) fn parse(query: &str, now: Timestamp, zone: &TimeZone, teams: &Teams) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        fields.check(&[
            "since",
            "until",
            "client",
            "user",
            "upstream",
            "model",
            "team",
            "endpoint",
            "outcome",
            "format",
            "limit",
            "time_zone",
        ])?;
        let limit = fields.get("limit").map_or(Ok(RECORDS), |text| match text.parse() {
            Ok(limit @ 1..=MOST_RECORDS) => Ok(limit),
            _ => Err(format!("limit: {text:?} is not a number from 1 to {MOST_RECORDS}")),
        })?;
        Ok(Self { selection: fields.selection(now, zone, teams)?, limit, format: Format::of(&fields)? })
    }
}

#[cfg(test)]
mod tests;

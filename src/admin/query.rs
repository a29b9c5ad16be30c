//! The queries of requests.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config;
use crate::ledger::{By, Selection, TimeSpec};

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

    /// Refuses names that are not known.
    fn check(&self, known: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(format!("{key:?} is none of {}", known.join(", "))),
            None => Ok(()),
        }
    }

    /// `time_zone`, or `zone` where it is not there.
    fn zone(&self, zone: &TimeZone) -> Result<TimeZone, String> {
        let named = self.get("time_zone").map(config::time_zone).transpose();
        Ok(named.map_err(|reason| format!("time_zone: {reason}"))?.unwrap_or_else(|| zone.clone()))
    }

    fn selection(&self, now: Timestamp, zone: &TimeZone) -> Result<Selection, String> {
        let zone = self.zone(zone)?;
        let when = |name: &str| -> Result<_, String> {
            let Some(text) = self.get(name) else { return Ok(None) };
            let when = TimeSpec::parse(text).map_err(|reason| format!("{name}: {reason}"))?;
            Ok(Some(when))
        };
        let since = when("since")?.unwrap_or(TimeSpec::Ago(DEFAULT_SINCE));
        let (since, until) = TimeSpec::range(since, when("until")?, now, &zone)?;
        Ok(self.filters(since, until, zone))
    }

    fn filters(&self, since: Timestamp, until: Option<Timestamp>, zone: TimeZone) -> Selection {
        let text = |name| self.get(name).map(str::to_owned);
        let [client, user, upstream, model] = FILTERS.map(text);
        Selection { since, until, client, user, upstream, model, zone }
    }
}

/// The fields by which rows can be selected, except time.
pub(super) const FILTERS: [&str; 4] = ["client", "user", "upstream", "model"];

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
    /// The mistake, in words.
    pub(super) fn parse(query: &str, now: Timestamp, zone: &TimeZone) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        fields.check(&[
            "since",
            "until",
            "by",
            "client",
            "user",
            "upstream",
            "model",
            "format",
            "time_zone",
        ])?;
        let by = By::list(fields.get("by").unwrap_or_default()).map_err(|reason| format!("by: {reason}"))?;
        Ok(Self { selection: fields.selection(now, zone)?, by, format: Format::of(&fields)? })
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
    /// The mistake, in words.
    pub(super) fn parse(query: &str, now: Timestamp, zone: &TimeZone) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        fields.check(&[
            "since",
            "until",
            "client",
            "user",
            "upstream",
            "model",
            "format",
            "limit",
            "time_zone",
        ])?;
        let limit = fields.get("limit").map_or(Ok(RECORDS), |text| match text.parse() {
            Ok(limit @ 1..=MOST_RECORDS) => Ok(limit),
            _ => Err(format!("limit: {text:?} is no number from 1 to {MOST_RECORDS}")),
        })?;
        Ok(Self { selection: fields.selection(now, zone)?, limit, format: Format::of(&fields)? })
    }
}

/// The period of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    Hour,
    Day,
    Week,
    Month,
    /// From, until.
    Custom(Timestamp, Timestamp),
}

impl Range {
    /// The ranges that end now.
    pub(super) const LAST: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The name in the query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
            Self::Custom(..) => "custom",
        }
    }

    /// The name on the page.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Hour => "Last hour",
            Self::Day => "Last 24 hours",
            Self::Week => "Last 7 days",
            Self::Month => "Last 30 days",
            Self::Custom(..) => "Custom",
        }
    }

    /// The bounds at `now`; `None`: until now.
    pub(super) fn bounds(self, now: Timestamp) -> (Timestamp, Option<Timestamp>) {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
            Self::Custom(since, until) => return (since, Some(until)),
        };
        (now.checked_sub(Duration::from_hours(hours)).unwrap_or(Timestamp::MIN), None)
    }

    /// The width of a column in its charts: at most [`MOST_STEPS`] of them.
    pub(super) fn step(self) -> Duration {
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

/// The most columns that are distinguishable on a phone.
const MOST_STEPS: u64 = 60;

/// `/?...`: the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageQuery {
    /// The zone of its days and times.
    pub(super) zone: TimeZone,
    pub(super) range: Range,
    /// In the order of [`FILTERS`].
    pub(super) filters: [Option<String>; FILTERS.len()],
}

impl PageQuery {
    /// # Errors
    /// The mistake, in words.
    pub(super) fn parse(query: &str, zone: &TimeZone) -> Result<Self, String> {
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
        Ok(Self { zone: zone.clone(), range, filters })
    }

    /// The default page.
    pub(super) fn plain(zone: &TimeZone) -> Self {
        Self { zone: zone.clone(), range: Range::Day, filters: Default::default() }
    }

    /// The rows at `now`.
    pub(super) fn selection(&self, now: Timestamp) -> Selection {
        let (since, until) = self.range.bounds(now);
        let [client, user, upstream, model] = self.filters.clone();
        Selection { since, until, client, user, upstream, model, zone: self.zone.clone() }
    }

    /// The query of this page with another range.
    pub(super) fn with_range(&self, range: Range) -> String {
        Self { range, ..self.clone() }.encode()
    }

    /// The query of this page with another value of a filter.
    pub(super) fn with_filter(&self, filter: usize, value: Option<&str>) -> String {
        let mut query = self.clone();
        query.filters[filter] = value.map(str::to_owned);
        query.encode()
    }

    /// The query of this page.
    pub(super) fn encode(&self) -> String {
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
    pub(super) fn data_query(&self, more: &[(&str, &str)]) -> String {
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
    }
}

/// The format of `<input type="datetime-local">`, in the zone that the page names.
pub(super) fn minute(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M").to_string()
}

fn moment(fields: &Fields, name: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let Some(text) = fields.get(name) else {
        return Err("Choose when the time begins and when it ends.".to_owned());
    };
    TimeSpec::at(text, zone).ok_or_else(|| format!("{text:?} is no time such as 2026-07-30T08:00."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-07-30T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn usage_query_parses_as_the_command_line() {
        let query =
            UsageQuery::parse("since=7d&by=day,model&user=a%26b+c&client=&format=csv", now(), &TimeZone::UTC)
                .unwrap();
        assert_eq!(query.selection.since.to_string(), "2026-07-23T12:00:00Z");
        assert_eq!((query.selection.user.as_deref(), query.selection.client), (Some("a&b c"), None));
        assert_eq!((query.by, query.format), (vec![By::Day, By::Model], Format::Csv));
        let query = UsageQuery::parse("", now(), &TimeZone::UTC).unwrap();
        assert_eq!((query.selection.since.to_string().as_str(), query.by.len()), ("2026-07-29T12:00:00Z", 0));
    }

    #[test]
    fn invalid_query_names_the_mistake() {
        for (query, reason) in [
            ("since=soon", "since: "),
            ("since=1h&until=2h", "until: is not after since"),
            ("by=day,day", "twice"),
            ("by=moon", "none of model, client, upstream, endpoint, user, day, hour"),
            ("format=xml", "neither json nor csv"),
            ("sinc=1h", "\"sinc\" is none of since, until"),
        ] {
            let error = UsageQuery::parse(query, now(), &TimeZone::UTC).unwrap_err();
            assert!(error.contains(reason), "{query}: {error}");
        }
        for (query, reason) in
            [("limit=0", "from 1 to 10000"), ("limit=10001", "from 1"), ("by=day", "none of")]
        {
            let error = RecordsQuery::parse(query, now(), &TimeZone::UTC).unwrap_err();
            assert!(error.contains(reason), "{query}: {error}");
        }
        for query in
            ["range=2y", "range=custom", "range=custom&since=2026-07-02T00:00&until=2026-07-01T00:00"]
        {
            assert!(PageQuery::parse(query, &TimeZone::UTC).is_err(), "{query}");
        }
    }

    #[test]
    fn page_query_survives_a_round_trip() {
        for query in [
            "range=24h",
            "range=7d&client=a&user=b%26c&upstream=d&model=e%2Ff",
            "range=custom&since=2026-07-01T00%3A00&until=2026-07-02T12%3A30",
        ] {
            assert_eq!(PageQuery::parse(query, &TimeZone::UTC).unwrap().encode(), query);
        }
        assert_eq!(PageQuery::parse("", &TimeZone::UTC).unwrap(), PageQuery::plain(&TimeZone::UTC));
        assert_eq!(PageQuery::plain(&TimeZone::UTC).with_filter(1, Some("x y")), "range=24h&user=x+y");
    }

    #[test]
    fn custom_times_are_those_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let query = "range=custom&since=2026-07-01T00%3A00&until=2026-07-02T12%3A30";
        let page = PageQuery::parse(query, &berlin).unwrap();
        assert_eq!(page.selection(now()).since.to_string(), "2026-06-30T22:00:00Z");
        assert_eq!(page.encode(), query);
        let data = UsageQuery::parse("since=2026-07-01&time_zone=Asia/Tokyo", now(), &berlin).unwrap();
        assert_eq!(data.selection.since.to_string(), "2026-06-30T15:00:00Z");
        assert!(UsageQuery::parse("time_zone=Moon", now(), &berlin).unwrap_err().starts_with("time_zone: "));
    }

    #[test]
    fn data_link_selects_the_rows_of_its_page() {
        for query in ["range=7d&user=b%26c", "range=custom&since=2026-07-01T00%3A00&until=2026-07-02T12%3A30"]
        {
            let page = PageQuery::parse(query, &TimeZone::UTC).unwrap();
            let data = UsageQuery::parse(&page.data_query(&[("by", "day")]), now(), &TimeZone::UTC).unwrap();
            assert_eq!(data.selection, page.selection(now()));
        }
    }

    #[test]
    fn ranges_have_at_most_sixty_columns() {
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let custom = [1, 2, 40, 300, 4000, 20_000].map(|days| Range::Custom(at(0), at(days)));
        for range in Range::LAST.into_iter().chain(custom) {
            let (since, until) = range.bounds(now());
            let seconds = until.unwrap_or(now()).as_second() - since.as_second();
            let columns = seconds as u64 / range.step().as_secs();
            assert!((1..=MOST_STEPS).contains(&columns), "{range:?}: {columns}");
        }
    }
}

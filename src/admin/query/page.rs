//! The query of the dashboard.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::range::Range;
use super::view::{Metric, SPLITS, TABS, field};
use super::{FILTERS, Fields};
use crate::config::time_zone_name;
use crate::sinks::ledger::{By, Selection, Teams, TimeSpec};
use crate::support::tags::TagName;

/// `/?...`: the dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) struct PageQuery {
    /// The zone of its days and times.
    pub(in crate::admin) zone: TimeZone,
    /// The query names the zone.
    names_zone: bool,
    pub(in crate::admin) range: Range,
    /// The filters in the order of [`FILTERS`].
    pub(in crate::admin) filters: [Option<String>; FILTERS.len()],
    /// The filters by tags, each name once.
    pub(in crate::admin) tags: Vec<(TagName, String)>,
    /// The chart and the table show the period before too.
    pub(in crate::admin) compare: bool,
    /// The quantity of the chart. `None`: the cost, or tokens without prices.
    pub(in crate::admin) metric: Option<Metric>,
    pub(in crate::admin) split: Option<By>,
    /// The tab of the table. `None`: the first.
    pub(in crate::admin) tab: Option<By>,
    /// The column by which the table is sorted, with `-` before it from the largest down.
    pub(in crate::admin) sort: Option<String>,
    /// The part of names that the table's rows must have.
    pub(in crate::admin) search: Option<String>,
    /// The page of the table, from 1.
    pub(in crate::admin) page: usize,
    /// The latest records are those of failed requests.
    pub(in crate::admin) failed: bool,
}

impl PageQuery {
    /// # Errors
    /// Fails with a message about the mistake.
    pub(in crate::admin) fn parse(query: &str, zone: &TimeZone) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        let zone = &fields.zone(zone)?;
        let range = match fields.get("range") {
            None => Range::Day,
            Some("custom") => {
                let (since, until) = (moment(&fields, "since", zone)?, moment(&fields, "until", zone)?);
                if until <= since {
                    return Err("The end of the time must come after its beginning.".to_owned());
                }
                Range::Custom(since, until)
            }
            Some(name) => Range::NAMED
                .into_iter()
                .find(|range| range.name() == name)
                .ok_or_else(|| format!("There is no range {name:?}."))?,
        };
        let text = |name: &str| fields.get(name).map(str::to_owned);
        Ok(Self {
            zone: zone.clone(),
            names_zone: fields.get("time_zone").is_some(),
            range,
            filters: FILTERS.map(text),
            tags: fields.tags(),
            compare: fields.get("compare").is_some(),
            metric: fields.get("chart").and_then(Metric::named),
            split: fields.get("split").and_then(|name| field(name, &SPLITS)),
            tab: fields.get("tab").and_then(|name| field(name, &TABS)),
            sort: text("sort"),
            search: text("search"),
            page: fields.get("page").and_then(|page| page.parse().ok()).unwrap_or(1).max(1),
            failed: fields.get("failed").is_some(),
        })
    }

    /// The default page.
    pub(in crate::admin) fn plain(zone: &TimeZone) -> Self {
        Self {
            zone: zone.clone(),
            names_zone: false,
            range: Range::Day,
            filters: Default::default(),
            tags: Vec::new(),
            compare: false,
            metric: None,
            split: None,
            tab: None,
            sort: None,
            search: None,
            page: 1,
            failed: false,
        }
    }

    /// The same page as far as the ledger is read for it.
    pub(in crate::admin) fn reading(&self) -> Self {
        Self {
            zone: self.zone.clone(),
            range: self.range,
            filters: self.filters.clone(),
            tags: self.tags.clone(),
            split: self.split,
            failed: self.failed,
            ..Self::plain(&self.zone)
        }
    }

    /// The rows at `now`.
    pub(in crate::admin) fn selection(&self, now: Timestamp, teams: &Teams) -> Selection {
        let (since, until) = self.range.bounds(now, &self.zone);
        let [client, user, upstream, model, team, endpoint, outcome] = self.filters.clone();
        Selection {
            until,
            client,
            user,
            upstream,
            model,
            team,
            endpoint,
            outcome,
            teams: Teams::clone(teams),
            tags: self.tags.clone(),
            zone: self.zone.clone(),
            ..Selection::since(since)
        }
    }

    /// The rows of the period before.
    pub(in crate::admin) fn selection_before(&self, now: Timestamp, teams: &Teams) -> Selection {
        let (since, until) = self.range.before(now, &self.zone);
        Selection { since, until: Some(until), ..self.selection(now, teams) }
    }

    /// A link to this page after a change.
    pub(in crate::admin) fn link(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut query = self.clone();
        query.page = 1;
        change(&mut query);
        format!("./?{}", query.encode())
    }

    /// Sets the filter by a field or a tag.
    pub(in crate::admin) fn set(&mut self, by: By, value: Option<&str>) {
        match by {
            By::Tag(name) => {
                self.tags.retain(|(known, _)| *known != name);
                self.tags.extend(value.map(|value| (name, value.to_owned())));
            }
            by => {
                if let Some(place) = FILTERS.iter().position(|name| *name == by.as_str()) {
                    self.filters[place] = value.map(str::to_owned);
                }
            }
        }
    }

    /// The value of the filter by a field or a tag.
    pub(in crate::admin) fn value(&self, by: By) -> Option<&str> {
        match by {
            By::Tag(name) => self.tag(name),
            by => self.filters[FILTERS.iter().position(|name| *name == by.as_str())?].as_deref(),
        }
    }

    /// The filters that are set, each with its field.
    pub(in crate::admin) fn chosen(&self) -> impl Iterator<Item = (By, &str)> {
        let fields = FILTERS.iter().zip(&self.filters);
        let fields = fields.filter_map(|(name, value)| Some((By::named(name)?, value.as_deref()?)));
        fields.chain(self.tags.iter().map(|(name, value)| (By::Tag(*name), value.as_str())))
    }

    /// Removes all filters.
    pub(in crate::admin) fn clear(&mut self) {
        self.filters = Default::default();
        self.tags.clear();
    }

    /// Returns true if there is a filter.
    pub(in crate::admin) fn is_filtered(&self) -> bool {
        self.chosen().next().is_some()
    }

    /// The value of a tag's filter.
    pub(in crate::admin) fn tag(&self, name: TagName) -> Option<&str> {
        self.tags.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The query of this page.
    pub(in crate::admin) fn encode(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.pairs(|_| true));
        query.finish()
    }

    /// The names and values of the query, those with the wanted names.
    pub(in crate::admin) fn pairs(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut pairs = vec![("range".to_owned(), self.range.name().to_owned())];
        let mut add = |name: &str, value: Option<String>| {
            pairs.extend(value.map(|value| (name.to_owned(), value)));
        };
        if let Range::Custom(since, until) = self.range {
            add("since", Some(minute(since, &self.zone)));
            add("until", Some(minute(until, &self.zone)));
        }
        let flag = |is_set: bool| is_set.then(|| "1".to_owned());
        let by = |by: Option<By>| by.map(|by| by.to_string());
        add("time_zone", self.names_zone.then(|| time_zone_name(&self.zone)));
        for (by, value) in self.chosen() {
            add(by.as_str(), Some(value.to_owned()));
        }
        add("compare", flag(self.compare));
        add("chart", self.metric.map(Metric::name));
        add("split", by(self.split));
        add("tab", by(self.tab));
        add("sort", self.sort.clone());
        add("search", self.search.clone());
        add("page", (self.page > 1).then(|| self.page.to_string()));
        add("failed", flag(self.failed));
        pairs.retain(|(name, _)| is_wanted(name));
        pairs
    }

    /// The query for the same rows of `/usage` and `/records`, after `more`.
    pub(in crate::admin) fn data_query(&self, more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(more);
        let (since, until) = self.range.data();
        query.append_pair("since", &since);
        query.extend_pairs(until.map(|until| ("until", until)));
        query.extend_pairs(self.names_zone.then(|| ("time_zone", time_zone_name(&self.zone))));
        query.extend_pairs(self.chosen().map(|(by, value)| (by.to_string(), value)));
        query.finish()
    }
}

/// The format of `<input type="datetime-local">`, in the zone that the page names. A moment of
/// another second has it too.
pub(in crate::admin) fn minute(at: Timestamp, zone: &TimeZone) -> String {
    let form = if at.as_second() % 60 == 0 { "%Y-%m-%dT%H:%M" } else { "%Y-%m-%dT%H:%M:%S" };
    at.to_zoned(zone.clone()).strftime(form).to_string()
}

fn moment(fields: &Fields, name: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let Some(text) = fields.get(name) else {
        return Err("Choose when the time begins and when it ends.".to_owned());
    };
    TimeSpec::at(text, zone).ok_or_else(|| format!("{text:?} is not a time such as 2026-07-30T08:00."))
}

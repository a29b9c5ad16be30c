//! Accumulates an overview, for both databases.
//!
//! A row costs one look-up: rows with the same step of time and the same names share their sums,
//! which are spread over the parts of the overview when there are many of them, and at the end.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Overview, OverviewSpec, Selection};
use crate::sinks::ledger::By;
use crate::sinks::ledger::calendar::{self, nanoseconds};
use crate::sinks::ledger::groups::{Group, Groups, Sums};
use crate::support::tags::TagName;

/// The largest number of groups of each kind. Clients choose the names of users, so this bounds
/// memory.
const MOST_GROUPS: usize = 10_000;

/// The largest number of tags. A configuration has fewer, but the instances of a fleet may list
/// different ones.
const MOST_TAGS: usize = 16;

/// The largest number of points of time.
const MOST_STEPS: usize = 1_000;

/// The largest number of combinations of a step and names, at some 500 bytes each.
const MOST_COMBINED: usize = 20_000;

/// The largest number of sums by step and name.
const MOST_CELLS: usize = 20_000;

/// The fields by which an overview has groups, in the order of their names in a row. The tags
/// follow them.
pub(in crate::sinks::ledger) const FIELDS: [By; 6] =
    [By::Client, By::Upstream, By::Model, By::User, By::Endpoint, By::Outcome];

/// The names of a row, in the order of [`FIELDS`], and the text of its tags.
pub(in crate::sinks::ledger) type Names<'a> = ([Option<&'a [u8]>; FIELDS.len()], Option<&'a [u8]>);

/// The sums of rows of one instance or of several.
pub(in crate::sinks::ledger) struct Accumulator {
    /// Rows that are not in the other fields yet, by step, names and tags.
    combined: Groups,
    spread: Spread,
    /// The beginnings of the steps of time, in nanoseconds since 1970.
    steps: Vec<i64>,
}

impl Accumulator {
    pub(in crate::sinks::ledger) fn new(selection: &Selection, spec: &OverviewSpec) -> Self {
        let until = selection.until.unwrap_or_else(Timestamp::now).max(selection.since);
        let steps = calendar::steps(selection.since, until, spec.step, &selection.zone, MOST_STEPS);
        let spread = Spread {
            total: Sums::default(),
            groups: Default::default(),
            tags: BTreeMap::new(),
            times: vec![Sums::default(); steps.len()],
            split: spec.split,
            series: BTreeMap::new(),
            others: vec![Sums::default(); steps.len()],
            has_others: false,
        };
        Self { combined: Groups::default(), spread, steps: steps.into_iter().map(nanoseconds).collect() }
    }

    /// The beginnings of the steps of time.
    pub(in crate::sinks::ledger) fn steps(&self) -> impl Iterator<Item = Timestamp> {
        let time = |at: &i64| Timestamp::from_nanosecond((*at).into()).unwrap_or(Timestamp::UNIX_EPOCH);
        self.steps.iter().map(time)
    }

    /// The step of a time in nanoseconds since 1970.
    pub(in crate::sinks::ledger) fn step(&self, started: i64) -> usize {
        self.steps.partition_point(|begin| *begin <= started).saturating_sub(1)
    }

    /// The sums of rows that started in the same step of time and have the same names.
    pub(in crate::sinks::ledger) fn sums(&mut self, step: usize, (names, tags): Names<'_>) -> &mut Sums {
        if self.combined.len() >= MOST_COMBINED {
            self.spread();
        }
        self.combined.begin();
        self.combined.part(Some(&step.min(self.steps.len() - 1).to_ne_bytes()));
        names.into_iter().chain([tags]).for_each(|name| self.combined.part(name));
        self.combined.sums()
    }

    fn spread(&mut self) {
        let Self { combined, spread, .. } = self;
        std::mem::take(combined).drain(|parts, sums| spread.add(parts, &sums));
    }

    /// Adds the sums of other rows, in the same steps of time.
    pub(super) fn add_all(&mut self, mut other: Self) {
        self.spread();
        other.spread();
        // Without an end of the selection, a step may have begun meanwhile.
        if other.steps.len() > self.steps.len() {
            self.spread.resize(other.steps.len());
            self.steps = other.steps;
        }
        other.spread.resize(self.steps.len());
        self.spread.add_all(other.spread);
    }

    /// Returns true if there were more groups than the limit. Then adding by parts differs from one
    /// pass: a name may be a group in one part, and belong to the others in another.
    pub(super) fn overflows(&self) -> bool {
        self.spread.overflows()
    }

    /// The sums as an overview; its other fields are empty.
    pub(in crate::sinks::ledger) fn finish(mut self) -> Overview {
        self.spread();
        let times = self.steps().collect::<Vec<_>>();
        let Spread { total, groups, tags, times: sums, series, others, has_others, .. } = self.spread;
        let [clients, upstreams, models, users, endpoints, outcomes] = groups.map(Dimension::finish);
        let text = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
        Overview {
            total,
            users,
            clients,
            upstreams,
            models,
            endpoints,
            outcomes,
            tags: tags.into_iter().map(|(name, dimension)| (name, dimension.finish())).collect(),
            times: times.into_iter().zip(sums).collect(),
            series: series.into_iter().map(|(name, sums)| (name.map(text), sums)).collect(),
            other_series: has_others.then_some(others),
            ..Overview::default()
        }
    }
}

/// The parts of an overview.
struct Spread {
    total: Sums,
    /// In the order of [`FIELDS`].
    groups: [Dimension; FIELDS.len()],
    /// At most [`MOST_TAGS`].
    tags: BTreeMap<TagName, Dimension>,
    times: Vec<Sums>,
    /// The field that splits the steps.
    split: Option<By>,
    /// The sums by step, of each name: at most [`MOST_CELLS`] in all.
    series: BTreeMap<Option<Vec<u8>>, Vec<Sums>>,
    /// The steps of all other names.
    others: Vec<Sums>,
    has_others: bool,
}

impl Spread {
    /// Adds the sums of a step, names and tags.
    fn add(&mut self, parts: &[Option<&[u8]>], sums: &Sums) {
        let [Some(step), names @ .., tags] = parts else { return };
        let step = (*step).try_into().map_or(0, usize::from_ne_bytes);
        self.total.add(sums);
        self.times[step].add(sums);
        for (dimension, name) in self.groups.iter_mut().zip(names) {
            dimension.add(*name, sums);
        }
        let mut name = self.split.and_then(|split| {
            let place = FIELDS.iter().position(|field| *field == split)?;
            names.get(place).copied().flatten().map(<[u8]>::to_owned)
        });
        if let Some(text) = tags {
            let tags: BTreeMap<String, String> = serde_json::from_slice(text).unwrap_or_default();
            for (tag, value) in &tags {
                let Some(tag) = TagName::parse(tag) else { continue };
                if self.tags.len() < MOST_TAGS || self.tags.contains_key(&tag) {
                    self.tags.entry(tag).or_default().add(Some(value.as_bytes()), sums);
                }
                if self.split == Some(By::Tag(tag)) {
                    name = Some(value.clone().into_bytes());
                }
            }
        }
        if self.split.is_some() {
            self.series(name)[step].add(sums);
        }
    }

    /// The steps of a name, or of all others beyond the bound.
    fn series(&mut self, name: Option<Vec<u8>>) -> &mut [Sums] {
        let steps = self.times.len();
        let is_full = self.series.len() >= MOST_CELLS / steps;
        if is_full && !self.series.contains_key(&name) {
            self.has_others = true;
            return &mut self.others;
        }
        self.series.entry(name).or_insert_with(|| vec![Sums::default(); steps])
    }

    fn resize(&mut self, steps: usize) {
        let series = self.series.values_mut().chain([&mut self.times, &mut self.others]);
        series.for_each(|sums| sums.resize_with(steps, Sums::default));
    }

    fn add_all(&mut self, other: Self) {
        self.total.add(&other.total);
        add_steps(&mut self.times, &other.times);
        for (dimension, more) in self.groups.iter_mut().zip(other.groups) {
            dimension.add_all(more);
        }
        for (name, more) in other.tags {
            if self.tags.len() < MOST_TAGS || self.tags.contains_key(&name) {
                self.tags.entry(name).or_default().add_all(more);
            }
        }
        for (name, more) in other.series {
            add_steps(self.series(name), &more);
        }
        add_steps(&mut self.others, &other.others);
        self.has_others |= other.has_others;
    }

    fn overflows(&self) -> bool {
        let dimensions = self.groups.iter().chain(self.tags.values());
        self.has_others || dimensions.into_iter().any(|dimension| dimension.others.requests > 0)
    }
}

fn add_steps(steps: &mut [Sums], more: &[Sums]) {
    steps.iter_mut().zip(more).for_each(|(sums, more)| sums.add(more));
}

/// The sums by one column.
#[derive(Default)]
struct Dimension {
    groups: Groups,
    /// The sums beyond the limit of groups.
    others: Sums,
}

impl Dimension {
    fn add(&mut self, name: Option<&[u8]>, sums: &Sums) {
        self.groups.begin();
        self.groups.part(name);
        self.groups.sums_within(MOST_GROUPS).unwrap_or(&mut self.others).add(sums);
    }

    fn add_all(&mut self, other: Self) {
        self.others.add(&other.others);
        self.groups.add(other.groups, MOST_GROUPS, &mut self.others);
    }

    fn finish(self) -> Vec<Group> {
        let text = |part: Option<&[u8]>| part.map(|part| String::from_utf8_lossy(part).into_owned());
        let mut groups = self.groups.finish(|parts| parts.into_iter().map(text).collect());
        if self.others.requests > 0 {
            let key = vec![Some(format!("(more than {MOST_GROUPS} others)"))];
            groups.push(Group { key, sums: self.others });
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn groups_beyond_the_limit_are_others() {
        let mut dimension = Dimension::default();
        let sums = Sums { requests: 1, ..Sums::default() };
        for user in 0..MOST_GROUPS + 7 {
            for _ in 0..2 {
                dimension.add(Some(format!("u{user}").as_bytes()), &sums);
            }
        }
        let groups = dimension.finish();
        assert_eq!(groups.len(), MOST_GROUPS + 1);
        assert_eq!(groups.last().unwrap().sums.requests, 14);
    }

    #[test]
    fn many_combinations_are_spread_and_series_are_bounded() {
        let since = Timestamp::from_second(1_780_000_000).unwrap();
        let until = since + Duration::from_hours(48);
        let selection = Selection { until: Some(until), ..Selection::since(since) };
        let spec = OverviewSpec { split: Some(By::User), ..OverviewSpec::new(Duration::from_hours(1)) };
        let mut totals = Accumulator::new(&selection, &spec);
        let steps = totals.steps.len();
        let rows = MOST_COMBINED + 10;
        for row in 0..rows {
            let user = format!("u{}", row % 3000);
            let names = [None, None, None, Some(user.as_bytes()), None, Some(&b"complete"[..])];
            totals.sums(row % steps, (names, None)).requests += 1;
        }
        let found = totals.finish();
        assert_eq!(found.total.requests, rows as u64);
        assert_eq!(found.times.iter().map(|(_, sums)| sums.requests).sum::<u64>(), rows as u64);
        assert_eq!(found.users.iter().map(|group| group.sums.requests).sum::<u64>(), rows as u64);
        assert_eq!(found.series.len(), MOST_CELLS / steps);
        let named = found.series.iter().flat_map(|(_, sums)| sums);
        let all = named.chain(found.other_series.iter().flatten()).map(|sums| sums.requests);
        assert_eq!(all.sum::<u64>(), rows as u64);
    }
}

//! Accumulates an overview, for both databases.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Overview, Selection};
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

/// The sums of rows of one instance or of several.
pub(in crate::sinks::ledger) struct Accumulator {
    total: Sums,
    groups: [Dimension; 4],
    /// At most [`MOST_TAGS`].
    tags: BTreeMap<TagName, Dimension>,
    /// The tags of the last row that had any: their text, and what it says. Rows have much in
    /// common.
    last_tags: (Vec<u8>, Vec<(TagName, String)>),
    outcomes: Vec<(String, u64)>,
    times: Vec<Sums>,
    /// The beginnings of the steps of time, in nanoseconds since 1970.
    steps: Vec<i64>,
}

impl Accumulator {
    pub(in crate::sinks::ledger) fn new(selection: &Selection, step: Duration) -> Self {
        let until = selection.until.unwrap_or_else(Timestamp::now).max(selection.since);
        let steps = calendar::steps(selection.since, until, step, &selection.zone, MOST_STEPS);
        Self {
            total: Sums::default(),
            groups: Default::default(),
            tags: BTreeMap::new(),
            last_tags: Default::default(),
            outcomes: Vec::new(),
            times: vec![Sums::default(); steps.len()],
            steps: steps.into_iter().map(nanoseconds).collect(),
        }
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

    /// Adds rows that started in the same step of time and have the same client, upstream, model
    /// and user, in this order.
    pub(in crate::sinks::ledger) fn add(
        &mut self,
        step: usize,
        names: [Option<&[u8]>; 4],
        outcome: &[u8],
        sums: &Sums,
    ) {
        self.total.add(sums);
        let last = self.times.len() - 1;
        self.times[step.min(last)].add(sums);
        for (dimension, name) in self.groups.iter_mut().zip(names) {
            dimension.add(name, sums);
        }
        match self.outcomes.iter_mut().find(|(known, _)| known.as_bytes() == outcome) {
            Some((_, rows)) => *rows += sums.requests,
            None => self.outcomes.push((String::from_utf8_lossy(outcome).into_owned(), sums.requests)),
        }
    }

    /// Adds the sums of rows to those of their tags. `tags` is the text of the column.
    pub(in crate::sinks::ledger) fn add_tags(&mut self, tags: Option<&[u8]>, sums: &Sums) {
        let Some(text) = tags else { return };
        if self.last_tags.0 != text {
            let tags: BTreeMap<String, String> = serde_json::from_slice(text).unwrap_or_default();
            let tags = tags.into_iter().filter_map(|(name, value)| Some((TagName::parse(&name)?, value)));
            self.last_tags = (text.to_owned(), tags.collect());
        }
        for (name, value) in &self.last_tags.1 {
            if self.tags.len() < MOST_TAGS || self.tags.contains_key(name) {
                self.tags.entry(*name).or_default().add(Some(value.as_bytes()), sums);
            }
        }
    }

    /// Adds the sums of other rows, in the same steps of time.
    pub(super) fn add_all(&mut self, other: Self) {
        self.total.add(&other.total);
        // Without an end of the selection, a step may have begun meanwhile.
        if other.steps.len() > self.steps.len() {
            self.times.resize_with(other.times.len(), Sums::default);
            self.steps = other.steps;
        }
        self.times.iter_mut().zip(&other.times).for_each(|(sums, more)| sums.add(more));
        for (dimension, more) in self.groups.iter_mut().zip(other.groups) {
            dimension.add_all(more);
        }
        for (name, more) in other.tags {
            if self.tags.len() < MOST_TAGS || self.tags.contains_key(&name) {
                self.tags.entry(name).or_default().add_all(more);
            }
        }
        for (outcome, rows) in other.outcomes {
            match self.outcomes.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, sum)) => *sum += rows,
                None => self.outcomes.push((outcome, rows)),
            }
        }
    }

    /// Returns true if there were more groups than the limit. Then adding by parts differs from one
    /// pass: a name may be a group in one part, and belong to the others in another.
    pub(super) fn overflows(&self) -> bool {
        self.groups.iter().chain(self.tags.values()).any(|dimension| dimension.others.requests > 0)
    }

    /// The sums as an overview; its other fields are empty.
    pub(in crate::sinks::ledger) fn finish(mut self) -> Overview {
        self.outcomes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let times = self.steps().collect::<Vec<_>>().into_iter().zip(self.times).collect();
        let [clients, upstreams, models, users] = self.groups.map(Dimension::finish);
        Overview {
            total: self.total,
            users,
            clients,
            upstreams,
            models,
            tags: self.tags.into_iter().map(|(name, dimension)| (name, dimension.finish())).collect(),
            outcomes: self.outcomes,
            times,
            ..Overview::default()
        }
    }
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
}

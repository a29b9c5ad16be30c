//! Sums of a ledger's rows by groups, for both databases.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::by::By;
use super::calendar::nanoseconds;
use super::groups::{Group, Groups, Key, Sums};
use super::order::{Order, Sorting};
use super::query::Selection;
use crate::llm::price::{Currency, Prices};

/// Sums of a ledger's rows by groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The fields by which rows are grouped, in this order.
    pub by: Vec<By>,
    /// The groups, in the order of their keys until they are sorted; unknown values come last.
    pub groups: Vec<Group>,
    /// The groups that [`Self::limit`] removed. `None` if it removed none.
    pub rest: Option<Rest>,
    /// The sums of all groups.
    pub total: Sums,
    /// The same sums of an earlier time, for a comparison.
    pub before: Option<Before>,
    /// The currencies of the prices, in alphabetical order, whether or not anything was paid in
    /// them.
    pub currencies: Vec<Currency>,
    /// The time zone of days and other periods.
    pub zone: TimeZone,
    /// The end of the last hour that is in the sums as a whole, although a bound of the selection,
    /// a change of prices or a period of the groups splits it: records of this hour are deleted,
    /// and only its sums are kept. `None` without such an hour.
    pub coarse_until: Option<Timestamp>,
}

/// Groups that are not shown separately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    /// The number of groups.
    pub groups: usize,
    /// Their sums.
    pub sums: Sums,
}

/// The sums of an earlier time.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    pub since: Timestamp,
    pub until: Timestamp,
    /// The sums by the keys of groups.
    pub groups: BTreeMap<Key, Sums>,
    pub total: Sums,
}

impl Report {
    /// A report of groups whose keys have a part for each of `by`: text, or the result of
    /// [`time_part`].
    pub(super) fn of(groups: Groups, by: &[By], selection: &Selection, prices: &Prices) -> Self {
        let zone = selection.zone.clone();
        let groups = if by.contains(&By::Team) { of_teams(groups, by, selection) } else { groups };
        let groups = groups.finish(|parts| {
            let text = |part: &[u8], by: By| match (by.period(), begin(part)) {
                (Some(period), Some(begin)) => period.label(begin, &zone),
                _ => String::from_utf8_lossy(part).into_owned(),
            };
            parts.into_iter().zip(by).map(|(part, by)| part.map(|part| text(part, *by))).collect()
        });
        let mut total = Sums::default();
        groups.iter().for_each(|group| total.add(&group.sums));
        let currencies = prices.currencies().to_vec();
        Self {
            by: by.to_owned(),
            groups,
            rest: None,
            total,
            before: None,
            currencies,
            zone,
            coarse_until: None,
        }
    }

    /// Adds the sums of an earlier time. Groups that were only then get sums of 0.
    ///
    /// # Errors
    /// Fails if the report has groups by time, which no two times share.
    pub fn compare(&mut self, earlier: Self, since: Timestamp, until: Timestamp) -> Result<(), String> {
        if let Some(by) = self.by.iter().find(|by| by.period().is_some()) {
            return Err(format!("groups by {by} cannot be compared with those of another time"));
        }
        let known: HashSet<_> = self.groups.iter().map(|group| group.key.clone()).collect();
        let gone = earlier.groups.iter().filter(|group| !known.contains(&group.key));
        let gone: Vec<_> =
            gone.map(|group| Group { key: group.key.clone(), sums: Sums::default() }).collect();
        self.groups.extend(gone);
        let groups = earlier.groups.into_iter().map(|group| (group.key, group.sums)).collect();
        self.before = Some(Before { since, until, groups, total: earlier.total });
        Ok(())
    }

    /// Sorts the groups. Equal ones stay in the order of their keys.
    ///
    /// # Errors
    /// Fails if the report lacks a column.
    pub fn sort(&mut self, orders: &[Order]) -> Result<(), String> {
        let sorting = Sorting::new(orders, &self.by, &self.currencies)?;
        self.groups.sort_by(|a, b| sorting.compare(a, b));
        Ok(())
    }

    /// Keeps the first `most` groups; the others become `rest`.
    pub fn limit(&mut self, most: usize) {
        if self.groups.len() <= most {
            return;
        }
        let others = self.groups.split_off(most);
        let mut rest = Rest { groups: others.len(), sums: Sums::default() };
        others.iter().for_each(|group| rest.sums.add(&group.sums));
        self.rest = Some(rest);
    }
}

/// The groups of clients as groups of their teams.
fn of_teams(groups: Groups, by: &[By], selection: &Selection) -> Groups {
    let teams: HashMap<&[u8], &[u8]> =
        selection.teams.iter().map(|(client, team)| (client.as_bytes(), team.as_bytes())).collect();
    groups.with_keys(|parts, groups| {
        for (part, by) in parts.iter().zip(by) {
            match by {
                By::Team => groups.part(part.and_then(|client| teams.get(client).copied())),
                _ => groups.part(*part),
            }
        }
    })
}

/// The part of a key for the period that begins at a time. The order of its bytes is the order of
/// times.
pub(super) fn time_part(begin: i64) -> [u8; 8] {
    (begin ^ i64::MIN).to_be_bytes()
}

fn begin(part: &[u8]) -> Option<Timestamp> {
    let begin = i64::from_be_bytes(part.try_into().ok()?) ^ i64::MIN;
    let at = Timestamp::from_nanosecond(begin.into()).ok()?;
    debug_assert_eq!(nanoseconds(at), begin);
    Some(at)
}

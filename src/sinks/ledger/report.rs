//! Sums of a ledger's rows by groups, for both databases.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::by::By;
use super::calendar::nanoseconds;
use super::groups::{Group, Groups, Sums};
use super::order::{Order, Sorting};
use super::query::Selection;
use crate::llm::price::{Currency, Prices};

/// Sums of a ledger's rows by groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The fields that rows are grouped by, in this order.
    pub by: Vec<By>,
    /// The groups, in the order of their keys until they are sorted; what is not known comes last.
    pub groups: Vec<Group>,
    /// The groups that [`Self::limit`] took out; `None`: it took none.
    pub rest: Option<Rest>,
    /// All of them together.
    pub total: Sums,
    /// The currencies that there are prices in, in alphabetical order, whether or not anything was
    /// paid in them.
    pub currencies: Vec<Currency>,
    /// The zone of days and other spans of time.
    pub zone: TimeZone,
}

/// Groups that are not shown one by one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    /// How many there are.
    pub groups: usize,
    /// Their sums.
    pub sums: Sums,
}

impl Report {
    /// Of groups whose keys have a part for each of `by`: text, or what [`time_part`] makes.
    pub(super) fn of(groups: Groups, by: &[By], selection: &Selection, prices: &Prices) -> Self {
        let zone = selection.zone.clone();
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
        Self { by: by.to_owned(), groups, rest: None, total, currencies, zone }
    }

    /// Puts the groups in another order; equal ones stay in that of their keys.
    ///
    /// # Errors
    /// A column is not in this report.
    pub fn sort(&mut self, orders: &[Order]) -> Result<(), String> {
        let sorting = Sorting::new(orders, &self.by, &self.currencies)?;
        self.groups.sort_by(|a, b| sorting.compare(a, b));
        Ok(())
    }

    /// Keeps the first `most` groups; the others are `rest`.
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

/// The part of a key for the period that begins at a time: its bytes have the order of times.
pub(super) fn time_part(begin: i64) -> [u8; 8] {
    (begin ^ i64::MIN).to_be_bytes()
}

fn begin(part: &[u8]) -> Option<Timestamp> {
    let begin = i64::from_be_bytes(part.try_into().ok()?) ^ i64::MIN;
    let at = Timestamp::from_nanosecond(begin.into()).ok()?;
    debug_assert_eq!(nanoseconds(at), begin);
    Some(at)
}

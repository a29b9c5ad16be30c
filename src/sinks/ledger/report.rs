//! Sums of a ledger's rows by groups, for both databases.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::by::By;
use super::calendar::nanoseconds;
use super::groups::{Group, Groups, Sums};
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
        let columns: Vec<_> = orders
            .iter()
            .map(|order| Ok((self.column(&order.column)?, order.descends)))
            .collect::<Result<_, String>>()?;
        self.groups.sort_by(|a, b| {
            let orders = columns.iter().map(|(column, descends)| column.compare(a, b, *descends));
            orders.fold(Ordering::Equal, Ordering::then)
        });
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

    fn column(&self, name: &str) -> Result<Column, String> {
        if let Some(place) = self.by.iter().position(|by| by.as_str() == name) {
            return Ok(Column::Key(place));
        }
        if By::named(name).is_some() {
            return Err(format!("{name} is not among what --by groups by"));
        }
        if let Some((_, count)) = COUNTS.iter().find(|(known, _)| is_column(known, name)) {
            return Ok(Column::Count(*count));
        }
        match (name, self.currencies.as_slice()) {
            ("billed_seconds" | "seconds", _) => Ok(Column::Seconds),
            ("reported_cost", _) => Ok(Column::ReportedCost),
            ("cost", [currency]) => Ok(Column::Cost(*currency)),
            (_, []) => Err("there is no cost without [[prices]]".to_owned()),
            (name, currencies) => {
                let wanted = name.strip_prefix("cost_").map(str::to_ascii_uppercase);
                let found = currencies.iter().find(|currency| wanted.as_deref() == Some(currency.as_str()));
                let names = currencies.iter().map(|c| format!("cost_{}", c.as_str().to_lowercase()));
                found
                    .map(|currency| Column::Cost(*currency))
                    .ok_or_else(|| format!("{name} is none of {}", names.collect::<Vec<_>>().join(", ")))
            }
        }
    }
}

/// A column to sort by, and its direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// A name of `by`, or of a sum.
    column: String,
    /// From the largest down. What is not known comes last in any case.
    descends: bool,
}

impl Order {
    /// Reads columns with commas between them; `-` before one is from the largest down.
    ///
    /// # Errors
    /// The name that no report has.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                let (column, descends) = match name.strip_prefix('-') {
                    Some(column) => (column, true),
                    None => (name.strip_prefix('+').unwrap_or(name), false),
                };
                let column = column.to_ascii_lowercase();
                let is_count = COUNTS.iter().any(|(known, _)| is_column(known, &column));
                let is_other = matches!(column.as_str(), "billed_seconds" | "seconds" | "cost" | "reported_cost")
                    || column.strip_prefix("cost_").is_some_and(|code| code.len() == 3);
                if By::named(&column).is_none() && !is_count && !is_other {
                    let counts = COUNTS.map(|(name, _)| name).join(", ");
                    return Err(format!(
                        "{column:?} is no column: write one of {counts}, billed_seconds, cost, reported_cost, or one of --by"
                    ));
                }
                Ok(Self { column, descends })
            })
            .collect()
    }

    /// The same column the other way around.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.descends = !self.descends;
        self
    }
}

/// A whole number of sums; `None`: not known.
type Count = fn(&Sums) -> Option<u64>;

/// The counts by which groups can be sorted; `_tokens` may be left out.
const COUNTS: [(&str, Count); 8] = [
    ("requests", |sums| Some(sums.requests)),
    ("input_tokens", |sums| sums.input_tokens),
    ("cached_input_tokens", |sums| sums.cached_input_tokens),
    ("cache_write_input_tokens", |sums| sums.cache_write_input_tokens),
    ("output_tokens", |sums| sums.output_tokens),
    ("reasoning_tokens", |sums| sums.reasoning_tokens),
    ("total_tokens", |sums| sums.total_tokens),
    ("estimated_total_tokens", |sums| sums.estimated().total_tokens),
];

fn is_column(known: &str, name: &str) -> bool {
    known == name
        || known.strip_suffix("_tokens") == Some(name)
        || (known, name) == ("cached_input_tokens", "cached")
}

enum Column {
    /// A place in the keys.
    Key(usize),
    Count(Count),
    Seconds,
    Cost(Currency),
    ReportedCost,
}

impl Column {
    fn compare(&self, a: &Group, b: &Group, descends: bool) -> Ordering {
        match self {
            Self::Key(place) => order(a.key[*place].as_ref(), b.key[*place].as_ref(), descends, Ord::cmp),
            Self::Count(count) => order(count(&a.sums), count(&b.sums), descends, Ord::cmp),
            Self::Seconds => order(a.sums.billed_seconds, b.sums.billed_seconds, descends, f64::total_cmp),
            Self::Cost(currency) => {
                let amount = |group: &Group| group.sums.cost.amount(*currency);
                order(amount(a), amount(b), descends, Ord::cmp)
            }
            Self::ReportedCost => order(a.sums.reported_cost, b.sums.reported_cost, descends, Ord::cmp),
        }
    }
}

fn order<T>(a: Option<T>, b: Option<T>, descends: bool, compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (&a, &b) {
        (Some(a), Some(b)) if descends => compare(b, a),
        (Some(a), Some(b)) => compare(a, b),
        _ => a.is_none().cmp(&b.is_none()),
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

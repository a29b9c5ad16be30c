//! The order of groups: the columns to sort by.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::by::By;
use super::groups::{Estimated, Group, SOURCES, Sums};
use crate::llm::price::Currency;

/// A column to sort by, and its direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    column: Column,
    /// Sorts from the largest down. Unknown values come last in any case.
    descends: bool,
}

impl Order {
    /// Parses columns with commas between them. A `-` before a column sorts from the largest down.
    ///
    /// # Errors
    /// Fails with a name that no report has.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                let (name, descends) = match name.strip_prefix('-') {
                    Some(name) => (name, true),
                    None => (name.strip_prefix('+').unwrap_or(name), false),
                };
                let name = name.to_ascii_lowercase().replace(' ', "_");
                let column = Column::named(&name).ok_or_else(|| {
                    let counts = COUNTS.map(|(name, _)| name).join(", ");
                    let numbers = NUMBERS.map(|(name, _)| name).join(", ");
                    format!(
                        "{name:?} is not a column: write one of {counts}, {numbers}, cost, estimated_cost, reported_cost, or one of --by"
                    )
                })?;
                Ok(Self { column, descends })
            })
            .collect()
    }

    /// Reverses the direction.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.descends = !self.descends;
        self
    }

    /// Checks that a report by `by` with costs in `currencies` has the columns.
    ///
    /// # Errors
    /// Fails with the missing column.
    pub fn check(orders: &[Self], by: &[By], currencies: &[Currency]) -> Result<(), String> {
        Sorting::new(orders, by, currencies).map(|_| ())
    }
}

/// A column by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    By(By),
    /// An index in [`COUNTS`].
    Count(usize),
    /// An index in [`NUMBERS`].
    Number(usize),
    ReportedCost,
    /// The cost in a currency, or in the only one.
    Cost {
        is_estimated: bool,
        code: Option<String>,
    },
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        if let Some(by) = By::named(name) {
            return Some(Self::By(by));
        }
        if let Some(place) = COUNTS.iter().position(|(known, _)| is_count(known, name)) {
            return Some(Self::Count(place));
        }
        let number = if name == "seconds" { "billed_seconds" } else { name };
        if let Some(place) = NUMBERS.iter().position(|(known, _)| *known == number) {
            return Some(Self::Number(place));
        }
        if name == "reported_cost" {
            return Some(Self::ReportedCost);
        }
        let (is_estimated, cost) = name.strip_prefix("estimated_").map_or((false, name), |cost| (true, cost));
        let code = match cost.strip_prefix("cost") {
            Some("") => None,
            Some(code) => Some(code.strip_prefix('_')?),
            None if is_estimated => return None,
            None => Some(name),
        };
        let is_code = |code: &str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_lowercase());
        code.is_none_or(is_code).then(|| Self::Cost { is_estimated, code: code.map(str::to_ascii_uppercase) })
    }
}

/// A whole number of sums. `None` if it is unknown.
type Count = fn(&Sums) -> Option<u64>;

/// A number of sums. `None` if it is unknown.
type Number = fn(&Sums) -> Option<f64>;

/// The counts by which groups can be sorted, by their names in JSON and CSV.
const COUNTS: [(&str, Count); 19] = [
    ("requests", |sums| Some(sums.requests)),
    ("input_tokens", |sums| sums.input_tokens),
    ("cached_input_tokens", |sums| sums.cached_input_tokens),
    ("cache_write_input_tokens", |sums| sums.cache_write_input_tokens),
    ("output_tokens", |sums| sums.output_tokens),
    ("reasoning_tokens", |sums| sums.reasoning_tokens),
    ("total_tokens", |sums| sums.total_tokens),
    ("computed_total_tokens", |sums| sums.computed_total_tokens),
    ("estimated_input_tokens", |sums| sums.estimated_tokens()[0]),
    ("estimated_output_tokens", |sums| sums.estimated_tokens()[1]),
    ("estimated_total_tokens", |sums| sums.estimated_tokens()[2]),
    ("countable_requests", |sums| Some(sums.countable)),
    ("failed_requests", |sums| Some(sums.failed)),
    ("requests_without_price", |sums| Some(sums.cost.unpriced)),
    ("requests_reported", |sums| Some(sums.sources[0])),
    ("requests_drained", |sums| Some(sums.sources[1])),
    ("requests_partial", |sums| Some(sums.sources[2])),
    ("requests_estimated", |sums| Some(sums.sources[Estimated::SOURCE])),
    ("requests_none", |sums| Some(sums.sources[SOURCES.len() - 1])),
];

/// The other numbers by which groups can be sorted; `reported` is the share in the table.
const NUMBERS: [(&str, Number); 2] = [
    ("billed_seconds", |sums| sums.billed_seconds),
    ("reported", |sums| (sums.countable > 0).then(|| sums.reported() as f64 / sums.countable as f64)),
];

/// Returns true if a count has the name, also in the table's short form.
fn is_count(known: &str, name: &str) -> bool {
    known == name
        || known.strip_suffix("_tokens") == Some(name)
        || matches!(
            (known, name),
            ("cached_input_tokens", "cached") | ("cache_write_input_tokens", "cache_write")
        )
}

/// The columns of one report to sort by.
pub(super) struct Sorting(Vec<(SortKey, bool)>);

enum SortKey {
    /// An index in the keys.
    Name(usize),
    /// An index in the keys. The labels of the hour that occurs twice are not in the order of time.
    Hour(usize),
    Count(Count),
    Number(Number),
    Cost(Currency),
    EstimatedCost(Currency),
    ReportedCost,
}

impl Sorting {
    /// # Errors
    /// Fails if a report by `by` with costs in `currencies` lacks a column.
    pub(super) fn new(orders: &[Order], by: &[By], currencies: &[Currency]) -> Result<Self, String> {
        let key = |order: &Order| Ok((SortKey::of(&order.column, by, currencies)?, order.descends));
        orders.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn compare(&self, a: &Group, b: &Group) -> Ordering {
        let orders = self.0.iter().map(|(key, descends)| key.compare(a, b, *descends));
        orders.fold(Ordering::Equal, Ordering::then)
    }
}

impl SortKey {
    fn of(column: &Column, by: &[By], currencies: &[Currency]) -> Result<Self, String> {
        match column {
            Column::By(wanted) => match by.iter().position(|by| by == wanted) {
                Some(place) if *wanted == By::Hour => Ok(Self::Hour(place)),
                Some(place) => Ok(Self::Name(place)),
                None => Err(format!("{wanted} is not among what --by groups by")),
            },
            Column::Count(place) => Ok(Self::Count(COUNTS[*place].1)),
            Column::Number(place) => Ok(Self::Number(NUMBERS[*place].1)),
            Column::ReportedCost => Ok(Self::ReportedCost),
            Column::Cost { is_estimated, code } => {
                let currency = currency(code.as_deref(), currencies)?;
                Ok(if *is_estimated { Self::EstimatedCost(currency) } else { Self::Cost(currency) })
            }
        }
    }

    fn compare(&self, a: &Group, b: &Group, descends: bool) -> Ordering {
        match self {
            Self::Name(place) => order(a.key[*place].as_ref(), b.key[*place].as_ref(), descends, Ord::cmp),
            Self::Hour(place) => {
                let at = |group: &Group| group.key[*place].as_deref()?.parse::<Timestamp>().ok();
                order(at(a), at(b), descends, Ord::cmp)
            }
            Self::Count(count) => order(count(&a.sums), count(&b.sums), descends, Ord::cmp),
            Self::Number(number) => order(number(&a.sums), number(&b.sums), descends, f64::total_cmp),
            Self::Cost(currency) => {
                let amount = |group: &Group| group.sums.cost.amount(*currency);
                order(amount(a), amount(b), descends, Ord::cmp)
            }
            Self::EstimatedCost(currency) => {
                let amount = |group: &Group| group.sums.estimated_cost(*currency);
                order(amount(a), amount(b), descends, Ord::cmp)
            }
            Self::ReportedCost => order(a.sums.reported_cost, b.sums.reported_cost, descends, Ord::cmp),
        }
    }
}

/// The currency with this code, or the only one.
fn currency(code: Option<&str>, currencies: &[Currency]) -> Result<Currency, String> {
    let names = || {
        let names = currencies.iter().map(|currency| format!("cost_{}", currency.as_str().to_lowercase()));
        names.collect::<Vec<_>>().join(", ")
    };
    match (code, currencies) {
        (_, []) => Err("there is no cost without [[prices]]".to_owned()),
        (None, [currency]) => Ok(*currency),
        (None, _) => Err(format!("cost is in several currencies: write one of {}", names())),
        (Some(code), _) => currencies
            .iter()
            .find(|currency| currency.as_str() == code)
            .copied()
            .ok_or_else(|| format!("[[prices]] have no cost in {code}: write one of {}", names())),
    }
}

fn order<T>(a: Option<T>, b: Option<T>, descends: bool, compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (&a, &b) {
        (Some(a), Some(b)) if descends => compare(b, a),
        (Some(a), Some(b)) => compare(a, b),
        _ => a.is_none().cmp(&b.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::report::Report;
    use super::*;

    #[test]
    fn hour_that_occurs_twice_is_sorted_by_time() {
        let hours = ["01:00+02:00", "02:00+02:00", "02:00+01:00", "03:00+01:00"];
        let hours = hours.map(|hour| Some(format!("2026-10-25T{hour}")));
        let group = |hour: &Option<String>| Group { key: vec![hour.clone()], sums: Sums::default() };
        let mut report = Report {
            by: vec![By::Hour],
            groups: [3, 2, 0, 1].map(|place| group(&hours[place])).into(),
            rest: None,
            total: Sums::default(),
            before: None,
            currencies: Vec::new(),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            coarse_until: None,
        };
        report.sort(&Order::list("hour").unwrap()).unwrap();
        assert_eq!(report.groups, hours.each_ref().map(group));
        report.sort(&Order::list("-hour").unwrap()).unwrap();
        report.groups.reverse();
        assert_eq!(report.groups, hours.each_ref().map(group));
    }

    #[test]
    fn column_that_a_report_lacks_is_named() {
        let [eur, usd] = ["EUR", "USD"].map(|code| Currency::parse(code).unwrap());
        let check = |column: &str, currencies: &[Currency]| {
            Order::check(&Order::list(column).unwrap(), &[By::Model], currencies)
        };
        for (column, currencies, reason) in [
            ("user", &[usd][..], "user is not among what --by groups by"),
            ("cost", &[], "there is no cost without [[prices]]"),
            ("cost", &[eur, usd], "write one of cost_eur, cost_usd"),
            ("gbp", &[eur, usd], "no cost in GBP: write one of cost_eur, cost_usd"),
        ] {
            let error = check(column, currencies).unwrap_err();
            assert!(error.contains(reason), "{column}: {error}");
        }
        for column in ["model", "cost_usd", "-USD", "estimated_cost_eur", "Cache write", "reported"] {
            assert_eq!(check(column, &[eur, usd]), Ok(()), "{column}");
        }
        for column in ["moon", "cost_", "costs", "estimated_usd", "cost_12"] {
            let error = Order::list(column).unwrap_err();
            assert!(
                error.contains("is not a column: write one of requests, input_tokens"),
                "{column}: {error}"
            );
        }
    }
}

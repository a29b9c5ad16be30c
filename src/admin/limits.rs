//! `/limits`: limits and budgets, for programs.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Number;

use super::Admin;
use super::api::bad;
use super::pages::LimitLine;
use super::query;
use super::respond::json;
use crate::gate::limit::{Quantity, Units};

#[derive(Serialize)]
struct List {
    /// The fullest first.
    limits: Vec<Listed>,
    /// Further limits, which are less used.
    unlisted: usize,
}

#[derive(Serialize)]
struct Listed {
    /// The owner, or its user who has used most.
    whose: String,
    /// The place in the configuration.
    key: String,
    /// The quantity, with its requests and its time.
    counts: String,
    /// The used and held amount.
    used: Option<Number>,
    limit: Option<Number>,
    used_ratio: f64,
    /// Requests that wait for it.
    waiting: usize,
    /// `null`: it counts running requests, or the latest time of its length.
    period: Option<Period>,
}

#[derive(Serialize)]
struct Period {
    since: Timestamp,
    until: Timestamp,
}

pub(super) async fn limits(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let limit = match query::limits(&query.unwrap_or_default()) {
        Ok(limit) => limit,
        Err(reason) => return bad(&reason),
    };
    let lines = LimitLine::fullest_first(&admin.shown.limits);
    let limits: Vec<_> = lines.iter().take(limit).map(listed).collect();
    json(&List { unlisted: lines.len() - limits.len(), limits })
}

fn listed(line: &LimitLine) -> Listed {
    let LimitLine { applied, status, ratio } = line;
    let quantity = applied.limit.quantity();
    Listed {
        whose: applied.whose(),
        key: applied.path(),
        counts: applied.counts(),
        used: amount(quantity, status.taken()),
        limit: amount(quantity, status.limit),
        used_ratio: *ratio,
        waiting: applied.waiting(),
        period: status.period.map(|(since, until)| Period { since, until }),
    }
}

/// A whole number as one. `None` beyond the numbers of JSON.
fn amount(quantity: Quantity, units: Units) -> Option<Number> {
    let text = quantity.text(units);
    let whole = text.parse::<u64>().map(Number::from).ok();
    whole.or_else(|| Number::from_f64(text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::price::Currency;

    #[test]
    fn amounts_are_numbers_of_their_unit() {
        let dollars = Quantity::Cost(Currency::parse("USD").unwrap());
        let half = Units(dollars.one().0 / 2);
        assert_eq!(amount(dollars, half).unwrap().to_string(), "0.5");
        assert_eq!(amount(Quantity::Requests, Units(7)).unwrap().to_string(), "7");
    }
}

//! The end of the page: models without a price, and where the numbers come from.

use jiff::civil::Date;
use jiff::{Timestamp, Unit};
use maud::{Markup, html};
use serde_json::Value;

use super::dashboard::Instance;
use super::names::shown;
use super::numbers::{count, time};
use crate::admin::query::PageQuery;
use crate::config::reload::ReloadStatus;
use crate::config::{host_name, time_zone_name};
use crate::sinks::ledger::{LedgerSource, Overview};

/// The largest number of models that are listed.
const MOST_MODELS: usize = 20;

/// The models with requests that have no price, and the lines to add for them.
pub(super) fn unpriced(overview: &Overview) -> Markup {
    let mut models: Vec<_> = overview.models.iter().filter(|group| group.sums.cost.unpriced > 0).collect();
    models.sort_by_key(|group| std::cmp::Reverse(group.sums.cost.unpriced));
    let listed = &models[..models.len().min(MOST_MODELS)];
    let name = |group: &crate::sinks::ledger::Group| group.key.first().cloned().flatten();
    let lines: Vec<_> = listed
        .iter()
        .filter_map(|group| name(group))
        .map(|name| {
            // A TOML string has JSON's escapes.
            format!("[[prices]]\nmodel = {}\ninput = \noutput = \n", Value::from(shown(&name)))
        })
        .collect();
    html! {
        @if !models.is_empty() {
            section.card #prices aria-labelledby="prices-title" {
                div.card-head { h2 #prices-title { "Models without a price" } }
                p.hint { "Their requests are in no sum of money." }
                ul.models {
                    @for group in listed {
                        li {
                            @match name(group) { Some(name) => bdi { code { (shown(&name)) } }, None => span.unknown { "no model" } }
                            " " span.unknown { (count(group.sums.cost.unpriced)) " requests" }
                        }
                    }
                    @if models.len() > listed.len() { li { "and " (models.len() - listed.len()) " more" } }
                }
                @if !lines.is_empty() {
                    details.numbers #prices-lines {
                        summary { "Lines to add to the configuration" }
                        p.hint { "Complete them with the price of a million tokens. " a href="config" { "The configuration in use" } }
                        pre tabindex="0" aria-label="Lines of the configuration" { (lines.join("\n")) }
                    }
                }
            }
        }
    }
}

pub(super) fn footer(query: &PageQuery, at: Timestamp, instance: &Instance<'_>) -> Markup {
    let by = ("by", "day,client,user,upstream,model");
    let status = instance.status;
    html! {
        footer {
            p {
                "This selection: "
                a href={ "usage?" (query.data_query(&[by, ("format", "csv")])) } download="usage.csv" { "sums as CSV" } " · "
                a href={ "usage?" (query.data_query(&[by])) } { "sums as JSON" }
            }
            p {
                a href="config" { "Configuration" } " " (status.generation) ", in use since " (time(status.taken_at, &query.zone))
                @if let Some(refused) = &status.refused { " · " span.worse { "a later one was refused at " (time(refused.at, &query.zone)) } }
                @if !status.needs_restart.is_empty() { " · " span.worse { "some changes need a restart" } }
                " · " a href="metrics" { "Metrics" } " · " a href="readyz" { "Readiness" } " · " a href="members" { "Members" }
            }
            p {
                "streamgauge " (env!("CARGO_PKG_VERSION"))
                " on " (shown(&host_name()))
                @if let Some(place) = instance.ledger { " · " (of(place)) }
                " · " (prices(status, at))
            }
            p { "All times are " (time_zone_name(&query.zone)) ". Numbers are as upstreams reported them; ~ and hatching mark estimates. Hover for all digits." }
        }
    }
}

fn of(place: &LedgerSource) -> Markup {
    html! { "Usage of " (place) }
}

/// The number of prices, and the age of the newest.
fn prices(status: &ReloadStatus, at: Timestamp) -> String {
    let prices = status.effective.get("prices").and_then(Value::as_array);
    let Some(prices) = prices.filter(|prices| !prices.is_empty()) else { return "no prices".to_owned() };
    let from = |price: &Value| price.get("from")?.as_str()?.parse::<Date>().ok();
    let newest = prices.iter().filter_map(from).max();
    let today = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    let age = newest.and_then(|newest| Some((newest, newest.until((Unit::Day, today)).ok()?.get_days())));
    match age {
        Some((newest, days @ 0..)) => {
            format!("{} prices, the newest from {newest}, {days} days ago", prices.len())
        }
        Some((newest, _)) => format!("{} prices, the newest from {newest}", prices.len()),
        None => format!("{} prices, without dates", prices.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn age_of_prices_is_that_of_the_newest() {
        let at = "2026-03-11T00:00:00Z".parse().unwrap();
        let status = |prices: Value| ReloadStatus {
            effective: Arc::new(serde_json::json!({ "prices": prices })),
            ..ReloadStatus::default()
        };
        for (shown, text) in [
            (serde_json::json!([]), "no prices"),
            (serde_json::json!([{ "model": "m" }]), "1 prices, without dates"),
            (
                serde_json::json!([{ "from": "2026-03-01" }, { "from": "2025-01-01" }]),
                "2 prices, the newest from 2026-03-01, 10 days ago",
            ),
        ] {
            assert_eq!(prices(&status(shown), at), text);
        }
    }
}

//! The latest records, and the cost of each.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde_json::Value;

use super::names::shown;
use super::numbers::{UNKNOWN, maybe, millis, time};
use super::record_cost::RecordCost;
use super::scale::{Unit, text as amount_text};
use crate::admin::query::PageQuery;
use crate::llm::price::Prices;
use crate::sinks::ledger::Record;

/// The list of the latest records, or of the latest failures. Each leads to its own page.
pub(super) fn records(query: &PageQuery, records: &[Record], prices: &Prices) -> Markup {
    let failed = if query.failed { [("outcome", "failed")].as_slice() } else { &[] };
    let data = |more: &[(&str, &str)]| query.data_query(&[more, failed].concat());
    html! {
        section.card #records aria-labelledby="records-title" {
            div.card-head {
                h2 #records-title { @if query.failed { "Latest failures" } @else { "Latest records" } }
                div.links {
                    @if query.filters[6].is_none() {
                        nav.switch aria-label="Records" {
                            a href={ (query.link(|query| query.failed = false)) "#records" } data-swap aria-current=[(!query.failed).then_some("true")] { "All" }
                            a href={ (query.link(|query| query.failed = true)) "#records" } data-swap aria-current=[query.failed.then_some("true")] { "Failures" }
                        }
                    }
                    a href={ "records?" (data(&[("format", "csv"), ("limit", "10000")])) } download="records.csv" { "CSV" }
                    a href={ "records?" (data(&[("limit", "1000")])) } { "JSON" }
                }
            }
            @if records.is_empty() { p.empty { "No request failed in this time." } }
            @else { (table(records, prices, &query.zone)) }
        }
    }
}

fn table(records: &[Record], prices: &Prices, zone: &TimeZone) -> Markup {
    html! {
        div.scroll #records-scroll role="group" aria-label="Latest records" {
            table.records {
                thead { tr {
                    th scope="col" { "Started" }
                    th scope="col" { "Model" }
                    th scope="col" { "Client and user" }
                    th scope="col" { "Outcome" }
                    th.number scope="col" { "Input" }
                    th.number scope="col" { "Output" }
                    th.number scope="col" { "Cost" }
                    th.number scope="col" { "First token" }
                    th.number scope="col" { "Duration" }
                    th.number scope="col" { "Attempts" }
                } }
                tbody { @for record in records { (row(record, prices, zone)) } }
            }
        }
    }
}

/// A text of a record.
pub(super) fn text<'a>(record: &'a Record, field: &str) -> Option<&'a str> {
    record.get(field).as_str()
}

/// The model that the response named, else the requested one.
pub(super) fn model(record: &Record) -> String {
    let model = text(record, "model").or_else(|| text(record, "model_requested"));
    model.map_or_else(|| UNKNOWN.to_owned(), shown)
}

/// The number of attempts.
pub(super) fn attempts(record: &Record) -> usize {
    record.get("attempts").as_array().map_or(1, Vec::len)
}

/// The start of the request.
pub(super) fn started(record: &Record) -> Option<Timestamp> {
    text(record, "started_at")?.parse().ok()
}

/// The outcome with its status, and the error's text as its title.
pub(super) fn outcome(record: &Record) -> Markup {
    let outcome = text(record, "outcome").unwrap_or(UNKNOWN);
    html! {
        span.badge.(outcome) title=[text(record, "error")] { (outcome.replace('_', " ")) }
        @if let Some(status) = record.get("status").as_u64() { " " span.unknown { (status) } }
    }
}

fn row(record: &Record, prices: &Prices, zone: &TimeZone) -> Markup {
    let number = |field: &str| record.get(field).as_u64();
    let took = |field: &str| record.get(field).as_f64().map_or_else(|| UNKNOWN.to_owned(), millis);
    let id = text(record, "id").unwrap_or_default();
    let error = text(record, "error").filter(|_| record.get("outcome") != &Value::from("complete"));
    html! {
        tr {
            td.when { a.id href={ "usage/" (id) } { @match started(record) { Some(at) => (time(at, zone)), None => (UNKNOWN) } } }
            td.name.model { bdi { (model(record)) } }
            td.name.who {
                bdi { (shown(text(record, "client").unwrap_or(UNKNOWN))) }
                @if let Some(user) = text(record, "user") { " · " bdi { (shown(user)) } }
            }
            td.how {
                (outcome(record))
                @if let Some(error) = error { span.error title=(error) { (shown(error)) } }
            }
            td.number.input-tokens { span.phone { "in " } (maybe(number("input_tokens"))) }
            td.number.output-tokens { span.phone { "out " } (maybe(number("output_tokens"))) }
            td.number.cost { (cost(record, prices)) }
            td.number.spare { (took("time_to_first_token_ms")) }
            td.number.took { (took("duration_ms")) }
            td.number.spare { (attempts(record)) }
        }
    }
}

fn cost(record: &Record, prices: &Prices) -> Markup {
    let cost = RecordCost::of(record, prices);
    html! {
        @match cost.amount {
            Some((currency, amount)) => data value=(amount) title={ (amount) " " (currency) } { (amount_text(amount.to_f64(), Unit::Money(currency))) },
            None => (maybe(None)),
        }
    }
}

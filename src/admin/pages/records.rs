//! The latest records.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde_json::Value;

use super::numbers::{UNKNOWN, maybe, millis, time};
use crate::sinks::ledger::Record;

/// The table of the latest records. Each has its id, which links to the whole record as JSON.
pub(super) fn table(records: &[Record], zone: &TimeZone) -> Markup {
    html! {
        div.scroll #records-scroll role="group" aria-label="Latest records" {
            table {
                thead { tr {
                    th scope="col" { "Started" }
                    th scope="col" { "Client" }
                    th scope="col" { "User" }
                    th scope="col" { "Model" }
                    th scope="col" { "Upstream" }
                    th scope="col" { "Outcome" }
                    th.number scope="col" { "Input" }
                    th.number scope="col" { "Output" }
                    th scope="col" { "Source" }
                    th.number scope="col" { "First token" }
                    th.number scope="col" { "Duration" }
                    th scope="col" { "Record" }
                } }
                tbody { @for record in records { (row(record, zone)) } }
            }
        }
    }
}

fn row(record: &Record, zone: &TimeZone) -> Markup {
    let text = |field: &str| record.get(field).as_str().unwrap_or(UNKNOWN).to_owned();
    let number = |field: &str| record.get(field).as_u64();
    let took = |field: &str| record.get(field).as_f64().map_or_else(|| UNKNOWN.to_owned(), millis);
    let started = record.get("started_at").as_str().and_then(|at| at.parse::<Timestamp>().ok());
    // The requested model, if no response named one.
    let model = match record.get("model") {
        Value::Null => text("model_requested"),
        _ => text("model"),
    };
    let (id, outcome) = (text("id"), text("outcome"));
    html! {
        tr {
            td { @match started { Some(at) => (time(at, zone)), None => (UNKNOWN) } }
            td.name { (text("client")) }
            td.name { (text("user")) }
            td.name { (model) }
            td.name { (text("upstream")) }
            td { span.badge.(outcome) title=[record.get("error").as_str()] { (outcome.replace('_', " ")) } }
            td.number { (maybe(number("input_tokens"))) }
            td.number { (maybe(number("output_tokens"))) }
            td { (text("usage_source")) }
            td.number { (took("time_to_first_token_ms")) }
            td.number { (took("duration_ms")) }
            td { a.id href={ "usage/" (id) } { (id) } }
        }
    }
}

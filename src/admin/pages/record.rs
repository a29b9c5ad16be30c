//! The page of one record: how it went, its times and attempts, its cost by part, and all fields.

use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde_json::Value;

use super::names::shown;
use super::numbers::{grouped, millis, time};
use super::record_cost::RecordCost;
use super::records::{model, outcome, started, text};
use super::scale::{Unit, text as amount_text};
use super::{Depth, brand, document};
use crate::config::time_zone_name;
use crate::llm::price::Prices;
use crate::sinks::ledger::Record;

/// The times of a record, in their usual order.
const TIMES: [(&str, &str); 6] = [
    ("time_to_first_byte_ms", "Response began"),
    ("time_to_first_event_ms", "First event"),
    ("time_to_first_token_ms", "First token"),
    ("time_to_last_event_ms", "Last event"),
    ("time_to_disconnect_ms", "Client left"),
    ("duration_ms", "Ended"),
];

/// The page, two levels below the root.
pub(in crate::admin) fn page(record: &Record, prices: &Prices, zone: &TimeZone) -> Markup {
    let depth = Depth::of("/usage/id");
    let id = text(record, "id").unwrap_or_default();
    let body = html! {
        header.top {
            (brand())
            div.state { a href=(depth.link("/")) { "To the dashboard" } }
        }
        main.record #content tabindex="-1" {
            h1 { "Request " span.id { (id) } }
            (summary(record, zone))
            (timeline(record))
            (attempts(record))
            (cost(record, prices))
            section.card #fields aria-label="All fields" {
                div.card-head {
                    h2 { "All fields" }
                    p.links { a href={ (id) "?format=json" } { "JSON" } }
                }
                pre.fields-json tabindex="0" aria-label="The record as JSON" { (json(record)) }
            }
        }
    };
    document(depth, "Request · streamgauge", false, &body)
}

fn json(record: &Record) -> String {
    serde_json::to_string_pretty(record).unwrap_or_default()
}

fn summary(record: &Record, zone: &TimeZone) -> Markup {
    let facts = [
        ("Model", Some(model(record))),
        ("Requested model", text(record, "model_requested").map(shown)),
        ("Client", text(record, "client").map(shown)),
        ("User", text(record, "user").map(shown)),
        ("Upstream", text(record, "upstream").map(shown)),
        ("Group", text(record, "group").map(shown)),
        ("Endpoint", text(record, "endpoint").map(shown)),
        ("Usage source", text(record, "usage_source").map(shown)),
        ("Input tokens", record.get("input_tokens").as_u64().map(grouped)),
        ("Cached input", record.get("cached_input_tokens").as_u64().map(grouped)),
        ("Output tokens", record.get("output_tokens").as_u64().map(grouped)),
        ("Reasoning", record.get("reasoning_tokens").as_u64().map(grouped)),
    ];
    html! {
        section.card #summary aria-label="Summary" {
            p.outcome {
                (outcome(record)) " "
                @if let Some(at) = started(record) { (time(at, zone)) " " span.unknown { (time_zone_name(zone)) } }
            }
            @if let Some(error) = text(record, "error") { p.error-text { (error) } }
            dl.facts {
                @for (name, value) in facts {
                    @if let Some(value) = value { div { dt { (name) } dd { bdi { (value) } } } }
                }
            }
        }
    }
}

fn timeline(record: &Record) -> Markup {
    let end = record.get("duration_ms").as_f64().unwrap_or_default();
    let waited = record.get("time_waiting_ms").as_f64();
    let times = TIMES.iter().filter_map(|(field, name)| Some((*name, record.get(field).as_f64()?)));
    let mut times: Vec<_> =
        waited.map(|waited| ("Waited for a limit or a member", waited)).into_iter().chain(times).collect();
    times.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    html! {
        section.card #timeline aria-label="Timeline" {
            h2 { "Timeline" }
            table {
                thead { tr { th scope="col" { "Time" } th.number scope="col" { "After" } th.wide { span.sr { "Bar" } } } }
                tbody { @for (name, at) in &times { tr {
                    th scope="row" { (name) }
                    td.number { (millis(*at)) }
                    td.wide { (span(0.0, *at, end, "plain")) }
                } } }
            }
        }
    }
}

/// A bar from one time to another of the whole.
fn span(from: f64, to: f64, whole: f64, class: &str) -> Markup {
    let share = |value: f64| if whole > 0.0 { (value / whole * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    html! {
        svg.bar width="100%" height="8" aria-hidden="true" focusable="false" {
            rect.track width="100%" height="8" rx="3" {}
            rect.(class) x=(format!("{:.2}%", share(from))) width=(format!("{:.2}%", (share(to) - share(from)).max(0.4))) height="8" rx="2" {}
        }
    }
}

fn attempts(record: &Record) -> Markup {
    let Some(attempts) = record.get("attempts").as_array() else { return html! {} };
    let number =
        |attempt: &Value, field: &str| attempt.get(field).and_then(Value::as_f64).unwrap_or_default();
    let whole: f64 = attempts.iter().map(|attempt| number(attempt, "ms")).sum();
    // Attempts follow each other, so each begins at the end of the one before.
    let times = attempts.iter().scan(0.0, |end, attempt| {
        let took = number(attempt, "ms");
        Some((attempt, std::mem::replace(end, *end + took), took))
    });
    html! {
        section.card #attempts aria-label="Attempts" {
            h2 { "Attempts" }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Upstream" }
                    th scope="col" { "Model" }
                    th scope="col" { "Status" }
                    th.number scope="col" { "Took" }
                    th.wide { span.sr { "Bar" } }
                    th scope="col" { "Error" }
                } }
                tbody { @for (attempt, begun, took) in times {
                    @let word = |field: &str| attempt.get(field).and_then(Value::as_str).map_or_else(|| "–".to_owned(), shown);
                    tr {
                        td.name { bdi { (word("upstream")) } }
                        td.name { bdi { (word("model")) } }
                        td { (attempt.get("status").and_then(Value::as_u64).map_or_else(|| "–".to_owned(), |status| status.to_string())) }
                        td.number { (millis(took)) }
                        td.wide { (span(begun, begun + took, whole, "total")) }
                        td { (word("error")) }
                    }
                } }
            } }
        }
    }
}

fn cost(record: &Record, prices: &Prices) -> Markup {
    let cost = RecordCost::of(record, prices);
    html! {
        section.card #cost aria-label="Cost" {
            h2 { "Cost" }
            @match cost.amount {
                Some((currency, amount)) => table {
                    thead { tr { th scope="col" { "Part" } th.number scope="col" { "Number" } th.number scope="col" { (currency) } } }
                    tbody {
                        @for (name, number, part) in &cost.parts {
                            tr { th scope="row" { (name) } td.number { (grouped(*number)) } td.number { (part) } }
                        }
                        tr.sum { th scope="row" { "Sum" } td {} td.number title=(amount) { (amount_text(amount.to_f64(), Unit::Money(currency))) } }
                    }
                },
                None if cost.is_unpriced => p.empty { "No price in [[prices]] is for all of its usage." },
                None => p.empty { "It has no tokens to bill." },
            }
            @if let Some(reported) = text(record, "reported_cost") { p.hint { "The service reported a cost of $" (reported) "." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_page_escapes_texts_and_leads_back() {
        let fields = [
            ("id", Value::from("0192")),
            ("started_at", "2026-01-01T00:00:00Z".into()),
            ("user", "<script>".into()),
            ("error", "<i>".into()),
            ("duration_ms", 12.5.into()),
            ("attempts", serde_json::json!([{"upstream": "<b>", "ms": 5.0, "status": 503}])),
        ];
        let record = Record::new(fields.map(|(name, value)| (name.into(), value)).into());
        let page = page(&record, &Prices::default(), &TimeZone::UTC).into_string();
        for forbidden in ["<script>", "<i>", "<b>", " style=", "href=\"/", "http://"] {
            assert!(!page.contains(forbidden), "{forbidden}: {page}");
        }
        assert!(page.contains("href=\"../\"") && page.contains("0192?format=json"), "{page}");
    }
}

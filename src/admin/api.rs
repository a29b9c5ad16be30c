//! The answers that programs read: sums, records, the configuration.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::ask::{Format, RecordsAsk, UsageAsk};
use super::reads::{Reads, Unread};
use super::respond::{Answer, data, fault, json, whole};
use super::room::{Held, Place};
use super::stream::RecordStream;
use crate::ledger::output::{csv, json as sums_json};
use crate::price::Prices;

const CSV: &str = "text/csv; charset=utf-8; header=present";
const JSON: &str = "application/json";
const TOML: &str = "application/toml; charset=utf-8";

/// `/usage?since=&until=&by=&client=&user=&upstream=&model=&format=`: what `streamgauge usage`
/// prints. It is written on the thread that reads, as far as there is room.
pub(super) async fn usage(reads: &Reads, prices: &Arc<Prices>, query: &str, place: Place) -> Answer {
    let now = Timestamp::now();
    let UsageAsk { selection, by, format } = match UsageAsk::parse(query, now) {
        Ok(ask) => ask,
        Err(reason) => return bad(&reason),
    };
    let (since, until) = (selection.since, selection.until.unwrap_or(now));
    let prices = Arc::clone(prices);
    let read = reads.read(move |ledger, bounds| {
        let report = ledger.report(&selection, &by, &prices, bounds)?;
        let mut held = Held::new(place);
        let written = match format {
            Format::Csv => csv::write_to(&report, &mut held),
            Format::Json => sums_json::write_to(&report, since, until, &mut held),
        };
        Ok(written.map(|()| held))
    });
    match read.await {
        Err(unread) => unreadable(&unread),
        Ok(Err(_)) => unreadable(&Unread::NoRoom),
        Ok(Ok(held)) => whole(kind(format), held.into()),
    }
}

/// `/usage/<id>`: one record.
pub(super) async fn one(reads: &Reads, id: &str) -> Answer {
    let Ok(id) = id.parse::<Uuid>() else {
        return bad("an id is a UUID, as the header x-streamgauge-id of each answer has it");
    };
    match reads.read(move |place, bounds| place.record(id, bounds)).await {
        Ok(Some(record)) => json(&record),
        Ok(None) => fault(
            StatusCode::NOT_FOUND,
            "no_record",
            "there is no record of this id: it is written when its request ends, and kept for ledger.retention",
        ),
        Err(unread) => unreadable(&unread),
    }
}

/// `/records?since=&until=&client=&user=&upstream=&model=&limit=&format=`: the latest records, the
/// one that ended last first.
pub(super) async fn latest(reads: &Reads, query: &str, place: Place) -> Answer {
    let ask = match RecordsAsk::parse(query, Timestamp::now()) {
        Ok(ask) => ask,
        Err(reason) => return bad(&reason),
    };
    let kind = kind(ask.format);
    match RecordStream::open(reads.clone(), ask, place).await {
        Ok(body) => whole(kind, body),
        Err(unread) => unreadable(&unread),
    }
}

/// `/config?format=`: what this process runs with. It bears no secret.
pub(super) fn config(effective: &Value, query: &str) -> Answer {
    match super::ask::Fields::parse(query.as_bytes()).get("format") {
        Some("json") => json(effective),
        None | Some("toml") => match toml::to_string(effective) {
            Ok(text) => data(TOML, text),
            Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
        },
        Some(other) => bad(&format!("format: {other:?} is neither toml nor json")),
    }
}

fn kind(format: Format) -> &'static str {
    match format {
        Format::Csv => CSV,
        Format::Json => JSON,
    }
}

fn bad(reason: &str) -> Answer {
    fault(StatusCode::BAD_REQUEST, "bad_request", reason)
}

pub(super) fn unreadable(unread: &Unread) -> Answer {
    let (status, code, message) = unread.told();
    fault(status, code, &message)
}

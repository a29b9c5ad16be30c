//! The answers that programs read: sums, records, the configuration.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use super::Admin;
use super::ask::{Fields, Format, RecordsAsk, UsageAsk};
use super::memory::{HeldText, Reservation};
use super::reads::Unread;
use super::reload;
use super::respond::{data, fault, json, whole};
use super::stream::RecordStream;
use crate::ledger::output::{csv, json as sums_json};

const CSV: &str = "text/csv; charset=utf-8; header=present";
const JSON: &str = "application/json";
const TOML: &str = "application/toml; charset=utf-8";

/// `/usage?since=&until=&by=&client=&user=&upstream=&model=&time_zone=&format=`: what `streamgauge usage`
/// prints. It is written on the thread that reads, as far as there is room.
pub(super) async fn usage(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    memory: Reservation,
) -> Response {
    let now = Timestamp::now();
    let prices = admin.shown.prices.load();
    let UsageAsk { selection, by, format } =
        match UsageAsk::parse(&query.unwrap_or_default(), now, prices.zone()) {
            Ok(ask) => ask,
            Err(reason) => return bad(&reason),
        };
    let (since, until) = (selection.since, selection.until.unwrap_or(now));
    let prices = match *prices.zone() == selection.zone {
        true => prices,
        false => Arc::new(prices.as_ref().clone().in_zone(&selection.zone)),
    };
    let read = admin.reads.read(move |ledger, bounds| {
        let report = ledger.report(&selection, &by, &prices, bounds)?;
        let mut held = HeldText::new(memory);
        let written = match format {
            Format::Csv => csv::write_to(&report, &mut held),
            Format::Json => sums_json::write_to(&report, since, until, &mut held),
        };
        Ok(written.map(|()| held))
    });
    match read.await {
        Err(unread) => unreadable(&unread),
        Ok(Err(_)) => unreadable(&Unread::NoRoom),
        Ok(Ok(held)) => whole(kind(format), Body::new(held.finish())),
    }
}

/// `/usage/<id>`: one record.
pub(super) async fn one(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<Uuid>() else {
        return bad("an id is a UUID, as the header x-streamgauge-id of each answer has it");
    };
    match admin.reads.read(move |place, bounds| place.record(id, bounds)).await {
        Ok(Some(record)) => json(&record),
        Ok(None) => fault(
            StatusCode::NOT_FOUND,
            "no_record",
            "there is no record of this id: it is written when its request ends, and kept for ledger.retention",
        ),
        Err(unread) => unreadable(&unread),
    }
}

/// `/records?since=&until=&client=&user=&upstream=&model=&time_zone=&limit=&format=`: the latest records, the
/// one that ended last first.
pub(super) async fn latest(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    memory: Reservation,
) -> Response {
    let prices = admin.shown.prices.load();
    let zone = prices.zone();
    let ask = match RecordsAsk::parse(&query.unwrap_or_default(), Timestamp::now(), zone) {
        Ok(ask) => ask,
        Err(reason) => return bad(&reason),
    };
    let kind = kind(ask.format);
    match RecordStream::open(admin.reads.clone(), ask, memory).await {
        Ok(body) => whole(kind, body),
        Err(unread) => unreadable(&unread),
    }
}

/// `/config?format=`: the configuration in use, without secrets. Comments of the TOML text say since
/// when it is in use, and the mistakes of a later one that was refused.
pub(super) async fn config(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let status = admin.shown.reload.status();
    let effective = &*status.effective;
    match Fields::parse(query.unwrap_or_default().as_bytes()).get("format") {
        Some("json") => json(effective),
        None | Some("toml") => match toml::to_string(effective) {
            Ok(text) => data(TOML, format!("{}{text}", reload::comments(&status))),
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

fn bad(reason: &str) -> Response {
    fault(StatusCode::BAD_REQUEST, "bad_request", reason)
}

pub(super) fn unreadable(unread: &Unread) -> Response {
    let (status, code, message) = unread.told();
    fault(status, code, &message)
}

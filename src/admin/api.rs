//! Responses for programs: sums, records, the configuration.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use uuid::Uuid;

use super::Admin;
use super::guard::wants_page;
use super::memory::{HeldText, Reservation};
use super::pages::{record, teams};
use super::query::{Fields, Format, RecordsQuery, UsageQuery};
use super::reader::ReadError;
use super::reload;
use super::respond::{data, fault, json, page, whole};
use super::stream::RecordStream;
use crate::sinks::ledger::output::{csv, json as sums_json};

const CSV: &str = "text/csv; charset=utf-8; header=present";
const JSON: &str = "application/json";
const TOML: &str = "application/toml; charset=utf-8";

/// `/usage?since=&until=&by=&client=&user=&upstream=&model=&time_zone=&format=`: the output of
/// `streamgauge usage`, written on the thread that reads, within the memory limit.
pub(super) async fn usage(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    memory: Reservation,
) -> Response {
    let now = Timestamp::now();
    let (prices, teams) = (admin.shown.prices.load(), teams(&admin.shown.reload.status()));
    let UsageQuery { selection, by, format } =
        match UsageQuery::parse(&query.unwrap_or_default(), now, prices.zone(), &teams) {
            Ok(query) => query,
            Err(reason) => return bad(&reason),
        };
    let (since, until) = (selection.since, selection.until.unwrap_or(now));
    let prices = match *prices.zone() == selection.zone {
        true => prices,
        false => Arc::new(prices.as_ref().clone().in_zone(&selection.zone)),
    };
    let read = admin.reader.read(move |ledger, bounds| {
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
        Ok(Err(_)) => unreadable(&ReadError::NoRoom),
        Ok(Ok(held)) => whole(kind(format), Body::new(held.finish())),
    }
}

/// `/usage/<id>`: one record. The id may not be UTF-8.
/// Browsers get a page, unless `format=json` asks for the record itself.
pub(super) async fn one(
    State(admin): State<Arc<Admin>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let is_page = match Fields::parse(query.unwrap_or_default().as_bytes()).get("format") {
        None => wants_page(&headers),
        Some("json") => false,
        Some(other) => return bad(&format!("format: {other:?} is not json")),
    };
    let Some(id) = id.ok().and_then(|Path(id)| id.parse::<Uuid>().ok()) else {
        return bad("an id is a UUID, as the header x-streamgauge-id of each response has it");
    };
    match admin.reader.read(move |place, bounds| place.record(id, bounds)).await {
        Ok(Some(record)) if is_page => {
            let prices = admin.shown.prices.load();
            page(StatusCode::OK, record::page(&record, &prices, prices.zone()))
        }
        Ok(Some(record)) => json(&record),
        Ok(None) => fault(
            StatusCode::NOT_FOUND,
            "no_record",
            "there is no record of this id: it is written when its request ends, and kept for ledger.retention",
        ),
        Err(unread) => unreadable(&unread),
    }
}

/// `/records?since=&until=&client=&user=&upstream=&model=&time_zone=&limit=&format=`: the latest
/// records, in the order of descending ends.
pub(super) async fn latest(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    memory: Reservation,
) -> Response {
    let (prices, teams) = (admin.shown.prices.load(), teams(&admin.shown.reload.status()));
    let zone = prices.zone();
    let query = match RecordsQuery::parse(&query.unwrap_or_default(), Timestamp::now(), zone, &teams) {
        Ok(query) => query,
        Err(reason) => return bad(&reason),
    };
    let kind = kind(query.format);
    match RecordStream::open(admin.reader.clone(), query, memory).await {
        Ok(body) => whole(kind, body),
        Err(unread) => unreadable(&unread),
    }
}

/// `/config?format=`: the configuration in use, without secrets. Comments of the TOML text give the
/// time since when it is in use, and the mistakes of a later one that was refused.
pub(super) async fn config(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let status = admin.shown.reload.status();
    let effective = &*status.effective;
    match Fields::parse(query.unwrap_or_default().as_bytes()).get("format") {
        Some("json") => reload::with_hint(json(effective), &status),
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

pub(super) fn bad(reason: &str) -> Response {
    fault(StatusCode::BAD_REQUEST, "bad_request", reason)
}

pub(super) fn unreadable(unread: &ReadError) -> Response {
    let (status, code, message) = unread.describe();
    fault(status, code, &message)
}

//! `/running`: running streams, for programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::Admin;
use super::api::bad;
use super::pages::running::Running;
use super::pages::teams;
use super::query::RunningQuery;
use super::respond::json;
use crate::record::Stream;

#[derive(Serialize)]
struct List<'a> {
    /// All streams that the filters select.
    running: usize,
    /// The oldest first.
    streams: Vec<Listed<'a>>,
    /// Further streams.
    unlisted: usize,
}

#[derive(Serialize)]
struct Listed<'a> {
    /// The id that its record will have.
    id: Uuid,
    started_at: Timestamp,
    client: &'a str,
    user: Option<&'a str>,
    model: Option<&'a str>,
    upstream: Option<&'a str>,
    events: u64,
    /// `null` before the upstream has reported a count.
    output_tokens: Option<u64>,
    /// `null` before the first token.
    time_to_first_token_ms: Option<f64>,
    duration_ms: f64,
}

pub(super) async fn running(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let query = match RunningQuery::parse(&query.unwrap_or_default()) {
        Ok(query) => query,
        Err(reason) => return bad(&reason),
    };
    let shown = &admin.shown;
    let running = Running::of(&shown.active, &query.page, &teams(&shown.reload.status()));
    let (all, now) = (running.count(), Instant::now());
    let listed = running.streams().iter().take(query.limit);
    let streams: Vec<_> = listed.map(|stream| entry(stream, now)).collect();
    json(&List { running: all, unlisted: all - streams.len(), streams })
}

fn entry(stream: &Stream, now: Instant) -> Listed<'_> {
    Listed {
        id: stream.id,
        started_at: stream.started_at,
        client: &stream.client,
        user: stream.user.as_deref(),
        model: stream.model.as_deref(),
        upstream: stream.upstream.as_deref(),
        events: stream.events(),
        output_tokens: stream.output_tokens(),
        time_to_first_token_ms: stream.time_to_first_token().map(millis),
        duration_ms: millis(now.saturating_duration_since(stream.started)),
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

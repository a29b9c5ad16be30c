//! The configuration in use, with its start time and a later one that was refused, and requests to
//! read it again.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::Admin;
use super::guard::is_same_origin;
use super::respond::{fault, json};
use crate::config::reload::{ReloadKind, ReloadOutcome, ReloadStatus};

#[derive(Serialize)]
struct Shown {
    generation: u64,
    taken_at: Timestamp,
    needs_restart: Vec<&'static str>,
    /// The latest configuration, if it is not the one in use.
    refused: Option<ShownRefusal>,
}

#[derive(Serialize)]
struct ShownRefusal {
    at: Timestamp,
    mistakes: Vec<String>,
}

impl From<ReloadStatus> for Shown {
    fn from(status: ReloadStatus) -> Self {
        let ReloadStatus { generation, taken_at, refused, needs_restart, .. } = status;
        let refused = refused.map(|refused| ShownRefusal {
            at: refused.at,
            mistakes: refused.mistakes.lines().map(str::to_owned).collect(),
        });
        Self { generation, taken_at, needs_restart, refused }
    }
}

/// The outcome of a request, and the status after it.
#[derive(Serialize)]
struct ShownOutcome {
    /// `taken`, or `unchanged` if the files are those of the configuration in use.
    outcome: &'static str,
    /// Busy workers that keep the earlier configuration until they are idle.
    late_workers: usize,
    #[serde(flatten)]
    status: Shown,
}

/// `/config/status`.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Response {
    json(&Shown::from(admin.shown.reload.status()))
}

/// `POST /config/reload`: 200 with the status if the configuration is put in use or has not
/// changed, 422 with the mistakes if it is refused, 503 if the process does not reload (any more).
pub(super) async fn reload(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    if !is_same_origin(&request) {
        let reason = "a page of another site cannot reload the configuration";
        return fault(StatusCode::FORBIDDEN, "cross_origin", reason);
    }
    let not_reloadable = |reason| fault(StatusCode::SERVICE_UNAVAILABLE, "not_reloadable", reason);
    let Some(outcome) = admin.shown.reload.request(ReloadKind::Reload) else {
        return not_reloadable("this process cannot reload its configuration, or it is stopping");
    };
    let shown = |outcome, late_workers| {
        json(&ShownOutcome { outcome, late_workers, status: admin.shown.reload.status().into() })
    };
    match outcome.await {
        Ok(ReloadOutcome::Taken { late_workers, .. }) => shown("taken", late_workers),
        Ok(ReloadOutcome::Unchanged) => shown("unchanged", 0),
        Ok(ReloadOutcome::Refused(mistakes)) => {
            fault(StatusCode::UNPROCESSABLE_ENTITY, "config_refused", &mistakes)
        }
        Err(_) => not_reloadable("this process is stopping, and reloads no configuration"),
    }
}

/// Keys that need a restart, in a response whose text has no comments.
const NEEDS_RESTART: HeaderName = HeaderName::from_static("x-streamgauge-needs-restart");

/// Adds the keys that need a restart, if there are any.
pub(super) fn with_hint(mut response: Response, status: &ReloadStatus) -> Response {
    if let Some(keys) =
        HeaderValue::try_from(status.needs_restart.join(", ")).ok().filter(|keys| !keys.is_empty())
    {
        response.headers_mut().insert(NEEDS_RESTART, keys);
    }
    response
}

/// The status as the first lines of a TOML text.
pub(super) fn comments(status: &ReloadStatus) -> String {
    let ReloadStatus { generation, taken_at, refused, needs_restart, .. } = status;
    let mut text = format!("# Configuration {generation}, in use since {taken_at}.\n");
    if !needs_restart.is_empty() {
        text += &format!("# Needs a restart: {}.\n", needs_restart.join(", "));
    }
    if let Some(refused) = refused {
        text += &format!("# Refused at {}:\n", refused.at);
        for mistake in refused.mistakes.lines() {
            text += &format!("#   {mistake}\n");
        }
    }
    text
}

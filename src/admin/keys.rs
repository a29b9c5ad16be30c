//! The stored keys of clients: listed, made, replaced and revoked, by programs in JSON and by people
//! in forms. A new key is in one response only.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::timeout;

use super::Admin;
use super::access::Granted;
use super::guard::{is_same_origin, wants_page};
use super::login::{cross_origin, read_form};
use super::pages::keys::{Notice, page as keys_page};
use super::query::Fields;
use super::respond::{created, fault, json, page};
use crate::config::reload::{ReloadKind, ReloadOutcome};
use crate::config::{
    CreatedKey, KeyError, KeyListing, KeyPlace, ListedKey, RevokedKeys, StoreError, StoredKey, duration,
};

/// The time for which a rotated key is still accepted, unless the request names another, as in
/// `streamgauge keys rotate`.
const GRACE: Duration = Duration::from_hours(24);

/// The longest wait for the process to take a change over. It does so later too.
const TAKEN_OVER: Duration = Duration::from_secs(2);

/// A request for a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    client: String,
    until: Option<String>,
    /// For a rotation.
    grace: Option<String>,
}

/// A change of the stored keys.
enum Change {
    Create { client: String, until: Option<String> },
    Rotate { client: String, until: Option<String>, grace: Duration },
    Revoke { id: String, cut: bool },
}

/// The result of a change.
enum Changed {
    Key(CreatedKey),
    Revoked(RevokedKeys),
}

/// `GET /keys`: the stored keys with their last use, as a page for browsers.
pub(super) async fn list(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if wants_page(&headers) {
        return show(&admin, StatusCode::OK, None).await;
    }
    match listing(&admin).await {
        Ok(listing) => json(&listing),
        Err(error) => refuse(&error),
    }
}

/// `POST /keys`: a new key. JSON `{"client": …, "until": …}`, or a form of the page.
pub(super) async fn create(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    if is_form(request.headers()) {
        return match wants_page(request.headers()) {
            true => submit(&admin, request).await,
            // curl sends `-d` as a form.
            false => {
                let reason = "send JSON, and say so: content-type: application/json";
                fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", reason)
            }
        };
    }
    change(&admin, request, |KeyRequest { client, until, grace }| match grace {
        Some(_) => Err("grace is for /keys/rotate".to_owned()),
        None => Ok(Change::Create { client, until }),
    })
    .await
}

/// `POST /keys/rotate`: a new key in place of the others of its client.
pub(super) async fn rotate(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    change(&admin, request, |KeyRequest { client, until, grace }| {
        let grace = grace.map_or(Ok(GRACE), |text| duration(&text));
        let grace = grace.map_err(|reason| format!("grace: {reason}"))?;
        Ok(Change::Rotate { client, until, grace })
    })
    .await
}

/// `DELETE /keys/<id>`; with `?now=true` also the requests with the key that run end.
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    if !is_same_origin(&request) {
        return cross_origin();
    }
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let query = request.uri().query().unwrap_or_default();
    let cut = match Fields::parse(query.as_bytes()).get("now") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return fault(StatusCode::BAD_REQUEST, "bad_request", "now is true or false"),
    };
    match apply(&admin, Change::Revoke { id, cut }, user(&request).as_deref()).await {
        Ok(Changed::Revoked(revoked)) => json(&revoked),
        Ok(Changed::Key(key)) => created(&key),
        Err(error) => refuse(&error),
    }
}

/// A change that a program asks for in JSON.
async fn change(
    admin: &Arc<Admin>,
    request: Request,
    read: impl FnOnce(KeyRequest) -> Result<Change, String>,
) -> Response {
    if !is_same_origin(&request) {
        return cross_origin();
    }
    let user = user(&request);
    let body = match read_form(&admin.key_forms, request).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let wanted = serde_json::from_slice(&body)
        .map_err(|error| {
            format!("{error}; send JSON such as {{\"client\": \"NAME\", \"until\": \"90d\"}}, without `until` for no end")
        })
        .and_then(read);
    match wanted {
        Err(reason) => fault(StatusCode::BAD_REQUEST, "bad_request", &reason),
        Ok(wanted) => match apply(admin, wanted, user.as_deref()).await {
            Ok(Changed::Key(key)) => created(&key),
            Ok(Changed::Revoked(revoked)) => json(&revoked),
            Err(error) => refuse(&error),
        },
    }
}

/// A form of the page. The response is the page with the result.
async fn submit(admin: &Arc<Admin>, request: Request) -> Response {
    if !is_same_origin(&request) {
        return cross_origin();
    }
    let user = user(&request);
    let form = match read_form(&admin.key_forms, request).await {
        Ok(form) => form,
        Err(response) => return response,
    };
    let wanted = match form_change(&form) {
        Ok(wanted) => wanted,
        Err(reason) => return show(admin, StatusCode::BAD_REQUEST, Some(Notice::Failed(reason))).await,
    };
    match apply(admin, wanted, user.as_deref()).await {
        Ok(Changed::Key(key)) => show(admin, StatusCode::OK, Some(Notice::Created(key))).await,
        Ok(Changed::Revoked(revoked)) => show(admin, StatusCode::OK, Some(Notice::Revoked(revoked))).await,
        Err(error) => {
            let (status, _) = describe(&error);
            show(admin, status, Some(Notice::Failed(error.to_string()))).await
        }
    }
}

fn form_change(form: &Bytes) -> Result<Change, String> {
    let fields = Fields::parse(form);
    let text =
        |name: &str| fields.get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let client = || text("client").ok_or("choose a client".to_owned());
    match fields.get("action") {
        Some("create") => Ok(Change::Create { client: client()?, until: text("until") }),
        Some("rotate") => {
            let grace = text("grace").map_or(Ok(GRACE), |text| duration(&text));
            let grace = grace.map_err(|reason| format!("grace: {reason}"))?;
            Ok(Change::Rotate { client: client()?, until: text("until"), grace })
        }
        Some("revoke") => {
            let id = text("id").ok_or("choose a key".to_owned())?;
            Ok(Change::Revoke { id, cut: text("now").is_some() })
        }
        _ => {
            Err("the form has no known action; programs send JSON as content-type: application/json"
                .to_owned())
        }
    }
}

/// Changes the stored keys on a thread that may block, and lets the process take them over.
async fn apply(admin: &Arc<Admin>, wanted: Change, user: Option<&str>) -> Result<Changed, KeyError> {
    let (place, user) = (admin.shown.keys.load(), user.map(str::to_owned));
    // The change goes on if the client leaves, and is logged then too.
    let change = move || change_keys(&place, &wanted).inspect(|changed| log(changed, user.as_deref()));
    let done = tokio::task::spawn_blocking(change).await;
    let mut changed = done.unwrap_or_else(|error| {
        tracing::error!(%error, "changing the stored keys failed");
        Err(KeyError::Failed)
    })?;
    if let Some(outcome) = admin.shown.reload.request(ReloadKind::LookAtKeys)
        && let Ok(Ok(ReloadOutcome::Refused(mistakes))) = timeout(TAKEN_OVER, outcome).await
    {
        let refused = format!("the change is stored and not in use yet: {mistakes}");
        let warning = match &mut changed {
            Changed::Key(key) => &mut key.warning,
            Changed::Revoked(revoked) => &mut revoked.warning,
        };
        *warning = Some(warning.take().map_or(refused.clone(), |earlier| format!("{refused}; {earlier}")));
    }
    Ok(changed)
}

/// Logs a change of the stored keys.
fn log(changed: &Changed, user: Option<&str>) {
    match changed {
        Changed::Key(key) => {
            tracing::info!(client = key.client, key_id = key.id, user, "a key was made on the admin port");
        }
        Changed::Revoked(RevokedKeys { revoked, cut, .. }) => {
            for key in revoked {
                tracing::info!(
                    client = key.client,
                    key_id = key.id,
                    user,
                    now = cut,
                    "a key was revoked on the admin port"
                );
            }
        }
    }
}

fn change_keys(place: &KeyPlace, wanted: &Change) -> Result<Changed, KeyError> {
    match wanted {
        Change::Create { client, until } => place.create_key(client, until.as_deref()).map(Changed::Key),
        Change::Rotate { client, until, grace } => {
            place.rotate_keys(client, *grace, until.as_deref()).map(Changed::Key)
        }
        Change::Revoke { id, cut } => place.revoke_keys(std::slice::from_ref(id), *cut).map(Changed::Revoked),
    }
}

/// The stored keys. Without a ledger that can be read, the last uses are unknown.
async fn listing(admin: &Arc<Admin>) -> Result<KeyListing, KeyError> {
    let place = admin.shown.keys.load();
    let store = place.store()?.name();
    let read = tokio::task::spawn_blocking(move || place.store().and_then(|store| Ok(store.keys()?))).await;
    let keys: Vec<StoredKey> = read.unwrap_or_else(|error| {
        tracing::error!(%error, "reading the stored keys failed");
        Err(KeyError::Failed)
    })?;
    let ids: Vec<_> = keys.iter().map(|key| key.digest.id()).collect();
    let since = keys.iter().map(|key| key.created.unwrap_or(Timestamp::UNIX_EPOCH)).min();
    let used = match since {
        None => None,
        Some(since) => {
            let read = admin
                .reader
                .read(move |ledger, bounds| Ok((ledger.to_string(), ledger.last_used(&ids, since, bounds)?)));
            read.await.ok()
        }
    };
    let (ledger, used) = used.unzip();
    let (used, now) = (used.unwrap_or_default(), Timestamp::now());
    let keys = keys.iter().map(|key| ListedKey::new(key, used.get(&key.digest.id()).copied(), now)).collect();
    Ok(KeyListing { store, ledger, keys })
}

async fn show(admin: &Arc<Admin>, status: StatusCode, notice: Option<Notice>) -> Response {
    let (listing, place) = (listing(admin).await, admin.shown.keys.load());
    let zone = admin.shown.prices.load().zone().clone();
    page(status, keys_page(listing.as_ref().map_err(ToString::to_string), &place, notice.as_ref(), &zone))
}

fn refuse(error: &KeyError) -> Response {
    let (status, code) = describe(error);
    fault(status, code, &error.to_string())
}

fn describe(error: &KeyError) -> (StatusCode, &'static str) {
    match error {
        KeyError::NoStore => (StatusCode::CONFLICT, "no_key_store"),
        KeyError::UnknownClient(_) => (StatusCode::BAD_REQUEST, "unknown_client"),
        KeyError::Until(_) | KeyError::Grace(_) | KeyError::NotAnId => {
            (StatusCode::BAD_REQUEST, "bad_request")
        }
        KeyError::Store(StoreError::Refused(_)) => (StatusCode::NOT_FOUND, "no_key"),
        KeyError::Store(StoreError::Table(..)) => (StatusCode::SERVICE_UNAVAILABLE, "keys_unreachable"),
        KeyError::Store(StoreError::Locked(_)) => (StatusCode::SERVICE_UNAVAILABLE, "keys_locked"),
        KeyError::Store(StoreError::Unread(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "keys_unreadable"),
        KeyError::Store(StoreError::Unwritten(..)) => (StatusCode::INTERNAL_SERVER_ERROR, "keys_unwritable"),
        KeyError::NoRandom | KeyError::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

/// The user that an authenticating proxy named, for the log.
fn user(request: &Request) -> Option<String> {
    request.extensions().get::<Granted>()?.user.clone()
}

//! Pages for operators, on an address of their own: the dashboard, health, metrics, usage records,
//! the configuration.
//!
//! | module | what it is |
//! |---|---|
//! | `server` | the accept loop and its bounds |
//! | `access`, `guard`, `login` | which clients may see the pages; the check of it; how they log in |
//! | `keys` | stored keys of clients: listed and changed |
//! | `query` | the queries of requests |
//! | `api`, `members`, `running`, `limits` | responses for programs |
//! | `pages` | responses for people |
//! | `live` | changes, as events |
//! | `reader` | reads of the ledger |
//! | `reload` | the configuration in use, and its reload on request |
//! | `ready` | the text of `/readyz` |
//! | `memory`, `stream` | what responses hold until they are taken |
//! | `respond` | responses and their headers |
//!
//! The port has one thread and one runtime; slow work runs on other threads. No request of the
//! proxy waits for it: running streams are read without a lock, and the ledger is read concurrently
//! with its writer.

mod access;
mod api;
mod guard;
mod keys;
mod limits;
mod live;
mod login;
mod members;
mod memory;
mod pages;
mod query;
mod reader;
mod ready;
mod reload;
mod respond;
mod running;
mod server;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, RawQuery, Request, State};
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use http::{HeaderMap, Method, StatusCode, Uri};
use tokio::sync::Semaphore;

pub use access::{Access, AccessRules, Right, TrustedUsers};
pub use members::Members;
pub use pages::ShownLimits;
pub use server::{AdminServer, RESERVED_FILES, ServerBounds};

use crate::config::KeyPlace;
use crate::config::reload::Reload;
use crate::llm::price::Prices;
use crate::record::{ActiveRequests, Journal};
use crate::sinks::ledger::LedgerSource;
use crate::sinks::prometheus::{Exposition, Metrics};
use crate::support::Live;
use crate::support::drain::Stop;
use crate::support::threads::Threads;
use crate::upstream::IdentityStates;
use access::Granted;
use guard::{Level, check, guard};
use live::{LiveEvents, LiveTables};
use memory::ResponseMemory;
use query::{Fields, PageQuery};
use reader::LedgerReader;
use respond::{fault, not_allowed, text};

/// The largest number of watchers at the same time. Each has a page open, and costs a check of the
/// running streams per second.
const WATCHERS: usize = 64;

/// The prefix of the workers' thread names.
pub const WORKER: &str = "worker-";

/// The sources of the pages.
pub struct Shown {
    /// The proxy's stop: a draining proxy is not ready.
    pub stop: Stop,
    /// The proxy's threads, including its workers.
    pub threads: Threads,
    /// The configured number of workers.
    pub workers_wanted: usize,
    pub metrics: Arc<Metrics>,
    /// The identities whose first tokens are awaited before the proxy is ready.
    pub identities: Arc<IdentityStates>,
    pub active: ActiveRequests,
    pub members: Members,
    /// The limits of clients.
    pub limits: ShownLimits,
    /// The journal, with the counters of records.
    pub journal: Journal,
    /// The ledger that the pages show, if one is kept.
    pub ledger: Option<LedgerSource>,
    pub prices: Arc<Live<Prices>>,
    /// The place of stored keys.
    pub keys: Arc<Live<KeyPlace>>,
    /// The configuration in use, and its reloads.
    pub reload: Reload,
}

/// The state that the handlers share.
pub struct Admin {
    shown: Shown,
    access: Arc<Live<Access>>,
    reader: LedgerReader,
    memory: ResponseMemory,
    watchers: Arc<Semaphore>,
    /// The login forms that may arrive at the same time. Anyone may send one.
    forms: Semaphore,
    /// The changes of keys that may arrive at the same time.
    key_forms: Semaphore,
    overviews: pages::Overviews,
}

type Routes = Router<Arc<Admin>>;

impl Admin {
    /// Shows `shown` to clients that `access` admits.
    pub fn new(shown: Shown, access: Arc<Live<Access>>) -> Self {
        let reader = LedgerReader::new(shown.ledger.clone());
        let memory = shown.journal.memory().clone();
        Self {
            shown,
            access,
            reader,
            memory: ResponseMemory::new(memory),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            forms: Semaphore::new(login::FORMS),
            key_forms: Semaphore::new(login::FORMS),
            overviews: pages::Overviews::default(),
        }
    }

    /// The routes, each behind the check of the access that it needs.
    pub fn router(self) -> Router {
        let admin = Arc::new(self);
        let whole = Routes::new()
            .route("/", read(dashboard))
            .route("/metrics", read(metrics))
            .route("/config", read(api::config))
            .route("/usage/{id}", read(api::one))
            .layer(from_fn_with_state(Arc::clone(&admin), memory::reserve));
        let pages = whole
            .route("/usage", read(api::usage))
            .route("/records", read(api::latest))
            .route("/live", read(live))
            .route("/members", read(members::members))
            .route("/running", read(running::running))
            .route("/limits", read(limits::limits))
            .route("/config/status", read(reload::status))
            .route("/logout", send(login::logout))
            .fallback(not_found);
        let listed = get(keys::list).post(keys::create);
        let reload = Routes::new().route("/config/reload", send(reload::reload));
        let keys = Routes::new()
            .route("/keys", listed.fallback(|| async { not_allowed("GET, HEAD, POST") }))
            .route("/keys/rotate", send(keys::rotate))
            .route("/keys/{id}", delete(keys::revoke).fallback(|| async { not_allowed("DELETE") }));
        let form = get(login::form).post(login::submit);
        // Open to every client: the login form and its assets.
        let open = Routes::new()
            .route("/login", form.fallback(|| async { not_allowed("GET, HEAD, POST") }))
            .route("/assets/{name}", read(asset));
        // Probes have no token, and use no name of this machine.
        let probes = Routes::new()
            .route("/healthz", read(|| async { text(StatusCode::OK, "ok\n") }))
            .route("/readyz", read(ready));
        let checked =
            |routes: Routes, level| routes.layer(from_fn_with_state((Arc::clone(&admin), level), guard));
        checked(pages, Level::Read)
            .merge(checked(reload, Level::May(Right::Reload)))
            .merge(checked(keys, Level::May(Right::Change)))
            .merge(checked(open, Level::Host))
            .merge(checked(probes, Level::Probe))
            .with_state(admin)
    }
}

/// A route for GET and HEAD.
fn read<H: Handler<T, Arc<Admin>>, T: 'static>(handler: H) -> MethodRouter<Arc<Admin>> {
    get(handler).fallback(|| async { not_allowed("GET, HEAD") })
}

/// A route for POST.
fn send<H: Handler<T, Arc<Admin>>, T: 'static>(handler: H) -> MethodRouter<Arc<Admin>> {
    post(handler).fallback(|| async { not_allowed("POST") })
}

async fn not_found(method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    let known = "here are /, /usage, /usage/<id>, /records, /members, /running, /limits, /config, /config/status, /keys, /metrics, /healthz and /readyz";
    fault(StatusCode::NOT_FOUND, "not_found", known)
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let (status, report) = ready::report(&admin.shown);
    text(status, report)
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let exposition = Exposition::asked_for(&headers);
    respond::data(exposition.media_type(), admin.shown.metrics.encode(exposition))
}

async fn dashboard(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    Extension(granted): Extension<Granted>,
) -> Response {
    let may_change = granted.right >= Right::Change;
    admin.overviews.respond(&admin, &query.unwrap_or_default(), may_change).await
}

async fn asset(method: Method, uri: Uri) -> Response {
    match pages::asset(uri.path()) {
        Some(asset) => asset,
        None => not_found(method).await,
    }
}

async fn live(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let Ok(place) = Arc::clone(&admin.watchers).try_acquire_owned() else {
        let reason = format!("{WATCHERS} pages are open already");
        return fault(StatusCode::SERVICE_UNAVAILABLE, "too_many_watchers", &reason);
    };
    let Shown { active, members, journal, ledger, prices, reload, .. } = &admin.shown;
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let of_fleet = matches!(ledger, Some(LedgerSource::Fleet(_)));
    let since = Fields::parse(query.as_bytes()).get("kept").and_then(|kept| kept.parse().ok());
    let prices = prices.load();
    let query = PageQuery::parse(&query, prices.zone()).unwrap_or_else(|_| PageQuery::plain(prices.zone()));
    let access = Arc::clone(&admin.access);
    let is_allowed = Box::new(move || check(&access.load(), &parts));
    respond::live(LiveEvents::new(
        LiveTables {
            active: active.clone(),
            members: members.clone(),
            teams: pages::teams(&reload.status()),
            query,
        },
        journal.clone(),
        of_fleet,
        since,
        is_allowed,
        place,
    ))
}

//! Pages for operators, on an address of their own: the dashboard, health, metrics, usage records,
//! the configuration.
//!
//! | module | what it is |
//! |---|---|
//! | `access` | who may see them |
//! | `ask` | what a request asks for |
//! | `api` | the answers for programs |
//! | `pages` | the answers for people |
//! | `live` | what changes, as events |
//! | `reads` | the way to the ledger |
//! | `ready` | what `/readyz` says |
//! | `room`, `stream` | what answers hold until they are taken |
//! | `respond`, `body` | answers and their headers |
//!
//! One thread serves them all; whatever takes long is done on others. Nothing here can make a
//! request wait: running streams are looked at without a lock, and the ledger is read beside its
//! writer.

mod access;
mod api;
mod ask;
mod body;
mod live;
mod pages;
mod reads;
mod ready;
mod respond;
mod room;
mod stream;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use access::Access;
pub use body::AdminBody;

use crate::browser::Authority;
use crate::drain::Stop;
use crate::error::Error;
use crate::h1::server::MAX_REQUEST_HEADERS;
use crate::ledger::LedgerSource;
use crate::listener::{Handler, RequestBody};
use crate::metrics::{Exposition, Metrics};
use crate::price::Prices;
use crate::record::{Boards, Journal};
use crate::threads::Threads;
use access::{Refusal, is_same_origin};
use ask::Fields;
use live::Live;
use pages::Depth;
use reads::{Reads, Unread};
use respond::{Answer, fault, not_allowed, page, see_other, text};
use room::Room;

/// Who may watch at once. Each has a page open, and costs a look at the boards a second.
const WATCHERS: usize = 64;

/// The largest login form.
const MAX_FORM_BYTES: usize = 8 * 1024;

/// How long a login form may take to arrive.
const FORM_TIME: Duration = Duration::from_secs(5);

/// Login forms that may be arriving at once: they must not fill the connections that probes need.
const FORMS: usize = 16;

/// How long a wrong token takes to be refused. It cannot be guessed anyway; this keeps the log of
/// those who try short.
const WRONG_TOKEN: Duration = Duration::from_secs(1);

/// What the names of the workers' threads begin with.
pub const WORKER: &str = "worker-";

/// What the pages show.
pub struct Shown {
    /// The proxy's: a proxy that drains is not ready.
    pub stop: Stop,
    /// The proxy's threads, its workers among them.
    pub threads: Threads,
    /// How many workers there should be.
    pub workers_wanted: usize,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The running streams.
    pub boards: Boards,
    /// What became of records.
    pub journal: Journal,
    /// Whose records the pages show, if any are kept.
    pub ledger: Option<LedgerSource>,
    /// What tokens cost.
    pub prices: Arc<Prices>,
    /// The configuration without its secrets.
    pub effective: serde_json::Value,
}

/// Answers for the admin pages.
pub struct Admin {
    shown: Shown,
    access: Access,
    reads: Reads,
    room: Room,
    watchers: Arc<Semaphore>,
    forms: Semaphore,
    overviews: pages::Overviews,
}

impl Admin {
    /// Shows `shown` to whom `access` lets in.
    pub fn new(shown: Shown, access: Access) -> Self {
        let reads = Reads::new(shown.ledger.clone());
        let watchers = Arc::new(Semaphore::new(WATCHERS));
        let forms = Semaphore::new(FORMS);
        Self {
            shown,
            access,
            reads,
            room: Room::new(),
            watchers,
            forms,
            overviews: pages::Overviews::default(),
        }
    }

    async fn answer(&self, request: Request<RequestBody>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        if parts.headers.len() > MAX_REQUEST_HEADERS {
            return refusal(&Error::HeadTooLarge);
        }
        let authority = match Authority::of(parts.version, &parts.uri, &parts.headers) {
            Ok(authority) => authority,
            Err(fault) => return refusal(&Error::HostInvalid(fault)),
        };
        let authority = authority.as_ref();
        // Probes have no token and know no name of this machine.
        match path {
            "/healthz" | "/readyz" if !is_read => return not_allowed("GET, HEAD"),
            "/healthz" => return text(StatusCode::OK, "ok\n"),
            "/readyz" => return self.ready(),
            _ => {}
        }
        // The form and what it looks like are for strangers, under our own name only.
        let is_open = path == "/login" || path.starts_with(pages::ASSETS);
        let checked = if is_open {
            self.access.check_host(authority)
        } else {
            self.access.check(authority, &parts.headers, &parts.extensions)
        };
        if let Err(refusal) = checked {
            return self.refuse_access(&refusal, &parts);
        }
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::POST && matches!(path, "/login" | "/logout") {
            if !is_same_origin(authority, &parts.headers) {
                let reason = "this form can only be sent from its own page";
                return fault(StatusCode::FORBIDDEN, "cross_origin", reason);
            }
            return if path == "/login" { self.login(body).await } else { self.logout(&parts.headers) };
        }
        if !is_read {
            return not_allowed(if path == "/login" { "GET, HEAD, POST" } else { "GET, HEAD" });
        }
        match path {
            "/login" => {
                let next = Fields::parse(query.as_bytes());
                self.login_page(Depth::of(path), StatusCode::OK, next.get("next"), None)
            }
            "/logout" => not_allowed("POST"),
            "/live" => self.live(query),
            _ => match pages::asset(path) {
                Some(asset) => asset,
                None => self.answer_of_any_size(path, query, &parts.headers).await,
            },
        }
    }

    /// What has no small bound is made only when there is room for it, which it holds until it is
    /// taken.
    async fn answer_of_any_size(&self, path: &str, query: &str, headers: &HeaderMap) -> Answer {
        let Some(place) = self.room.enter().await else { return api::unreadable(&Unread::NoRoom) };
        let answer = match path {
            "/usage" => return api::usage(&self.reads, &self.shown.prices, query, place).await,
            "/records" => return api::latest(&self.reads, query, place).await,
            "/" => self.dashboard(query).await,
            "/metrics" => {
                let exposition = Exposition::asked_for(headers);
                respond::data(exposition.media_type(), self.shown.metrics.encode(exposition))
            }
            "/config" => api::config(&self.shown.effective, query),
            _ => match path.strip_prefix("/usage/") {
                Some(id) => api::one(&self.reads, id).await,
                None => fault(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "here are /, /usage, /usage/<id>, /records, /config, /metrics, /healthz and /readyz",
                ),
            },
        };
        respond::hold(answer, place).unwrap_or_else(|| api::unreadable(&Unread::NoRoom))
    }

    fn ready(&self) -> Answer {
        let (status, report) = ready::report(&self.shown);
        text(status, report)
    }

    fn refuse_access(&self, refusal: &Refusal, parts: &http::request::Parts) -> Answer {
        match refusal {
            Refusal::Host(host) => fault(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown_host",
                &format!(
                    "{host:?} is not known to be a name of this machine: add it to admin.hosts, or use its address"
                ),
            ),
            Refusal::Stranger if self.access.has_login() && wants_page(&parts.headers) => {
                let next = parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
                let depth = Depth::of(parts.uri.path());
                self.login_page(depth, StatusCode::UNAUTHORIZED, next.filter(|next| is_page(next)), None)
            }
            Refusal::Stranger if self.access.has_login() => fault(
                StatusCode::UNAUTHORIZED,
                "token_missing",
                "send the admin token as `Authorization: Bearer`",
            ),
            Refusal::Stranger => fault(
                StatusCode::FORBIDDEN,
                "certificate_missing",
                "connect with a client certificate that client_ca in [admin.tls] has signed",
            ),
        }
    }

    async fn login(&self, body: RequestBody) -> Answer {
        let Ok(place) = self.forms.try_acquire() else {
            return fault(StatusCode::SERVICE_UNAVAILABLE, "too_many_logins", "try again in a moment");
        };
        let form = timeout(FORM_TIME, Limited::new(body, MAX_FORM_BYTES).collect()).await;
        drop(place);
        let form = match form {
            Ok(Ok(form)) => form,
            Ok(Err(_)) => {
                return fault(StatusCode::BAD_REQUEST, "bad_request", "the form is broken off, or too large");
            }
            Err(_) => {
                return fault(StatusCode::REQUEST_TIMEOUT, "form_timeout", "the form did not arrive in time");
            }
        };
        let fields = Fields::parse(&form.to_bytes());
        let next = fields.get("next").filter(|next| is_page(next));
        if !fields.get("token").is_some_and(|token| self.access.is_token(token.trim().as_bytes())) {
            tracing::warn!("a login to the admin pages was refused: wrong token");
            tokio::time::sleep(WRONG_TOKEN).await;
            let depth = Depth::of("/login");
            return self.login_page(depth, StatusCode::FORBIDDEN, next, Some("That is not the token."));
        }
        with_cookie(see_other(&format!(".{}", next.unwrap_or("/"))), self.access.session(Timestamp::now()))
    }

    fn logout(&self, headers: &HeaderMap) -> Answer {
        self.access.end_sessions(headers, Timestamp::now());
        with_cookie(see_other("./login"), self.access.no_session())
    }

    fn login_page(
        &self,
        depth: Depth,
        status: StatusCode,
        next: Option<&str>,
        wrong: Option<&str>,
    ) -> Answer {
        let next = next.filter(|next| is_page(next));
        page(status, pages::login(depth, next, wrong, self.access.has_login()))
    }

    async fn dashboard(&self, query: &str) -> Answer {
        self.overviews.answer(&self.reads, &self.shown, self.access.has_login(), query).await
    }

    fn live(&self, query: &str) -> Answer {
        match Arc::clone(&self.watchers).try_acquire_owned() {
            Ok(place) => {
                let of_fleet = matches!(self.shown.ledger, Some(LedgerSource::Fleet(_)));
                respond::live(Live::new(
                    self.shown.boards.clone(),
                    self.shown.journal.clone(),
                    of_fleet,
                    Fields::parse(query.as_bytes()).get("since").and_then(|since| since.parse().ok()),
                    place,
                ))
            }
            Err(_) => fault(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_watchers",
                &format!("{WATCHERS} pages are open already"),
            ),
        }
    }
}

/// Tells of a head that is wrong for itself.
fn refusal(error: &Error) -> Answer {
    let (status, code) = error.status_and_code();
    fault(status, code, &error.to_string())
}

fn with_cookie(mut answer: Answer, cookie: Option<HeaderValue>) -> Answer {
    if let Some(cookie) = cookie {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

/// Whether a person asks: browsers name HTML when they go to a page.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Whether it is a path of these pages. Browsers take `//host` and `/\host` for another host.
fn is_page(next: &str) -> bool {
    next.starts_with('/')
        && !next[1..].starts_with(['/', '\\'])
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

impl Handler for Admin {
    type Body = AdminBody;

    async fn handle(self: Rc<Self>, request: Request<RequestBody>, _: Option<SocketAddr>) -> Answer {
        self.answer(request).await
    }

    fn refuse(&self, error: Error, _: Option<SocketAddr>) -> Vec<u8> {
        error.to_http1(HeaderValue::from_static("none"))
    }

    fn turn_away(&self, _: Request<RequestBody>, error: Error, _: Option<SocketAddr>) -> Answer {
        error
            .to_response(HeaderValue::from_static("none"))
            .map(|body| AdminBody::Whole(Full::new(body), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_a_page_of_ours_only() {
        for page in ["/", "/?range=7d&user=a%2Fb", "/usage?by=day"] {
            assert!(is_page(page), "{page}");
        }
        for elsewhere in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "/\t/evil.example",
            "/a\\b",
        ] {
            assert!(!is_page(elsewhere), "{elsewhere}");
        }
    }
}

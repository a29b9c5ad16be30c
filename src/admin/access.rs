//! Access to the pages.
//!
//! Every page except the open ones needs two checks:
//!
//! * **The host.** A web page elsewhere can give its own name the address of this machine (DNS
//!   rebinding), and would be same-origin with these pages. So the host that the browser was sent
//!   to must be one of [`OwnHosts`]. A program that sends the token itself is not such a browser.
//! * **The client.** If a token or an authority of client certificates is configured, a request
//!   needs the token (`Authorization: Bearer`, RFC 6750), a connection with a verified certificate,
//!   or the cookie that the login form gave. Otherwise every program on this machine has access,
//!   and no other can connect.
//!
//! The cookie holds no secret: its end, a number, and a MAC of both under a key derived from the
//! token. It becomes invalid when the token changes, and survives a restart. A logout ends the
//! session in this process, for every copy of its cookie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest, hmac};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ACCEPT, AUTHORIZATION, COOKIE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, uri};
use jiff::Timestamp;

use super::Admin;
use super::login::login_page;
use super::respond::fault;
use crate::browser::{Authority, HostFault, OwnHosts};
use crate::error::Error;
use crate::listener::ClientCertificate;
use crate::secret::Secret;

const COOKIE_NAME: &str = "streamgauge_session";

/// How long a session lasts.
const SESSION: Duration = Duration::from_hours(12);

/// Separates the session key from other keys derived from the token.
const PURPOSE: &[u8] = b"streamgauge admin session, 2";

/// The most sessions that are remembered as ended early. Beyond it, all present sessions end.
const MAX_ENDED: usize = 1024;

/// The rules of access.
#[derive(Debug)]
pub struct Access {
    hosts: OwnHosts,
    token: Option<Arc<Token>>,
    certificates: bool,
    tls: bool,
}

struct Token {
    digest: digest::Digest,
    sessions: hmac::Key,
    ended: Mutex<Ended>,
}

/// Sessions that ended early.
#[derive(Default)]
struct Ended {
    /// Each with the end that its cookie has.
    sessions: HashMap<Box<str>, i64>,
    /// All sessions that end by then have ended.
    by: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The browser was sent to a name that is not known to be this machine's.
    Host(String),
    /// The client has not authenticated.
    Stranger,
}

impl Access {
    /// `certificates`: a verified client certificate opens the pages; `tls`: browsers connect
    /// through TLS.
    pub fn new(hosts: OwnHosts, token: Option<&Secret>, certificates: bool, tls: bool) -> Self {
        let token = token.map(|token| {
            let token = token.expose().as_bytes();
            let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token), PURPOSE);
            Arc::new(Token {
                digest: digest::digest(&digest::SHA256, token),
                sessions: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
                ended: Mutex::default(),
            })
        });
        Self { hosts, token, certificates, tls }
    }

    /// Continues the sessions of `previous`, if the token is the same.
    pub fn with_sessions_of(mut self, previous: &Self) -> Self {
        if let (Some(token), Some(known)) = (&mut self.token, &previous.token)
            && token.digest.as_ref() == known.digest.as_ref()
        {
            *token = Arc::clone(known);
        }
        self
    }

    /// Whether there is a login form.
    pub(super) fn has_login(&self) -> bool {
        self.token.is_some()
    }

    /// Checks a request for the host `authority`.
    pub(super) fn check(
        &self,
        authority: Option<&Authority<'_>>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<(), Refusal> {
        if bearer(headers).is_some_and(|token| self.is_token(token)) {
            return Ok(());
        }
        self.check_host(authority)?;
        let is_open = self.token.is_none() && !self.certificates;
        let has_certificate = self.certificates && extensions.get::<ClientCertificate>().is_some();
        if is_open
            || has_certificate
            || cookies(headers).any(|value| self.is_session(value, Timestamp::now()))
        {
            Ok(())
        } else {
            Err(Refusal::Stranger)
        }
    }

    /// Checks the host. No browser omits it.
    pub(super) fn check_host(&self, authority: Option<&Authority<'_>>) -> Result<(), Refusal> {
        match authority {
            Some(authority) if !self.hosts.take(authority) => Err(Refusal::Host(authority.text().to_owned())),
            _ => Ok(()),
        }
    }

    /// Compares with the token in constant time.
    pub(super) fn is_token(&self, text: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|token| {
            let digest = digest::digest(&digest::SHA256, text);
            constant_time::verify_slices_are_equal(digest.as_ref(), token.digest.as_ref()).is_ok()
        })
    }

    /// The cookie of a session that begins at `now`.
    pub(super) fn session(&self, now: Timestamp) -> Option<HeaderValue> {
        let token = self.token.as_ref()?;
        let session = format!("{}.{:016x}", end_of_session(now), fastrand::u64(..));
        let mac = hex(hmac::sign(&token.sessions, session.as_bytes()).as_ref());
        self.cookie(&format!("{session}.{mac}"), SESSION.as_secs())
    }

    /// Ends the sessions of a request's cookies.
    pub(super) fn end_sessions(&self, headers: &HeaderMap, now: Timestamp) {
        let Some(token) = &self.token else { return };
        for (session, end) in cookies(headers).filter_map(|value| token.session(value, now)) {
            token.ended().add(session, end, now);
        }
    }

    /// A cookie that removes the session's.
    pub(super) fn no_session(&self) -> Option<HeaderValue> {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, seconds: u64) -> Option<HeaderValue> {
        let secure = if self.tls { "; Secure" } else { "" };
        let cookie =
            format!("{COOKIE_NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(cookie).ok()
    }

    fn is_session(&self, value: &str, now: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| token.session(value, now).is_some())
    }
}

impl Token {
    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a cookie and its end, if it is valid.
    fn session<'a>(&self, value: &'a str, now: Timestamp) -> Option<(&'a str, i64)> {
        let (session, mac) = value.rsplit_once('.')?;
        // The end is trusted only after the MAC is verified.
        hmac::verify(&self.sessions, session.as_bytes(), &unhex(mac)?).ok()?;
        let end = session.split_once('.')?.0.parse().ok()?;
        (end > now.as_second() && !self.ended().has(session, end)).then_some((session, end))
    }
}

impl Ended {
    fn has(&self, session: &str, end: i64) -> bool {
        end <= self.by || self.sessions.contains_key(session)
    }

    fn add(&mut self, session: &str, end: i64, now: Timestamp) {
        self.sessions.retain(|_, end| *end > now.as_second());
        if self.sessions.len() < MAX_ENDED {
            self.sessions.insert(session.into(), end);
        } else {
            self.sessions.clear();
            self.by = end_of_session(now);
        }
    }
}

/// The end of a session that begins at `now`, in seconds.
fn end_of_session(now: Timestamp) -> i64 {
    now.as_second().saturating_add(SESSION.as_secs() as i64)
}

/// The access that a route needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// Any one valid host.
    Probe,
    /// A name of this machine.
    Host,
    /// A client with access.
    Client,
}

/// Passes on requests that have the access which their route needs, and refuses others.
pub(super) async fn guard(
    State((admin, level)): State<(Arc<Admin>, Level)>,
    request: Request,
    next: Next,
) -> Response {
    let checked = match (authority(&request), level) {
        (Err(fault), _) => return invalid_host(fault),
        (Ok(_), Level::Probe) => Ok(()),
        (Ok(authority), Level::Host) => admin.access.load().check_host(authority.as_ref()),
        (Ok(authority), Level::Client) => {
            admin.access.load().check(authority.as_ref(), request.headers(), request.extensions())
        }
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(&admin, &refusal, &request),
    }
}

fn authority(request: &Request) -> Result<Option<Authority<'_>>, HostFault> {
    Authority::of(request.version(), request.uri(), request.headers())
}

fn invalid_host(host: HostFault) -> Response {
    let error = Error::from(host);
    let (status, code) = (error.status(), error.code());
    fault(status, code, &error.to_string())
}

fn refuse(admin: &Admin, refusal: &Refusal, request: &Request) -> Response {
    match refusal {
        Refusal::Host(host) => fault(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown_host",
            &format!(
                "{host:?} is not known to be a name of this machine: add it to admin.hosts, or use its address"
            ),
        ),
        Refusal::Stranger if admin.access.load().has_login() && wants_page(request.headers()) => {
            let path = request.uri().path();
            let next = request.uri().path_and_query().map(uri::PathAndQuery::as_str);
            login_page(admin, path, StatusCode::UNAUTHORIZED, next, None)
        }
        Refusal::Stranger if admin.access.load().has_login() => fault(
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

/// Browsers name HTML when they load a page.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Whether a form was sent from a page of this host, by the headers of browsers. (`SameSite` covers
/// browsers that send neither.)
pub(super) fn is_same_origin(request: &Request) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = authority(request).ok().flatten();
            origin.split_once("://").map(|(_, origin)| origin) == host.as_ref().map(Authority::text)
        }
        (None, None) => true,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// The values of the session cookie. A request may have several, also of another program.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Hosts, Pattern};

    const TOKEN: &str = "0123456789abcdef-token";

    fn access(token: bool, certificates: bool) -> Access {
        let hosts = OwnHosts::new(Hosts::new(vec![Pattern::parse("gauge.internal").unwrap()]));
        let token = token.then(|| Secret::new(TOKEN.to_owned()));
        Access::new(hosts, token.as_ref(), certificates, false)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn query(access: &Access, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let headers = headers(pairs);
        access.check(host(&headers).as_ref(), &headers, &Extensions::new())
    }

    fn host(headers: &HeaderMap) -> Option<Authority<'_>> {
        let host = headers.get("host")?;
        Some(Authority::parse(host.as_bytes()).unwrap())
    }

    #[test]
    fn foreign_host_is_refused() {
        let access = access(false, false);
        for host in ["127.0.0.1:9090", "localhost", "gauge.internal:9090"] {
            assert_eq!(query(&access, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:9090", "x.gauge.internal"] {
            assert_eq!(query(&access, &[("host", host)]), Err(Refusal::Host(host.to_owned())), "{host}");
        }
        assert_eq!(query(&access, &[]), Ok(()), "HTTP/1.0 without a host, as no browser speaks");
    }

    #[test]
    fn token_is_compared_whole_and_accepted_from_any_host() {
        let access = access(true, false);
        let with = |value: &str| query(&access, &[("host", "evil.example"), ("authorization", value)]);
        assert_eq!(with(&format!("Bearer {TOKEN}")), Ok(()));
        assert_eq!(with(&format!("bearer  {TOKEN} ")), Ok(()));
        for wrong in [
            TOKEN.to_owned(),
            format!("Bearer {TOKEN}x"),
            format!("Bearer {}", &TOKEN[1..]),
            "Bearer ".to_owned(),
        ] {
            assert!(with(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(query(&access, &[("host", "localhost")]), Err(Refusal::Stranger), "also on this machine");
    }

    #[test]
    fn session_holds_until_its_end_and_under_its_token() {
        let access = access(true, false);
        let now = Timestamp::now();
        let cookie = access.session(now).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(!cookie.contains(TOKEN) && cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let other = format!("a=b; {COOKIE_NAME}=1.ff; {pair}");
        assert_eq!(query(&access, &[("host", "localhost"), ("cookie", &other)]), Ok(()));
        assert_eq!(
            query(&access, &[("host", "evil.example"), ("cookie", pair)]),
            Err(Refusal::Host("evil.example".to_owned()))
        );
        let value = pair.split_once('=').unwrap().1;
        assert!(access.is_session(value, now));
        assert!(!access.is_session(value, now + SESSION), "it is over");
        let later = value.replacen(char::from(value.as_bytes()[0]), "9", 1);
        let cut = &value[..value.len() - 2];
        for wrong in [later.as_str(), cut, "", ".", "1.", "99999999999.00", "99999999999.zz"] {
            assert!(!access.is_session(wrong, now), "{wrong}");
        }
        let other = Access::new(
            OwnHosts::default(),
            Some(&Secret::new("another-token-0123".to_owned())),
            false,
            true,
        );
        assert!(!other.is_session(value, now));
        assert!(other.session(now).unwrap().to_str().unwrap().ends_with("; Secure"));
    }

    #[test]
    fn logout_ends_every_copy_of_a_session() {
        let access = access(true, false);
        let now = Timestamp::now();
        let pair = || {
            let cookie = access.session(now).unwrap();
            cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
        };
        let (mine, other) = (pair(), pair());
        let opens = |pair: &str| query(&access, &[("host", "localhost"), ("cookie", pair)]).is_ok();
        assert!(opens(&mine) && opens(&other));
        access.end_sessions(&headers(&[("cookie", &mine)]), now);
        assert!(!opens(&mine) && opens(&other));
        for _ in 0..MAX_ENDED {
            access.end_sessions(&headers(&[("cookie", &pair())]), now);
        }
        assert!(!opens(&mine) && !opens(&other), "beyond what is remembered, all end");
        let later = access.session(now + Duration::from_secs(1)).unwrap();
        assert!(opens(later.to_str().unwrap().split(';').next().unwrap()));
    }

    #[test]
    fn client_certificate_opens_pages_that_ask_for_one() {
        let mut extensions = Extensions::new();
        extensions.insert(ClientCertificate("ada".into()));
        let headers = headers(&[("host", "localhost")]);
        let host = host(&headers);
        let host = host.as_ref();
        assert_eq!(access(false, true).check(host, &headers, &extensions), Ok(()));
        assert_eq!(access(true, true).check(host, &headers, &extensions), Ok(()));
        assert_eq!(access(true, false).check(host, &headers, &extensions), Err(Refusal::Stranger));
        assert_eq!(access(false, true).check(host, &headers, &Extensions::new()), Err(Refusal::Stranger));
    }

    #[test]
    fn form_of_another_origin_is_recognized() {
        for (pairs, same) in [
            (&[("host", "a:1")][..], true),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "same-origin")], true),
        ] {
            let mut request = Request::default();
            *request.headers_mut() = headers(pairs);
            assert_eq!(is_same_origin(&request), same, "{pairs:?}");
        }
    }
}

//! Controls access to the pages.
//!
//! Every page except the open ones needs two checks:
//!
//! * *The host.** A web page elsewhere can give its own name the address of this machine (DNS
//!   rebinding), and would be same-origin with these pages. So the host in the request must be one
//!   of [`OwnHosts`]. A program that sends the token itself is not a browser in this position, and
//!   needs no such host.
//! * *The client.** If a token, an authority of client certificates or an authenticating proxy is
//!   configured, a request needs one of the tokens (`Authorization: Bearer`, RFC 6750), a connection
//!   with a verified certificate, the cookie that the login form gave, or the name of a user from that
//!   proxy's address. Otherwise every program on this machine has access, and no other can connect.
//!
//! A change of the process needs [`Right::Change`], which the read token does not give.
//!
//! The cookie holds no secret: its end, a number, and a MAC of both under a key derived from its
//! token. It becomes invalid when the token changes, and survives a restart. A logout ends the
//! session in this process, for every copy of its cookie.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest, hmac};
use http::header::{AUTHORIZATION, COOKIE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::codec::authority::Authority;
use crate::gate::bearer;
use crate::gate::browser::OwnHosts;
use crate::support::secret::Secret;
use crate::support::{Networks, hex};
use crate::tls::ClientCertificate;

const COOKIE_NAME: &str = "streamgauge_session";

/// The length of a session.
const SESSION: Duration = Duration::from_hours(12);

/// Separates the session key from other keys derived from the token.
const PURPOSE: &[u8] = b"streamgauge admin session, 2";

/// The largest number of sessions that are remembered as ended early. Beyond it, all current
/// sessions end.
const MAX_ENDED: usize = 1024;

/// The configured rules of access.
#[derive(Debug, Default)]
pub struct AccessRules {
    pub hosts: OwnHosts,
    /// Gives every right.
    pub token: Option<Secret>,
    /// Gives [`Right::Read`].
    pub read_token: Option<Secret>,
    /// A verified client certificate gives every right.
    pub certificates: bool,
    /// Browsers connect through TLS.
    pub tls: bool,
    pub users: Option<TrustedUsers>,
}

/// The users that an authenticating proxy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedUsers {
    pub header: HeaderName,
    /// The proxies that are believed; at least one network.
    pub proxies: Networks,
    pub right: Right,
}

/// The right of a client of the pages. A greater one includes the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See all pages.
    Read,
    /// Also reload the configuration. Pages that are open to every program have it.
    Reload,
    /// Also make and end keys.
    Change,
}

/// The right of a client, and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) right: Right,
    /// The name from an authenticating proxy, if that is the reason.
    pub(super) user: Option<String>,
}

/// The address of a connection to the pages, in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAddress(pub(super) IpAddr);

/// The rules of access, with the sessions that they give.
#[derive(Debug)]
pub struct Access {
    hosts: OwnHosts,
    token: Option<Arc<Token>>,
    read_token: Option<Arc<Token>>,
    certificates: bool,
    tls: bool,
    users: Option<TrustedUsers>,
}

struct Token {
    digest: digest::Digest,
    sessions: hmac::Key,
    ended: Mutex<Ended>,
}

/// Sessions that ended early.
#[derive(Default)]
struct Ended {
    /// Each with the expiry in its cookie.
    sessions: HashMap<Box<str>, i64>,
    /// All sessions that expire until then have ended.
    by: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The reason for which a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request's host is not known to be this machine's.
    Host(String),
    /// The client has not authenticated.
    Stranger,
    /// The client may only read.
    ReadOnly,
    /// The pages are open to every program, which may make no keys.
    Open,
    /// The client may not be the page that its user sees.
    ForeignPage,
}

impl Access {
    pub fn new(rules: AccessRules) -> Self {
        let AccessRules { hosts, token, read_token, certificates, tls, users } = rules;
        let token_of = |token: Option<Secret>| token.map(|token| Arc::new(Token::new(&token)));
        Self { hosts, token: token_of(token), read_token: token_of(read_token), certificates, tls, users }
    }

    /// Continues the sessions of `previous` whose token is the same.
    pub fn with_sessions_of(mut self, previous: &Self) -> Self {
        for (token, known) in
            [(&mut self.token, &previous.token), (&mut self.read_token, &previous.read_token)]
        {
            if let (Some(token), Some(known)) = (token, known)
                && token.digest.as_ref() == known.digest.as_ref()
            {
                *token = Arc::clone(known);
            }
        }
        self
    }

    /// Returns true if there is a login form.
    pub(super) fn has_login(&self) -> bool {
        self.token.is_some()
    }

    /// Returns true if an authenticating proxy names users.
    pub(super) fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// Checks a request for the host `authority`.
    pub(super) fn check(
        &self,
        authority: Option<&Authority<'_>>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Granted, Refusal> {
        let granted = |right| Granted { right, user: None };
        let value = headers.get(AUTHORIZATION);
        if let Some((_, right)) =
            value.and_then(|value| bearer(value.as_bytes())).and_then(|token| self.token(token))
        {
            return Ok(granted(right));
        }
        self.check_host(authority)?;
        let is_open = self.token.is_none() && !self.certificates && self.users.is_none();
        let certificate = extensions.get::<ClientCertificate>();
        // The certificate of an authenticating proxy is not its user's.
        let is_proxy = self.users.as_ref().is_some_and(|users| users.is_from_proxy(extensions));
        let has_certificate = self.certificates
            && !is_proxy
            && certificate.is_some_and(|certificate| certificate.name().is_some());
        if is_open || has_certificate {
            return Ok(granted(if is_open { Right::Reload } else { Right::Change }));
        }
        let now = Timestamp::now();
        let session = cookies(headers).filter_map(|value| self.right_of_session(value, now)).max();
        let user = self.users.as_ref().and_then(|users| users.granted(headers, extensions));
        match (session.map(granted), user) {
            (Some(session), Some(user)) if user.right > session.right => Ok(user),
            (Some(granted), _) | (None, Some(granted)) => Ok(granted),
            (None, None) => Err(Refusal::Stranger),
        }
    }

    /// Checks the host. No browser omits it.
    pub(super) fn check_host(&self, authority: Option<&Authority<'_>>) -> Result<(), Refusal> {
        match authority {
            Some(authority) if !self.hosts.take(authority) => Err(Refusal::Host(authority.text().to_owned())),
            _ => Ok(()),
        }
    }

    fn tokens(&self) -> impl Iterator<Item = (&Token, Right)> {
        let full = self.token.as_deref().map(|token| (token, Right::Change));
        full.into_iter().chain(self.read_token.as_deref().map(|token| (token, Right::Read)))
    }

    /// Compares with each token in constant time.
    fn token(&self, text: &[u8]) -> Option<(&Token, Right)> {
        let digest = digest::digest(&digest::SHA256, text);
        self.tokens().find(|(token, _)| {
            constant_time::verify_slices_are_equal(digest.as_ref(), token.digest.as_ref()).is_ok()
        })
    }

    /// The cookie of a session of this token that begins at `now`. `None` if it is not a token.
    pub(super) fn log_in(&self, text: &[u8], now: Timestamp) -> Option<HeaderValue> {
        let (token, _) = self.token(text)?;
        let session = format!("{}.{:016x}", end_of_session(now), fastrand::u64(..));
        let mut value = format!("{session}.");
        hex::push(&mut value, hmac::sign(&token.sessions, session.as_bytes()).as_ref());
        self.cookie(&value, SESSION.as_secs())
    }

    /// Ends the sessions of a request's cookies.
    pub(super) fn end_sessions(&self, headers: &HeaderMap, now: Timestamp) {
        for (token, _) in self.tokens() {
            for (session, end) in cookies(headers).filter_map(|value| token.session(value, now)) {
                token.ended().add(session, end, now);
            }
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

    fn right_of_session(&self, value: &str, now: Timestamp) -> Option<Right> {
        self.tokens().find(|(token, _)| token.session(value, now).is_some()).map(|(_, right)| right)
    }
}

impl TrustedUsers {
    fn is_from_proxy(&self, extensions: &Extensions) -> bool {
        extensions.get().is_some_and(|PeerAddress(peer)| self.proxies.contains(*peer))
    }

    /// The right of a request that a trusted proxy sent for a user. A header that is there twice
    /// names no one: one may be the user's own.
    fn granted(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<Granted> {
        if !self.is_from_proxy(extensions) {
            return None;
        }
        let mut values = headers.get_all(&self.header).into_iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let user = value.to_str().ok()?.trim();
        (!user.is_empty()).then(|| Granted { right: self.right, user: Some(user.to_owned()) })
    }
}

impl Token {
    fn new(token: &Secret) -> Self {
        let token = token.expose().as_bytes();
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token), PURPOSE);
        Self {
            digest: digest::digest(&digest::SHA256, token),
            sessions: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            ended: Mutex::default(),
        }
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a cookie and its end, if it is valid.
    fn session<'a>(&self, value: &'a str, now: Timestamp) -> Option<(&'a str, i64)> {
        let (session, mac) = value.rsplit_once('.')?;
        let mac: [u8; digest::SHA256_OUTPUT_LEN] = hex::decode(mac.as_bytes())?;
        // The end is trusted only after the MAC is verified.
        hmac::verify(&self.sessions, session.as_bytes(), &mac).ok()?;
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

/// The values of the session cookie. A request may have several, including those of another
/// program.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;

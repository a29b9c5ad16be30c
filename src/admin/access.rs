//! Controls access to the pages.
//!
//! Every page except the open ones needs two checks:
//!
//! * *The host.** A web page elsewhere can give its own name the address of this machine (DNS
//!   rebinding), and would be same-origin with these pages. So the host in the request must be one
//!   of [`OwnHosts`]. A program that sends the token itself is not a browser in this position, and
//!   needs no such host.
//! * *The client.** If a token or an authority of client certificates is configured, a request
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
use http::header::{AUTHORIZATION, COOKIE};
use http::{Extensions, HeaderMap, HeaderValue};
use jiff::Timestamp;

use crate::codec::authority::Authority;
use crate::gate::bearer;
use crate::gate::browser::OwnHosts;
use crate::support::hex;
use crate::support::secret::Secret;
use crate::tls::ClientCertificate;

const COOKIE_NAME: &str = "streamgauge_session";

/// The length of a session.
const SESSION: Duration = Duration::from_hours(12);

/// Separates the session key from other keys derived from the token.
const PURPOSE: &[u8] = b"streamgauge admin session, 2";

/// The largest number of sessions that are remembered as ended early. Beyond it, all current
/// sessions end.
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
}

impl Access {
    /// `certificates` means that a verified client certificate opens the pages; `tls` means that
    /// browsers connect through TLS.
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

    /// Returns true if there is a login form.
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
        let value = headers.get(AUTHORIZATION);
        if value.and_then(|value| bearer(value.as_bytes())).is_some_and(|token| self.is_token(token)) {
            return Ok(());
        }
        self.check_host(authority)?;
        let is_open = self.token.is_none() && !self.certificates;
        let certificate = extensions.get::<ClientCertificate>();
        let has_certificate =
            self.certificates && certificate.is_some_and(|certificate| certificate.name().is_some());
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
        let mut value = format!("{session}.");
        hex::push(&mut value, hmac::sign(&token.sessions, session.as_bytes()).as_ref());
        self.cookie(&value, SESSION.as_secs())
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

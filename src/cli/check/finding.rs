//! The result of a live check of one upstream, as lines for people. It has no secrets.

use std::error::Error as _;
use std::fmt;

use super::advice::{self, Diagnosis};
use super::reply::CheckResponse;
use crate::config::Upstream;
use crate::config::forward_proxy::Scheme;
use crate::record::UsageRecord;
use crate::tls::{Facts, ObservedHandshake, Verification};
use crate::upstream::{ConnectObserver, ConnectTrace, SendError};

/// The result of one live check.
pub(super) struct Finding<'a> {
    pub(super) upstream: &'a Upstream,
    path: String,
    pub(super) response_status: Option<u16>,
    record: UsageRecord,
    pub(super) trace: ConnectTrace,
    /// The TLS handshake with the upstream.
    pub(super) target: ObservedHandshake,
    /// The TLS handshake with the forward proxy.
    pub(super) proxy: ObservedHandshake,
    /// `None` if the check succeeded.
    pub(super) failure: Option<Diagnosis>,
}

impl<'a> Finding<'a> {
    pub(super) fn new(
        upstream: &'a Upstream,
        path: &str,
        response: &CheckResponse,
        record: UsageRecord,
        observer: &ConnectObserver,
    ) -> Self {
        // A response that streamgauge made has no status of the upstream.
        let is_ours = matches!(response.reply, super::reply::Reply::Ours(..));
        let mut finding = Self {
            upstream,
            path: path.to_owned(),
            response_status: (!is_ours).then_some(response.status),
            record,
            trace: observer.trace(),
            target: observer.target.seen(),
            proxy: observer.proxy.seen(),
            failure: None,
        };
        finding.failure = advice::failure(&finding, response);
        finding
    }

    /// Returns true if the service refused the request for its limit on tokens, because it has
    /// another name for it or cannot respond within it. Reads the service's message, since services
    /// agree on neither codes nor parameters here.
    pub(super) fn is_about_limit(&self) -> bool {
        matches!(self.response_status, Some(400 | 422))
            && self.failure.as_ref().is_some_and(|failure| {
                let what = failure.what.to_ascii_lowercase();
                what.contains("max_") && what.contains("tokens") || what.contains("output limit")
            })
    }

    /// The typed source of the latest error of the upstream.
    pub(super) fn send_error(&self) -> Option<&SendError> {
        self.trace.error.as_ref()?.source()?.downcast_ref()
    }

    pub(super) fn record(&self) -> &UsageRecord {
        &self.record
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upstream = self.upstream;
        let verdict = if self.failure.is_some() { "FAILED" } else { "ok" };
        writeln!(f, "{}: {verdict}", upstream.name)?;
        line(f, "request", &self.request())?;
        if self.trace.requested.is_some() {
            line(f, "way", &self.way())?;
        }
        if upstream.proxy.as_ref().is_some_and(|proxy| proxy.address.scheme == Scheme::Https) {
            let session = self.trace.proxy.as_ref().map(session);
            let tls = upstream.proxy.as_ref().map(|proxy| proxy.tls.verification);
            handshake(f, "proxy TLS", session, "proxy cert", &self.proxy, tls.unwrap_or_default())?;
        }
        if upstream.url.is_https() {
            let session = self.trace.target.as_ref().map(session);
            handshake(f, "TLS", session, "certificate", &self.target, upstream.tls.verification)?;
            // Without a handshake no certificate was requested.
            if self.target.peer.is_some() {
                line(f, "client cert", &self.client_certificate())?;
            }
        }
        if let Some(status) = self.response_status {
            line(f, "response", &self.response(status))?;
        }
        if let Some(failure) = &self.failure {
            line(f, "error", &failure.what)?;
            line(f, "change", &failure.change)?;
        }
        Ok(())
    }
}

/// The column of the text, also on continued lines.
const INDENT: usize = 14;

/// The width of a line, in characters, before it is continued.
const WIDTH: usize = 120;

/// Writes a line, broken between words if it is longer than `WIDTH`.
fn line(f: &mut fmt::Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    write!(f, "  {what:<width$}", width = INDENT - 2)?;
    let mut at = INDENT;
    for (number, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if number > 0 && at + 1 + width > WIDTH {
            write!(f, "\n{:INDENT$}", "")?;
            at = INDENT;
        } else if number > 0 {
            f.write_str(" ")?;
            at += 1;
        }
        f.write_str(word)?;
        at += width;
    }
    writeln!(f)
}

impl Finding<'_> {
    fn request(&self) -> String {
        let scheme = if self.upstream.url.is_https() { "https" } else { "http" };
        match &self.trace.requested {
            Some(target) => {
                let target = self.upstream.query.masked(target);
                format!("POST {scheme}://{}{target}", self.upstream.url.authority())
            }
            None => format!("POST {}, which was not sent", self.path),
        }
    }

    fn way(&self) -> String {
        let Upstream { proxy, url, why_this_way, .. } = self.upstream;
        let mut text = match proxy {
            Some(proxy) => format!("through {} ({why_this_way})", proxy.address),
            None => format!("straight ({why_this_way})"),
        };
        let (host, port) = match proxy {
            Some(proxy) => (proxy.address.host.as_str(), proxy.address.port),
            None => (url.host(), url.port()),
        };
        let addresses: Vec<_> = self.trace.addresses.iter().map(|address| address.ip().to_string()).collect();
        match (addresses.as_slice(), self.trace.connected) {
            ([], _) => text += &format!(" to {host} port {port}, which was not found"),
            (_, None) => {
                text += &format!(" to {host} port {port} ({}), without success", addresses.join(", "))
            }
            ([_], Some(connected)) => text += &format!(" to {connected}"),
            (_, Some(connected)) => {
                text += &format!(" to {connected}, of {host}'s {}", addresses.join(", "));
            }
        }
        text
    }

    fn client_certificate(&self) -> String {
        let configured = self.upstream.tls.identity.is_some();
        match (self.target.asked, &self.target.presented) {
            (true, Some(facts)) => {
                format!("presented {}, serial {}, until {}", facts.who(), facts.serial, date(facts))
            }
            (true, None) => "it requested one, and none is configured".to_owned(),
            (false, _) if configured => "one is configured, and it did not request it".to_owned(),
            (false, _) => "it did not request one".to_owned(),
        }
    }

    fn response(&self, status: u16) -> String {
        let record = &self.record;
        let http = match self.trace.is_http2 {
            Some(true) => "HTTP/2",
            Some(false) | None => "HTTP/1.1",
        };
        let mut text = format!("{http} {status}");
        if let Some(model) = &record.model {
            text += &format!(", {}", advice::plain(model));
        }
        let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let (input, output) = (record.usage.input_tokens, record.usage.output_tokens);
        if input.or(output).is_some() {
            text += &format!(", {} + {} tokens in and out", count(input), count(output));
        } else if self.failure.is_none() {
            text += ", no token counts";
        }
        if let Some(first) = record.time_to_first_byte_ms {
            text += &format!(", first byte after {first:.0} ms");
        }
        text
    }
}

fn session(session: &crate::upstream::TlsSession) -> String {
    format!("{}, {}", session.version, session.cipher)
}

/// Two lines about TLS: the session, and the peer's certificate.
fn handshake(
    f: &mut fmt::Formatter<'_>,
    tls: &str,
    session: Option<String>,
    certificate: &str,
    seen: &ObservedHandshake,
    verification: Verification,
) -> fmt::Result {
    if session.is_none() && seen.peer.is_none() {
        return Ok(());
    }
    line(f, tls, &session.unwrap_or_else(|| "no session".to_owned()))?;
    let Some(peer) = &seen.peer else { return Ok(()) };
    let verified = match verification {
        Verification::Full => "",
        Verification::Certificate => "; its name is not verified",
        Verification::None => "; NOTHING OF IT IS VERIFIED",
    };
    line(
        f,
        certificate,
        &format!("{}, issued by {}, until {}{verified}", peer.who(), peer.issuer, date(peer)),
    )
}

fn date(facts: &Facts) -> String {
    facts.not_after.strftime("%Y-%m-%d").to_string()
}

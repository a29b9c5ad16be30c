//! Explains why a live check failed, and which key of the configuration to change.
//!
//! Our own errors are recognized by their code and by the type of their source, a [`SendError`],
//! which the connection's observer keeps. A service's error is recognized by its status and
//! message.

use crate::record::error::{Error, Kind};
use std::error::Error as _;
use std::io::ErrorKind;

use http::StatusCode;
use rustls::CertificateError;

use super::finding::Finding;
use super::reply::{CheckResponse, Reply};
use crate::config::{CloudIdentity, ForwardProxy, Upstream};
use crate::llm::provider::Provider;
use crate::record::Outcome;
use crate::support::secret::Masks;
use crate::tls::ObservedHandshake;
use crate::upstream::{SendCause, SendError, TunnelError};

/// The reason for which an upstream cannot be used, and the remedy.
#[derive(Debug)]
pub(super) struct Diagnosis {
    pub(super) what: String,
    pub(super) change: String,
}

/// The largest number of characters of a foreign message that are printed.
const MOST: usize = 300;

/// `None` if the check succeeded.
pub(super) fn failure(finding: &Finding<'_>, response: &CheckResponse) -> Option<Diagnosis> {
    let upstream = finding.upstream;
    let record = finding.record();
    let (what, change) = match &response.reply {
        Reply::Ours(code, message) => (message.clone(), of_code(finding, code)),
        Reply::Theirs(message) => (message.clone(), of_status(finding, response, message)),
        Reply::Foreign(..) if response.location.is_some() => {
            let location = response.location.as_deref().unwrap_or_default();
            (
                format!("it redirects to {location}"),
                format!(
                    "{}: redirects are never followed with credentials; write the new address there",
                    key(upstream, "url")
                ),
            )
        }
        Reply::Foreign(media_type, body) if (200..300).contains(&response.status) => {
            let media_type = if media_type.is_empty() { "no content-type" } else { media_type };
            let what = format!("it sent {} with {media_type} instead of JSON: {body}", response.status);
            (
                what,
                format!(
                    "{}: there is no API at this URL; its path usually ends with /v1",
                    key(upstream, "url")
                ),
            )
        }
        Reply::Foreign(_, body) => (body.clone(), of_status(finding, response, body)),
        Reply::Result if record.outcome != Outcome::Complete => {
            // The response had begun: except for the limits, its status and code do not matter.
            let is_limit =
                |error: &&Error| matches!(error.kind(), Kind::IdleTimeout { .. } | Kind::TotalTimeout { .. });
            let code = finding.trace.error.as_ref().filter(is_limit).map_or("", Error::code);
            let error = record.error.as_deref().unwrap_or("the response broke off");
            (error.to_owned(), of_code(finding, code))
        }
        Reply::Result => return None,
    };
    let what =
        if what.trim().is_empty() { format!("it sent {} without a message", response.status) } else { what };
    let masked = Masks::new(upstream.secrets()).mask(&what);
    Some(Diagnosis { what: plain(masked.as_deref().unwrap_or(&what)), change })
}

/// The full name of an upstream's key.
fn key(upstream: &Upstream, key: &str) -> String {
    format!("upstreams.{}.{key}", upstream.name)
}

/// The remedy for an error of streamgauge.
fn of_code(finding: &Finding<'_>, code: &str) -> String {
    let upstream = finding.upstream;
    let error = finding.send_error();
    let cause = error.map(|error| &error.cause);
    let key = |name| key(upstream, name);
    let place = upstream.url.place();
    match code {
        "upstream_unreachable" if finding.trace.addresses.is_empty() => {
            format!(
                "{}: the name {} cannot be resolved; correct it, or check this machine's DNS",
                key("url"),
                upstream.url.host()
            )
        }
        "upstream_unreachable" if matches!(cause, Some(SendCause::Io(error)) if error.kind() == ErrorKind::ConnectionRefused) =>
        {
            format!("{}: nothing listens at {place}; correct it, or start the service", key("url"))
        }
        "upstream_unreachable" => format!(
            "{}: correct it; or if this network needs a forward proxy, name it in {} or network.proxy",
            key("url"),
            key("proxy")
        ),
        "connect_timeout" => format!(
            "{}: {place} does not respond; correct it, or name the forward proxy to it in {} or network.proxy. \
             If it is only slow, raise {}",
            key("url"),
            key("proxy"),
            key("timeouts.connect")
        ),
        "upstream_tls" => of_tls(finding, error),
        "upstream_protocol" if is_about_our_certificate(&finding.target, error) => of_tls(finding, error),
        "upstream_protocol" if matches!(cause, Some(SendCause::NotHttp2(_) | SendCause::Http2(_))) => {
            format!("{}: write \"1\", or \"auto\" to let the two agree", key("http"))
        }
        "upstream_protocol" if !upstream.url.is_https() => {
            format!("{}: the server at {place} does not speak plain HTTP; does it need https://?", key("url"))
        }
        "upstream_protocol" => {
            format!("{}: the server at {place} does not speak valid HTTP", key("url"))
        }
        "first_byte_timeout" => {
            let limit = match cause {
                Some(SendCause::Limit(Kind::FirstByteTimeout { key, .. })) => key,
                _ => "timeouts.first_byte",
            };
            format!(
                "{}: raise it, if the service needs longer; otherwise find out what delays it at {place}",
                key(limit)
            )
        }
        "idle_timeout" => format!("{}: raise it, if such silences are usual", key("timeouts.idle")),
        "total_timeout" => format!("{}: raise it, or \"\" for any time", key("timeouts.total")),
        "identity_unavailable" => {
            let reason = finding.trace.error.as_ref().and_then(Error::source).map(ToString::to_string);
            let table = upstream.identity.as_ref().map_or("", CloudIdentity::key);
            format!("{}: {}", key(table), plain(&reason.unwrap_or_default()))
        }
        "model_required" => format!("{}: name a model there, or with --model", key("default_model")),
        "proxy_refused" | "proxy_failed" | "proxy_timeout" => match &upstream.proxy {
            Some(proxy) => of_proxy(finding, proxy, code, error),
            None => key("proxy"),
        },
        "unknown_path" | "unsafe_path" => "--path: it begins with /v1, as an SDK would send it".to_owned(),
        _ => format!("{}: check it, or the service's own log", key("url")),
    }
}

/// Returns true if the peer ended TLS because of our client certificate, or its absence.
fn is_about_our_certificate(seen: &ObservedHandshake, error: Option<&SendError>) -> bool {
    seen.asked && (error.and_then(SendError::alert).is_some() || seen.presented.is_none())
}

fn of_tls(finding: &Finding<'_>, error: Option<&SendError>) -> String {
    let upstream = finding.upstream;
    let key = |name| key(upstream, name);
    let seen = &finding.target;
    let ca = if upstream.tls.ca.is_empty() { "the system's authorities" } else { "the authorities there" };
    if let Some(advice) = of_peer(seen, error, &key("tls.ca"), ca, &key("tls.verification_mode"), &key("url"))
    {
        return advice;
    }
    if is_about_our_certificate(seen, error) {
        return match &seen.presented {
            None => format!(
                "{} and {}: it requires a client certificate, and none is configured",
                key("tls.certificate"),
                key("tls.private_key")
            ),
            Some(facts) => format!(
                "{}: it does not accept the certificate of {} (serial {}, issued by {}); use one that its authorities have signed",
                key("tls.certificate"),
                facts.who(),
                facts.serial,
                facts.issuer
            ),
        };
    }
    if seen.peer.is_none() && error.and_then(SendError::alert).is_some() {
        return format!(
            "{}: it refuses the handshake; streamgauge offers TLS 1.2 and 1.3, and requests the name {}",
            key("url"),
            upstream.url.host()
        );
    }
    format!("{}: the server there does not speak TLS; does it need http://?", key("url"))
}

/// The remedy for a certificate that was rejected here. `ca` is the key of the authorities,
/// `trusted` describes the current ones.
fn of_peer(
    seen: &ObservedHandshake,
    error: Option<&SendError>,
    ca: &str,
    trusted: &str,
    mode: &str,
    url: &str,
) -> Option<String> {
    let peer = seen.peer.as_ref()?;
    let until = peer.not_after.strftime("%Y-%m-%d");
    let error = error.and_then(SendError::certificate_error)?;
    Some(match error {
        CertificateError::UnknownIssuer => {
            format!(
                "{ca}: {} is not one of {trusted}; add its certificate there, if you trust it",
                peer.issuer
            )
        }
        error if is_authoritys(error) => format!(
            "{ca}: it presents an authority's certificate as its own; add that certificate there, if you trust it"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "nothing here: its certificate expired on {until}, and its operator must renew it (or is this machine's clock wrong?)"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let from = peer.not_before.strftime("%Y-%m-%d");
            format!(
                "nothing here: its certificate is not valid before {from} (or is this machine's clock wrong?)"
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "{url}: write the host that its certificate is for; or {mode} = \"certificate\" to accept any name"
        ),
        _ => format!(
            "{mode}: \"none\" would accept it, and any server in between; correct the certificate instead"
        ),
    })
}

/// Returns true if the peer presented the certificate of an authority, for which rustls has no
/// variant.
fn is_authoritys(error: &CertificateError) -> bool {
    let CertificateError::Other(error) = error else { return false };
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn of_proxy(finding: &Finding<'_>, proxy: &ForwardProxy, code: &str, error: Option<&SendError>) -> String {
    let upstream = finding.upstream;
    // The source of the proxy's configuration: a key, or a variable of the environment.
    let place = &upstream.why_this_way;
    let target = upstream.url.place();
    let is_key = !place.contains(' ');
    let inner = |name: &str| if is_key { format!("{place}.{name}") } else { place.clone() };
    match code {
        "proxy_refused" if tunnel_status(error) == Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
            match (&proxy.credentials, is_key) {
                (Some((name, _)), _) => {
                    format!("{place}: it does not accept the user name {name:?} with its password")
                }
                (None, true) => format!("{} and {}: it requires both", inner("username"), inner("password")),
                (None, false) => {
                    format!("{place}: it requires a user name and a password, http://NAME:PASSWORD@HOST:PORT")
                }
            }
        }
        "proxy_refused" => {
            let around = if is_key { inner("bypass") } else { "NO_PROXY".to_owned() };
            format!(
                "{place}: it refuses to connect to {target}; allow it there, or bypass the proxy with {around}"
            )
        }
        "proxy_timeout" => format!(
            "{}: it does not respond, or cannot reach {target}. If it is only slow, raise {}",
            inner("url"),
            key(upstream, "timeouts.connect")
        ),
        _ => {
            let trusted =
                if proxy.tls.ca.is_empty() { "the system's authorities" } else { "the authorities there" };
            let (ca, mode, url) = (inner("ca"), inner("verification_mode"), inner("url"));
            of_peer(&finding.proxy, error, &ca, trusted, &mode, &url)
                .unwrap_or_else(|| format!("{url}: correct it, or see that a proxy runs there"))
        }
    }
}

/// The status with which the forward proxy refused the tunnel.
fn tunnel_status(error: Option<&SendError>) -> Option<StatusCode> {
    match &error?.cause {
        SendCause::ForwardProxy(_, error) => match **error {
            TunnelError::Status(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// The remedy for an error of the service.
fn of_status(finding: &Finding<'_>, response: &CheckResponse, message: &str) -> String {
    let upstream = finding.upstream;
    let key = |name| key(upstream, name);
    let lower = message.to_lowercase();
    if lower.contains("plain http request was sent to https port") {
        return format!("{}: write https:// there", key("url"));
    }
    if finding.target.asked
        && finding.target.presented.is_none()
        && (lower.contains("certificate") || matches!(response.status, 400 | 401 | 403 | 495 | 496))
    {
        return format!(
            "{} and {}: it requested a client certificate, and none is configured",
            key("tls.certificate"),
            key("tls.private_key")
        );
    }
    let models = match upstream.provider {
        Provider::Azure => {
            format!("{}, {} and {}", key("deployments"), key("default_model"), key("api_version"))
        }
        Provider::OpenAi | Provider::Anthropic | Provider::Gemini | Provider::Other => key("default_model"),
    };
    match response.status {
        401 | 403 if upstream.identity.is_some() => {
            format!(
                "{}: it does not accept its tokens; check their scope and the roles of the identity",
                key("url")
            )
        }
        401 if upstream.api_key.is_none() => {
            format!("{}: it requires a key, and none is configured", key("api_key"))
        }
        401 => format!("{}: it does not accept this key", key("api_key")),
        403 => {
            format!("{}: the key may not do this; check its permissions where it was issued", key("api_key"))
        }
        404 => {
            format!("{} (its path) or the model: check {models}, or name another with --model", key("url"))
        }
        402 | 429 => {
            format!(
                "nothing here: the service responds, and the account of {} is at its limit",
                key("api_key")
            )
        }
        400 | 422 => format!("the model or the request: check {models}, or try --model and --body"),
        300..400 => format!("{}: write the address to which it redirects", key("url")),
        500.. => {
            format!("nothing here: the service responds and is broken; check its log, or {}", key("url"))
        }
        _ => format!("{}: check it, or the service's own log", key("url")),
    }
}

/// A foreign message on one line, of bounded length and without control characters.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (number, word) in text.split_whitespace().enumerate() {
        if number > 0 {
            plain.push(' ');
        }
        plain.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    }
    if plain.chars().count() > MOST {
        plain = plain.chars().take(MOST - 1).collect();
        plain.push('…');
    }
    plain
}

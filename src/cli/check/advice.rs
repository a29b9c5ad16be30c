//! What went wrong, and what to change: which key of the configuration, where it is one.

use super::finding::Finding;
use super::reply::{CheckResponse, Reply};
use crate::config::{ForwardProxy, Upstream};
use crate::provider::Provider;
use crate::record::Outcome;
use crate::secret::Masks;
use crate::tls::ObservedHandshake;

/// Why an upstream cannot be used as it is configured.
#[derive(Debug)]
pub(super) struct Diagnosis {
    /// What happened.
    pub(super) what: String,
    /// What to do.
    pub(super) change: String,
}

/// The most that is shown of what others say, in characters.
const MOST: usize = 300;

/// What went wrong, if something did.
pub(super) fn failure(finding: &Finding<'_>, answer: &CheckResponse) -> Option<Diagnosis> {
    let upstream = finding.upstream;
    let record = finding.record();
    let (what, change) = match &answer.reply {
        Reply::Ours(code, message) => (message.clone(), of_code(finding, code, message)),
        Reply::Theirs(message) => (message.clone(), of_status(finding, answer, message)),
        Reply::Foreign(..) if answer.location.is_some() => {
            let location = answer.location.as_deref().unwrap_or_default();
            (
                format!("it redirects to {location}"),
                format!(
                    "{}: requests are never sent on with credentials; write where that leads",
                    key(upstream, "url")
                ),
            )
        }
        Reply::Foreign(media_type, body) if (200..300).contains(&answer.status) => {
            let media_type = if media_type.is_empty() { "no content-type" } else { media_type };
            let what =
                format!("it answered {}, and not with JSON but with {media_type}: {body}", answer.status);
            (what, format!("{}: no API is there; its path usually ends with /v1", key(upstream, "url")))
        }
        Reply::Foreign(_, body) => (body.clone(), of_status(finding, answer, body)),
        Reply::Result if record.outcome != Outcome::Complete => {
            // The record of an answer that had begun has no code.
            let error = record.error.as_deref().unwrap_or("the answer broke off");
            let limits = [("timeouts.idle", "idle_timeout"), ("timeouts.total", "total_timeout")];
            let code =
                limits.into_iter().find(|(limit, _)| error.contains(limit)).map_or("", |(_, code)| code);
            (error.to_owned(), of_code(finding, code, error))
        }
        Reply::Result => return None,
    };
    let what =
        if what.trim().is_empty() { format!("it answered {} and said nothing", answer.status) } else { what };
    let masked = Masks::new(upstream.secrets()).mask(&what);
    Some(Diagnosis { what: plain(masked.as_deref().unwrap_or(&what)), change })
}

/// A key of an upstream, as the configuration names it.
fn key(upstream: &Upstream, key: &str) -> String {
    format!("upstreams.{}.{key}", upstream.name)
}

/// What to do about an error that this proxy makes.
fn of_code(finding: &Finding<'_>, code: &str, message: &str) -> String {
    let upstream = finding.upstream;
    let key = |name| key(upstream, name);
    let place = format!("{} port {}", upstream.url.host(), upstream.url.port());
    match code {
        "upstream_unreachable" if finding.trace.addresses.is_empty() => {
            format!(
                "{}: the name {} is not known here; correct it, or see to this machine's DNS",
                key("url"),
                upstream.url.host()
            )
        }
        "upstream_unreachable" if message.contains("refused") => {
            format!("{}: nothing listens at {place}; correct it, or start the service", key("url"))
        }
        "upstream_unreachable" => format!(
            "{}: correct it; or where this network is left through a proxy only, name it in {} or network.proxy",
            key("url"),
            key("proxy")
        ),
        "connect_timeout" => format!(
            "{}: {place} says nothing; correct it, or name the proxy that leads there in {} or network.proxy. \
             If it is only slow, raise {}",
            key("url"),
            key("proxy"),
            key("timeouts.connect")
        ),
        "upstream_tls" => of_tls(finding, message),
        "upstream_protocol" if is_about_our_certificate(&finding.target, message) => of_tls(finding, message),
        "upstream_protocol" if message.contains("HTTP/2") => {
            format!("{}: write \"1\", or \"auto\" to let the two agree", key("http"))
        }
        "upstream_protocol" if !upstream.url.is_https() => {
            format!(
                "{}: what listens at {place} does not speak plain HTTP; does it want https://?",
                key("url")
            )
        }
        "upstream_protocol" => {
            format!("{}: what listens at {place} does not speak HTTP as it should", key("url"))
        }
        "first_byte_timeout" => {
            let unstreamed = Some("timeouts.first_byte_unstreamed").filter(|key| message.contains(key));
            format!(
                "{}: raise it, if the service needs longer; else look what keeps it at {place}",
                key(unstreamed.unwrap_or("timeouts.first_byte"))
            )
        }
        "idle_timeout" => format!("{}: raise it, if such silences are usual", key("timeouts.idle")),
        "total_timeout" => format!("{}: raise it, or \"\" for any time", key("timeouts.total")),
        "model_required" => format!("{}: name a model there, or with --model", key("default_model")),
        "proxy_refused" | "proxy_failed" | "proxy_timeout" => match &upstream.proxy {
            Some(proxy) => of_proxy(finding, proxy, code, message),
            None => key("proxy"),
        },
        "unknown_path" | "unsafe_path" => "--path: it begins with /v1, as an SDK would send it".to_owned(),
        _ => format!("{}: look there, or into the service's own log", key("url")),
    }
}

/// Whether the peer ended the handshake over the certificate that it got, or did not get. In TLS
/// 1.3 it says so after the client thinks that the handshake is over.
fn is_about_our_certificate(seen: &ObservedHandshake, message: &str) -> bool {
    seen.asked && (message.contains("alert") || seen.presented.is_none())
}

fn of_tls(finding: &Finding<'_>, message: &str) -> String {
    let upstream = finding.upstream;
    let key = |name| key(upstream, name);
    let seen = &finding.target;
    let ca = if upstream.tls.ca.is_empty() { "the system's authorities" } else { "the authorities there" };
    if let Some(advice) =
        of_peer(seen, message, &key("tls.ca"), ca, &key("tls.verification_mode"), &key("url"))
    {
        return advice;
    }
    if is_about_our_certificate(seen, message) {
        return match &seen.presented {
            None => format!(
                "{} and {}: it wants a client certificate, and none is configured",
                key("tls.certificate"),
                key("tls.private_key")
            ),
            Some(facts) => format!(
                "{}: it does not take the certificate of {} (serial {}, issued by {}); use one that its authorities have signed",
                key("tls.certificate"),
                facts.who(),
                facts.serial,
                facts.issuer
            ),
        };
    }
    if seen.peer.is_none() && message.contains("alert") {
        return format!(
            "{}: it refuses the handshake; TLS 1.2 and 1.3 are spoken here, and {} is the name that is asked for",
            key("url"),
            upstream.url.host()
        );
    }
    format!("{}: what listens there does not speak TLS; does it want http://?", key("url"))
}

/// What to do about a certificate that was refused here. `ca` is the key of the authorities,
/// `trusted` what they are now.
fn of_peer(
    seen: &ObservedHandshake,
    message: &str,
    ca: &str,
    trusted: &str,
    mode: &str,
    url: &str,
) -> Option<String> {
    let peer = seen.peer.as_ref()?;
    let until = peer.not_after.strftime("%Y-%m-%d");
    if message.contains("UnknownIssuer") {
        Some(format!(
            "{ca}: {} is none of {trusted}; put its certificate there, if you trust it",
            peer.issuer
        ))
    } else if message.contains("CaUsedAsEndEntity") {
        Some(format!(
            "{ca}: it presents an authority's certificate as its own; put that very one there, if you trust it"
        ))
    } else if message.contains("expired") {
        Some(format!(
            "nothing here: its certificate expired on {until}, and whoever runs the service must renew it (or is this machine's clock wrong?)"
        ))
    } else if message.contains("not valid yet") || message.contains("NotValidYet") {
        let from = peer.not_before.strftime("%Y-%m-%d");
        Some(format!(
            "nothing here: its certificate is not valid before {from} (or is this machine's clock wrong?)"
        ))
    } else if message.contains("not valid for name") || message.contains("NotValidForName") {
        Some(format!(
            "{url}: write the host that its certificate is for; or {mode} = \"certificate\" to take any name"
        ))
    } else {
        message.contains("invalid peer certificate").then(|| {
            format!("{mode}: \"none\" would take it, and whoever is in between; better have the certificate corrected")
        })
    }
}

fn of_proxy(finding: &Finding<'_>, proxy: &ForwardProxy, code: &str, message: &str) -> String {
    let upstream = finding.upstream;
    // Who chose the proxy: a key of the configuration, or a variable.
    let place = &upstream.why_this_way;
    let target = format!("{} port {}", upstream.url.host(), upstream.url.port());
    let is_key = !place.contains(' ');
    let inner = |name: &str| if is_key { format!("{place}.{name}") } else { place.clone() };
    match code {
        "proxy_refused" if message.contains("407") => match (&proxy.credentials, is_key) {
            (Some((name, _)), _) => format!("{place}: it does not take the name {name:?} with its password"),
            (None, true) => format!("{} and {}: it wants both", inner("username"), inner("password")),
            (None, false) => {
                format!("{place}: it wants a name and a password, http://NAME:PASSWORD@HOST:PORT")
            }
        },
        "proxy_refused" => {
            let around = if is_key { inner("bypass") } else { "NO_PROXY".to_owned() };
            format!(
                "{place}: it does not lead to {target}; have it allowed there, or reach it straight with {around}"
            )
        }
        "proxy_timeout" => format!(
            "{}: it says nothing, or cannot reach {target}. If it is only slow, raise {}",
            inner("url"),
            key(upstream, "timeouts.connect")
        ),
        _ => {
            let trusted =
                if proxy.tls.ca.is_empty() { "the system's authorities" } else { "the authorities there" };
            let (ca, mode, url) = (inner("ca"), inner("verification_mode"), inner("url"));
            of_peer(&finding.proxy, message, &ca, trusted, &mode, &url)
                .unwrap_or_else(|| format!("{url}: correct it, or see that a proxy runs there"))
        }
    }
}

/// What to do about an error of the service itself.
fn of_status(finding: &Finding<'_>, answer: &CheckResponse, message: &str) -> String {
    let upstream = finding.upstream;
    let key = |name| key(upstream, name);
    let lower = message.to_lowercase();
    if lower.contains("plain http request was sent to https port") {
        return format!("{}: write https:// there", key("url"));
    }
    if finding.target.asked
        && finding.target.presented.is_none()
        && (lower.contains("certificate") || matches!(answer.status, 400 | 401 | 403 | 495 | 496))
    {
        return format!(
            "{} and {}: it asked for a client certificate, and none is configured",
            key("tls.certificate"),
            key("tls.private_key")
        );
    }
    let models = match upstream.provider {
        Provider::Azure => {
            format!("{}, {} and {}", key("deployments"), key("default_model"), key("api_version"))
        }
        Provider::OpenAi | Provider::Other => key("default_model"),
    };
    match answer.status {
        401 if upstream.api_key.is_none() => {
            format!("{}: it wants a key, and none is configured", key("api_key"))
        }
        401 => format!("{}: it does not take this key", key("api_key")),
        403 => {
            format!("{}: the key may not do this; look for its rights where it was issued", key("api_key"))
        }
        404 => {
            format!("{} (its path) or the model: look at {models}, or name another with --model", key("url"))
        }
        402 | 429 => {
            format!("nothing here: it is reached, and the account behind {} is at its limit", key("api_key"))
        }
        400 | 422 => format!("the model or what is asked: look at {models}, or try --model and --body"),
        300..400 => format!("{}: write where it leads", key("url")),
        500.. => format!(
            "nothing here: the service is reached and broken; look into its log, or at {}",
            key("url")
        ),
        _ => format!("{}: look there, or into the service's own log", key("url")),
    }
}

/// What others say, on one line, of a bounded length, and without what a terminal would obey.
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

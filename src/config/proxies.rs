//! `proxy`: of an upstream, of `[network]`, or of the environment; and which of them counts.
//!
//! The nearest word counts alone: the upstream's, else the network's, else `HTTPS_PROXY` and its relatives. Where it is
//! "none", or its `bypass` takes the host, or its `only` does not, the upstream is reached straight.

use std::fs;

use http::{HeaderName, HeaderValue, header};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::headers::proxy_headers;
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::secret;
use super::settings::Proxy;
use super::upstreams::is_loopback;
use crate::egress::{Hosts, Pattern, ProxyAddress, Scheme, UserInfo, chosen};
use crate::provider::BaseUrl;
use crate::secret::Secret;

/// What stands in for a proxy where there shall be none, whatever others say.
const NONE: &str = "none";

/// What one place says.
pub(super) enum Said {
    /// No proxy.
    Straight,
    Through {
        proxy: Proxy,
        /// Hosts that are reached straight.
        bypass: Hosts,
        /// The only hosts that are not; `None`: all.
        only: Option<Hosts>,
    },
}

/// The key `proxy`, if it is there: "none", a URL, or a table.
pub(super) fn said(table: &Table<'_>) -> Read<Option<Said>> {
    table.optional("proxy", |entry| match entry.as_text() {
        Some(NONE) => Ok(Said::Straight),
        Some(_) => {
            let address = address(entry)?;
            let proxy = Proxy { address, headers: Vec::new(), credentials: None, ca: None };
            Ok(Said::Through { proxy, bypass: Hosts::default(), only: None })
        }
        None => entry.table(through),
    })
}

/// The proxy for an upstream, where `said` is the nearest word of the configuration.
pub(super) fn way(table: &Table<'_>, url: &BaseUrl, said: Option<&Said>) -> Read<Option<Proxy>> {
    match said {
        Some(Said::Straight) => Ok(None),
        Some(Said::Through { proxy, bypass, only }) => {
            let through = !bypass.take(url.host()) && only.as_ref().is_none_or(|only| only.take(url.host()));
            Ok(through.then(|| proxy.clone()))
        }
        None => from_environment(table, url),
    }
}

/// Services on this machine are never sent through a proxy that only the environment names: it is meant for the way out.
fn from_environment(table: &Table<'_>, url: &BaseUrl) -> Read<Option<Proxy>> {
    if is_loopback(url.host()) {
        return Ok(None);
    }
    let Some(chosen) = chosen(table.environment(), url.is_https(), url.host()) else { return Ok(None) };
    let mistake = |reason| table.variable_mistake(chosen.variable, reason);
    let (address, user) = ProxyAddress::parse(chosen.value).map_err(|reason| {
        mistake(format!("{reason}; a proxy is http://host:port, and proxy = \"none\" ignores the variable"))
    })?;
    let credentials = user.map(|UserInfo { username, password }| (username, password));
    if let Some((username, password)) = &credentials
        && let Some(reason) = unfit(address.scheme, username, password)
    {
        return Err(mistake(format!("its credentials: {reason}")));
    }
    Ok(Some(Proxy { address, headers: Vec::new(), credentials, ca: None }))
}

fn through(table: &Table<'_>) -> Read<Said> {
    let address = table.required("url", "write where the proxy is, such as \"http://proxy:3128\"", address);
    let scheme = address.as_ref().ok().map(|address| address.scheme);
    let headers = headers(table, scheme);
    let credentials = credentials(table, scheme, headers.as_deref().unwrap_or_default());
    let ca = tls(table, scheme);
    let bypass = table.optional("bypass", hosts);
    let only = table.optional("only", hosts);
    let proxy = Proxy { address: address?, headers: headers?, credentials: credentials?, ca: ca? };
    let only = only?.filter(|only| !only.is_empty());
    Ok(Said::Through { proxy, bypass: bypass?.unwrap_or_default(), only })
}

fn headers(table: &Table<'_>, scheme: Option<Scheme>) -> Read<Vec<(HeaderName, HeaderValue)>> {
    let headers = proxy_headers(table)?;
    match scheme.filter(|scheme| scheme.is_socks() && !headers.is_empty()) {
        Some(scheme) => {
            Err(table.mistake("headers", format!("cannot be sent: {} knows no headers", scheme.as_str())))
        }
        None => Ok(headers),
    }
}

/// `username` and `password`, which belong together.
fn credentials(
    table: &Table<'_>,
    scheme: Option<Scheme>,
    headers: &[(HeaderName, HeaderValue)],
) -> Read<Option<(String, Secret)>> {
    let username = table.optional("username", Entry::text);
    let password = table.optional("password", secret);
    let (username, password) = match (username?, password?) {
        (Some(username), Some(password)) => (username, password),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            let reason = "is missing: a username is there, write password = { env = \"NAME\" }";
            return Err(table.mistake("password", reason));
        }
        (None, Some(_)) => return Err(table.mistake("username", "is missing: a password is there")),
    };
    if let Some(reason) = scheme.and_then(|scheme| unfit(scheme, username, &password)) {
        return Err(table.mistake("username", reason));
    }
    if headers.iter().any(|(name, _)| *name == header::PROXY_AUTHORIZATION) {
        let reason = "and the header Proxy-Authorization both say who you are: keep one of them";
        return Err(table.mistake("username", reason));
    }
    Ok(Some((username.to_owned(), password)))
}

/// How the proxy itself is verified: what its certificate must come from, if not from the system's roots.
fn tls(table: &Table<'_>, scheme: Option<Scheme>) -> Read<Option<Vec<CertificateDer<'static>>>> {
    let ca = table.optional("ca", ca);
    let mode = table.optional("verification_mode", verification_mode);
    let (ca, mode) = (ca?.flatten(), mode?);
    let Some(scheme) = scheme.filter(|scheme| *scheme != Scheme::Https) else { return Ok(ca) };
    let unused = [("ca", ca.is_some()), ("verification_mode", mode.is_some())];
    let unused = unused.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| {
        let reason = format!(
            "is for TLS with the proxy itself, and its url is {}://; what concerns the target is the upstream's",
            scheme.as_str()
        );
        Err(table.mistake(key, reason))
    });
    all(unused).map(|_: Vec<()>| None)
}

/// Where a proxy is. The file does not hold credentials as text, and so not in a URL.
fn address(entry: &Entry<'_>) -> Read<ProxyAddress> {
    entry.parse("\"none\", or an address in quotes, such as \"http://proxy:3128\"", |text| {
        if !text.contains("://") {
            return Err(
                "is no proxy: write \"none\", or http://, https://, socks5:// or socks5h:// and its host"
                    .to_owned(),
            );
        }
        match ProxyAddress::parse(text)? {
            (address, None) => Ok(address),
            (_, Some(_)) => {
                Err("it has user information: write username and password = { env = \"NAME\" } beside it"
                    .to_owned())
            }
        }
    })
}

/// Why the scheme cannot carry such credentials.
fn unfit(scheme: Scheme, username: &str, password: &Secret) -> Option<&'static str> {
    const MOST: usize = 255;
    if username.is_empty() {
        Some("is empty")
    } else if username.chars().any(char::is_control) {
        Some("has control characters")
    } else if scheme.is_socks() && password.expose().is_empty() {
        Some("has no password, which SOCKS5 wants")
    } else if scheme.is_socks() && (username.len() > MOST || password.expose().len() > MOST) {
        Some("or the password is longer than the 255 bytes of SOCKS5")
    } else if !scheme.is_socks() && username.contains(':') {
        Some("has a colon, which would end it early")
    } else {
        None
    }
}

fn hosts(entry: &Entry<'_>) -> Read<Hosts> {
    Ok(Hosts::new(all(entry.texts()?.iter().map(|text| text.parse(Pattern::parse)))?))
}

fn verification_mode(entry: &Entry<'_>) -> Read<()> {
    entry.parse("\"full\"", |text| match text {
        "full" => Ok(()),
        _ => Err(format!("{text:?} is not \"full\", the only value so far")),
    })
}

/// The roots that a proxy's certificate must come from; "" is the system's.
fn ca(entry: &Entry<'_>) -> Read<Option<Vec<CertificateDer<'static>>>> {
    if entry.as_text() == Some("") {
        return Ok(None);
    }
    entry.table(|table| table.required("file", "write ca = { file = \"PATH\" }", roots)).map(Some)
}

fn roots(entry: &Entry<'_>) -> Read<Vec<CertificateDer<'static>>> {
    let path = entry.text()?;
    if path.is_empty() {
        return Err(entry.mistake("names no file"));
    }
    let path = entry.folder().join(path);
    let shown = path.display();
    let text = fs::read(&path).map_err(|error| entry.mistake(format!("cannot read {shown}: {error}")))?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| entry.mistake(format!("{shown} is no PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(entry.mistake(format!("{shown} has no certificate")));
    }
    let mut store = RootCertStore::empty();
    for (number, certificate) in certificates.iter().enumerate() {
        store.add(certificate.clone()).map_err(|error| {
            entry.mistake(format!("certificate {} of {shown} cannot be a root: {error}", number + 1))
        })?;
    }
    Ok(certificates)
}

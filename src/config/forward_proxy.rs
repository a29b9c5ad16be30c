//! `proxy`: of an upstream, of `[network]`, or of the environment; and which of them counts.
//!
//! The nearest word counts alone: the upstream's, else the network's, else `HTTPS_PROXY` and its
//! relatives. Where it is "none", or its `bypass` takes the host, or its `only` does not, the
//! upstream is reached straight.

use http::{HeaderName, HeaderValue, header};

use super::headers::proxy_headers;
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::secret;
use super::settings::ForwardProxy;
use super::tls::{ADDS, trust};
use super::upstreams::is_loopback;
use crate::egress::{Hosts, Pattern, ProxyAddress, Scheme, UserInfo, bypass_variable, proxy_variable};
use crate::provider::BaseUrl;
use crate::secret::Secret;
use crate::tls::ClientSettings;

/// What stands in for a proxy where there shall be none, whatever others say.
const NONE: &str = "none";

/// What one place says.
pub(super) enum Said {
    /// No proxy.
    Straight,
    Through {
        /// Boxed: it is much larger than no proxy.
        proxy: Box<ForwardProxy>,
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
            let proxy = ForwardProxy {
                address,
                headers: Vec::new(),
                credentials: None,
                tls: ClientSettings::default(),
            };
            Ok(Said::Through { proxy: Box::new(proxy), bypass: Hosts::default(), only: None })
        }
        None => entry.table(through),
    })
}

/// The way to an upstream, and in words why it is that one. `own` is what the upstream's `table`
/// says, `network` what is said for all of them.
pub(super) fn way(
    table: &Table<'_>,
    url: &BaseUrl,
    own: Option<&Said>,
    network: Option<&Said>,
) -> Read<(Option<ForwardProxy>, String)> {
    let Some(said) = own.or(network) else { return from_environment(table, url) };
    let own = own.and_then(|_| table.at(&["proxy"]));
    let place = own.map_or_else(|| "network.proxy".to_owned(), |entry| entry.path().to_string());
    Ok(match said {
        Said::Straight => (None, format!("{place} is \"none\"")),
        Said::Through { bypass, .. } if bypass.contains(url.host()) => {
            (None, format!("{place}.bypass has it"))
        }
        Said::Through { only: Some(only), .. } if !only.contains(url.host()) => {
            (None, format!("{place}.only does not have it"))
        }
        Said::Through { proxy, .. } => (Some(ForwardProxy::clone(proxy)), place),
    })
}

/// Services on this machine are never sent through a proxy that only the environment names: it is
/// meant for the way out.
fn from_environment(table: &Table<'_>, url: &BaseUrl) -> Read<(Option<ForwardProxy>, String)> {
    let environment = table.environment();
    let chosen = proxy_variable(environment, url.is_https(), url.host());
    let Some(chosen) = chosen.filter(|_| !is_loopback(url.host())) else {
        let why = match (chosen, bypass_variable(environment, url.host())) {
            (Some(chosen), _) => format!("it is on this machine, where {} does not count", chosen.variable),
            (None, Some(variable)) => format!("{variable} of the environment has it"),
            (None, None) => "no proxy is configured".to_owned(),
        };
        return Ok((None, why));
    };
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
    let proxy = ForwardProxy { address, headers: Vec::new(), credentials, tls: ClientSettings::default() };
    Ok((Some(proxy), format!("{} of the environment", chosen.variable)))
}

fn through(table: &Table<'_>) -> Read<Said> {
    let address = table.required("url", "write where the proxy is, such as \"http://proxy:3128\"", address);
    let scheme = address.as_ref().ok().map(|address| address.scheme);
    let headers = headers(table, scheme);
    let credentials = credentials(table, scheme, headers.as_deref().unwrap_or_default());
    let tls = tls(table, scheme);
    let bypass = table.optional("bypass", hosts);
    let only = table.optional("only", hosts);
    let proxy = ForwardProxy { address: address?, headers: headers?, credentials: credentials?, tls: tls? };
    let only = only?.filter(|only| !only.is_empty());
    Ok(Said::Through { proxy: Box::new(proxy), bypass: bypass?.unwrap_or_default(), only })
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

/// What the proxy's own certificate is held to.
fn tls(table: &Table<'_>, scheme: Option<Scheme>) -> Read<ClientSettings> {
    let trust = trust(table).and_then(|said| said.settings(table.at(&[ADDS])));
    let Some(scheme) = scheme.filter(|scheme| *scheme != Scheme::Https) else { return trust };
    let unused = ["ca", "verification_mode", "ca_adds_to_system"];
    let unused = unused.into_iter().filter(|key| table.at(&[key]).is_some()).map(|key| {
        let reason = format!(
            "is for TLS with the proxy itself, and its url is {}://; what concerns the target is the upstream's",
            scheme.as_str()
        );
        Err(table.mistake(key, reason))
    });
    all(unused).map(|_: Vec<()>| ClientSettings::default())
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

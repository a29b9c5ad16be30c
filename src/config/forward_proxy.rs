//! `proxy` of an upstream or of `[network]`, the proxies of the environment, and the choice among
//! them.
//!
//! Exactly one place decides: the upstream's `proxy`, else that of `[network]`, else `HTTPS_PROXY`
//! and its relatives. If that is "none", or its `bypass` contains the host, or its `only` does not,
//! the upstream is reached directly.

mod address;
mod basic;
mod redirect;
mod variables;

use http::{HeaderName, HeaderValue, header};

use super::headers::proxy_headers;
use super::kind::{Kind, Shape, hosts, parsed, text};
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::secret;
use super::settings::ForwardProxy;
use super::tls::{ADDS, trust};
use super::upstreams::is_local;
use crate::llm::provider::BaseUrl;
use crate::support::secret::Secret;
use crate::support::{Hosts, Pattern};
use crate::tls::ClientSettings;

pub use address::{ProxyAddress, Scheme, UserInfo};
pub use basic::basic;
pub use redirect::{redirects_to, refreshes_to};
pub use variables::{ProxyVariable, bypass_variable, proxy_variable};

/// The value for no proxy, which overrides other places.
const NONE: &str = "none";

/// The longest user name and password of SOCKS5, in bytes (RFC 1929).
const MAX_SOCKS5: usize = 255;

/// The choice of one place.
pub(super) enum ProxyChoice {
    Direct,
    Through {
        /// Boxed, because it is much larger than `Direct`.
        proxy: Box<ForwardProxy>,
        /// Hosts that are reached without the proxy.
        bypass: Hosts,
        /// The only hosts that are reached through the proxy. Empty: all.
        only: Hosts,
    },
}

/// The key `proxy`, if it is there: "none", a URL, or a table.
pub(super) fn choice(table: &Table<'_>) -> Read<Option<ProxyChoice>> {
    let shape = Shape::AnyOf(vec![Shape::Choice(vec![NONE]), address().shape, Shape::Table]);
    let Some(entry) = table.entry("proxy", shape) else { return Ok(None) };
    match entry.as_text() {
        Some(NONE) => Ok(Some(ProxyChoice::Direct)),
        Some(_) => {
            let proxy = Box::new(plain((address().read)(&entry)?, None));
            Ok(Some(ProxyChoice::Through { proxy, bypass: Hosts::default(), only: Hosts::default() }))
        }
        None => entry.table(through).map(Some),
    }
}

fn plain(address: ProxyAddress, credentials: Option<(String, Secret)>) -> ForwardProxy {
    ForwardProxy { address, headers: Vec::new(), credentials, tls: ClientSettings::default() }
}

/// The proxy to an upstream, and the reason for it or against one. `own` is the choice of the
/// upstream's `table`, `network` that of `[network]`.
pub(super) fn chosen(
    table: &Table<'_>,
    url: &BaseUrl,
    own: Option<&ProxyChoice>,
    network: Option<&ProxyChoice>,
) -> Read<(Option<ForwardProxy>, String)> {
    if url.socket().is_some() {
        return Ok((None, "it is a Unix socket".to_owned()));
    }
    let Some(choice) = own.or(network) else { return from_environment(table, url) };
    let own = own.and_then(|_| table.at(&["proxy"]));
    let place = own.map_or_else(|| "network.proxy".to_owned(), |entry| entry.path().to_string());
    Ok(match choice {
        ProxyChoice::Direct => (None, format!("{place} is \"none\"")),
        ProxyChoice::Through { bypass, .. } if bypass.contains(url.host()) => {
            (None, format!("{place}.bypass has it"))
        }
        ProxyChoice::Through { only, .. } if !only.is_empty() && !only.contains(url.host()) => {
            (None, format!("{place}.only does not have it"))
        }
        ProxyChoice::Through { proxy, .. } => (Some(ForwardProxy::clone(proxy)), place),
    })
}

/// A proxy that only the environment names is never used for services on this machine.
fn from_environment(table: &Table<'_>, url: &BaseUrl) -> Read<(Option<ForwardProxy>, String)> {
    let environment = table.environment();
    let chosen = proxy_variable(environment, url.is_https(), url.host());
    let Some(chosen) = chosen.filter(|_| !is_local(url.host())) else {
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
        return Err(mistake(format!("its credentials: the user name {reason}")));
    }
    Ok((Some(plain(address, credentials)), format!("{} of the environment", chosen.variable)))
}

fn through(table: &Table<'_>) -> Read<ProxyChoice> {
    let address = table.required("url", "write where the proxy is, such as \"http://proxy:3128\"", address());
    let scheme = address.as_ref().ok().map(|address| address.scheme);
    let headers = headers(table, scheme);
    let credentials = credentials(table, scheme, headers.as_deref().unwrap_or_default());
    let tls = tls(table, scheme);
    let bypass = table.optional("bypass", hosts(Pattern::parse));
    let only = table.optional("only", hosts(Pattern::parse));
    let proxy = ForwardProxy { address: address?, headers: headers?, credentials: credentials?, tls: tls? };
    Ok(ProxyChoice::Through {
        proxy: Box::new(proxy),
        bypass: bypass?.unwrap_or_default(),
        only: only?.unwrap_or_default(),
    })
}

fn headers(table: &Table<'_>, scheme: Option<Scheme>) -> Read<Vec<(HeaderName, HeaderValue)>> {
    let headers = proxy_headers(table)?;
    match scheme.filter(|scheme| scheme.is_socks() && !headers.is_empty()) {
        Some(scheme) => {
            Err(table.mistake("headers", format!("cannot be sent: {} has no headers", scheme.as_str())))
        }
        None => Ok(headers),
    }
}

/// `username` and `password`, which need each other.
fn credentials(
    table: &Table<'_>,
    scheme: Option<Scheme>,
    headers: &[(HeaderName, HeaderValue)],
) -> Read<Option<(String, Secret)>> {
    let username = table.optional("username", text());
    let password = table.optional("password", secret());
    let (username, password) = match (username?, password?) {
        (Some(username), Some(password)) => (username, password),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            let reason = "is missing: a username is there, write password = { env = \"NAME\" }";
            return Err(table.mistake("password", reason));
        }
        (None, Some(_)) => return Err(table.mistake("username", "is missing: a password is there")),
    };
    if let Some(reason) = scheme.and_then(|scheme| unfit(scheme, &username, &password)) {
        return Err(table.mistake("username", reason));
    }
    if headers.iter().any(|(name, _)| *name == header::PROXY_AUTHORIZATION) {
        let reason = "and the header Proxy-Authorization are both credentials: keep one of them";
        return Err(table.mistake("username", reason));
    }
    Ok(Some((username, password)))
}

/// The verification of the proxy's own certificate.
fn tls(table: &Table<'_>, scheme: Option<Scheme>) -> Read<ClientSettings> {
    let trust = trust(table).and_then(|keys| keys.settings(table.at(&[ADDS])));
    let Some(scheme) = scheme.filter(|scheme| *scheme != Scheme::Https) else { return trust };
    let unused = ["ca", "verification_mode", ADDS];
    let unused = unused.into_iter().filter(|key| table.at(&[key]).is_some()).map(|key| {
        let reason = format!(
            "is for TLS with the proxy itself, and its url is {}://; TLS with the target is a key of the upstream",
            scheme.as_str()
        );
        Err(table.mistake(key, reason))
    });
    all(unused).map(|_: Vec<()>| ClientSettings::default())
}

/// The address of a proxy. A URL in the file cannot contain credentials, which are secrets.
fn address() -> Kind<impl Fn(&Entry<'_>) -> Read<ProxyAddress>> {
    const WHAT: &str = "\"none\", or an address in quotes, such as \"http://proxy:3128\"";
    parsed("proxy URL", Some("^(https?|socks5h?)://.+$"), WHAT, |text| {
        if !text.contains("://") {
            return Err(
                "is not a proxy: write \"none\", or http://, https://, socks5:// or socks5h:// and its host"
                    .to_owned(),
            );
        }
        match ProxyAddress::parse(text)? {
            (address, None) => Ok(address),
            (_, Some(_)) => {
                Err("has user information: write username and password = { env = \"NAME\" } beside it"
                    .to_owned())
            }
        }
    })
}

/// The reason for which the scheme cannot carry these credentials.
fn unfit(scheme: Scheme, username: &str, password: &Secret) -> Option<&'static str> {
    if username.is_empty() {
        Some("is empty")
    } else if username.chars().any(char::is_control) {
        Some("has control characters")
    } else if scheme.is_socks() && password.expose().is_empty() {
        Some("has no password, which SOCKS5 requires")
    } else if scheme.is_socks() && (username.len() > MAX_SOCKS5 || password.expose().len() > MAX_SOCKS5) {
        Some("or the password is longer than the 255 bytes of SOCKS5")
    } else if !scheme.is_socks() && username.contains(':') {
        Some("has a colon, which would end it early")
    } else {
        None
    }
}

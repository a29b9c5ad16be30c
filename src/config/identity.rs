//! `entra`, `google` and `aws` of an upstream: the identity that gets its tokens.

mod aws;
mod entra;
mod google;

use std::net::IpAddr;

use super::forward_proxy;
use super::network::Network;
use super::notes::Read;
use super::reader::Table;
use super::settings::{CloudIdentity, TokenEndpoint};
use super::upstreams::is_local;
use crate::llm::provider::{BaseUrl, Provider};
use crate::support::is_loopback;
use crate::tls::ClientSettings;

/// The tables, of which an upstream may have one.
const TABLES: [&str; 3] = ["entra", "google", "aws"];

/// The providers that take tokens of one cloud, by the key of its table.
const CLOUDS: [(Provider, &str, &str); 2] =
    [(Provider::Azure, "entra", "Entra ID"), (Provider::Gemini, "google", "Google")];

/// Returns true if the upstream's table has an identity, valid or not.
pub(super) fn has_identity(upstream: &Table<'_>) -> bool {
    TABLES.iter().any(|key| upstream.at(&[key]).is_some())
}

/// The identity of an upstream, if there is one.
pub(super) fn identity(
    upstream: &Table<'_>,
    provider: Read<Provider>,
    url: Option<&BaseUrl>,
    network: Option<&Network>,
) -> Read<Option<CloudIdentity>> {
    let entra = upstream.table("entra", |table| entra::entra(table, network));
    let google = upstream.table("google", |table| google::google(table, network));
    let aws = upstream.table("aws", |table| aws::aws(table, url, network));
    let there: Vec<_> = TABLES.iter().filter(|key| upstream.at(&[key]).is_some()).collect();
    match there[..] {
        [] => return Ok(None),
        [_] => {}
        [first, second, ..] => {
            let reason = format!("is there beside {first}: an upstream has one identity, keep one of them");
            return Err(upstream.mistake(second, reason));
        }
    }
    let key = there[0];
    if matches!(provider, Ok(Provider::OpenAi)) {
        let reason = "has no effect at OpenAI, which takes keys only: write api_key, or another provider";
        return Err(upstream.mistake(key, reason));
    }
    let cloud = CLOUDS.iter().find(|(of, ..)| provider.is_ok_and(|provider| provider == *of));
    if let Some((provider, own, cloud)) = cloud.filter(|(_, own, _)| own != key) {
        let provider = provider.as_str();
        let reason = format!(
            "has no effect at provider \"{provider}\", which takes tokens of {cloud} only: write {own}, or another provider"
        );
        return Err(upstream.mistake(key, reason));
    }
    if upstream.at(&["api_key"]).is_some() {
        let reason = format!("is there beside {key}, whose tokens are sent in its place: keep one of them");
        return Err(upstream.mistake("api_key", reason));
    }
    Ok(entra?
        .map(CloudIdentity::Entra)
        .or(google?.map(CloudIdentity::Google))
        .or(aws?.map(CloudIdentity::Aws)))
}

/// A place that issues tokens, as it is written.
pub(super) struct Place<'a> {
    /// The key that names it, and that messages are about.
    key: &'static str,
    /// The variable that names it, if one does.
    variable: Option<&'static str>,
    /// A URL whose path may end with a slash.
    text: &'a str,
    /// The part of the path after that of `text`.
    rest: &'a str,
    /// Belongs to this machine or its cloud, so that neither a proxy nor `network.allowed_hosts`
    /// applies if the address does too.
    is_machine: bool,
}

/// The names of Google's metadata server.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata"];

/// Returns true for an address of this machine, or one that its cloud has on each machine: a
/// link-local one, or one of those that AWS has for IPv6.
fn is_near(host: &str) -> bool {
    const AWS: [&str; 2] = ["fd00:ec2::23", "fd00:ec2::254"];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_near = |ip: IpAddr| {
        is_loopback(ip)
            || match ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local() || AWS.iter().any(|aws| aws.parse() == Ok(ip)),
            }
    };
    host == "localhost" || METADATA_NAMES.contains(&host) || host.parse().is_ok_and(is_near)
}

/// Returns true for an address of RFC 1918.
fn is_private(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_private())
}

/// The way to a place. `http://` leads to this machine only, or to its cloud.
fn endpoint(table: &Table<'_>, network: Option<&Network>, place: &Place<'_>) -> Read<TokenEndpoint> {
    let Place { key, variable, text, rest, is_machine } = place;
    let mistake = |reason: String| match variable {
        Some(variable) => table.variable_mistake(variable, reason),
        None => table.mistake(key, reason),
    };
    let url = BaseUrl::parse(text).map_err(|reason| mistake(format!("{text:?}: {reason}")))?;
    let path = text.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let target = format!("{}{rest}", path.unwrap_or_default());
    if !crate::llm::provider::is_safe(&target) {
        return Err(mistake(format!("{text:?} has a path that no request can have")));
    }
    let host = url.host();
    // App Service has its endpoint at a private address of the container's host.
    let is_of_app_service = *variable == Some("IDENTITY_ENDPOINT") && is_private(host);
    let is_machine = *is_machine && (is_near(host) || is_of_app_service);
    if !url.is_https() && !is_machine && !is_local(host) {
        return Err(mistake(format!(
            "{text:?} is http:// to another machine: secrets are sent there, write https://"
        )));
    }
    let mut endpoint = TokenEndpoint {
        target,
        proxy: None,
        tls: ClientSettings::default(),
        is_machine,
        url: origin(&url).map_err(mistake)?,
    };
    let Some(network) = network.filter(|_| !is_machine) else { return Ok(endpoint) };
    if !network.allowed.contains(host) {
        return Err(mistake(format!("{host} is not among network.allowed_hosts: add it there")));
    }
    if let Some(connection) = network.host(&endpoint.url) {
        endpoint.tls = connection.tls(table)?;
    }
    endpoint.proxy = forward_proxy::chosen(table, &endpoint.url, None, network.proxy.as_ref())?.0;
    Ok(endpoint)
}

/// The URL without its path.
fn origin(url: &BaseUrl) -> Result<BaseUrl, String> {
    let scheme = if url.is_https() { "https" } else { "http" };
    BaseUrl::parse(&format!("{scheme}://{}", url.authority()))
}

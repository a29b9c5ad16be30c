//! `entra`, `google` and `aws` of an upstream: the identity that gets its tokens.

mod aws;
mod entra;
mod google;

use super::forward_proxy;
use super::network::Network;
use super::notes::Read;
use super::reader::Table;
use super::settings::{CloudIdentity, TokenEndpoint};
use super::upstreams::is_local;
use crate::llm::provider::{BaseUrl, Provider};
use crate::tls::ClientSettings;

/// The tables, of which an upstream may have one.
const TABLES: [&str; 3] = ["entra", "google", "aws"];

/// Returns true if the upstream's table has an identity, valid or not.
pub(super) fn has_identity(upstream: &Table<'_>) -> bool {
    TABLES.iter().any(|key| upstream.at(&[key]).is_some())
}

/// The identity of an upstream, if there is one.
pub(super) fn identity(
    upstream: &Table<'_>,
    provider: Read<Provider>,
    network: Option<&Network>,
) -> Read<Option<CloudIdentity>> {
    let entra = upstream.table("entra", |table| entra::entra(table, network));
    let google = upstream.table("google", |table| google::google(table, network));
    let aws = upstream.table("aws", |table| aws::aws(table, network));
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
    /// A URL whose path may end with a slash.
    text: &'a str,
    /// The part of the path after that of `text`.
    rest: &'a str,
    /// Belongs to this machine, so that neither a proxy nor `network.allowed_hosts` applies.
    is_machine: bool,
}

/// The way to a place. `http://` leads to this machine only.
fn endpoint(table: &Table<'_>, network: Option<&Network>, place: &Place<'_>) -> Read<TokenEndpoint> {
    let Place { key, text, rest, is_machine } = place;
    let mistake = |reason: String| table.mistake(key, reason);
    let url = BaseUrl::parse(text).map_err(|reason| mistake(format!("{text:?}: {reason}")))?;
    let path = text.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let target = format!("{}{rest}", path.unwrap_or_default());
    if !crate::llm::provider::is_safe(&target) {
        return Err(mistake(format!("{text:?} has a path that no request can have")));
    }
    let host = url.host();
    if !url.is_https() && !is_machine && !is_local(host) {
        return Err(mistake(format!(
            "{text:?} is http:// to another machine: secrets are sent there, write https://"
        )));
    }
    let mut endpoint = TokenEndpoint {
        target,
        proxy: None,
        tls: ClientSettings::default(),
        is_machine: *is_machine,
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

//! `[upstreams.NAME]`: the keys of a service, and which of them belong to which provider.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::{Connection, connection};
use super::disconnect;
use super::forward_proxy;
use super::headers::{header_names, headers};
use super::layers::OPENAI_API_KEY;
use super::network::Network;
use super::notes::Read;
use super::query::{check_version, query};
use super::reader::{Entry, Table, all};
use super::secrets::{secret, unfit};
use super::sections::{any_time, named, time_or_none};
use super::settings::{HttpVersion, OnDisconnect, PoolLimits, Upstream};
use super::tls;
use crate::egress::Hosts;
use crate::provider::{ApiVersion, BaseUrl, Endpoint, IncludeUsage, Provider};
use crate::secret::Secret;

/// What stands in for a key where a service wants none.
const NO_KEY: &str = "none";

/// The defaults of an upstream's tables. They are here because `config/default.toml` cannot name
/// the user's upstreams; a test holds its examples to them.
const POOL_IDLE: Duration = Duration::from_secs(60);
const POOL_MAX_IDLE: usize = 64;

/// How old a connection becomes that is always in use: a name that moves is noticed within this
/// time.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_secs(10 * 60);

/// The names of all upstreams in the order of the file, also of wrong ones, so that routes can be
/// checked against them; and the upstreams in the same order. `network` is what is said for all of
/// them, if it could be read.
pub(super) fn upstreams(root: &Table<'_>, network: Option<&Network>) -> (Vec<String>, Read<Vec<Upstream>>) {
    let tables = match root.names("upstreams") {
        Ok(tables) if tables.is_empty() => return (Vec::new(), Err(root.mistake("upstreams", none(root)))),
        Ok(tables) => tables,
        Err(noted) => return (Vec::new(), Err(noted)),
    };
    let names = tables.iter().map(|(name, _)| name.clone()).collect();
    let hosts_unread = network.is_none() && root.at(&["network", "hosts"]).is_some();
    let read = |(name, entry): (String, Entry<'_>)| {
        let named = named(&name, &entry);
        let upstream = entry.table(|table| upstream(name, table, network, hosts_unread));
        named.and(upstream)
    };
    (names, all(tables.into_iter().map(read)))
}

/// The ways out where there is no upstream.
fn none(root: &Table<'_>) -> String {
    if root.has_file() {
        format!(
            "there is none: add [upstreams.openai] with api_key = {{ env = \"{OPENAI_API_KEY}\" }}, or another one"
        )
    } else {
        format!(
            "there is neither a file nor {OPENAI_API_KEY}: set {OPENAI_API_KEY} to use OpenAI, or write streamgauge.toml \
             (or name a file with --config) with an [upstreams.NAME] in it"
        )
    }
}

/// `hosts_unread`: what is said of hosts could not be read, and may be a client certificate.
fn upstream(
    name: String,
    table: &Table<'_>,
    network: Option<&Network>,
    hosts_unread: bool,
) -> Read<Upstream> {
    let provider = provider(&name, table);
    let url = url(provider, table);
    let host = url.as_ref().ok().and_then(|url| network?.host(url));
    let has_certificate = tls::has_identity(table) || host.map_or(hosts_unread, Connection::has_identity);
    let api_key = api_key(provider, has_certificate, table);
    let api_version = api_version(provider, table);
    let deployments = names(table, "deployments", "deployment");
    if is_not(provider, Provider::Azure) && deployments.as_ref().is_ok_and(|names| !names.is_empty()) {
        table.mistake("deployments", "are Azure's: take them out, or set provider = \"azure\"");
    }
    let organization = openai_header(provider, table, "organization");
    let project = openai_header(provider, table, "project");
    let clients_choose_billing = table.optional("clients_choose_billing", Entry::boolean);
    let default_model = default_model(provider, table);
    let models = names(table, "models", "model");
    let headers = headers(table);
    let drop_headers = table.optional("drop_headers", header_names);
    let query = query(table);
    if let (Ok(provider), Ok(version), Ok(_)) = (&provider, &api_version, &query) {
        check_version(table, *provider, version);
    }
    let include_usage = table.optional("include_usage", include_usage);
    let keep_alive_comments = table.optional("keep_alive_comments", time_or_none);
    let on_disconnect = table.optional("on_disconnect", disconnect::on_disconnect);
    let drain_limits = table.section("drain_limits", disconnect::drain_limits);
    let connection = connection(table, url.as_ref().ok().map(BaseUrl::is_https));
    let connection = connection.map(|connection| connection.or(host));
    let tls = connection.as_ref().map_or_else(|noted| Err(*noted), |connection| connection.tls(table));
    let proxy = forward_proxy::said(table);
    if let (Ok(url), Some(network)) = (&url, network)
        && !network.allowed.contains(url.host())
    {
        let reason = format!(
            "{} is not among network.allowed_hosts: add it there, or choose another service",
            url.host()
        );
        table.mistake("url", reason);
    }
    let proxy = match (&url, &proxy, network) {
        (Ok(url), Ok(own), Some(network)) => {
            forward_proxy::way(table, url, own.as_ref(), network.proxy.as_ref())
        }
        _ => proxy.map(|_| (None, String::new())),
    };
    let http = table.optional("http", http);
    let max_connection_age = table.optional("max_connection_age", time_or_none);
    let pool = table.section("pool", pool);
    if let (Ok(url), Ok(api_key), Ok(headers), Ok(query)) = (&url, &api_key, &headers, &query) {
        let has_secret = api_key.is_some()
            || headers.iter().any(|(_, value)| value.is_sensitive())
            || query.secrets().next().is_some();
        if has_secret && !url.is_https() && !is_loopback(url.host()) {
            table.warning("url", "is http:// to another machine: keys and requests are sent in the clear");
        }
    }
    let (connection, url) = (connection?, url?);
    let (proxy, why_this_way) = proxy?;
    Ok(Upstream {
        name,
        provider: provider?,
        url,
        api_version: api_version?,
        api_key: api_key?,
        organization: organization?,
        project: project?,
        clients_choose_billing: clients_choose_billing?.unwrap_or(true),
        default_model: default_model?,
        models: models?,
        deployments: deployments?,
        headers: headers?,
        drop_headers: drop_headers?,
        query: query?,
        include_usage: include_usage?.unwrap_or_default(),
        keep_alive_comments: keep_alive_comments?.flatten(),
        on_disconnect: on_disconnect?.unwrap_or(OnDisconnect::Cancel),
        drain_limits: drain_limits?,
        allowed_hosts: network.map_or_else(Hosts::default, |network| network.allowed.clone()),
        proxy,
        why_this_way,
        timeouts: connection.timeouts(),
        max_connection_age: max_connection_age?.unwrap_or(Some(MAX_CONNECTION_AGE)),
        http: http?.unwrap_or(HttpVersion::Auto),
        pool: pool?,
        tls: tls?,
    })
}

/// A table that has a provider's name has that provider, unless it says otherwise.
fn provider(name: &str, table: &Table<'_>) -> Read<Provider> {
    let read = |entry: &Entry<'_>| {
        entry.parse(PROVIDERS, |text| {
            Provider::parse(text).ok_or_else(|| format!("{text:?} is not {PROVIDERS}"))
        })
    };
    match Provider::parse(name) {
        Some(provider @ (Provider::OpenAi | Provider::Azure)) => {
            Ok(table.optional("provider", read)?.unwrap_or(provider))
        }
        Some(Provider::Other) | None => table.required("provider", &format!("write {PROVIDERS}"), read),
    }
}

const PROVIDERS: &str = "\"openai\", \"azure\" or \"other\"";

/// Whether the provider is known and another one. Where it is not known, its rules say nothing.
fn is_not(provider: Read<Provider>, wanted: Provider) -> bool {
    provider.is_ok_and(|provider| provider != wanted)
}

fn url(provider: Read<Provider>, table: &Table<'_>) -> Read<BaseUrl> {
    let Some(entry) = table.get("url") else {
        return match provider?.default_url() {
            Some(url) => BaseUrl::parse(url).map_err(|reason| table.mistake("url", reason)),
            None if is_not(provider, Provider::Azure) => Err(table.mistake(
                "url",
                "is missing: write where the service is, such as \"http://127.0.0.1:8000/v1\"",
            )),
            None => {
                let reason = "is missing: write the resource's address, such as \"https://my-resource.openai.azure.com\"";
                Err(table.mistake("url", reason))
            }
        };
    };
    let url = entry.parse("an address in quotes, such as \"https://api.openai.com/v1\"", BaseUrl::parse)?;
    if let Some(endpoint) = endpoint_at_end(&url) {
        let shown = url.to_string();
        let meant = shown.strip_suffix(endpoint).unwrap_or(&shown).trim_end_matches('/');
        entry.warning(&format!("ends with {endpoint}, which requests bring themselves: write \"{meant}\""));
    }
    match provider {
        Ok(Provider::Azure) if url.path().split('/').any(|segment| segment == "openai") => {
            Err(entry.mistake("ends with /openai or more: leave that out, the proxy puts it on"))
        }
        Ok(Provider::OpenAi) if url.host() == "api.openai.com" && url.path().is_empty() => {
            Err(entry.mistake("has no path: OpenAI is at https://api.openai.com/v1"))
        }
        _ => Ok(url),
    }
}

/// The endpoint that a URL ends with, as it stands in the services' manuals: `chat/completions`.
fn endpoint_at_end(url: &BaseUrl) -> Option<&str> {
    let mut rests = url.path().match_indices('/').map(|(at, _)| &url.path()[at + 1..]);
    let is_endpoint = |rest: &&str| {
        let endpoint = Endpoint::of(&format!("/v1/{rest}"));
        endpoint.takes_json_model() || endpoint.has_deployment_form()
    };
    // The longest: `chat/completions` ends with `completions`.
    rests.find(is_endpoint)
}

/// A client certificate stands in for the key of a service that is neither OpenAI's nor Azure's.
fn api_key(provider: Read<Provider>, has_certificate: bool, table: &Table<'_>) -> Read<Option<Secret>> {
    let Some(entry) = table.get("api_key") else {
        return match provider? {
            Provider::OpenAi | Provider::Azure => {
                Err(table.mistake("api_key", "is missing: write api_key = { env = \"NAME\" } or { file = \"PATH\" }"))
            }
            Provider::Other if has_certificate => Ok(None),
            Provider::Other => Err(table.mistake(
                "api_key",
                "is missing: write api_key = { env = \"NAME\" } or { file = \"PATH\" }, or \"none\" if the service wants none; with a client certificate in its [tls] it is not needed",
            )),
        };
    };
    match (entry.as_text(), provider) {
        (Some(NO_KEY), Ok(Provider::Other) | Err(_)) => Ok(None),
        (Some(NO_KEY), Ok(provider)) => Err(entry
            .mistake(format!("\"none\" is for provider \"other\" only: {} wants a key", provider.as_str()))),
        _ => secret(&entry).map(Some),
    }
}

fn api_version(provider: Read<Provider>, table: &Table<'_>) -> Read<ApiVersion> {
    let version = table.optional("api_version", |entry| {
        entry.parse("text in quotes, \"v1\", \"preview\" or a day such as \"2024-10-21\"", ApiVersion::parse)
    });
    if is_not(provider, Provider::Azure) && version.as_ref().is_ok_and(Option::is_some) {
        return Err(table.mistake("api_version", "is Azure's: take it out, or set provider = \"azure\""));
    }
    Ok(version?.unwrap_or_default())
}

/// `organization` or `project`; an empty one is none.
fn openai_header(provider: Read<Provider>, table: &Table<'_>, key: &'static str) -> Read<Option<String>> {
    let Some(entry) = table.get(key) else { return Ok(None) };
    let Some(text) = entry.text_or_none()? else { return Ok(None) };
    if is_not(provider, Provider::OpenAi) {
        return Err(entry.mistake("is OpenAI's: take it out, or set provider = \"openai\""));
    }
    match unfit(&text) {
        Some(reason) => Err(entry.mistake(reason)),
        None => Ok(Some(text)),
    }
}

fn default_model(provider: Read<Provider>, table: &Table<'_>) -> Read<Option<String>> {
    let model = table.optional("default_model", Entry::text_or_none)?.flatten();
    match (provider, model) {
        (Ok(Provider::Other), None) => {
            Err(table.mistake("default_model", "is missing: write the model for requests that name none"))
        }
        (_, model) => Ok(model),
    }
}

/// A table from names to names, such as aliases to models.
fn names(table: &Table<'_>, key: &'static str, what: &str) -> Read<BTreeMap<String, String>> {
    let names = table.names(key)?.into_iter().map(|(from, entry)| {
        let to = entry.text()?;
        if from.is_empty() || to.is_empty() {
            return Err(entry.mistake(format!("the name of a {what} is empty")));
        }
        Ok((from, to.to_owned()))
    });
    Ok(all(names)?.into_iter().collect())
}

fn include_usage(entry: &Entry<'_>) -> Read<IncludeUsage> {
    entry.parse(INCLUDE_USAGE, |text| {
        IncludeUsage::parse(text).ok_or_else(|| format!("{text:?} is not {INCLUDE_USAGE}"))
    })
}

const INCLUDE_USAGE: &str = "\"auto\", \"always\" or \"never\"";

fn http(entry: &Entry<'_>) -> Read<HttpVersion> {
    entry.parse(HTTP_VERSIONS, |text| match text {
        "auto" => Ok(HttpVersion::Auto),
        "1" => Ok(HttpVersion::Http1),
        "2" => Ok(HttpVersion::Http2),
        _ => Err(format!("{text:?} is not {HTTP_VERSIONS}")),
    })
}

const HTTP_VERSIONS: &str = "\"auto\", \"1\" or \"2\" in quotes";

fn pool(table: &Table<'_>) -> Read<PoolLimits> {
    let idle_timeout = table.optional("idle_timeout", any_time);
    let max_idle = table.optional("max_idle", Entry::integer);
    Ok(PoolLimits {
        idle_timeout: idle_timeout?.unwrap_or(POOL_IDLE),
        max_idle: max_idle?.unwrap_or(POOL_MAX_IDLE),
    })
}

/// Whether what is sent to the host stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

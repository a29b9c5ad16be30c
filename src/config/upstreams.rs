//! `[upstreams.NAME]`: the keys of a service, and those that belong to one provider.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::{Connection, connection};
use super::disconnect::drain_limits;
use super::forward_proxy;
use super::headers::{header_names, headers};
use super::identity;
use super::kind::{Shape, alternatives, any_time, boolean, choice, integer, parsed, requests, text, time};
use super::layers::OPENAI_API_KEY;
use super::network::Network;
use super::notes::Read;
use super::query::query;
use super::reader::{Entry, Table, all};
use super::secrets::{secret, secret_shape, unfit};
use super::sections::{NAME_PATTERN, check_name};
use super::settings::{HttpVersion, OnDisconnect, PoolLimits, Upstream};
use super::tls;
use crate::llm::provider::{ApiVersion, BaseUrl, Endpoint, IncludeUsage, Provider};
use crate::support::secret::Secret;
use crate::support::{Hosts, is_loopback};

/// The value of `api_key` for a service that needs none.
const NO_KEY: &str = "none";

/// The default `max_connection_age`, after which a connection in constant use is replaced, so that
/// a new address of the service's name takes effect.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_secs(10 * 60);

/// The pattern of URLs of services.
pub(super) const URL_PATTERN: Option<&str> = Some("^(https?://|unix:/).+$");

const PROVIDERS: &[(&str, Provider)] = &[
    ("openai", Provider::OpenAi),
    ("azure", Provider::Azure),
    ("anthropic", Provider::Anthropic),
    ("gemini", Provider::Gemini),
    ("other", Provider::Other),
];

const ON_DISCONNECT: &[(&str, OnDisconnect)] =
    &[("cancel", OnDisconnect::Cancel), ("drain", OnDisconnect::Drain)];

const INCLUDE_USAGE: &[(&str, IncludeUsage)] =
    &[("auto", IncludeUsage::Auto), ("always", IncludeUsage::Always), ("never", IncludeUsage::Never)];

const HTTP_VERSIONS: &[(&str, HttpVersion)] =
    &[("auto", HttpVersion::Auto), ("1", HttpVersion::Http1), ("2", HttpVersion::Http2)];

/// The upstreams in the order of the file; and the names of all of them, so that routes can be
/// checked also if an upstream is not valid. `network` is the valid `[network]`.
pub(super) fn upstreams(root: &Table<'_>, network: Option<&Network>) -> (Vec<String>, Read<Vec<Upstream>>) {
    let tables = match root.names("upstreams", Some(NAME_PATTERN.to_owned()), Shape::Table) {
        Ok(tables) if tables.is_empty() => {
            return (Vec::new(), Err(root.mistake("upstreams", missing(root))));
        }
        Ok(tables) => tables,
        Err(noted) => return (Vec::new(), Err(noted)),
    };
    let names = tables.iter().map(|(name, _)| name.clone()).collect();
    let hosts_unread = network.is_none() && root.at(&["network", "hosts"]).is_some();
    let read = |(name, entry): (String, Entry<'_>)| {
        let named = check_name(&name, &entry);
        let upstream = entry.table(|table| upstream(name, table, network, hosts_unread));
        named.and(upstream)
    };
    (names, all(tables.into_iter().map(read)))
}

/// The service of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the upstream.
    pub name: String,
    pub provider: Provider,
    /// The host of its URL. Empty for a Unix socket.
    pub host: String,
}

/// The service of the upstream with this name. `None` if its provider or its URL is not valid.
pub(super) fn place(root: &Table<'_>, name: &str) -> Option<Place> {
    let text = |key| root.at(&["upstreams", name, key])?.as_text().map(str::to_owned);
    let provider = Provider::parse(&text("provider").unwrap_or_else(|| name.to_owned()))?;
    let url = text("url").or_else(|| provider.default_url().map(str::to_owned));
    let host = match url {
        Some(url) => BaseUrl::parse(&url).ok()?.host().to_owned(),
        None => String::new(),
    };
    Some(Place { name: name.to_owned(), provider, host })
}

fn missing(root: &Table<'_>) -> String {
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

/// Reads one upstream. `hosts_unread` means that `[[network.hosts]]` is not valid, and may have a
/// client certificate for this upstream.
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
    let identity = identity::identity(table, provider, url.as_ref().ok(), network);
    let api_key = api_key(provider, has_certificate, table);
    let api_version = api_version(provider, table);
    let deployments = names(table, "deployments", "deployment");
    if is_not(provider, Provider::Azure) && deployments.as_ref().is_ok_and(|names| !names.is_empty()) {
        table.mistake("deployments", "are for Azure only: remove them, or write provider = \"azure\"");
    }
    let headers = headers(table);
    let query = query(table, provider, &api_version);
    let connection = connection(table, url.as_ref().ok().map(BaseUrl::is_https));
    let connection = connection.map(|connection| connection.or(host));
    let tls = connection.as_ref().map_or_else(|noted| Err(*noted), |connection| connection.tls(table));
    let proxy = forward_proxy::choice(table);
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
            forward_proxy::chosen(table, url, own.as_ref(), network.proxy.as_ref())
        }
        _ => proxy.map(|_| (None, String::new())),
    };
    if let (Ok(url), Ok(api_key), Ok(headers), Ok(query)) = (&url, &api_key, &headers, &query) {
        let has_secret = api_key.is_some()
            || identity::has_identity(table)
            || headers.iter().any(|(_, value)| value.is_sensitive())
            || query.secrets().next().is_some();
        if has_secret && !url.is_https() && !is_local(url.host()) {
            table.warning("url", "is http:// to another machine: keys and requests are sent in the clear");
        }
    }
    let (proxy, why_this_way) = match proxy {
        Ok((proxy, why)) => (Ok(proxy), Ok(why)),
        Err(noted) => (Err(noted), Err(noted)),
    };
    read_all!(Upstream {
        name: Ok(name),
        provider: provider,
        url: url,
        api_version: api_version,
        api_key: api_key,
        identity: identity,
        organization: openai_header(provider, table, "organization"),
        project: openai_header(provider, table, "project"),
        clients_choose_billing: table.or_default("clients_choose_billing", boolean().default(true)),
        default_model: default_model(provider, table),
        models: names(table, "models", "model"),
        deployments: deployments,
        headers: headers,
        drop_headers: table.optional("drop_headers", header_names()),
        query: query,
        include_usage: table.or_default("include_usage", choice(INCLUDE_USAGE).default("auto")),
        keep_alive_comments: table.or_default("keep_alive_comments", time().or_empty().default("")),
        on_disconnect: table.or_default("on_disconnect", choice(ON_DISCONNECT).default("cancel")),
        drain_limits: table.section("drain_limits", drain_limits),
        concurrent: table.or_default("concurrent", requests().default(0)),
        allowed_hosts: Ok(network.map_or_else(Hosts::default, |network| network.allowed.clone())),
        proxy: proxy,
        why_this_way: why_this_way,
        http: table.or_default("http", choice(HTTP_VERSIONS).default("auto")),
        timeouts: connection.map(|connection| connection.timeouts()),
        max_connection_age: table
            .optional("max_connection_age", time().or_empty().default("10m"))
            .map(|age| age.unwrap_or(Some(MAX_CONNECTION_AGE))),
        pool: table.section("pool", pool),
        tls: tls,
    })
}

/// The provider. A table named like one, except `other`, has that provider by default.
fn provider(name: &str, table: &Table<'_>) -> Read<Provider> {
    let implied = match Provider::parse(name) {
        Some(Provider::Other) | None => None,
        named => named,
    };
    let missing = || {
        let words = alternatives(PROVIDERS.iter().map(|(name, _)| *name));
        table.mistake("provider", format!("is missing: write {words}"))
    };
    table.optional("provider", choice(PROVIDERS))?.or(implied).ok_or_else(missing)
}

/// Returns true if the provider is known and differs.
fn is_not(provider: Read<Provider>, wanted: Provider) -> bool {
    provider.is_ok_and(|provider| provider != wanted)
}

fn url(provider: Read<Provider>, table: &Table<'_>) -> Read<BaseUrl> {
    const WHAT: &str = "an address in quotes, such as \"https://api.openai.com/v1\"";
    let url = parsed("URL", URL_PATTERN, WHAT, BaseUrl::parse).then(|entry, url| {
        if let Some(endpoint) = endpoint_at_end(&url) {
            let shown = url.to_string();
            let meant = shown.strip_suffix(endpoint).unwrap_or(&shown).trim_end_matches('/');
            entry.warning(&format!(
                "ends with {endpoint}, which requests bring themselves: write \"{meant}\""
            ));
        }
        match provider {
            Ok(Provider::Azure) if url.path().split('/').any(|segment| segment == "openai") => {
                Err(entry.mistake("ends with /openai or more: remove that, it is added to each request"))
            }
            Ok(Provider::Gemini)
                if !url.path().is_empty() && GEMINI_ENDS.iter().any(|end| url.path().ends_with(end)) =>
            {
                Err(entry
                    .mistake("ends with the version of the API: remove that, it is added to each request"))
            }
            Ok(Provider::Anthropic) if url.host() == "api.anthropic.com" && url.path().is_empty() => {
                Err(entry.mistake("has no path: Anthropic is at https://api.anthropic.com/v1"))
            }
            Ok(Provider::OpenAi) if url.host() == "api.openai.com" && url.path().is_empty() => {
                Err(entry.mistake("has no path: OpenAI is at https://api.openai.com/v1"))
            }
            _ => Ok(url),
        }
    });
    if let Some(url) = table.optional("url", url)? {
        return Ok(url);
    }
    let provider = provider?;
    match provider.default_url() {
        Some(url) => BaseUrl::parse(url).map_err(|reason| table.mistake("url", reason)),
        None if provider == Provider::Azure => Err(table.mistake(
            "url",
            "is missing: write the resource's address, such as \"https://my-resource.openai.azure.com\"",
        )),
        None => Err(table
            .mistake("url", "is missing: write where the service is, such as \"http://127.0.0.1:8000/v1\"")),
    }
}

/// The ends of Gemini's URLs, which its dialect adds.
const GEMINI_ENDS: [&str; 4] = ["/v1beta", "/v1beta/openai", "/v1alpha", "/v1"];

/// The endpoint at the end of a URL that was copied from a service's manual: `chat/completions`.
fn endpoint_at_end(url: &BaseUrl) -> Option<&str> {
    let mut rests = url.path().match_indices('/').map(|(at, _)| &url.path()[at + 1..]);
    let is_endpoint = |rest: &&str| {
        let endpoint = Endpoint::of(&format!("/v1/{rest}"));
        endpoint.takes_json_model() || endpoint.has_deployment_form()
    };
    // `/models` alone is the path of a service of Azure.
    if url.path().ends_with("/v1/models") {
        return Some("models");
    }
    // The longest match: `chat/completions` ends with `completions`.
    rests.find(is_endpoint)
}

/// The key of the service. With an identity none is needed, and with a client certificate none by
/// services of provider `other`.
fn api_key(provider: Read<Provider>, has_certificate: bool, table: &Table<'_>) -> Read<Option<Secret>> {
    let shape = Shape::AnyOf(vec![secret_shape(), Shape::Choice(vec![NO_KEY])]);
    let Some(entry) = table.entry("api_key", shape) else {
        return match provider? {
            // The identity's own mistakes name its key.
            _ if identity::has_identity(table) => Ok(None),
            Provider::OpenAi | Provider::Azure | Provider::Anthropic | Provider::Gemini => {
                Err(table.mistake("api_key", "is missing: write api_key = { env = \"NAME\" } or { file = \"PATH\" }"))
            }
            Provider::Other if has_certificate => Ok(None),
            Provider::Other => Err(table.mistake(
                "api_key",
                "is missing: write api_key = { env = \"NAME\" } or { file = \"PATH\" }, or \"none\" if the service needs none; with a client certificate in its [tls] it is not needed",
            )),
        };
    };
    match (entry.as_text(), provider) {
        (Some(NO_KEY), Ok(Provider::Other) | Err(_)) => Ok(None),
        (Some(NO_KEY), Ok(provider)) => Err(entry
            .mistake(format!("\"none\" is for provider \"other\" only: {} needs a key", provider.as_str()))),
        _ => (secret().read)(&entry).map(Some),
    }
}

fn api_version(provider: Read<Provider>, table: &Table<'_>) -> Read<ApiVersion> {
    const PATTERN: &str = "^(v1|preview|latest|[0-9]{4}-[0-9]{2}-[0-9]{2}(-[a-z0-9]+)?)$";
    const WHAT: &str = "text in quotes, \"v1\", \"preview\" or a day such as \"2024-10-21\"";
    let version =
        table.optional("api_version", parsed("API version", Some(PATTERN), WHAT, ApiVersion::parse));
    if is_not(provider, Provider::Azure) && version.as_ref().is_ok_and(Option::is_some) {
        let reason = "is for Azure only: remove it, or write provider = \"azure\"";
        return Err(table.mistake("api_version", reason));
    }
    Ok(version?.unwrap_or_default())
}

/// `organization` or `project`.
fn openai_header(provider: Read<Provider>, table: &Table<'_>, key: &'static str) -> Read<Option<String>> {
    let header = text().or_empty().default("").then(|entry, text| {
        if text.is_some() && is_not(provider, Provider::OpenAi) {
            return Err(entry.mistake("is for OpenAI only: remove it, or write provider = \"openai\""));
        }
        match text.as_deref().and_then(unfit) {
            Some(reason) => Err(entry.mistake(reason)),
            None => Ok(text),
        }
    });
    table.or_default(key, header)
}

fn default_model(provider: Read<Provider>, table: &Table<'_>) -> Read<Option<String>> {
    let model = table.or_default("default_model", text().or_empty().default(""))?;
    match (provider, model) {
        (Ok(Provider::Other), None) => {
            Err(table.mistake("default_model", "is missing: write the model for requests that name none"))
        }
        (_, model) => Ok(model),
    }
}

/// A table from names to names, such as aliases to models.
fn names(table: &Table<'_>, key: &'static str, what: &str) -> Read<BTreeMap<String, String>> {
    let names = table.names(key, None, Shape::Text("text", None))?.into_iter().map(|(from, entry)| {
        let to = entry.text("text in quotes")?;
        if from.is_empty() || to.is_empty() {
            return Err(entry.mistake(format!("the name of a {what} is empty")));
        }
        Ok((from, to.to_owned()))
    });
    Ok(all(names)?.into_iter().collect())
}

fn pool(table: &Table<'_>) -> Read<PoolLimits> {
    read_all!(PoolLimits {
        idle_timeout: table.or_default("idle_timeout", any_time().default("60s")),
        max_idle: table.or_default("max_idle", integer().default(64)),
    })
}

/// Returns true if requests to the host stay on this machine.
pub(super) fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

//! `[network]`: settings of all upstreams, or of those on one host.

use super::connection::{Connection, connection};
use super::forward_proxy::{self, ProxyChoice};
use super::kind::{host, hosts, parsed};
use super::notes::Read;
use super::reader::{Table, all};
use super::settings::Upstream;
use super::upstreams::URL_PATTERN;
use crate::llm::provider::BaseUrl;
use crate::support::Hosts;

/// The settings that upstreams share.
pub(super) struct Network {
    /// The hosts on which upstreams may be.
    pub(super) allowed: Hosts,
    /// The proxy of upstreams without `proxy`.
    pub(super) proxy: Option<ProxyChoice>,
    hosts: Vec<(BaseUrl, Connection)>,
}

impl Network {
    /// The keys for the host of the URL.
    pub(super) fn host(&self, url: &BaseUrl) -> Option<&Connection> {
        self.hosts.iter().find(|(host, _)| is_same(host, url)).map(|(_, connection)| connection)
    }
}

/// Warns of hosts without an upstream, which have no effect.
pub(super) fn warn_of_unused(root: &Table<'_>, network: &Network, upstreams: &[Upstream]) {
    let Some(entry) = root.at(&["network", "hosts"]) else { return };
    for (host, _) in &network.hosts {
        if !upstreams.iter().any(|upstream| is_same(host, &upstream.url)) {
            entry.warning(&format!("no upstream is on {host}; scheme, host and port must be the same"));
        }
    }
}

pub(super) fn network(table: &Table<'_>) -> Read<Network> {
    let allowed = hosts(host).then(|entry, hosts| {
        if hosts.is_empty() {
            let reason = "is empty, so that no upstream could be used: name hosts, or write [\"*\"]";
            return Err(entry.mistake(reason));
        }
        Ok(hosts)
    });
    let allowed = table.defaulted("allowed_hosts", allowed);
    let proxy = forward_proxy::choice(table);
    let hosts = named_hosts(table);
    Ok(Network { allowed: allowed?, proxy: proxy?, hosts: hosts? })
}

/// `[[network.hosts]]`, each host once.
fn named_hosts(table: &Table<'_>) -> Read<Vec<(BaseUrl, Connection)>> {
    let mut known: Vec<BaseUrl> = Vec::new();
    all(table.tables("hosts")?.into_iter().map(|item| {
        item.table(|table| {
            let what = "a host in quotes, such as \"https://llm.internal:8443\"";
            let url = parsed("URL", URL_PATTERN, what, BaseUrl::parse).then(|entry, url| {
                if !url.path().is_empty() {
                    return Err(entry.mistake("has a path: this table is for the whole host"));
                }
                if known.iter().any(|known| is_same(known, &url)) {
                    return Err(
                        entry.mistake(format!("{url} is there already: keep one [[network.hosts]] of it"))
                    );
                }
                known.push(url.clone());
                Ok(url)
            });
            let url = table.required("url", "write the host as \"https://host:port\"", url);
            let connection = connection(table, url.as_ref().ok().map(BaseUrl::is_https))?;
            // Checked here, since an upstream's own keys would hide the mistake.
            connection.tls(table)?;
            Ok((url?, connection))
        })
    }))
}

fn is_same(one: &BaseUrl, other: &BaseUrl) -> bool {
    let place =
        |url: &BaseUrl| (url.is_https(), url.socket().map(str::to_owned), url.host().to_owned(), url.port());
    place(one) == place(other)
}

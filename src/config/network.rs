//! `[network]`: what is said for all upstreams, or for those on one host.

use super::connection::{Connection, connection};
use super::forward_proxy;
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::settings::Upstream;
use crate::egress::{Hosts, Pattern};
use crate::provider::BaseUrl;

/// What upstreams share.
pub(super) struct Network {
    /// Who may be an upstream.
    pub(super) allowed: Hosts,
    /// For upstreams that say nothing of a proxy.
    pub(super) proxy: Option<forward_proxy::Said>,
    hosts: Vec<(BaseUrl, Connection)>,
}

impl Network {
    /// What is said of the host that the upstream's URL is on.
    pub(super) fn host(&self, url: &BaseUrl) -> Option<&Connection> {
        self.hosts.iter().find(|(host, _)| is_same(host, url)).map(|(_, connection)| connection)
    }
}

/// Warns of hosts that no upstream is on: they say nothing, and were meant to.
pub(super) fn warn_of_unused(root: &Table<'_>, network: &Network, upstreams: &[Upstream]) {
    let Some(entry) = root.at(&["network", "hosts"]) else { return };
    for (host, _) in &network.hosts {
        if !upstreams.iter().any(|upstream| is_same(host, &upstream.url)) {
            entry.warning(&format!("no upstream is on {host}; scheme, host and port must be the same"));
        }
    }
}

pub(super) fn network(table: &Table<'_>) -> Read<Network> {
    let allowed = table.defaulted("allowed_hosts", allowed);
    let proxy = forward_proxy::said(table);
    let hosts = table.optional("hosts", hosts);
    Ok(Network { allowed: allowed?, proxy: proxy?, hosts: hosts?.unwrap_or_default() })
}

fn allowed(entry: &Entry<'_>) -> Read<Hosts> {
    let patterns = all(entry.texts()?.iter().map(|text| {
        text.parse(|text| match Pattern::parse(text) {
            Ok(pattern @ (Pattern::All | Pattern::Name(_))) => Ok(pattern),
            Ok(pattern @ Pattern::Below(_)) if text.starts_with('*') => Ok(pattern),
            Ok(pattern @ Pattern::Net(_)) if !text.contains('/') => Ok(pattern),
            _ => Err(format!(
                "{text:?} is none of a host, \"*.suffix\" for the names below it, and \"*\" for all; without a scheme and a \
                 port"
            )),
        })
    }))?;
    if patterns.is_empty() {
        return Err(
            entry.mistake("is empty, so that no upstream could be used: name hosts, or write [\"*\"]")
        );
    }
    Ok(Hosts::new(patterns))
}

/// `[[network.hosts]]`, each host once.
fn hosts(entry: &Entry<'_>) -> Read<Vec<(BaseUrl, Connection)>> {
    let mut known: Vec<BaseUrl> = Vec::new();
    all(entry.items()?.into_iter().map(|item| {
        item.table(|table| {
            let url = table.required("url", "write the host as \"https://host:port\"", |entry| {
                let url =
                    entry.parse("a host in quotes, such as \"https://llm.internal:8443\"", BaseUrl::parse)?;
                if !url.path().is_empty() {
                    return Err(entry.mistake("has a path: what is said here is for the whole host"));
                }
                if known.iter().any(|known| is_same(known, &url)) {
                    return Err(
                        entry.mistake(format!("{url} is there already: keep one [[network.hosts]] of it"))
                    );
                }
                known.push(url.clone());
                Ok(url)
            });
            let connection = connection(table, url.as_ref().ok().map(BaseUrl::is_https));
            // What only adds to an upstream's own authorities would be said at the wrong place.
            let connection = connection?;
            connection.tls(table)?;
            Ok((url?, connection))
        })
    }))
}

fn is_same(one: &BaseUrl, other: &BaseUrl) -> bool {
    (one.is_https(), one.host(), one.port()) == (other.is_https(), other.host(), other.port())
}

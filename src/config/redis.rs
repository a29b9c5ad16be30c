//! `[redis]`: the store of the limits that the replicas of a fleet share.

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use super::kind::{Kind, choice, parsed, text};
use super::notes::Read;
use super::reader::{Entry, Table};
use super::secrets::secret;
use super::settings::{Redis, RedisAddress, Sentinel};
use super::tls;
use super::upstreams::is_local;
use crate::gate::limit::WhenAway;
use crate::support::secret::Secret;

/// The largest number of nodes or sentinels to begin with.
const MAX_NODES: usize = 64;

/// The longest prefix, which every key has.
const MAX_PREFIX: usize = 64;

const FORM: &str = "it has the form redis://user:password@host:6379/0, with rediss:// for TLS, or unix:///path?db=0, with \
                    special characters in the password as %xx";

/// `[redis]`.
pub(super) fn redis(table: &Table<'_>) -> Read<Redis> {
    const WHEN_AWAY: &[(&str, WhenAway)] =
        &[("local", WhenAway::Local), ("refuse", WhenAway::Refuse), ("allow", WhenAway::Allow)];
    let tls = table.table("tls", tls::client_settings);
    let missing = format!("write url = {{ env = \"NAME\" }} or {{ file = \"PATH\" }}; {FORM}");
    let url = table.required("url", &missing, secret().then(|entry, text| nodes(entry, &text)));
    let service = table.optional("sentinel", service());
    let password = table.optional("sentinel_password", secret());
    let prefix = table.or_default("prefix", prefix().default("streamgauge"));
    let when_away = table.or_default("when_away", choice(WHEN_AWAY).default("local"));
    let (tls, url, service, password) = (tls?, url?, service?, password?);
    if tls.is_some() && !url.is_tls {
        table.warning("tls", "has no effect: the URL begins with redis:// or unix://, which is without TLS");
    }
    if service.is_none() && password.is_some() {
        table.warning("sentinel_password", "has no effect without redis.sentinel");
    }
    let sentinel = service.map(|service| Sentinel { service, password });
    if sentinel.is_some() && url.nodes.iter().any(|node| matches!(node, RedisAddress::Unix(_))) {
        return Err(table.mistake("sentinel", "needs the addresses of sentinels in url, which is a socket"));
    }
    if sentinel.is_none() && url.nodes.len() > 1 && url.login.db != 0 {
        return Err(table.mistake("url", "has several nodes of a cluster, which has only the database 0"));
    }
    Ok(Redis {
        nodes: url.nodes,
        user: url.login.username,
        password: url.login.password.map(Secret::new),
        database: url.login.db,
        tls: url.is_tls.then(|| tls.unwrap_or_default()),
        sentinel,
        prefix: prefix?,
        when_away: when_away?,
    })
}

/// Warns if there is nothing to share: no limit, and if not `has_ids` no id that only one upstream or
/// client may use.
pub(super) fn warn_of_unused(root: &Table<'_>, has_ids: bool) {
    let is_used = has_ids || root.at(&["limits"]).is_some();
    if !is_used && let Some(entry) = root.at(&["redis", "url"]) {
        entry.warning("has no effect: there are no clients, no limits, and no choice of upstreams");
    }
}

/// The nodes of a URL, or of several with commas between them.
struct Nodes {
    nodes: Vec<RedisAddress>,
    is_tls: bool,
    login: RedisConnectionInfo,
}

/// Reads the URLs. They contain a password, so no message repeats any of it.
fn nodes(entry: &Entry<'_>, text: &Secret) -> Read<Nodes> {
    let mut found: Option<Nodes> = None;
    for url in text.expose().split(',').map(str::trim) {
        let (node, is_tls, login) = node(entry, url)?;
        match &mut found {
            None => found = Some(Nodes { nodes: vec![node], is_tls, login }),
            Some(Nodes { nodes, .. }) if nodes.len() == MAX_NODES => {
                return Err(entry.mistake(format!("has more than {MAX_NODES} URLs")));
            }
            Some(first) if first.is_tls == is_tls && is_same(&first.login, &login) => first.nodes.push(node),
            Some(_) => {
                let reason = "has URLs with different schemes, users, passwords or databases: those of a cluster or of \
                              sentinels differ in nothing but host and port";
                return Err(entry.mistake(reason));
            }
        }
    }
    let nodes = found.ok_or_else(|| entry.mistake(format!("is empty: {FORM}")))?;
    let is_remote = |node: &RedisAddress| matches!(node, RedisAddress::Tcp(host, _) if !is_local(host));
    if !nodes.is_tls && nodes.nodes.iter().any(is_remote) {
        entry.warning("sends the password and the counts over the network in the clear: write rediss://");
    }
    Ok(nodes)
}

fn node(entry: &Entry<'_>, url: &str) -> Read<(RedisAddress, bool, RedisConnectionInfo)> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_tls = scheme == "rediss";
    if !matches!(scheme, "redis" | "rediss" | "unix") {
        return Err(entry.mistake(format!("is not a URL of Redis or Valkey: {FORM}")));
    }
    // The parser's TLS would not be that of [redis.tls].
    let scheme = if scheme == "unix" { "unix" } else { "redis" };
    let info = format!("{scheme}://{rest}").as_str().into_connection_info();
    let ConnectionInfo { addr, redis: login } = info.map_err(|error| {
        let reason = error.to_string().to_lowercase();
        entry.mistake(match () {
            () if reason.contains("database") => {
                "has a database that is not a number: write /0 at its end".to_owned()
            }
            () if reason.contains("protocol") => {
                "has a protocol that is none: write resp2 or resp3".to_owned()
            }
            () => format!("is not a URL of Redis or Valkey: {FORM}"),
        })
    })?;
    if login.db < 0 {
        return Err(entry.mistake("has a negative database: write /0 at its end"));
    }
    let node = match addr {
        ConnectionAddr::Unix(path) => RedisAddress::Unix(path),
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            RedisAddress::Tcp(host, port)
        }
    };
    Ok((node, is_tls, login))
}

fn is_same(one: &RedisConnectionInfo, other: &RedisConnectionInfo) -> bool {
    (&one.username, &one.password, one.db) == (&other.username, &other.password, other.db)
}

fn service() -> Kind<impl FnOnce(&Entry<'_>) -> Read<String>> {
    text().then(|entry, name| match name.chars().any(char::is_whitespace) || name.is_empty() {
        true => {
            Err(entry
                .mistake("must be the name under which the sentinels watch a primary, such as \"mymaster\""))
        }
        false => Ok(name),
    })
}

/// The beginning of all keys. What follows is in braces, so that a cluster keeps each limit at one
/// node; so it has none itself.
fn prefix() -> Kind<impl FnOnce(&Entry<'_>) -> Read<String>> {
    let what = "text in quotes, such as \"streamgauge\"";
    parsed("prefix", Some("^[^{}\\s]{1,64}$"), what, |text| {
        match text.contains(['{', '}']) || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            true => Err(format!("{text:?} has braces or spaces")),
            false if text.is_empty() => Err("is empty".to_owned()),
            false if text.len() > MAX_PREFIX => Err(format!("is longer than {MAX_PREFIX} bytes")),
            false => Ok(text.to_owned()),
        }
    })
}

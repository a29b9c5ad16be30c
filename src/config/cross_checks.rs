//! The rules between sections, whose keys are each valid.

use std::net::{IpAddr, SocketAddr};

use super::notes::Read;
use super::reader::{Entry, Table};
use super::settings::{AdminSettings, Client, Database, LedgerSettings, MemoryLimit, Server};
use crate::support::ListenAddress;
use crate::tls::ServerSettings;

/// Reports the contradictions between the valid sections.
pub(super) fn check(
    root: &Table<'_>,
    server: &Read<Server>,
    admin: &Read<AdminSettings>,
    ledger: &Read<LedgerSettings>,
    clients: &Read<Vec<Client>>,
) {
    if let Ok(server) = server {
        // Invalid clients count too, since the user wants clients.
        anonymous(root, server, clients.as_ref().map_or(true, |clients| !clients.is_empty()));
        if server.proxy_protocol && server.trusted_proxies.is_empty() {
            at(root, PROXY_PROTOCOL).mistake(
                "is true, and server.trusted_proxies names no proxy that sends it: list the networks of yours",
            );
        }
        if let MemoryLimit::Bytes(all) = server.max_memory
            && all / 4 * 3 < server.max_request_bytes
        {
            let reason = "is too small for server.max_request_bytes: bodies may have three quarters, and the largest never fit";
            at(root, MAX_MEMORY).warning(reason);
        }
        if server.max_buffered_bytes < server.max_request_bytes {
            let reason = "is less than server.max_request_bytes: the largest requests never fit";
            later(root, MAX_BUFFERED_BYTES, MAX_REQUEST_BYTES).warning(reason);
        }
    }
    if let (Ok(AdminSettings { ledger: Database::Postgres, .. }), Ok(LedgerSettings { postgres: None, .. })) =
        (admin, ledger)
    {
        at(root, ADMIN_LEDGER).mistake("is \"postgres\", and there is no [ledger.postgres]: add it");
    }
    let Ok(AdminSettings { listen: Some(listen), token, users, tls, .. }) = admin else { return };
    let admin = listen;
    if !admin.is_local() {
        let has_authorities = tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
        if token.is_none() && !has_authorities && users.is_none() {
            at(root, ADMIN_LISTEN).mistake(format!(
                "{admin} can be reached from other machines, which could read all usage records: set admin.token, or ask for \
                 certificates with client_ca in [admin.tls], or name users with admin.user_header, or listen on 127.0.0.1"
            ));
        } else if tls.is_none() && token.is_some() {
            let reason = "is sent over the network in the clear: add [admin.tls]";
            at(root, ADMIN_TOKEN).warning(reason);
        }
    }
    if let Ok(server) = server
        && is_same(&server.listen, admin)
    {
        let reason = "is the address of both server.listen and admin.listen: choose two";
        later(root, ADMIN_LISTEN, SERVER_LISTEN).mistake(reason);
    }
}

type Key = [&'static str; 2];

const SERVER_LISTEN: Key = ["server", "listen"];
const ADMIN_LISTEN: Key = ["admin", "listen"];
const ADMIN_LEDGER: Key = ["admin", "ledger"];
const ADMIN_TOKEN: Key = ["admin", "token"];
const ALLOW_ANONYMOUS: Key = ["server", "allow_anonymous"];
const PROXY_PROTOCOL: Key = ["server", "proxy_protocol"];
const MAX_REQUEST_BYTES: Key = ["server", "max_request_bytes"];
const MAX_MEMORY: Key = ["server", "max_memory"];
const MAX_BUFFERED_BYTES: Key = ["server", "max_buffered_bytes"];

/// Refuses a server that other machines can use without authentication.
fn anonymous(root: &Table<'_>, server: &Server, has_clients: bool) {
    let allowed = at(root, ALLOW_ANONYMOUS);
    let has_certificates = server.tls.as_ref().is_some_and(ServerSettings::requires_certificates);
    match (has_clients, allowed.boolean()) {
        (false, Ok(true)) if has_certificates => {
            allowed.warning("has no effect: server.tls requires a certificate of every client");
        }
        (false, Ok(false)) if has_certificates => {}
        (true, Ok(true)) => {
            allowed.warning("has no effect: there are clients, so every request needs the key of one");
        }
        (false, Ok(false)) if !server.listen.is_local() => {
            at(root, SERVER_LISTEN).mistake(format!(
                "{} can be reached from other machines, which could use your keys: add [clients.NAME], or \
                 require certificates of clients in [server.tls], or set server.allow_anonymous = true, or listen on 127.0.0.1",
                server.listen
            ));
        }
        _ => {}
    }
}

/// Returns true if the two addresses conflict.
fn is_same(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (Some(one), Some(other)) = (one.inet(), other.inet()) else { return one == other };
    let ip = |address: SocketAddr| address.ip().to_canonical();
    let (a, b) = (ip(one), ip(other));
    one.port() != 0 && one.port() == other.port() && (a == b || takes(a, b) || takes(b, a))
}

/// Returns true if `all` is an unspecified address that includes `one`. That of IPv6 includes IPv4.
fn takes(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

/// The key to report of two that contradict each other: the first, unless it is a default.
fn later<'a>(root: &Table<'a>, first: Key, second: Key) -> Entry<'a> {
    let entry = at(root, first);
    if entry.is_default() { at(root, second) } else { entry }
}

fn at<'a>(root: &Table<'a>, key: Key) -> Entry<'a> {
    root.at(&key).expect("its section was read, so the key is there, at least from the defaults")
}

//! The sections with fixed keys, and the clients.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::duration::{duration, past, timeout};
use super::headers::header_names;
use super::log_filter::check_log_filter;
use super::notes::Read;
use super::postgres::postgres;
use super::reader::{Entry, Table, all};
use super::secrets::secret;
use super::settings::{AccessLines, Admin, Client, Database, Jsonl, Ledger, Log, LogFormat, Server};
use super::size::size;
use super::tls;
use crate::browser::{Origin, Origins, OwnHosts};
use crate::egress::{Hosts, Pattern};
use crate::secret::Secret;

/// The most threads that serve. Beyond this somebody mistook them for connections.
const MAX_WORKERS: usize = 1024;

/// The longest name of a client or an upstream, in bytes: it is a label of every metric and a
/// column of every record.
const MAX_NAME: usize = 64;

/// The shortest token of the admin pages, and the shortest key of a client that is not warned of,
/// in bytes: whoever can connect can try.
const MIN_KEY: usize = 16;

/// Who sends requests without a key, in records; no client may have the same name.
pub const ANONYMOUS: &str = "anonymous";

/// `[server]`.
pub(super) fn server(table: &Table<'_>) -> Read<Server> {
    let listen = table.defaulted("listen", address);
    let hosts = table.defaulted("hosts", own_hosts);
    let origins = table.defaulted("origins", origins);
    let workers = table.defaulted("workers", workers);
    let max_request_bytes = table.defaulted("max_request_bytes", bytes);
    let max_passing_bytes = table.defaulted("max_passing_bytes", |entry| match entry.as_text() {
        Some("") => Ok(None),
        _ => bytes(entry).map(|bytes| Some(bytes as u64)),
    });
    let drop_headers = table.defaulted("drop_headers", header_names);
    let accel_buffering_header = table.defaulted("accel_buffering_header", Entry::boolean);
    let drain_timeout = table.defaulted("drain_timeout", |entry| entry.parse(DURATION, duration));
    // Means something beside the clients only; `cross_checks` looks at it.
    let allow_anonymous = table.defaulted("allow_anonymous", Entry::boolean);
    let max_connections = table.defaulted("max_connections", Entry::integer);
    let header_timeout = table.defaulted("header_timeout", time);
    let keep_alive_timeout = table.defaulted("keep_alive_timeout", time);
    let write_timeout = table.defaulted("write_timeout", time_or_none);
    let max_buffered_bytes = table.defaulted("max_buffered_bytes", bytes);
    let min_body_rate = table.defaulted("min_body_rate", rate);
    let tls = table.optional("tls", |entry| entry.table(tls::server));
    allow_anonymous?;
    Ok(Server {
        listen: listen?,
        hosts: hosts?,
        origins: origins?,
        workers: workers?,
        max_request_bytes: max_request_bytes?,
        max_passing_bytes: max_passing_bytes?,
        drop_headers: drop_headers?,
        accel_buffering_header: accel_buffering_header?,
        drain_timeout: drain_timeout?,
        max_connections: max_connections?,
        header_timeout: header_timeout?,
        keep_alive_timeout: keep_alive_timeout?,
        write_timeout: write_timeout?,
        max_buffered_bytes: max_buffered_bytes?,
        min_body_rate: min_body_rate?,
        tls: tls?,
    })
}

/// `[admin]`.
pub(super) fn admin(table: &Table<'_>) -> Read<Admin> {
    let listen = table.defaulted("listen", admin_listen);
    let hosts = table.defaulted("hosts", own_hosts);
    let token = table.optional("token", |entry| {
        let token = secret(entry)?;
        if token.expose().len() < MIN_KEY {
            return Err(entry.mistake(format!(
                "is short enough to be guessed: take {MIN_KEY} characters or more, such as `openssl rand -hex 16` makes"
            )));
        }
        Ok(token)
    });
    let ledger = table.defaulted("ledger", |entry| {
        entry.parse("\"sqlite\" or \"postgres\"", |text| match text {
            "sqlite" => Ok(Database::Sqlite),
            "postgres" => Ok(Database::Postgres),
            _ => Err(format!("{text:?} is no ledger: write \"sqlite\" or \"postgres\"")),
        })
    });
    let tls = table.optional("tls", |entry| entry.table(tls::server));
    Ok(Admin { listen: listen?, hosts: hosts?, token: token?, ledger: ledger?, tls: tls? })
}

/// `admin.listen`; `None`: no admin server.
pub(super) fn admin_listen(entry: &Entry<'_>) -> Read<Option<SocketAddr>> {
    match entry.as_text() {
        Some("") => Ok(None),
        _ => address(entry).map(Some),
    }
}

/// Names of this machine. An address needs no entry, since no web page elsewhere can have it for a
/// name.
fn own_hosts(entry: &Entry<'_>) -> Read<OwnHosts> {
    let patterns = entry.texts()?.into_iter().map(|text| {
        text.parse(|text| match Pattern::parse(text) {
            Ok(pattern @ (Pattern::All | Pattern::Name(_))) => Ok(pattern),
            Ok(pattern @ Pattern::Below(_)) if text.starts_with('*') => Ok(pattern),
            Ok(Pattern::Net(_)) => Err(format!("{text:?} is an address, and those are taken anyway: leave it out")),
            _ => Err(format!(
                "{text:?} is none of a name, \"*.suffix\" for the names below it, and \"*\" for all; without a scheme and a port"
            )),
        })
    });
    all(patterns).map(|patterns| OwnHosts::new(Hosts::new(patterns)))
}

/// Web pages, by their origins.
fn origins(entry: &Entry<'_>) -> Read<Origins> {
    let origins = entry.texts()?.into_iter().map(|text| text.parse(Origin::parse));
    all(origins).map(Origins::new)
}

/// `[ledger]`.
pub(super) fn ledger(table: &Table<'_>) -> Read<Ledger> {
    let postgres = table.optional("postgres", |entry| entry.table(postgres));
    let ledger = local_ledger(table)?;
    if ledger.path.is_none() && table.at(&["postgres"]).is_some() {
        let reason = "is \"\", and what [ledger.postgres] gets is shipped from there: name a file";
        return Err(table.mistake("path", reason));
    }
    Ok(Ledger { postgres: postgres?, ..ledger })
}

/// `[ledger]` without what is elsewhere.
pub(super) fn local_ledger(table: &Table<'_>) -> Read<Ledger> {
    // It is a key, whoever reads it.
    table.get("postgres");
    let path = table.defaulted("path", Entry::text_or_none);
    let jsonl = table.defaulted("jsonl", Entry::text_or_none);
    let retention = table.defaulted("retention", |entry| match entry.as_text() {
        Some("") => Ok(None),
        _ => entry.parse("a length of time in quotes, such as \"90d\"", past).map(Some),
    });
    let (path, retention, jsonl) = (path?, retention?, jsonl?);
    if jsonl.is_some() && jsonl == path {
        return Err(table.mistake("jsonl", "is the file of ledger.path too: give each its own"));
    }
    let jsonl = jsonl.map(|path| if path == "-" { Jsonl::Stdout } else { Jsonl::File(path.into()) });
    Ok(Ledger { path: path.map(PathBuf::from), retention, jsonl, postgres: None })
}

/// `[log]`.
pub(super) fn log(table: &Table<'_>) -> Read<Log> {
    let format = table.defaulted("format", |entry| {
        entry.parse("\"text\" or \"json\"", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is no format: write \"text\" or \"json\"")),
        })
    });
    let level = table.defaulted("level", |entry| {
        entry.parse("a level in quotes, such as \"info\"", |text| {
            check_log_filter(text).map(|()| text.to_owned())
        })
    });
    let access = table.defaulted("access", |entry| {
        entry.parse("\"all\", \"failures\" or \"off\"", |text| match text {
            "all" => Ok(AccessLines::All),
            "failures" => Ok(AccessLines::Failures),
            "off" => Ok(AccessLines::Off),
            _ => Err(format!("{text:?} is none of them: write \"all\", \"failures\" or \"off\"")),
        })
    });
    Ok(Log { format: format?, level: level?, access: access? })
}

/// `[clients.NAME]`, in the order of the file.
pub(super) fn clients(root: &Table<'_>) -> Read<Vec<Client>> {
    let mut known: Vec<(String, Secret)> = Vec::new();
    let clients = root.names("clients")?.into_iter().map(|(name, entry)| {
        let named = named(&name, &entry);
        if name == ANONYMOUS {
            entry.mistake("is what records call those without a key: choose another name");
        }
        let key = entry.table(|client| {
            client.required("key", "write key = { env = \"NAME\" } or { file = \"PATH\" }", |entry| {
                let key = secret(entry)?;
                if let Some((other, _)) = known.iter().find(|(_, known)| *known == key) {
                    let reason = format!("is the key of clients.{other} too: nobody could tell them apart");
                    return Err(entry.mistake(reason));
                }
                if key.expose().len() < MIN_KEY {
                    entry.warning(&format!(
                        "is short enough to be guessed: take {MIN_KEY} characters or more, such as `openssl rand -hex 16` makes"
                    ));
                }
                Ok(key)
            })
        })?;
        known.push((name.clone(), key.clone()));
        named?;
        Ok(Client { name, key })
    });
    all(clients)
}

/// A name that records, logs and metrics can carry.
pub(super) fn named(name: &str, entry: &Entry<'_>) -> Read<()> {
    if name.is_empty()
        || name.len() > MAX_NAME
        || name.chars().any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return Err(
            entry.mistake(format!("a name has 1 to {MAX_NAME} bytes, without spaces or control characters"))
        );
    }
    Ok(())
}

const DURATION: &str = "a length of time in quotes, such as \"30s\"";

/// A length of time longer than zero.
pub(super) fn time(entry: &Entry<'_>) -> Read<Duration> {
    entry.parse(DURATION, timeout)
}

/// A time, or "" for none.
pub(super) fn time_or_none(entry: &Entry<'_>) -> Read<Option<Duration>> {
    match entry.as_text() {
        Some("") => Ok(None),
        _ => time(entry).map(Some),
    }
}

/// A length of time, also none.
pub(super) fn any_time(entry: &Entry<'_>) -> Read<Duration> {
    entry.parse(DURATION, duration)
}

/// A number of bytes, at least 1.
pub(super) fn bytes(entry: &Entry<'_>) -> Read<usize> {
    let bytes = if entry.is_number() {
        entry.integer()?
    } else {
        entry.parse("a number of bytes, such as \"32MiB\" or 1000000", size)?
    };
    if bytes == 0 { Err(entry.mistake("must be at least 1 byte")) } else { Ok(bytes) }
}

/// A number of bytes per second; 0 or "" for none.
fn rate(entry: &Entry<'_>) -> Read<Option<NonZeroU32>> {
    const FORM: &str = "a number of bytes per second, such as \"500B/s\"";
    let rate = if entry.is_number() {
        entry.integer()?
    } else {
        entry.parse(FORM, |text| match text.strip_suffix("/s") {
            None if text.is_empty() => Ok(0),
            bytes => size(bytes.unwrap_or(text))
                .map_err(|_| format!("{text:?} is no rate: write {FORM}, or \"\" for none")),
        })?
    };
    u32::try_from(rate).map(NonZeroU32::new).map_err(|_| entry.mistake("must be less than 4GiB/s"))
}

/// As many as this process has CPUs where the user does not say.
fn workers(entry: &Entry<'_>) -> Read<usize> {
    match entry.integer()? {
        0 => Ok(thread::available_parallelism().map_or(1, usize::from)),
        workers if workers > MAX_WORKERS => Err(entry.mistake(format!(
            "{workers} are too many: a worker is a thread that serves thousands of requests; 0 is one per CPU"
        ))),
        workers => Ok(workers),
    }
}

fn address(entry: &Entry<'_>) -> Read<SocketAddr> {
    entry.parse("an address and a port in quotes, such as \"127.0.0.1:8080\"", |text| {
        text.parse().map_err(|_| match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
            Some(port) => {
                format!("{text:?} has no address: write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for all")
            }
            None => format!(
                "{text:?} is no address and port: write one such as \"127.0.0.1:8080\" or \"[::1]:8080\""
            ),
        })
    })
}

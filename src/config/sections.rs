//! `[server]`, `[admin]`, `[ledger]` and `[log]`.

use std::path::PathBuf;
use std::thread;

use http::{HeaderName, header};

use super::headers::header_names;
use super::kind::{
    Kind, Shape, any_time, boolean, bytes, choice, file_mode, host, hosts, integer, list, listen_address,
    memory_limit, networks, parsed, past_time, rate, requests, text, time,
};
use super::log_filter::check_log_filter;
use super::notes::Read;
use super::postgres::postgres;
use super::reader::{Entry, Table};
use super::secrets::secret;
use super::settings::{
    AccessLines, AdminSettings, AdminUsers, Database, JsonlTarget, LedgerSettings, Log, Server,
};
use super::time_zone::time_zone;
use super::tls;
use crate::gate::browser::{Origin, Origins, OwnHosts};
use crate::support::secret::Secret;
use crate::support::telemetry::LogFormat;
use crate::support::{Networks, Pattern};

/// The largest number of worker threads. A user who writes a larger number probably means
/// connections.
const MAX_WORKERS: usize = 1024;

/// The longest name of a client or an upstream, in bytes: it is a label of every metric and a
/// column of every record.
const MAX_NAME: usize = 64;

/// The pattern of names of clients and upstreams.
pub(super) const NAME_PATTERN: &str = "^\\S{1,64}$";

/// The shortest length of the admin token, and of a client's key without a warning, in bytes.
/// Shorter ones can be guessed.
const MIN_KEY: usize = 16;

/// `[server]`.
pub(super) fn server(table: &Table<'_>) -> Read<Server> {
    let origin = parsed("origin", Some("^[^/]+://[^/]+$"), "text in quotes", Origin::parse);
    // The key concerns the clients; `cross_checks` reads its value.
    let allow_anonymous = table.defaulted("allow_anonymous", boolean());
    let server = read_all!(Server {
        listen: table.defaulted("listen", listen_address()),
        socket_mode: table.defaulted("socket_mode", file_mode()),
        hosts: table.defaulted("hosts", own_hosts()),
        origins: table.defaulted("origins", list(origin).then(|_, origins| Ok(Origins::new(origins)))),
        trusted_proxies: table.defaulted("trusted_proxies", trusted_proxies()),
        proxy_protocol: table.defaulted("proxy_protocol", boolean()),
        workers: table.defaulted("workers", workers()),
        max_request_bytes: table.defaulted("max_request_bytes", bytes()),
        max_passing_bytes: table
            .defaulted("max_passing_bytes", bytes().then(|_, bytes| Ok(bytes as u64)).or_empty()),
        drop_headers: table.defaulted("drop_headers", header_names()),
        watch: table.defaulted("watch", boolean()),
        accel_buffering_header: table.defaulted("accel_buffering_header", boolean()),
        drain_timeout: table.defaulted("drain_timeout", any_time()),
        stop_delay: table.defaulted("stop_delay", any_time()),
        upgrade_drain: table.defaulted("upgrade_drain", any_time().or_empty()),
        max_connections: table.defaulted("max_connections", integer()),
        max_connections_per_address: table.defaulted("max_connections_per_address", requests()),
        max_new_connections_per_address: table.defaulted("max_new_connections_per_address", requests()),
        header_timeout: table.defaulted("header_timeout", time()),
        keep_alive_timeout: table.defaulted("keep_alive_timeout", time()),
        write_timeout: table.defaulted("write_timeout", time().or_empty()),
        max_memory: table.defaulted("max_memory", memory_limit()),
        max_buffered_bytes: table.defaulted("max_buffered_bytes", bytes()),
        min_body_rate: table.defaulted("min_body_rate", rate()),
        tls: table.table("tls", tls::server),
    });
    allow_anonymous.and(server)
}

/// `[admin]`.
pub(super) fn admin(table: &Table<'_>) -> Read<AdminSettings> {
    const LEDGERS: &[(&str, Database)] = &[("sqlite", Database::Sqlite), ("postgres", Database::Postgres)];
    let admin = read_all!(AdminSettings {
        listen: table.defaulted("listen", listen_address().or_empty()),
        socket_mode: table.defaulted("socket_mode", file_mode()),
        hosts: table.defaulted("hosts", own_hosts()),
        token: table.optional("token", admin_token()),
        read_token: table.optional("read_token", admin_token()),
        users: admin_users(table),
        ledger: table.defaulted("ledger", choice(LEDGERS)),
        tls: table.table("tls", tls::server),
    })?;
    match (&admin.token, &admin.read_token) {
        (None, Some(_)) => {
            let reason = "is there, and admin.token is not: set it too, since the read token only reads";
            Err(table.mistake("read_token", reason))
        }
        (Some(token), Some(read)) if token == read => {
            let reason = "is also admin.token, so that those who read could change everything: take another";
            Err(table.mistake("read_token", reason))
        }
        _ => Ok(admin),
    }
}

fn admin_token() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Secret>> {
    secret().then(|entry, token| match too_short(&token) {
        Some(reason) => Err(entry.mistake(reason)),
        None => Ok(token),
    })
}

/// `admin.user_header` with `admin.user_access` and `admin.trusted_proxies`.
fn admin_users(table: &Table<'_>) -> Read<Option<AdminUsers>> {
    const ACCESS: &[(&str, bool)] = &[("read", false), ("change", true)];
    // The client's own, on which a proxy has no say.
    const OTHERS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::HOST];
    let name = |text: &str| match text.parse::<HeaderName>() {
        Ok(name) if OTHERS.contains(&name) => {
            Err(format!("{text:?} has another meaning: write the header in which your proxy names the user"))
        }
        Ok(name) => Ok(name),
        Err(_) => Err(format!("{text:?} is not a header name: write for example \"x-forwarded-user\"")),
    };
    let header = parsed("header name", None, "a header name in quotes, such as \"x-forwarded-user\"", name);
    let header = table.defaulted("user_header", header.or_empty());
    let access = table.defaulted("user_access", choice(ACCESS));
    let proxies = table.defaulted(
        "trusted_proxies",
        networks().then(|entry, networks| match networks.is_everyone() {
            true => Err(entry.mistake(
                "trusts every machine, so that anyone could write the name of a user: list the addresses of your proxy",
            )),
            false => Ok(networks),
        }),
    );
    let (header, may_change, proxies) = (header?, access?, proxies?);
    match header {
        None => {
            if !proxies.is_empty() {
                table.warning("trusted_proxies", "has no effect without admin.user_header");
            }
            Ok(None)
        }
        Some(_) if proxies.is_empty() => {
            let reason = "is believed from no address: list those of your authenticating proxy in admin.trusted_proxies";
            Err(table.mistake("user_header", reason))
        }
        Some(header) => Ok(Some(AdminUsers { header, proxies, may_change })),
    }
}

/// Names of this machine. Addresses need no entry, since no foreign web page has one as its name.
fn own_hosts() -> Kind<impl FnOnce(&Entry<'_>) -> Read<OwnHosts>> {
    let own = |text: &str| match host(text)? {
        Pattern::Net(_) => Err(format!("{text:?} is an address, which is accepted anyway: leave it out")),
        pattern => Ok(pattern),
    };
    hosts(own).then(|_, hosts| Ok(OwnHosts::new(hosts)))
}

/// Networks of proxies in front of this server.
fn trusted_proxies() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Networks>> {
    networks().then(|entry, networks| {
        if networks.is_everyone() {
            let reason = "trusts every machine: any client can choose the address that is believed to be its own. Name \
                          the networks of your proxies";
            entry.warning(reason);
        }
        Ok(networks)
    })
}

/// `[ledger]`.
pub(super) fn ledger(table: &Table<'_>) -> Read<LedgerSettings> {
    let postgres = table.table("postgres", postgres);
    let ledger = local_ledger(table)?;
    if ledger.path.is_none() && table.at(&["postgres"]).is_some() {
        let reason = "is \"\", but [ledger.postgres] gets its records from the database there: name a file";
        return Err(table.mistake("path", reason));
    }
    Ok(LedgerSettings { postgres: postgres?, ..ledger })
}

/// `[ledger]` without `[ledger.postgres]`, which is neither read nor unknown.
pub(super) fn local_ledger(table: &Table<'_>) -> Read<LedgerSettings> {
    table.entry("postgres", Shape::Table);
    let path = table.defaulted("path", text().or_empty());
    let jsonl = table.defaulted("jsonl", text().or_empty());
    let retention = table.defaulted("retention", past_time().or_empty());
    let rollup_retention = table.defaulted("rollup_retention", past_time().or_empty());
    let zone = parsed("time zone", None, "a time zone in quotes, such as \"Europe/Berlin\"", time_zone);
    let time_zone = table.defaulted("time_zone", zone);
    let prices = text().then(|entry, path| Ok(entry.folder().join(path)));
    let prices_file = table.defaulted("prices_file", prices.or_empty());
    let (path, retention, jsonl, time_zone) = (path?, retention?, jsonl?, time_zone?);
    let rollup_retention = rollup_retention?;
    if let Some(hours) = rollup_retention
        && retention.is_none_or(|records| hours < records)
    {
        let reason = "is shorter than ledger.retention: hourly sums are kept at least as long as records";
        return Err(table.mistake("rollup_retention", reason));
    }
    if jsonl.is_some() && jsonl == path {
        return Err(table.mistake("jsonl", "is also the file of ledger.path: use two files"));
    }
    let jsonl =
        jsonl.map(|path| if path == "-" { JsonlTarget::Stdout } else { JsonlTarget::File(path.into()) });
    let (path, prices_file) = (path.map(PathBuf::from), prices_file?);
    Ok(LedgerSettings { path, retention, rollup_retention, jsonl, prices_file, time_zone, postgres: None })
}

/// `[log]`.
pub(super) fn log(table: &Table<'_>) -> Read<Log> {
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    const ACCESS: &[(&str, AccessLines)] =
        &[("all", AccessLines::All), ("failures", AccessLines::Failures), ("off", AccessLines::Off)];
    let filter = |text: &str| check_log_filter(text).map(|()| text.to_owned());
    let level = parsed("log filter", None, "a level in quotes, such as \"info\"", filter);
    read_all!(Log {
        format: table.defaulted("format", choice(FORMATS)),
        level: table.defaulted("level", level),
        access: table.defaulted("access", choice(ACCESS)),
    })
}

/// The reason for a warning about a key that can be guessed.
pub(super) fn too_short(key: &Secret) -> Option<String> {
    (key.expose().len() < MIN_KEY).then(|| {
        format!(
            "is short enough to be guessed: take {MIN_KEY} characters or more, for example from `openssl rand -hex 16`"
        )
    })
}

/// Reports a name that records, logs and metrics cannot carry.
pub(super) fn check_name(name: &str, entry: &Entry<'_>) -> Read<()> {
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

/// A number of threads; 0 means one per CPU of this process.
fn workers() -> Kind<impl FnOnce(&Entry<'_>) -> Read<usize>> {
    Kind::new(Shape::Integer(0, MAX_WORKERS), |entry: &Entry<'_>| match entry.integer()? {
        0 => Ok(thread::available_parallelism().map_or(1, usize::from)),
        workers if workers > MAX_WORKERS => Err(entry.mistake(format!(
            "{workers} are too many: a worker is a thread that serves thousands of requests; 0 is one per CPU"
        ))),
        workers => Ok(workers),
    })
}

//! Divides the open files that the system allows.
//!
//! A client's connection may need a second file, for the upstream. The process's own files come
//! first, then a part for the admin pages, so that they respond when clients have taken all others,
//! and a part for clients that are watched for a disconnect.

use std::fs;

use crate::admin::RESERVED_FILES;
use crate::config::Settings;
use crate::server::MOST_WATCHED;

/// The admin server has one thread and few clients, and must not take files from requests.
const ADMIN_CONNECTIONS: u64 = 256;

/// The files of a runtime: two for the poll, its wake-up, its end of the signals.
const RUNTIME: u64 = 4;

/// Files of SQLite for one connection: the database, its log, and the log's index.
const SQLITE: u64 = 3;

/// Connections to the ledger: the writer's, the checkpoint's, and those of two pages that read it.
const LEDGER_CONNECTIONS: u64 = 4;

/// Certificates that are read again, and files that libraries open.
const SPARE: u64 = 8;

/// The largest number of files for concurrent name lookups.
const LOOKUPS: u64 = 128;

/// A start with room for fewer clients fails.
const FEWEST_CLIENTS: u64 = 4;

/// A start with room for fewer clients warns.
const FEW_CLIENTS: usize = 512;

/// The files of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Client connections at once, each with one to an upstream.
    pub(super) clients: usize,
    /// Connections to the admin pages.
    pub(super) admin: usize,
    /// Clients that are watched for a disconnect, each with a file.
    pub(super) watched: usize,
    /// Files of the process itself, including those that are open now.
    own: u64,
    /// The files that are divided.
    limit: u64,
    /// `server.max_connections`; 0: as many as fit.
    wanted: usize,
}

impl Shares {
    /// Divides `limit` open files, of which `open` are open now.
    pub(super) fn new(settings: &Settings, limit: u64, open: u64) -> Self {
        let own = open + to_come(settings);
        let rest = limit.saturating_sub(own);
        let admin = if settings.admin.listen.is_some() { (rest / 8).clamp(2, ADMIN_CONNECTIONS) } else { 0 };
        let watched = (rest / 16).min(MOST_WATCHED as u64);
        let lookups = (rest / 32).min(LOOKUPS);
        let fits = rest.saturating_sub(admin + watched + lookups) / 2;
        let fits = usize::try_from(fits).unwrap_or(usize::MAX).max(1);
        let wanted = settings.server.max_connections;
        let clients = if wanted == 0 { fits } else { wanted.min(fits) };
        let size = |files| usize::try_from(files).unwrap_or(usize::MAX);
        Self { clients, admin: size(admin), watched: size(watched), own, limit, wanted }
    }

    /// The largest number of files that can be open at the same time.
    pub(super) fn files(&self) -> u64 {
        let rest = (self.clients as u64).saturating_mul(2).saturating_add((self.admin + self.watched) as u64);
        self.own.saturating_add(rest).min(self.limit)
    }

    /// The smallest number of further files for a start; `open` are open now.
    pub(super) fn least(&self, open: u64) -> u64 {
        let admin = if self.admin > 0 { 2 } else { 0 };
        self.own.saturating_sub(open) + admin + 2 * FEWEST_CLIENTS
    }

    /// Warns of few clients, unless the operator configured so few.
    pub(super) fn warning(&self) -> Option<String> {
        const RAISE: &str = "raise the limit with `ulimit -n`, LimitNOFILE= of a systemd unit, or --ulimit nofile= of a container";
        let Self { clients, limit, wanted, .. } = *self;
        if wanted > clients {
            let needed = limit.saturating_add((wanted - clients) as u64 * 2);
            return Some(format!(
                "server.max_connections = {wanted} needs {needed} open files, and {limit} are allowed: at most {clients} clients \
                 are served at once, the others wait; {RAISE}"
            ));
        }
        (wanted == 0 && clients < FEW_CLIENTS).then(|| {
            format!(
                "{limit} open files are allowed: at most {clients} clients or streams are served at once, the others wait; {RAISE}"
            )
        })
    }
}

/// The number of open files. If it is unknown, more than a start has.
pub(super) fn open_now() -> u64 {
    const USUAL: u64 = 32;
    // The directory itself is one of them.
    fs::read_dir("/proc/self/fd").map_or(USUAL, |files| (files.count() as u64).saturating_sub(1))
}

/// The process's own files that are opened later.
fn to_come(settings: &Settings) -> u64 {
    // The listening socket, its copy for an upgrade, and a connection that waits for a place.
    let server = RUNTIME + 3;
    let servers = settings.server.workers as u64 + u64::from(settings.admin.listen.is_some());
    let reserve = if settings.admin.listen.is_some() { RESERVED_FILES as u64 } else { 0 };
    let ledger = if settings.ledger.path.is_some() { SQLITE * LEDGER_CONNECTIONS } else { 0 };
    let jsonl = if settings.ledger.jsonl.is_some() { 2 } else { 0 };
    let fleet = if settings.ledger.postgres.is_some() { 2 * (RUNTIME + 1) + SQLITE } else { 0 };
    let collector = if settings.otlp.is_some() { RUNTIME + 1 } else { 0 };
    let webhooks = settings.alerts.len() as u64;
    let alerts = if webhooks > 0 { RUNTIME + webhooks } else { 0 };
    servers * server + reserve + ledger + jsonl + fleet + collector + alerts + SPARE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(server: &str) -> Settings {
        let text =
            format!("[server]\nworkers = 2\n{server}\n[upstreams.openai]\napi_key = {{ value = \"sk\" }}\n");
        config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
    }

    #[test]
    fn parts_are_never_more_than_the_limit() {
        for limit in [80, 100, 300, 1024, 4096, 1 << 20] {
            let shares = Shares::new(&settings(""), limit, 10);
            let all = shares.own + (2 * shares.clients + shares.admin + shares.watched) as u64;
            assert!(all <= limit && all + 1 >= shares.files(), "{limit}: {shares:?}");
            assert!(shares.clients as u64 >= limit.saturating_sub(shares.own) / 3, "{limit}: {shares:?}");
        }
        assert!(Shares::new(&settings(""), 300, 10).clients > 80);
        assert_eq!(Shares::new(&settings(""), 0, 10).clients, 1, "it can still be reached");
    }

    #[test]
    fn few_clients_are_warned_of_unless_they_were_chosen() {
        let warning = |server, limit| Shares::new(&settings(server), limit, 10).warning();
        assert!(warning("", 300).unwrap().starts_with("300 open files are allowed: at most "));
        assert_eq!(warning("", 1 << 20), None);
        assert_eq!(warning("max_connections = 20", 300), None);
        let text = warning("max_connections = 5000", 1024).unwrap();
        assert!(text.starts_with("server.max_connections = 5000 needs 1"), "{text}");
    }
}

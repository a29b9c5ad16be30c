//! The settings that a reload cannot change.

use serde_json::Value;

use crate::config::{AccessLines, AdminSettings, KeyStorage, Settings};
use crate::support::ListenAddress;

/// Replaces values that a reload cannot change by those in use. Returns the keys that differ.
pub(super) fn pin(new: &mut Settings, in_use: &Settings) -> Vec<&'static str> {
    // 0 is the number of CPUs at the start, which may have changed since.
    let configured = |settings: &Settings| settings.effective.pointer("/server/workers").cloned();
    if configured(new) == configured(in_use) {
        new.server.workers = in_use.server.workers;
    }
    let mut differing = Differing::default();
    differing.pin("server.listen", &mut new.server.listen, &in_use.server.listen);
    differing.pin("server.socket_mode", &mut new.server.socket_mode, &in_use.server.socket_mode);
    differing.pin("server.workers", &mut new.server.workers, &in_use.server.workers);
    differing.pin("server.max_connections", &mut new.server.max_connections, &in_use.server.max_connections);
    differing.pin("server.max_memory", &mut new.server.max_memory, &in_use.server.max_memory);
    differing.pin_presence("server.tls", &mut new.server.tls, &in_use.server.tls);
    differing.pin("admin.listen", &mut new.admin.listen, &in_use.admin.listen);
    differing.pin("admin.socket_mode", &mut new.admin.socket_mode, &in_use.admin.socket_mode);
    differing.pin("admin.ledger", &mut new.admin.ledger, &in_use.admin.ledger);
    differing.pin_presence("admin.tls", &mut new.admin.tls, &in_use.admin.tls);
    differing.pin("ledger.path", &mut new.ledger.path, &in_use.ledger.path);
    differing.pin("ledger.postgres", &mut new.ledger.postgres, &in_use.ledger.postgres);
    // The thread of stored keys has one source for as long as the process runs.
    let is_table = |settings: &Settings| settings.keys.storage == KeyStorage::Table;
    if is_table(new) != is_table(in_use) {
        differing.pin("keys.store", &mut new.keys, &in_use.keys);
    }
    differing.pin("redis", &mut new.redis, &in_use.redis);
    differing.pin("otlp", &mut new.otlp, &in_use.otlp);
    differing.pin("log.format", &mut new.log.format, &in_use.log.format);
    // The sink exists, or does not, for as long as the process runs.
    if new.log.access == AccessLines::Off || in_use.log.access == AccessLines::Off {
        differing.pin("log.access", &mut new.log.access, &in_use.log.access);
    }
    differing.0
}

/// Shows the values in use for the keys that [`pin`] has returned.
pub(super) fn pin_shown(new: &mut Value, in_use: &Value, keys: &[&str]) {
    for key in keys {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let value = in_use.pointer(&format!("/{}", key.replace('.', "/"))).cloned();
        let table = if table.is_empty() { Some(&mut *new) } else { new.get_mut(table) };
        match (table.and_then(Value::as_object_mut), value) {
            (Some(table), Some(value)) => drop(table.insert(name.to_owned(), value)),
            (Some(table), None) => drop(table.remove(name)),
            // A key in use belongs to a section of the defaults, which every configuration has.
            (None, _) => {}
        }
    }
}

#[derive(Default)]
struct Differing(Vec<&'static str>);

impl Differing {
    fn pin<T: Clone + PartialEq>(&mut self, key: &'static str, new: &mut T, in_use: &T) {
        if new != in_use {
            new.clone_from(in_use);
            self.0.push(key);
        }
    }

    /// Keeps the presence of a table for as long as the process runs; its contents may change.
    fn pin_presence<T: Clone>(&mut self, key: &'static str, new: &mut Option<T>, in_use: &Option<T>) {
        if new.is_some() != in_use.is_some() {
            new.clone_from(in_use);
            self.0.push(key);
        }
    }
}

/// The reason for which `pinned` must not be used although `new` is valid by itself: an address
/// that stays in use would be open to other machines, which neither `new` nor `in_use` allows.
pub(super) fn exposes(new: &Settings, pinned: &Settings, in_use: &Settings) -> Option<String> {
    let is_new = |is_open: fn(&Settings) -> bool| is_open(pinned) && !is_open(new) && !is_open(in_use);
    let reason = |key: &str, address: Option<&ListenAddress>| {
        let address = address.map(ToString::to_string).unwrap_or_default();
        Some(format!(
            "{key}: {address} stays in use until a restart, and with these settings any client that reaches it could use it: restart to apply them"
        ))
    };
    if is_new(is_open_to_clients) {
        return reason("server.listen", Some(&pinned.server.listen));
    }
    if is_new(|settings| is_open_to_operators(&settings.admin)) {
        return reason("admin.listen", pinned.admin.listen.as_ref());
    }
    None
}

/// The first address that other machines could use without authentication, and its key. `None` if
/// there is none, or if the settings allow it.
pub(super) fn open_address(settings: &Settings) -> Option<(&'static str, ListenAddress)> {
    if is_open_to_clients(settings) {
        return Some(("server.listen", settings.server.listen.clone()));
    }
    let admin = settings.admin.listen.as_ref().filter(|_| is_open_to_operators(&settings.admin));
    admin.map(|at| ("admin.listen", at.clone()))
}

fn is_open_to_clients(settings: &Settings) -> bool {
    let server = &settings.server;
    let requires_certificates = server.tls.as_ref().is_some_and(|tls| tls.requires_certificates());
    let allowed = settings.effective.pointer("/server/allow_anonymous") == Some(&Value::Bool(true));
    let is_closed = requires_certificates || allowed || !settings.clients.is_empty();
    !is_closed && !server.listen.is_local()
}

fn is_open_to_operators(admin: &AdminSettings) -> bool {
    let has_authorities = admin.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty());
    let is_open = admin.token.is_none() && !has_authorities && admin.users.is_none();
    is_open && admin.listen.as_ref().is_some_and(|listen| !listen.is_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(text: &str) -> Settings {
        let text = format!(
            "{text}\n[upstreams.up]\nprovider = \"other\"\nurl = \"http://h/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n"
        );
        config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
    }

    #[test]
    fn pin_names_each_key_and_keeps_the_value_in_use() {
        let in_use = settings("[server]\nworkers = 2\n[ledger]\npath = \"\"");
        let mut new = settings(
            "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 3\nmax_memory = \"64MiB\"\nmax_request_bytes = \"2MiB\"\n[ledger]\npath = \"l\"\n\
             [log]\nlevel = \"debug\"\nformat = \"json\"",
        );
        let changed = new.server.max_request_bytes;
        let keys = ["server.listen", "server.workers", "server.max_memory", "ledger.path", "log.format"];
        assert_eq!(pin(&mut new, &in_use), keys);
        assert_eq!((&new.server.listen, new.server.workers), (&in_use.server.listen, 2));
        assert_eq!(new.server.max_request_bytes, changed, "what can change does");
        assert!(pin(&mut new, &in_use).is_empty());
    }

    #[test]
    fn access_lines_change_but_do_not_begin_or_end() {
        let settings = |lines: &str| settings(&format!("[log]\naccess = \"{lines}\""));
        for (in_use, new, is_pinned) in [
            ("all", "failures", false),
            ("failures", "all", false),
            ("all", "off", true),
            ("off", "all", true),
        ] {
            assert_eq!(pin(&mut settings(new), &settings(in_use)).is_empty(), !is_pinned, "{in_use} {new}");
        }
    }

    #[test]
    fn number_of_cpus_that_changes_needs_no_restart() {
        let mut in_use = settings("[server]\nworkers = 0");
        in_use.server.workers += 1;
        let mut new = settings("[server]\nworkers = 0");
        assert!(pin(&mut new, &in_use).is_empty());
        assert_eq!(new.server.workers, in_use.server.workers);
        let mut new = settings(&format!("[server]\nworkers = {}", in_use.server.workers + 1));
        assert_eq!(pin(&mut new, &in_use), ["server.workers"]);
    }

    #[test]
    fn shown_configuration_has_the_values_in_use() {
        let in_use = settings("[server]\nlisten = \"127.0.0.1:1\"\nworkers = 2\n[ledger]\npath = \"\"");
        let mut new = settings(
            "[server]\nlisten = \"127.0.0.1:2\"\nworkers = 3\nmax_request_bytes = \"2MiB\"\n[ledger]\npath = \"\"\n\
             [otlp]\nendpoint = \"http://127.0.0.1:4318\"",
        );
        let keys = pin(&mut new, &in_use);
        assert_eq!(keys, ["server.listen", "server.workers", "otlp"]);
        pin_shown(&mut new.effective, &in_use.effective, &keys);
        let mut expected = in_use.effective.clone();
        expected["server"]["max_request_bytes"] = "2MiB".into();
        assert_eq!(new.effective, expected);
    }

    #[test]
    fn an_address_that_stays_is_not_opened_to_other_machines() {
        let key = "[clients.a]\nkey = { value = \"sg-a\" }";
        let in_use = settings(&format!("[server]\nlisten = \"0.0.0.0:1\"\n{key}"));
        let new = settings("[server]\nlisten = \"127.0.0.1:1\"");
        let mut pinned = new.clone();
        pin(&mut pinned, &in_use);
        let reason = exposes(&new, &pinned, &in_use).expect("it would be open");
        assert!(reason.starts_with("server.listen: 0.0.0.0:1 stays in use"), "{reason}");

        // The user allows it.
        let open = settings("[server]\nlisten = \"0.0.0.0:1\"\nallow_anonymous = true");
        assert_eq!(exposes(&open, &open, &in_use), None);
        // Nothing new.
        assert_eq!(exposes(&new, &open, &open), None);

        let in_use = settings("[admin]\nlisten = \"0.0.0.0:2\"\ntoken = { value = \"0123456789abcdef\" }");
        let new = settings("[admin]\nlisten = \"127.0.0.1:2\"");
        let mut pinned = new.clone();
        pin(&mut pinned, &in_use);
        assert!(exposes(&new, &pinned, &in_use).is_some_and(|reason| reason.starts_with("admin.listen: ")));
    }
}

//! `[ledger.postgres]`: the database of a fleet.

use std::time::Duration;

use tokio_postgres::config::SslMode;

use super::*;
use crate::tls::Verification;

fn text(keys: &str) -> String {
    format!("{OPENAI}[ledger.postgres]\n{keys}\n")
}

fn url(url: &str) -> String {
    text(&format!("url = {{ value = \"{url}\" }}"))
}

fn postgres(text: &str) -> Postgres {
    settings(text).ledger.postgres.unwrap()
}

#[test]
fn postgres_is_off_by_default() {
    assert!(settings(OPENAI).ledger.postgres.is_none());
}

#[test]
fn postgres_url_alone_has_all_defaults() {
    let postgres = postgres(&url("postgres://u:p@db.internal/usage"));
    assert_eq!(postgres.server.get_dbname(), Some("usage"));
    assert_eq!(postgres.server.get_application_name(), Some("streamgauge"));
    assert_eq!((postgres.batch, postgres.max_waiting), (1000, 10_000_000));
    assert_eq!((postgres.retention, postgres.read), (None, false));
    assert!(!postgres.instance.is_empty());
    assert_eq!(postgres.tls.verification, Verification::Full);
}

#[test]
fn postgres_keys_are_all_read() {
    let postgres = postgres(&text(
        "url = { value = \"host=/run/postgresql user=u application_name=mine\" }\ninstance = \"eu-1\"\nbatch = 7\n\
         max_waiting = 9\nretention = \"730d\"\nread = true\ntls.verification_mode = \"certificate\"",
    ));
    assert_eq!(postgres.instance, "eu-1");
    assert_eq!((postgres.batch, postgres.max_waiting, postgres.read), (7, 9, true));
    assert_eq!(postgres.retention, Some(Duration::from_secs(730 * 86_400)));
    assert_eq!(postgres.tls.verification, Verification::Certificate);
    assert_eq!(postgres.server.get_application_name(), Some("mine"));
}

#[test]
fn postgres_beyond_this_machine_requires_tls() {
    for (host, mode) in [
        ("postgres://u@db/d", SslMode::Require),
        ("postgres://u@127.0.0.1/d", SslMode::Disable),
        ("postgres://u@%3A%3Affff%3A127.0.0.1/d", SslMode::Disable),
        ("host=::1 hostaddr=::ffff:127.0.0.2 user=u", SslMode::Disable),
        ("host=::1 hostaddr=::ffff:10.0.0.1 user=u", SslMode::Require),
        ("postgres://u@[::1]/d", SslMode::Disable),
        ("postgres://u@localhost/d", SslMode::Disable),
        ("host=/run/postgresql user=u", SslMode::Disable),
        ("postgres://u@localhost,db/d", SslMode::Require),
        ("host=db hostaddr=127.0.0.1 user=u", SslMode::Require),
        ("postgres://u@localhost/d?sslmode=require", SslMode::Require),
        ("postgres://u@db/d?sslmode=verify-ca", SslMode::Require),
    ] {
        assert_eq!(postgres(&url(host)).server.get_ssl_mode(), mode, "{host}");
    }
    let loaded = from_text(&url("postgres://u@db/d?sslmode=disable")).unwrap();
    assert_eq!(loaded.settings.ledger.postgres.unwrap().server.get_ssl_mode(), SslMode::Disable);
    assert!(loaded.warnings[0].contains("in the clear"), "{:?}", loaded.warnings);
    let verify = postgres(&url("postgres://u@db/d?sslmode=verify-ca"));
    assert_eq!(verify.tls.verification, Verification::Certificate);
}

#[test]
fn postgres_mistakes_do_not_show_the_password() {
    for (keys, key, reason) in [
        ("batch = 5", ".url", "is missing: write url = { env = \"NAME\" }"),
        ("url = \"postgres://u:marker@db/d\"", ".url", "is a secret"),
        ("url = { value = \"marker\" }", ".url", "is not a connection string"),
        ("url = { value = \"postgres://u:marker@/d\" }", ".url", "names no host"),
        ("url = { value = \"postgres://db/d\" }", ".url", "names no user"),
        (
            "url = { value = \"postgres://u:marker@db:port/d\" }",
            ".url",
            "is wrong: invalid value for option `port`",
        ),
        ("url = { value = \"host=db user=u password=a marker=b\" }", ".url", "has an unknown parameter"),
        ("url = { value = \"postgres://u@db\" }\nbatch = 0", ".batch", "from 1 to 10000"),
        ("url = { value = \"postgres://u@db\" }\nbatch = 10001", ".batch", "from 1 to 10000"),
        ("url = { value = \"postgres://u@db\" }\ninstance = \"\"", ".instance", "a name has 1 to 64 bytes"),
        ("url = { value = \"postgres://u@db\" }\nretention = \"0d\"", ".retention", "longer than zero"),
        ("url = { value = \"postgres://u@db\" }\nmax_waiting = \"9\"", ".max_waiting", "a whole number"),
        ("url = { value = \"postgres://u@db\" }\nread = 1", ".read", "must be true or false"),
        ("url = { value = \"postgres://u@db\" }\nsslmode = \"x\"", ".sslmode", "unknown key"),
        (
            "url = { value = \"postgres://u@db\" }\ntls.verification_mode = \"x\"",
            ".tls.verification_mode",
            "\"x\"",
        ),
    ] {
        let found = mistakes(&text(keys));
        assert_eq!(found.len(), 1, "{keys}: {found:#?}");
        assert!(found[0].starts_with(&format!("configuration: ledger.postgres{key}: ")), "{found:#?}");
        assert!(found[0].contains(reason) && !found[0].contains("marker"), "{reason:?} in {found:#?}");
    }
    let found = mistakes(&format!("{}[ledger]\npath = \"\"", url("postgres://u@db/d")));
    assert!(found.len() == 1 && found[0].contains("ledger.path: is \"\", but"), "{found:#?}");
}

#[test]
fn admin_ledger_postgres_needs_a_fleet() {
    let fleet = "[admin]\nledger = \"postgres\"\n";
    assert_eq!(settings(OPENAI).admin.ledger, Database::Sqlite);
    let both = format!("{}\n{fleet}", url("postgres://u:p@db.internal/usage"));
    assert_eq!(settings(&both).admin.ledger, Database::Postgres);
    let found = mistakes(&format!("{OPENAI}{fleet}"));
    assert!(
        found.len() == 1 && found[0].contains("admin.ledger: is \"postgres\", and there is no"),
        "{found:#?}"
    );
    let found = mistakes(&format!("{OPENAI}[admin]\nledger = \"mysql\""));
    assert!(
        found.len() == 1 && found[0].contains("\"mysql\" is unknown: write \"sqlite\" or \"postgres\""),
        "{found:#?}"
    );
}

#[test]
fn debug_shows_no_postgres_password() {
    let shown = format!("{:?}", settings(&url("postgres://u:marker@db/d")));
    assert!(shown.contains("postgres") && !shown.contains("marker"), "{shown}");
}

#[test]
fn local_ledger_reader_needs_no_secret_of_the_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let load = |read: &str, which| {
        std::fs::write(&path, text(&format!("url = {{ env = \"GONE\" }}\n{read}"))).unwrap();
        load_ledger(&Sources { file: Some(path.clone()), ..Sources::default() }, which)
    };
    for (read, which) in [("", Which::Local), ("read = true", Which::Local), ("", Which::Configured)] {
        let ReadLedger { ledger, .. } =
            load(read, which).unwrap_or_else(|mistakes| panic!("{which:?}: {mistakes}"));
        assert!(ledger.path.is_some() && ledger.postgres.is_none(), "{which:?}");
    }
    for (read, which) in [("", Which::Fleet), ("read = true", Which::Configured)] {
        let found = lines(load(read, which).unwrap_err());
        assert!(found[0].contains("ledger.postgres.url.env"), "{found:?}");
    }
}

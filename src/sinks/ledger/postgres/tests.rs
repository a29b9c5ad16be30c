//! Tests against a real server.

#[path = "../../../../tests/harness/postgres.rs"]
mod postgres;
mod reading;
mod tables;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio_postgres::Client;

use super::super::by::By;
use super::super::query::{self, Bounds, Selection};
use super::super::report::Report;
use super::super::sink::Batch;
use super::super::support::{batch, records, rows};
use super::super::{Ledger, LedgerError};
use super::connect::{Connection, runtime};
use super::partitions::{self, Month, Strays};
use super::schema::{MIGRATIONS, bring_up_to_date};
use super::*;
use crate::config::{self, Postgres};
use crate::llm::price::Prices;
use crate::record::{Journal, Lane, Shipping, UsageRecord};
use crate::tls::tests::certificates::Authority;
use postgres::{PASSWORD, Server};

/// Long enough for any machine; no test should take it.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(url: &str, keys: &str) -> Postgres {
    let text = format!(
        "[upstreams.openai]\napi_key = {{ value = \"k\" }}\n[ledger.postgres]\nurl = {{ value = \"{url}\" }}\n\
         instance = \"gateway-1\"\n{keys}"
    );
    config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings.ledger.postgres.unwrap()
}

/// A server with a ledger.
fn migrated() -> (Server, Postgres) {
    let server = Server::start();
    let settings = settings(&server.url(), "");
    migrate(&settings).unwrap();
    (server, settings)
}

/// Runs `work` with a connection.
fn with<T>(settings: &Postgres, work: impl AsyncFnOnce(&mut Client) -> T) -> T {
    runtime().unwrap().block_on(async {
        let mut connection = Connection::open(settings).await.unwrap();
        work(&mut connection.client).await
    })
}

/// A local ledger that ships.
struct Ships {
    folder: tempfile::TempDir,
    journal: Journal,
    ledger: Option<Lane>,
}

impl Ships {
    fn begin(settings: &Postgres) -> Self {
        let mut shipping =
            Self { folder: tempfile::tempdir().unwrap(), journal: Journal::new(1), ledger: None };
        shipping.open(settings);
        shipping
    }

    fn open(&mut self, settings: &Postgres) {
        let ledger = Ledger::open_for_fleet(&self.path(), None, settings.clone(), &self.journal);
        let lane = Lane::spawn(Box::new(ledger.unwrap()), &self.journal);
        self.ledger = Some(lane.unwrap());
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    fn write(&mut self, batch: &Batch) {
        self.ledger.as_mut().unwrap().push(batch);
    }

    fn close(&mut self) {
        self.ledger = None;
    }

    fn counts(&self) -> &Shipping {
        self.journal.health().shipping.get().unwrap()
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come about");
        thread::sleep(Duration::from_millis(20));
    }
}

fn count(server: &Server) -> u64 {
    server.number("SELECT count(*) FROM usage_records")
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn shipped_row_equals_local_row_field_by_field() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(300));
    shipping.close();
    let local = rows(&rusqlite::Connection::open(shipping.path()).unwrap());
    let lines = server.sql(
        "SELECT row_to_json(r) FROM (SELECT *, (extract(epoch FROM started_at) * 1000000)::bigint AS micros
         FROM usage_records) r ORDER BY started_at",
    );
    let mut seen = 0;
    for (line, local) in lines.lines().zip(&local) {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let row = row.as_object_mut().unwrap();
        assert_eq!(row.remove("instance").unwrap(), "gateway-1");
        let started: Timestamp = local["started_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(row.remove("micros").unwrap(), started.as_microsecond());
        row.remove("started_at");
        for (name, value) in row {
            let local = &local[name.as_str()];
            match local.as_str() {
                Some(text) if text.contains('\0') => {
                    assert_eq!(*value, text.replace('\0', "\u{FFFD}"), "PostgreSQL has no NUL");
                }
                _ if local.is_object() || local.is_array() => {
                    assert_eq!(
                        serde_json::from_str::<Value>(value.as_str().unwrap()).unwrap(),
                        *local,
                        "{name}"
                    );
                }
                _ => assert_eq!(
                    value.as_f64().map_or(value.clone(), Value::from),
                    local.as_f64().map_or(local.clone(), Value::from),
                    "{name}"
                ),
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 300);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn rows_shipped_again_after_crash_are_there_once() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(2500));
    shipping.close();
    assert_eq!(count(&server), 2500);
    // A crash between the server's commit and the stored progress leaves this state.
    let connection = rusqlite::Connection::open(shipping.path()).unwrap();
    connection.execute("UPDATE shipped SET seq = 700", []).unwrap();
    drop(connection);
    shipping.open(&settings);
    shipping.write(&batch(1));
    shipping.close();
    assert_eq!(count(&server), 2501);
    assert_eq!(shipping.counts().waiting.load(Ordering::Relaxed), 0);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn absent_server_is_awaited_and_reported_once() {
    let (mut server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(10));
    wait_for("the first rows", || count(&server) == 10);
    assert!(shipping.counts().up.load(Ordering::Relaxed));
    for kill in [false, true] {
        if kill {
            server.kill()
        } else {
            server.stop()
        }
        wait_for("the loss of the connection", || !shipping.counts().up.load(Ordering::Relaxed));
        shipping.write(&batch(100));
        wait_for("the count", || shipping.counts().waiting.load(Ordering::Relaxed) == 100);
        server.resume();
        wait_for("the rest", || shipping.counts().waiting.load(Ordering::Relaxed) == 0);
        assert!(shipping.counts().up.load(Ordering::Relaxed));
    }
    shipping.close();
    assert_eq!(count(&server), 210);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn shutdown_does_not_wait_for_absent_server() {
    let (mut server, settings) = migrated();
    server.stop();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(10));
    let start = Instant::now();
    shipping.close();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.resume();
    shipping.open(&settings);
    wait_for("the rows of before", || count(&server) == 10);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn silent_server_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:p@{}/d", listener.local_addr().unwrap());
    let start = Instant::now();
    let error = migrate(&settings(&url, "")).unwrap_err().to_string();
    assert!(error.ends_with("the server did not respond within 10 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    // The end waits for it no longer than for one that works.
    let mut shipping = Ships::begin(&settings(&url, ""));
    shipping.write(&batch(10));
    let start = Instant::now();
    shipping.close();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(super::super::support::count_at(&shipping.path()), 10);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn mistake_is_told_with_remedy_and_without_password() {
    let (server, settings_) = migrated();
    let error = |url: &str| {
        let error = migrate(&settings(url, "")).unwrap_err().to_string();
        assert!(!error.contains(PASSWORD) && !error.contains("marker"), "{error}");
        error
    };
    let wrong = error(&server.url_of("streamgauge", "marker"));
    assert!(wrong.contains("password authentication failed for user \"streamgauge\""), "{wrong}");
    let gone = error(&server.url().replace("/usage", "/gone"));
    assert!(gone.contains("database \"gone\" does not exist"), "{gone}");
    let away = error("postgres://u:marker@127.0.0.1:1/d");
    assert!(away.contains("refused"), "{away}");
    let plain = error(&format!("{}?sslmode=require", server.url()));
    assert!(plain.contains("server does not support TLS"), "{plain}");
    server.sql("CREATE DATABASE empty");
    let empty = settings(&server.url().replace("/usage", "/empty"), "");
    let missing =
        report(&empty, &Selection::since(Timestamp::UNIX_EPOCH), &[], &Prices::default(), &Bounds::default());
    let missing: LedgerError = missing.unwrap_err();
    assert!(missing.to_string().contains("run `streamgauge ledger migrate`"), "{missing}");
    assert!(missing.to_string().starts_with("postgres://127.0.0.1:"), "{missing}");
    drop(settings_);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn refused_row_holds_no_other_row_back() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    let mut all: Vec<UsageRecord> = records(1000);
    // Too long for an index, and incompressible.
    let long = || -> Box<str> { (0..9000).map(|_| fastrand::alphanumeric()).collect::<String>().into() };
    for row in [0, 501, 999] {
        all[row].user = Some(long());
    }
    shipping.write(&Batch::new(all));
    wait_for("the rest", || shipping.counts().shipped.load(Ordering::Relaxed) == 997);
    assert_eq!(shipping.counts().refused.load(Ordering::Relaxed), 3);
    shipping.write(&batch(5));
    shipping.close();
    assert_eq!(count(&server), 1002);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn user_with_insert_and_select_ships() {
    let (server, _) = migrated();
    server.sql(
        "CREATE ROLE gateway LOGIN PASSWORD 'g'; GRANT SELECT, INSERT ON usage_records TO gateway;
         GRANT SELECT ON streamgauge_ledger TO gateway",
    );
    let settings = settings(&server.url_of("gateway", "g"), "");
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(50));
    shipping.close();
    assert_eq!(count(&server), 50);
    assert_eq!(server.number("SELECT count(*) FROM usage_records_default"), 50);
    assert_eq!(shipping.counts().failures.load(Ordering::Relaxed), 0);
    let all = Selection::since(Timestamp::UNIX_EPOCH);
    let report = report(&settings, &all, &[], &Prices::default(), &Bounds::default());
    assert_eq!(report.unwrap().total.requests, 50);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn locked_file_delays_shipping_and_replaced_one_ships_whole() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(10));
    wait_for("the first rows", || count(&server) == 10);
    let other = rusqlite::Connection::open(shipping.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    shipping.write(&batch(20));
    // Longer than the writer's own timeout of one attempt.
    thread::sleep(Duration::from_millis(800));
    assert_eq!(count(&server), 10);
    other.execute_batch("COMMIT").unwrap();
    wait_for("the rest", || count(&server) == 30);

    std::fs::rename(shipping.path(), shipping.folder.path().join("old.db")).unwrap();
    shipping.write(&batch(5));
    wait_for("the rows of the new file", || count(&server) == 35);
    shipping.close();
    assert_eq!(super::super::support::count_at(&shipping.path()), 5);
    assert_eq!(shipping.counts().failures.load(Ordering::Relaxed), 0);
}

/// A PEM text in the form of the configuration.
fn data(pem: &str) -> String {
    format!("{{ data = \"{}\" }}", base64::engine::general_purpose::STANDARD.encode(pem))
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn tls_is_held_to_the_certificate_and_the_password_to_tls() {
    let authority = Authority::new("The database's");
    let pair = authority.issue("db", &["localhost"]);
    let clients = Authority::new("The clients'");
    let hba = "hostssl usage gateway 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let server = Server::start_with(
        &["ssl=on", "ssl_cert_file=server.crt", "ssl_key_file=server.key", "ssl_ca_file=clients.crt"],
        &[
            ("server.crt", &pair.certificate),
            ("server.key", &pair.key),
            ("clients.crt", &clients.pem()),
            ("pg_hba.conf", hba),
        ],
    );
    let to = |host: &str, rest: &str| {
        format!("host={host} hostaddr=127.0.0.1 port={} dbname=usage {rest}", server.port())
    };
    let owner = format!("user=streamgauge password='{PASSWORD}' channel_binding=require");
    let trusted = format!("tls.ca = {}", data(&authority.pem()));
    let migrate = |url: &str, keys: &str| migrate(&settings(url, keys)).map_err(|error| error.to_string());

    migrate(&to("localhost", &format!("{owner} sslmode=verify-full")), &trusted).unwrap();
    migrate(&to("127.0.0.1", &format!("{owner} sslmode=verify-ca")), &trusted).unwrap();
    let error = migrate(&to("127.0.0.1", &format!("{owner} sslmode=require")), &trusted).unwrap_err();
    assert!(error.contains("certificate not valid for name"), "{error}");
    let error = migrate(&to("localhost", &format!("{owner} sslmode=require")), "").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let client = clients.issue("gateway", &[]);
    server.sql("CREATE ROLE gateway LOGIN");
    let identity = format!(
        "{trusted}\ntls.certificate = {}\ntls.private_key = {}",
        data(&client.certificate),
        data(&client.key)
    );
    let with_certificate = settings(&to("localhost", "user=gateway sslmode=require"), &identity);
    let who = "SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let who =
        with(&with_certificate, async |client| client.query_one(who, &[]).await.unwrap().get::<_, String>(0));
    assert_eq!(who, "gateway true");
    let error = migrate(&to("localhost", "user=gateway sslmode=require"), &trusted).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}

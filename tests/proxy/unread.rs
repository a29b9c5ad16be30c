//! Clients of the admin pages that request much data and do not read it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;

use serde_json::Value;
use streamgauge::app::{App, Running};
use streamgauge::config;
use streamgauge::record::{Entry, Journal, Outcome, Sink, UsageRecord, Writer};
use streamgauge::sinks::ledger::Ledger;

use crate::harness::Client;

const RECORDS: usize = 10_000;

/// A proxy whose ledger has [`RECORDS`] records, each of another user.
struct Proxy {
    _running: Running,
    admin: SocketAddr,
    ledger: PathBuf,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("a.db");
        fill(&ledger);
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[ledger]\n\
             path = {ledger:?}\n[upstreams.up]\nprovider = \"other\"\nurl = \"http://127.0.0.1:9/v1\"\n\
             default_model = \"m\"\napi_key = \"none\"\n"
        );
        let settings = config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
        let running = App::bind(&settings, Vec::new()).unwrap().spawn().unwrap();
        let admin = running.addresses().admin_port().unwrap();
        Self { _running: running, admin, ledger, _folder: folder }
    }

    /// A client that has sent a request.
    fn ask(&self, path: &str) -> Client {
        let mut client = Client::connect(self.admin);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.admin));
        client
    }
}

struct Gather(mpsc::Sender<UsageRecord>);

impl Sink for Gather {
    fn name(&self) -> String {
        "the test".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> std::io::Result<()> {
        batch.iter().for_each(|row| self.0.send(row.clone()).unwrap());
        Ok(())
    }
}

fn fill(path: &std::path::Path) {
    let (sender, rows) = mpsc::channel();
    let journal = Journal::new(2 * RECORDS);
    let writer = Writer::spawn(&journal, vec![Box::new(Gather(sender))]).unwrap();
    for number in 0..RECORDS {
        let mut entry = Entry::open(&journal, &"anonymous".into());
        entry.row().user = Some(format!("user-{number}-{}", "u".repeat(500)).into());
        entry.close(Outcome::Complete);
    }
    drop(writer);
    let mut ledger = Ledger::open(path, None, &Journal::new(1)).unwrap();
    ledger.write(&rows.iter().collect::<Vec<_>>()).unwrap();
}

/// The peak memory of this process, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn unread_records_take_little_memory_and_hold_no_transaction() {
    let proxy = Proxy::new();
    let before = peak();
    let mut clients: Vec<_> = (0..100).map(|_| proxy.ask("/records?limit=10000")).collect();
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.head()[9..12].to_owned()).collect();
    let more = peak() - before;
    assert!(more < 150 << 10, "{more} KiB for {statuses:?}");
    assert!(statuses.iter().filter(|status| *status == "200").count() >= 16, "{statuses:?}");
    let ledger = rusqlite::Connection::open(&proxy.ledger).unwrap();
    let busy: i64 = ledger.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "an unread response prevents copying the log");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn records_are_all_there_page_by_page() {
    let proxy = Proxy::new();
    let response = proxy.ask("/records?limit=10000").response();
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let records = body["records"].as_array().unwrap();
    let users: Vec<_> = records.iter().map(|record| record["user"].as_str().unwrap()).collect();
    assert_eq!(users.len(), RECORDS);
    assert!(users[0].starts_with("user-9999-") && users[RECORDS - 1].starts_with("user-0-"));
    assert_eq!(users.iter().collect::<HashSet<_>>().len(), RECORDS);
    assert_eq!(response.text(), format!("{body:#}\n"), "the form is that of one text");

    let csv = proxy.ask("/records?limit=700&format=csv").response();
    assert_eq!(csv.text().lines().count(), 701);
    let none = proxy.ask("/records?user=nobody").response();
    assert_eq!(none.text(), "{\n  \"records\": []\n}\n");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn sums_wait_for_the_room_that_unread_ones_hold() {
    let proxy = Proxy::new();
    let mut unread: Vec<_> = (0..12).map(|_| proxy.ask("/usage?by=user")).collect();
    let mut heads: Vec<_> = unread.iter_mut().map(Client::head).collect();
    heads.sort_unstable();
    assert!(heads[0].starts_with("HTTP/1.1 200"), "{}", heads[0]);
    let full = heads.last().unwrap();
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("retry-after"), "{full}");
    drop(unread);
    let response = proxy.ask("/usage?by=user").response();
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["groups"].as_array().unwrap().len(), RECORDS);
    assert_eq!(proxy.ask("/healthz").response().status(), 200);
}

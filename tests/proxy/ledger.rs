//! The ledger of the real program: what is in it after the process was killed, stopped, or kept from writing.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use streamgauge::simulator::{self, SimulatorSettings};

use crate::support::{Client, PATIENCE};

/// What DESIGN.md lets a crash cost: records that ended within this time before it.
const LOSS: Duration = Duration::from_millis(200);

/// The program with a configuration of its own in a folder of its own.
struct Program {
    folder: tempfile::TempDir,
    _simulator: simulator::Running,
}

impl Program {
    fn new(ledger: &str) -> Self {
        let settings = SimulatorSettings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, api_key: None };
        let simulator = simulator::bind(&settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n\
             level = \"info,streamgauge::access=off\"\n[ledger]\n{ledger}\n[upstreams.up]\nprovider = \"other\"\n\
             url = \"http://{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n",
            simulator.address()
        );
        fs::write(folder.path().join("streamgauge.toml"), text).unwrap();
        Self { folder, _simulator: simulator.spawn() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it listens.
    fn serve(&self) -> Serving {
        let mut child = self.command(&["serve"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {seen:#?}")).unwrap();
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            seen.push(line);
            if value["message"] == "listening" {
                break value["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // A pipe that nobody reads would stop it.
        let log = thread::spawn(move || {
            seen.extend(lines.map_while(Result::ok));
            seen
        });
        Serving { child, address, log: Some(log) }
    }

    fn usage(&self, arguments: &[&str]) -> Output {
        self.command(&[&["usage"], arguments].concat()).output().unwrap()
    }
}

struct Serving {
    child: Child,
    address: SocketAddr,
    log: Option<thread::JoinHandle<Vec<String>>>,
}

impl Serving {
    /// Sends requests one after the other until told to stop or until the proxy is gone; each answer's id, and when it had
    /// ended.
    fn load(&self, clients: usize, until: impl FnOnce()) -> Vec<(String, Instant)> {
        let stop = AtomicBool::new(false);
        let address = self.address;
        thread::scope(|scope| {
            let client = || {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    let mut client = Client::connect(address);
                    while !stop.load(Ordering::Relaxed) {
                        client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
                        let Some(answer) = client.next_answer() else { break };
                        ids.push((answer.header("x-streamgauge-id").unwrap().to_owned(), Instant::now()));
                    }
                    ids
                })
            };
            let clients: Vec<_> = (0..clients).map(|_| client()).collect();
            until();
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end, and returns what it logged.
    fn end(mut self) -> Vec<String> {
        self.child.wait().unwrap();
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ids(path: &Path) -> HashSet<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT id FROM usage_records").unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

#[test]
fn a_crash_costs_no_record_older_than_200_ms_ten_times_over() {
    let program = Program::new("path = \"usage.db\"");
    let mut all = 0;
    for round in 0..10 {
        let serving = program.serve();
        let mut killed = None;
        let ended = serving.load(2, || {
            thread::sleep(Duration::from_millis(250 + fastrand::u64(..300)));
            killed = Some(Instant::now());
            serving.signal("-KILL");
        });
        serving.end();
        let killed = killed.unwrap();
        let kept = ids(&program.path("usage.db"));
        let old: Vec<_> = ended.iter().filter(|(_, at)| *at + LOSS < killed).collect();
        assert!(!old.is_empty(), "no load in round {round}");
        let lost = old.iter().filter(|(id, _)| !kept.contains(id)).map(|(_, at)| killed.duration_since(*at));
        let lost: Vec<_> = lost.collect();
        let oldest = lost.iter().max();
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} are lost, the oldest after {oldest:?}",
            lost.len(),
            old.len()
        );
        assert!(kept.len() >= all, "what was there stays");
        all = kept.len();
    }
    let connection = Connection::open(program.path("usage.db")).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn sigterm_loses_nothing_and_the_rows_are_the_json_lines() {
    let program = Program::new("path = \"usage.db\"\njsonl = \"usage.jsonl\"");
    let serving = program.serve();
    let ended = serving.load(2, || thread::sleep(Duration::from_millis(300)));
    serving.signal("-TERM");
    serving.end();
    let kept = ids(&program.path("usage.db"));
    assert_eq!(kept.len(), ended.len());
    assert!(ended.iter().all(|(id, _)| kept.contains(id)));
    assert!(!program.path("usage.db-wal").exists(), "the log is in the file");

    let lines = fs::read_to_string(program.path("usage.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), ended.len());
    let connection = Connection::open(program.path("usage.db")).unwrap();
    let mut statement = connection.prepare("SELECT * FROM usage_records WHERE id = ?1").unwrap();
    let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
    for line in lines.lines().take(50) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let fields: HashSet<_> = line.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, names.iter().filter(|name| *name != "seq").cloned().collect());
        let mut rows = statement.query([line["id"].as_str().unwrap()]).unwrap();
        let row = rows.next().unwrap().unwrap();
        assert_eq!(line["total_tokens"], row.get::<_, i64>("total_tokens").unwrap());
        assert_eq!(line["duration_ms"], row.get::<_, f64>("duration_ms").unwrap());
    }
}

#[test]
fn usage_reads_the_ledger_while_the_proxy_writes_it_and_without_its_secrets() {
    let program = Program::new("path = \"usage.db\"");
    let serving = program.serve();
    let ended = serving.load(1, || thread::sleep(Duration::from_millis(50)));
    let start = Instant::now();
    let report = loop {
        let output = program.usage(&["--format", "json", "--by", "client,upstream"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if report["total"]["requests"] == ended.len() {
            break report;
        }
        assert!(start.elapsed() < PATIENCE, "{report}");
    };
    assert_eq!(report["groups"][0]["client"], "anonymous");
    assert_eq!(report["groups"][0]["upstream"], "up");
    assert_eq!(report["total"]["usage_sources"]["reported"], ended.len());
    drop(serving);

    let config = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    let config = config.replace("\"none\"", "{ env = \"NOT_IN_THIS_SHELL\" }");
    fs::write(program.path("streamgauge.toml"), config).unwrap();
    let output = program.usage(&["--since", "1h"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("MODEL") && table.contains("usage: reported 100.0%"), "{table}");
    assert!(output.stderr.is_empty());
}

#[test]
fn usage_without_a_ledger_says_so_with_its_exit_status() {
    let program = Program::new("path = \"usage.db\"");
    for (arguments, code, message) in [
        (&[][..], 1, "usage: usage.db: there is no such file"),
        (&["--ledger", "other.db"], 1, "usage: other.db: there is no such file"),
        (&["--config", "gone.toml"], 2, "gone.toml"),
        (&["--by", "colour"], 2, "\"colour\" is none of model, client, upstream, day"),
        (&["--since", "24"], 2, "has no unit"),
    ] {
        let output = program.usage(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(message) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    let none = Program::new("path = \"\"");
    let output = none.usage(&[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("keeps no ledger"), "{output:?}");
}

#[test]
fn a_ledger_that_cannot_be_opened_ends_the_start_with_its_reason() {
    let program = Program::new("path = \"gone/usage.db\"");
    let output = program.command(&["serve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("ledger.path: gone/usage.db: cannot be opened: is its folder there"), "{stderr}");
}

#[test]
fn a_locked_or_corrupt_ledger_touches_no_request_and_is_said_once() {
    let program = Program::new("path = \"usage.db\"");
    fs::write(program.path("usage.db"), "no database ".repeat(100)).unwrap();
    let serving = program.serve();
    let other = Connection::open(program.path("usage.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Long enough for several attempts of half a second.
    let ended = serving.load(1, || thread::sleep(Duration::from_millis(1500)));
    assert!(ended.len() > 100, "requests went on: {}", ended.len());
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    serving.signal("-TERM");
    let log = serving.end();
    let said = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("the ledger is corrupt: it was moved aside"), 1, "{log:#?}");
    assert_eq!(said("usage records cannot be written"), 1, "{log:#?}");
    assert_eq!(ids(&program.path("usage.db")).len(), ended.len(), "and none is lost");
}

//! The ledger of the real program after the process was killed, stopped, or kept from writing.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::harness::{PATIENCE, Program, ids};

/// The records that a crash may cost by DESIGN.md: those that ended within this time before it.
const LOSS: Duration = Duration::from_millis(200);

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
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
        // Later versions fill the others.
        let is_field = |name: &&String| !["seq", "writer", "attempts_unused"].contains(&name.as_str());
        assert_eq!(fields, names.iter().filter(is_field).cloned().collect());
        let mut rows = statement.query([line["id"].as_str().unwrap()]).unwrap();
        let row = rows.next().unwrap().unwrap();
        assert_eq!(line["total_tokens"], row.get::<_, i64>("total_tokens").unwrap());
        assert_eq!(line["duration_ms"], row.get::<_, f64>("duration_ms").unwrap());
    }
}

#[test]
fn usage_reads_ledger_during_writes_and_without_secrets() {
    let program = Program::new("path = \"usage.db\"");
    let serving = program.serve();
    let until = |has_enough: &dyn Fn(u64) -> bool| {
        let start = Instant::now();
        loop {
            let output = program.usage(&["--format", "json", "--by", "client,upstream"]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            if has_enough(report["total"]["requests"].as_u64().unwrap()) {
                return report;
            }
            assert!(start.elapsed() < PATIENCE, "{report}");
        }
    };
    let ended = serving.load(1, || drop(until(&|requests| requests > 0)));
    let report = until(&|requests| requests == ended.len() as u64);
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
        (&["--ledger", "other.db"], 1, "usage: other.db: there is no such file (/"),
        // Mistakes in the options are reported before the ledger is opened.
        (&["--sort", "user"], 2, "usage: --sort: user is not among what --by groups by"),
        (&["--since", "now"], 2, "usage: since: is now, so the range is empty"),
        (&[], 1, "/usage.db). `streamgauge serve` begins it when it starts"),
        (&["--config", "gone.toml"], 2, "gone.toml"),
        (
            &["--by", "colour"],
            2,
            "\"colour\" is none of model, client, team, key, upstream, group, endpoint, user, day",
        ),
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
fn ledger_that_cannot_be_opened_fails_the_start_with_reason() {
    let program = Program::new("path = \"gone/usage.db\"");
    let output = program.command(&["serve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("ledger.path: gone/usage.db: cannot be opened: is its folder there"), "{stderr}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn locked_or_corrupt_ledger_touches_no_request_and_is_said_once() {
    let program = Program::new("path = \"usage.db\"");
    let serving = program.serve();
    serving.signal("-TERM");
    serving.end();
    let mut broken = fs::read(program.path("usage.db")).unwrap();
    broken[100..].fill(0xA5);
    fs::write(program.path("usage.db"), &broken).unwrap();
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

#[test]
fn ledger_path_of_another_file_is_refused_and_left_alone() {
    for (path, jsonl, refused) in [
        ("streamgauge.toml", "", "ledger.path: streamgauge.toml: is a file of another kind, not a ledger"),
        ("key.txt", "", "ledger.path: key.txt: is a file of another kind, not a ledger"),
        (".", "", "ledger.path: .: cannot be opened: it is a folder"),
        ("usage.db", "./usage.db", "ledger.jsonl: cannot open ./usage.db: is a file of another kind"),
        ("usage.db", "streamgauge.toml", "ledger.jsonl: cannot open streamgauge.toml: is a file of another"),
        ("usage.db", "key.txt", "ledger.jsonl: cannot open key.txt: is a file of another kind"),
    ] {
        let program = Program::new(&format!("path = \"{path}\"\njsonl = \"{jsonl}\""));
        fs::write(program.path("key.txt"), "sk-secret\n").unwrap();
        let config = fs::read(program.path("streamgauge.toml")).unwrap();
        let output = program.command(&["serve"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(refused), "{stderr}");
        assert_eq!(fs::read(program.path("streamgauge.toml")).unwrap(), config);
        assert_eq!(fs::read(program.path("key.txt")).unwrap(), b"sk-secret\n");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn sigterm_under_foreign_lock_leaves_records_to_next_start() {
    let program = Program::new("path = \"usage.db\"");
    let serving = program.serve();
    let other = Connection::open(program.path("usage.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let ended = serving.load(1, || thread::sleep(Duration::from_millis(300)));
    serving.signal("-TERM");
    let log = serving.end();
    assert!(log.iter().any(|line| line.contains("a file that the next start reads")), "{log:#?}");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    let spilled = fs::read(program.path("usage.db.spill")).unwrap();
    for round in 0..2 {
        let serving = program.serve();
        serving.signal("-TERM");
        let log = serving.end();
        assert!(log.iter().any(|line| line.contains("are in the ledger now")), "{round}: {log:#?}");
        assert!(!program.path("usage.db.spill").exists());
        assert_eq!(ids(&program.path("usage.db")), ended.iter().map(|(id, _)| id.clone()).collect());
        let rows = Connection::open(program.path("usage.db")).unwrap();
        let rows = rows.query_row("SELECT count(*) FROM usage_records", [], |row| row.get::<_, i64>(0));
        assert_eq!(rows.unwrap() as usize, ended.len(), "round {round}");
        // A crash before the file was deleted leaves this state.
        fs::write(program.path("usage.db.spill"), &spilled).unwrap();
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn log_cut_by_another_program_costs_no_record() {
    let program = Program::new("path = \"usage.db\"");
    let serving = program.serve();
    let mut ended = serving.load(1, || thread::sleep(Duration::from_millis(400)));
    fs::write(program.path("usage.db-wal"), "").unwrap();
    ended.extend(serving.load(1, || thread::sleep(Duration::from_millis(400))));
    serving.signal("-TERM");
    let log = serving.end();
    let said = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("has truncated the ledger's log (-wal)"), 1, "{log:#?}");
    assert_eq!(ids(&program.path("usage.db")).len(), ended.len());
}

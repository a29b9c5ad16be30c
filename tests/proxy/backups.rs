//! Copies of the ledger, permissions of the program's files, and the times that `usage` accepts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use crate::harness::{Client, PATIENCE, Program, ids, until};

fn said(output: &std::process::Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn backup_of_ledger_in_use_has_all_records_and_replaces_nothing() {
    let program = Program::new("path = \"a.db\"");
    let serving = program.serve();
    serving.load(2, || thread::sleep(Duration::from_millis(200)));
    let backup = |arguments: &[&str]| {
        said(&program.command(&[&["ledger", "backup"], arguments].concat()).output().unwrap())
    };
    let kept = until(PATIENCE, "all records", || {
        let kept = ids(&program.path("a.db"));
        (kept.len() == serving.served.load(std::sync::atomic::Ordering::Relaxed)).then_some(kept)
    });
    assert!(program.path("a.db-wal").exists(), "the ledger is in use");
    assert_eq!(backup(&["copy.db"]), (Some(0), format!("copy.db has {} records\n", kept.len())));
    assert_eq!(ids(&program.path("copy.db")), kept);
    let (status, error) = backup(&["copy.db"]);
    assert!(status == Some(1) && error.contains("copy.db") && error.contains("is there already"), "{error}");
    assert_eq!(backup(&["second.db", "--ledger", "copy.db"]).0, Some(0), "of a copy too");
    let (status, error) = backup(&["third.db", "--ledger", "nothing.db"]);
    assert!(status == Some(1) && error.contains("nothing.db"), "{error}");
    assert!(!program.path("third.db").exists());
}

#[test]
fn files_that_the_program_makes_are_for_their_owner_alone() {
    let program = Program::new("path = \"a.db\"\njsonl = \"a.jsonl\"");
    let mode = |name: &str| fs::metadata(program.path(name)).unwrap().permissions().mode() & 0o777;
    let serve = || {
        let serving = program.serve();
        let mut client = Client::connect(serving.address);
        client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}").response();
        until(PATIENCE, "the line", || {
            (!fs::read(program.path("a.jsonl")).unwrap_or_default().is_empty()).then_some(())
        });
        serving
    };
    let serving = serve();
    for name in ["a.db", "a.db-wal", "a.db-shm", "a.jsonl"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    serving.signal("-TERM");
    serving.end();
    // Existing files keep their own.
    for name in ["a.db", "a.jsonl"] {
        fs::set_permissions(program.path(name), Permissions::from_mode(0o640)).unwrap();
    }
    let _serving = serve();
    assert_eq!(["a.db", "a.db-wal", "a.jsonl"].map(mode), [0o640; 3]);
}

#[test]
fn usage_accepts_common_time_forms_and_refuses_reversed_ranges() {
    let program = Program::new("path = \"a.db\"");
    let serving = program.serve();
    let mut client = Client::connect(serving.address);
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}").response();
    serving.signal("-TERM");
    serving.end();
    let requests = |since: &str| {
        let output = program.usage(&["--since", since, "--format", "json"]);
        assert!(output.status.success(), "{since}: {output:?}");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        value["total"]["requests"].as_u64().unwrap()
    };
    let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    for since in ["24h", "yesterday", "1w", "last month", "last year"] {
        assert_eq!(requests(since), 1, "{since}");
    }
    // A time without seconds was once read as the midnight before it.
    assert_eq!(requests(&hour_ago.strftime("%Y-%m-%dT%H:%M").to_string()), 1);
    let minute_ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(2);
    let output = program.usage(&["--since", &minute_ahead.strftime("%Y-%m-%dT%H:%M").to_string()]);
    assert!(said(&output).0 == Some(2) && said(&output).1.contains("is in the future"), "{output:?}");
    for (arguments, reason) in [
        (&["--since", "today", "--until", "yesterday"][..], "until: is not after since"),
        (&["--since", "2026-13-01"], "2026-07-30T08:00+02:00"),
        (&["--since", "2026-11-28T10:00[Europe/Berlin]"], "without an offset all are of the time zone"),
    ] {
        let (status, error) = said(&program.usage(arguments));
        assert!(status == Some(2) && error.contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn usage_takes_time_zones_orders_and_limits() {
    let program = Program::new("path = \"a.db\"\ntime_zone = \"Asia/Kathmandu\"");
    let serving = program.serve();
    let mut client = Client::connect(serving.address);
    for model in ["m", "n", "n", "o"] {
        let body = format!("{{\"model\":\"{model}\",\"messages\":[]}}");
        client.post("/v1/chat/completions", &body).response();
    }
    serving.signal("-TERM");
    serving.end();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = program.usage(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let requests = |value: &serde_json::Value| value["requests"].as_u64().unwrap();
    let all = json(&["--by", "status,hour"]);
    assert_eq!((all["time_zone"].as_str(), requests(&all["total"])), (Some("Asia/Kathmandu"), 4));
    let hour = all["groups"][0]["hour"].as_str().unwrap();
    assert!(hour.ends_with(":00+05:45"), "{hour}");
    let day = json(&["--by", "week,month,day", "--time-zone", "-03:30", "--since", "yesterday"]);
    assert_eq!((day["time_zone"].as_str(), requests(&day["total"])), (Some("-03:30"), 4));
    let most =
        json(&["--by", "outcome,usage_source,provider", "--sort", "-requests,provider", "--limit", "1"]);
    let rest = most["rest"].as_object().map_or(0, |rest| rest["requests"].as_u64().unwrap());
    assert_eq!(requests(&most["groups"][0]) + rest, 4);
    for (arguments, reason) in [
        (&["--sort", "moon"][..], "\"moon\" is not a column"),
        (&["--sort", "-user"], "user is not among what --by groups by"),
        (&["--sort", "cost"], "there is no cost without [[prices]]"),
        (&["--reverse"], "--sort"),
        (&["--limit", "0"], "0 is not in 1.."),
        (&["--time-zone", "Moon"], "such as Europe/Berlin"),
    ] {
        let (status, error) = said(&program.usage(arguments));
        assert!(status == Some(2) && error.contains(reason), "{arguments:?}: {error}");
    }
}

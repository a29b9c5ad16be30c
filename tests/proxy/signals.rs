//! Signals of the real program, from before it listens to the end of its drain, and their effect on
//! the JSON-lines file.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Client, PATIENCE, Program, Serving};

/// All signals whose default action would end the process, and the one for window sizes. `-USR2` is
/// harmless except while it serves: then it starts another process.
const HARMLESS: [&str; 10] =
    ["-HUP", "-USR1", "-USR2", "-ALRM", "-PIPE", "-WINCH", "-XFSZ", "-IO", "-VTALRM", "-PROF"];

const LINES: &str = "path = \"\"\njsonl = \"usage.jsonl\"";

fn is_served(serving: &Serving) -> bool {
    let mut client = Client::connect(serving.address);
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
    client.next_response().is_some_and(|response| response.status() == 200)
}

/// Begins a stream of this many events, 20 ms apart, and waits for its head.
fn stream(serving: &Serving, events: usize) -> Client {
    let mut client = Client::connect(serving.address);
    let body = format!("{{\"model\":\"sim:events={events},pace=20ms\",\"messages\":[],\"stream\":true}}");
    client.post("/v1/chat/completions", &body).head();
    client
}

fn is_whole(client: &mut Client) -> bool {
    let rest = client.rest();
    rest.ends_with(b"\r\n0\r\n\r\n") && rest.windows(6).any(|window| window == b"[DONE]")
}

/// Waits for a condition without an event.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The records in a file, each of whose lines must be complete.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn serve_outlives_every_signal_but_those_that_stop_it() {
    let program = Program::new(LINES);
    let serving = program.serve();
    let mut client = stream(&serving, 60);
    let harmless = HARMLESS.into_iter().filter(|name| *name != "-USR2");
    for name in harmless.clone() {
        serving.signal(name);
        assert!(is_served(&serving), "{name}");
    }
    serving.signal("-TERM");
    assert!(is_whole(&mut client));
    let (status, log) = serving.end_with_status();
    assert_eq!(status, Some(0), "{log:#?}");
    assert_eq!(records(&program.path("usage.jsonl")).len(), harmless.count() + 1);
    let said = "the configuration has not changed";
    assert!(log.iter().any(|line| line.contains(said)), "{said}: {log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn drain_outlives_every_signal_but_those_that_stop_it() {
    let program = Program::new(LINES);
    let serving = program.serve();
    let mut client = stream(&serving, 60);
    serving.signal("-TERM");
    wait_for("the drain", || Client::try_connect(serving.address).is_none());
    for name in HARMLESS {
        serving.signal(name);
    }
    assert!(is_whole(&mut client));
    assert_eq!(serving.end_with_status().0, Some(0));
    assert_eq!(records(&program.path("usage.jsonl"))[0]["outcome"], "complete");
}

#[test]
fn start_outlives_every_signal_and_ends_in_order_at_sigterm() {
    let program = Program::new(LINES);
    let text = fs::read(program.path("streamgauge.toml")).unwrap();
    make_fifo(&program.path("fifo.toml"));
    let start = || {
        let mut command = program.command(&["serve", "--config", "fifo.toml"]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        // The open returns when the program has opened the other end: it waits for its
        // configuration now.
        let configuration = File::options().write(true).open(program.path("fifo.toml")).unwrap();
        (child, configuration)
    };
    let (mut child, mut configuration) = start();
    for name in HARMLESS {
        signal(&child, name);
    }
    configuration.write_all(&text).expect("it still reads");
    drop(configuration);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"listening\"")));
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let (mut child, configuration) = start();
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0), "also while it waits for a file");
    drop(configuration);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn sigquit_drains_and_never_cuts() {
    let program = Program::new(LINES);
    let serving = program.serve();
    let mut client = stream(&serving, 60);
    serving.signal("-QUIT");
    thread::sleep(Duration::from_millis(600));
    serving.signal("-QUIT");
    assert!(is_whole(&mut client));
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn signals_within_a_moment_are_one() {
    let program = Program::new(LINES);
    let serving = program.serve();
    let mut client = stream(&serving, 20);
    for name in ["-TERM", "-TERM", "-INT", "-TERM"] {
        serving.signal(name);
    }
    assert!(is_whole(&mut client), "the drain goes on");
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn second_signal_after_half_a_second_ends_at_once() {
    let program = Program::new(LINES);
    let serving = program.serve();
    let mut client = stream(&serving, 3000);
    serving.signal("-TERM");
    // The test measures a time.
    thread::sleep(Duration::from_millis(600));
    let second = Instant::now();
    serving.signal("-INT");
    assert!(!is_whole(&mut client));
    serving.end();
    assert!(second.elapsed() < Duration::from_secs(10), "not after the stream's minute");
    assert_eq!(records(&program.path("usage.jsonl"))[0]["outcome"], "cut");
}

#[test]
fn jsonl_is_reopened_at_sigusr1_and_sighup_without_a_request() {
    let program = Program::new(LINES);
    let serving = program.serve();
    assert!(is_served(&serving));
    let path = program.path("usage.jsonl");
    wait_for("the record", || records(&path).len() == 1);
    for (name, old) in [("-USR1", "usage.jsonl.1"), ("-HUP", "usage.jsonl.2")] {
        fs::rename(&path, program.path(old)).unwrap();
        serving.signal(name);
        wait_for(name, || path.exists());
        assert!(is_served(&serving));
        wait_for("the record", || records(&path).len() == 1);
        assert_eq!(records(&program.path(old)).len(), 1, "the old file is left alone");
    }
}

#[test]
fn jsonl_that_was_renamed_or_deleted_is_opened_again_unasked() {
    let program = Program::new(LINES);
    let serving = program.serve();
    let path = program.path("usage.jsonl");
    assert!(is_served(&serving));
    wait_for("the record", || records(&path).len() == 1);
    fs::rename(&path, program.path("usage.jsonl.1")).unwrap();
    assert!(is_served(&serving));
    wait_for("a record in a new file", || records(&path).len() == 1);
    fs::remove_file(&path).unwrap();
    assert!(is_served(&serving));
    wait_for("a record in another", || records(&path).len() == 1);
}

#[test]
fn jsonl_at_file_size_limit_is_an_error_of_the_file_alone() {
    let program = Program::new(LINES);
    // Bash counts in KiB.
    let serving = program.serve_as(program.shell("ulimit -f 8; exec \"$0\" serve"));
    for _ in 0..40 {
        assert!(is_served(&serving));
    }
    serving.signal("-TERM");
    let (status, log) = serving.end_with_status();
    assert_eq!(status, Some(0), "{log:#?}");
    let kept = records(&program.path("usage.jsonl")).len();
    assert!((1..40).contains(&kept), "{kept}");
    assert!(log.iter().any(|line| line.contains("usage records cannot be written")), "{log:#?}");
}

#[test]
fn jsonl_fifo_without_a_reader_is_said_and_read_later() {
    let program = Program::new(LINES);
    let path = program.path("usage.jsonl");
    make_fifo(&path);
    // A start that waits for a reader ends without having listened.
    let serving = program.serve_as(program.shell("exec timeout 60 \"$0\" serve"));
    assert!(is_served(&serving), "nobody waits for a reader");
    // Opened for writing too, so that the test does not wait for a writer that has ended.
    let reader = File::options().read(true).write(true).open(&path);
    let lines = thread::spawn(move || BufReader::new(reader.unwrap()).lines().next().unwrap().unwrap());
    let start = Instant::now();
    while !lines.is_finished() {
        assert!(start.elapsed() < PATIENCE, "no record comes");
        assert!(is_served(&serving));
    }
    let record: Value = serde_json::from_str(&lines.join().unwrap()).unwrap();
    assert_eq!(record["outcome"], "complete");
    serving.signal("-TERM");
    let (status, log) = serving.end_with_status();
    assert_eq!(status, Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("this FIFO has no reader")), "{log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn simulate_and_demo_end_in_order_at_hangup_and_ignore_the_rest() {
    let program = Program::new(LINES);
    for (arguments, ready) in [
        (&["simulate", "--listen", "127.0.0.1:0"][..], "simulate: listening"),
        (&["demo"], "serving until Ctrl-C"),
    ] {
        let mut command = program.command(arguments);
        command.env("TMPDIR", program.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(ready)), "{arguments:?}");
        for name in HARMLESS.iter().filter(|name| **name != "-HUP") {
            signal(&child, name);
        }
        signal(&child, "-HUP");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
    let left: Vec<_> =
        fs::read_dir(program.path("")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["streamgauge.toml"], "the folder of the demonstration is gone");
}

#[test]
fn commands_end_quietly_when_the_reader_of_stdout_has_left() {
    let program = Program::new("path = \"usage.db\"");
    drop(program.serve());
    for arguments in [&["check"][..], &["usage"], &["usage", "--format", "json"], &["demo", "--once"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = program.command(arguments).stdout(writer).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
    }
}

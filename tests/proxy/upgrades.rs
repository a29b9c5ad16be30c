//! Upgrades of the real program: a new process takes the place of the one that gets `SIGUSR2`, or
//! fails, and then nothing changes.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, PATIENCE, Program, Serving, free_address, ids};

const LEDGER: &str = "path = \"usage.db\"";

/// A process that no test waits for as its child.
struct Process(u32);

impl Process {
    fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([name, &self.0.to_string()]).stderr(Stdio::null()).status();
    }

    fn is_running(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        !status.is_empty() && !status.contains("\nState:\tZ")
    }

    /// Ends it in order.
    fn stop(&self) {
        self.signal("-TERM");
        wait_for("the end of the new process", || !self.is_running());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal("-KILL");
        }
    }
}

/// Waits for a condition without an event.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Requests an upgrade and waits for the new process.
fn upgrade(serving: &Serving, signal: impl Fn(&str)) -> Process {
    let upgrades = || serving.logged("replaced by the new process");
    let before = upgrades().len();
    signal("-USR2");
    wait_for("an upgrade", || upgrades().len() > before);
    let line: serde_json::Value = serde_json::from_str(&upgrades()[before]).unwrap();
    Process(line["process"].as_u64().unwrap().try_into().unwrap())
}

/// A request on a new connection; returns the id of its record.
fn request(address: SocketAddr) -> String {
    let mut client = Client::connect(address);
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
    let response = client.next_response().expect("a response");
    assert_eq!(response.status(), 200, "{}", response.head);
    response.header("x-streamgauge-id").unwrap().to_owned()
}

/// Begins a stream of this many events, 20 ms apart, and waits for its head.
fn stream(address: SocketAddr, events: usize) -> (Client, String) {
    let mut client = Client::connect(address);
    let body = format!("{{\"model\":\"sim:events={events},pace=20ms\",\"messages\":[],\"stream\":true}}");
    let head = client.post("/v1/chat/completions", &body).head();
    let id = head.lines().find_map(|line| line.strip_prefix("x-streamgauge-id: ")).expect("an id");
    (client, id.to_owned())
}

fn is_whole(client: &mut Client) -> bool {
    let rest = client.rest();
    rest.ends_with(b"\r\n0\r\n\r\n") && rest.windows(6).any(|window| window == b"[DONE]")
}

/// A program that is started by a link in its folder, which a test can replace.
fn linked(program: &Program) -> Serving {
    symlink(env!("CARGO_BIN_EXE_streamgauge"), program.path("program")).unwrap();
    let mut command = Command::new(program.path("program"));
    command.arg("serve").current_dir(program.path("")).env_remove("RUST_LOG").stdin(Stdio::null());
    program.serve_as(command)
}

/// Replaces the program by a shell script.
fn replace(program: &Program, script: &str) {
    fs::remove_file(program.path("program")).unwrap();
    fs::write(program.path("program"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(program.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn new_process_serves_while_the_earlier_one_finishes() {
    let program = Program::new(LEDGER);
    let serving = program.serve();
    let address = serving.address;
    let (mut running, id) = stream(address, 100);
    let mut expected = HashSet::from([id, request(address)]);
    let first = upgrade(&serving, |name| serving.signal(name));
    expected.insert(request(address));
    assert!(!serving.has_logged("writes to usage.db too"), "the earlier process is expected");
    serving.signal("-USR2");
    wait_for("the refusal", || serving.has_logged("has taken over: send the signal to that"));
    // From the new process too.
    let second = upgrade(&serving, |name| first.signal(name));
    expected.insert(request(address));
    assert!(is_whole(&mut running), "the stream began two processes ago");
    wait_for("the first upgrade's end", || !first.is_running());
    second.stop();
    assert_eq!(serving.end_with_status().0, Some(0));
    assert_eq!(ids(&program.path("usage.db")), expected);
}

/// A busy client connects, and needs seconds until it sends its request.
#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn connection_from_before_an_upgrade_is_served_late() {
    let program = Program::new(LEDGER);
    let serving = program.serve();
    let mut silent = Client::connect(serving.address);
    let mut half = Client::connect(serving.address);
    half.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n");
    // The earlier process accepts both before it drains.
    request(serving.address);
    let process = upgrade(&serving, |name| serving.signal(name));
    thread::sleep(Duration::from_secs(4));
    let body = "{\"model\":\"m\",\"messages\":[]}";
    silent.post("/v1/chat/completions", body);
    half.send(format!("content-length: {}\r\n\r\n{body}", body.len()));
    for client in [&mut silent, &mut half] {
        let response = client.next_response().expect("a response");
        assert_eq!(response.status(), 200, "{}", response.head);
        assert_eq!(response.header("connection"), Some("close"), "the next one is for the new process");
    }
    process.stop();
    assert_eq!(serving.end_with_status().0, Some(0));
}

/// The new process must not outlive a stop that comes while it is being started.
#[test]
fn stop_right_after_the_signal_leaves_no_process() {
    let program = Program::new(LEDGER);
    let serving = linked(&program);
    replace(&program, "echo $$ >> started.pid; exec sleep 60");
    serving.signal("-USR2");
    serving.signal("-TERM");
    assert_eq!(serving.end_with_status().0, Some(0));
    let started = fs::read_to_string(program.path("started.pid")).unwrap_or_default();
    for id in started.lines() {
        assert!(!Process(id.parse().unwrap()).is_running(), "{id} still runs");
    }
}

#[test]
fn mistake_in_the_configuration_leaves_the_earlier_process() {
    let program = Program::new(LEDGER);
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&text.replace("[server]\n", "[server]\nwatch = false\n"));
    let serving = program.serve();
    program.configure("[server]\nworkers = \"many\"\n");
    serving.signal("-USR2");
    wait_for("the failure", || serving.has_logged("the upgrade has failed, and this process goes on"));
    assert!(serving.has_logged("server.workers"), "the mistake is named");
    request(serving.address);
    program.configure(&text.replace("workers = 1", "workers = 3"));
    let process = upgrade(&serving, |name| serving.signal(name));
    request(serving.address);
    process.stop();
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn program_that_crashes_or_is_missing_changes_nothing() {
    let program = Program::new(LEDGER);
    let serving = linked(&program);
    let failures = || serving.logged("the upgrade has failed, and this process goes on").len();
    for (number, script) in ["kill -SEGV $$", "exit 0", ""].into_iter().enumerate() {
        match script {
            "" => fs::remove_file(program.path("program")).unwrap(),
            script => replace(&program, script),
        }
        serving.signal("-USR2");
        wait_for("the failure", || failures() == number + 1);
        request(serving.address);
    }
    assert!(serving.has_logged("signal 11"));
    assert!(serving.has_logged("cannot be started"));
    symlink(env!("CARGO_BIN_EXE_streamgauge"), program.path("program")).unwrap();
    let process = upgrade(&serving, |name| serving.signal(name));
    process.stop();
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn stop_during_an_upgrade_stops_both_processes() {
    let program = Program::new(LEDGER);
    let serving = linked(&program);
    let (mut running, _) = stream(serving.address, 50);
    replace(&program, "echo $$ > starting.pid; exec sleep 60");
    serving.signal("-USR2");
    let id = || fs::read_to_string(program.path("starting.pid")).unwrap_or_default();
    wait_for("the start", || id().ends_with('\n'));
    let starting = Process(id().trim().parse().unwrap());
    serving.signal("-USR2");
    wait_for("the refusal", || serving.has_logged("is starting already"));
    request(serving.address);
    serving.signal("-TERM");
    wait_for("the end of the new process", || !starting.is_running());
    assert!(is_whole(&mut running));
    let (status, log) = serving.end_with_status();
    assert_eq!(status, Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("the new process is stopped too")), "{log:#?}");
}

#[test]
fn earlier_process_that_is_killed_takes_only_its_own_streams() {
    let program = Program::new(LEDGER);
    let serving = program.serve();
    let address = serving.address;
    let (mut lost, _) = stream(address, 500);
    let process = upgrade(&serving, |name| serving.signal(name));
    let (mut kept, id) = stream(address, 50);
    serving.signal("-KILL");
    assert!(!is_whole(&mut lost));
    let expected = HashSet::from([id, request(address)]);
    process.signal("-TERM");
    assert!(is_whole(&mut kept));
    process.stop();
    assert_eq!(serving.end_with_status().0, None);
    assert_eq!(ids(&program.path("usage.db")), expected);
}

#[test]
fn drain_after_an_upgrade_ends_at_its_limit_or_a_signal() {
    for (limit, signals) in [("300ms", &[][..]), ("", &["-TERM"][..])] {
        let program = Program::new(LEDGER);
        let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
        let server = format!("[server]\ndrain_timeout = \"300ms\"\nupgrade_drain = \"{limit}\"\n");
        program.configure(&text.replace("[server]\n", &server));
        let serving = program.serve();
        let (mut long, _) = stream(serving.address, 3000);
        let process = upgrade(&serving, |name| serving.signal(name));
        if !signals.is_empty() {
            thread::sleep(Duration::from_millis(600));
            assert!(!serving.has_logged("they are cut"), "there is no limit");
        }
        signals.iter().for_each(|name| serving.signal(name));
        assert!(!is_whole(&mut long), "{limit:?}");
        request(serving.address);
        process.stop();
        assert_eq!(serving.end_with_status().0, Some(0), "{limit:?}");
    }
}

#[test]
fn address_that_has_changed_is_opened_by_the_new_process() {
    let (admin, other) = (free_address(), free_address());
    let program = Program::with_admin(&format!("listen = \"{admin}\""), LEDGER);
    let serving = program.serve();
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{other}\"")));
    let process = upgrade(&serving, |name| serving.signal(name));
    request(other);
    wait_for("the end of the earlier port", || Client::try_connect(serving.address).is_none());
    let ready = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    assert_eq!(Client::connect(admin).send(ready).response().status(), 200, "the admin port goes on");
    process.stop();
    assert_eq!(serving.end_with_status().0, Some(0));
}

//! Metering reports its failures: whatever happens to the log or to one sink, requests are served,
//! the other sinks are complete, `/readyz` reports it, and the process ends on request.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, PATIENCE, Program, Response, free_address, ids};

/// Enough for the access lines and the JSON lines to fill a pipe several times.
const MANY: usize = 600;

/// The longest end if something is stuck: the sinks' grace, and room for a slow machine.
const DEADLINE: Duration = Duration::from_secs(15);

/// The longest time for the end after a second signal.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A proxy that is found without reading its log.
struct Served {
    child: Child,
    proxy: SocketAddr,
    admin: SocketAddr,
}

/// The program with this in `[ledger]` besides the SQLite file, and the address of its admin pages.
fn program(ledger: &str) -> (Program, SocketAddr) {
    let admin = free_address();
    let keys = format!("listen = \"{admin}\"\ntoken = {{ value = \"the-admin-token-of-the-test\" }}");
    (Program::with_admin(&keys, &format!("path = \"a.db\"\n{ledger}")), admin)
}

/// Starts it with every access line in its log.
fn serve((program, admin): &(Program, SocketAddr), set: impl FnOnce(&mut Command)) -> Served {
    let proxy = free_address();
    let mut command = program.command(&["serve", "--log", "info", "--listen", &proxy.to_string()]);
    set(&mut command);
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    while Client::try_connect(proxy).is_none() || Client::try_connect(*admin).is_none() {
        assert!(begun.elapsed() < PATIENCE, "it does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Served { child, proxy, admin: *admin }
}

impl Served {
    /// Sends this many requests, each of which must succeed.
    fn send(&self, count: usize) {
        let mut client = Client::connect(self.proxy);
        for number in 0..count {
            let response =
                client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}").response();
            assert_eq!(response.status(), 200, "request {number}");
        }
    }

    fn ask_admin(&self, request: &str) -> Response {
        Client::connect(self.admin).send(request).response()
    }

    fn ready(&self) -> (u16, String) {
        let response = self.ask_admin(&format!("GET /readyz HTTP/1.1\r\nhost: {}\r\n\r\n", self.admin));
        (response.status(), response.text().to_owned())
    }

    /// Waits until `/readyz` has this line. Returns the status of that response.
    fn wait_for_ready(&self, line: &str) -> u16 {
        let begun = Instant::now();
        loop {
            let (status, text) = self.ready();
            if text.contains(line) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{line:?} is never in\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let head = format!("host: {}\r\nauthorization: Bearer the-admin-token-of-the-test\r\n", self.admin);
        let response = self.ask_admin(&format!("GET /metrics HTTP/1.1\r\n{head}\r\n"));
        let line = response.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{}", response.text())).parse().unwrap()
    }

    fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end within this time.
    fn end(&mut self, within: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < within, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rows(program: &(Program, SocketAddr)) -> usize {
    ids(&program.0.path("a.db")).len()
}

/// Serves with this stderr: all requests succeed, all are in the ledger, lost lines are counted,
/// and the end is normal.
fn serves_whatever_stderr_is(stderr: Stdio, after_start: impl FnOnce()) {
    let program = program("");
    let mut served = serve(&program, |command| {
        command.stderr(stderr);
    });
    after_start();
    served.send(MANY);
    assert_eq!(served.wait_for_ready("ready\n"), 200);
    served.terminate();
    assert_eq!(served.end(DEADLINE).code(), Some(0));
    assert_eq!(rows(&program), MANY);
}

#[test]
fn stderr_without_a_reader_costs_no_record() {
    let (reader, writer) = io::pipe().unwrap();
    serves_whatever_stderr_is(writer.into(), || drop(reader));
}

#[test]
fn stderr_on_a_full_disk_costs_no_record() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    serves_whatever_stderr_is(full.into(), || ());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn stderr_that_nobody_reads_costs_no_record() {
    let (_reader, writer) = io::pipe().unwrap();
    serves_whatever_stderr_is(writer.into(), || ());
}

#[test]
fn lost_log_lines_are_counted_and_told() {
    let program = program("");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let served = serve(&program, |command| {
        command.stderr(full);
    });
    served.send(3);
    assert_eq!(served.wait_for_ready("lines lost"), 200);
    assert!(served.metric("streamgauge_log_lines_dropped_total") > 0);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn wrong_login_does_not_wait_for_a_stuck_stderr() {
    let program = program("");
    let (_reader, writer) = io::pipe().unwrap();
    let served = serve(&program, |command| {
        command.stderr(writer);
    });
    served.send(MANY);
    let (admin, form) = (served.admin, "token=wrong");
    let head =
        format!("host: {admin}\r\norigin: http://{admin}\r\ncontent-type: application/x-www-form-urlencoded");
    for _ in 0..2 {
        let login = served.ask_admin(&format!(
            "POST /login HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        ));
        assert_eq!(login.status(), 403, "{}", login.head);
        assert_eq!(served.ready().0, 200);
    }
}

/// Checks that a stuck sink blocks no other, and that `/readyz` reports it with this word. Returns
/// the exit status.
fn serves_beside_a_stuck_sink(program: &(Program, SocketAddr), mut served: Served, told: &str) -> i32 {
    served.send(MANY);
    assert_eq!(served.wait_for_ready("sink jsonl "), 200);
    assert_eq!(served.wait_for_ready(told), 200);
    let begun = Instant::now();
    while served.metric("streamgauge_sink_records_total{sink=\"ledger\",result=\"written\"}") < MANY as u64 {
        assert!(begun.elapsed() < PATIENCE, "the ledger is held");
        thread::sleep(Duration::from_millis(20));
    }
    served.terminate();
    let status = served.end(DEADLINE).code().expect("it was not killed");
    assert_eq!(rows(program), MANY);
    status
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn unread_stdout_holds_no_other_sink() {
    let program = program("jsonl = \"-\"");
    let (_reader, writer) = io::pipe().unwrap();
    let served = serve(&program, |command| {
        command.stdout(writer).stderr(Stdio::null());
    });
    let status = serves_beside_a_stuck_sink(&program, served, "stuck for");
    assert_eq!(status, 1, "records are given up at the end");
}

/// A FIFO whose reader, which is returned, reads nothing.
fn fifo(path: &Path) -> File {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn fifo_that_nobody_reads_holds_no_other_sink() {
    let program = program("jsonl = \"fifo\"");
    let _reader = fifo(&program.0.path("fifo"));
    let served = serve(&program, |command| {
        command.stderr(Stdio::null());
    });
    // Written without blocking: bytes without room for a second are lost immediately.
    assert_eq!(serves_beside_a_stuck_sink(&program, served, "records lost"), 0);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn second_signal_ends_at_once_beside_stuck_sinks() {
    let program = program("jsonl = \"-\"");
    let (_stdout, stdout) = io::pipe().unwrap();
    let (_stderr, stderr) = io::pipe().unwrap();
    let mut served = serve(&program, |command| {
        command.stdout(stdout).stderr(stderr);
    });
    served.send(MANY);
    let waiting = || served.metric("streamgauge_sink_waiting{sink=\"jsonl\"}");
    let begun = Instant::now();
    while waiting() == 0 {
        assert!(begun.elapsed() < PATIENCE, "stdout is not full");
        served.send(1);
    }
    served.terminate();
    // A second signal counts only after half a second.
    thread::sleep(Duration::from_millis(700));
    assert!(served.child.try_wait().unwrap().is_none(), "the first signal waits for the sink");
    served.terminate();
    assert_eq!(served.end(AT_ONCE).code(), Some(1));
    assert!(rows(&program) >= MANY);
}

#[test]
fn log_lines_are_complete_after_an_ordinary_end() {
    let program = program("");
    let (mut reader, writer) = io::pipe().unwrap();
    let mut served = serve(&program, |command| {
        command.stderr(writer);
    });
    let log = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text).unwrap()
    });
    served.send(50);
    served.terminate();
    assert_eq!(served.end(DEADLINE).code(), Some(0));
    let log = log.join().unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("POST 200")).count(), 50, "{log}");
    assert!(log.contains("SIGTERM"), "{log}");
}

/// The program's behaviour if its threads panic (src/support/threads/fault.rs).
#[cfg(feature = "faults")]
mod panics;

//! Unix sockets of the real program: one that it listens on, and one behind which its upstream is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, PATIENCE, Program};

const NO_LEDGER: &str = "path = \"\"";

/// A program that listens on a Unix socket in its folder. Dropping this ends it.
struct Listening {
    child: Child,
    path: PathBuf,
}

impl Listening {
    fn start(program: &Program) -> Self {
        let path = program.path("a.sock");
        let mut command = program.command(&["serve"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the socket", || UnixStream::connect(&path).is_ok());
        Self { child, path }
    }

    fn signal(&self, name: &str) {
        crate::harness::program::signal(&self.child, name);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Makes the program listen on `a.sock` in its folder, with these permissions.
fn listen_on_socket(program: &Program, mode: &str) {
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    let socket = format!("listen = \"unix:{}\"\nsocket_mode = \"{mode}\"", program.path("a.sock").display());
    program
        .configure(&text.replace("listen = \"127.0.0.1:0\"", &socket).replace("workers = 1", "workers = 2"));
}

/// The whole response to a streamed request.
fn stream(path: &Path) -> String {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = "{\"model\":\"sim:events=5\",\"messages\":[],\"stream\":true}";
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    write!(client, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    response
}

fn assert_whole(response: &str) {
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("data: [DONE]") && response.ends_with("\r\n0\r\n\r\n"), "{response}");
}

#[test]
fn unix_socket_has_its_mode_and_is_replaced_at_the_next_start() {
    let program = Program::new(NO_LEDGER);
    listen_on_socket(&program, "0660");
    let mut listening = Listening::start(&program);
    assert_eq!(fs::metadata(&listening.path).unwrap().permissions().mode() & 0o777, 0o660);
    for _ in 0..5 {
        assert_whole(&stream(&listening.path));
    }
    let second = program.command(&["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("server.listen") && said.contains("a process listens there"), "{said}");
    assert_whole(&stream(&listening.path));
    listening.signal("-TERM");
    assert_eq!(listening.child.wait().unwrap().code(), Some(0));
    assert!(UnixStream::connect(&listening.path).is_err());
    listening = Listening::start(&program);
    assert_whole(&stream(&listening.path));
}

#[test]
fn upgrade_passes_a_unix_socket_on() {
    let program = Program::new("path = \"\"\njsonl = \"usage.jsonl\"");
    listen_on_socket(&program, "0600");
    let mut listening = Listening::start(&program);
    assert_whole(&stream(&listening.path));
    let socket = fs::metadata(&listening.path).unwrap().ino();
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&text.replace("socket_mode = \"0600\"", "socket_mode = \"0640\""));
    listening.signal("-USR2");
    assert_eq!(listening.child.wait().unwrap().code(), Some(0));
    assert_whole(&stream(&listening.path));
    let found = fs::metadata(&listening.path).unwrap();
    assert_eq!(found.ino(), socket, "the successor listens on the same socket");
    assert_eq!(found.permissions().mode() & 0o777, 0o640, "with the permissions of its configuration");
    program.end_successors();
}

#[test]
fn upstream_behind_a_unix_socket_is_reached() {
    let behind = Program::new(NO_LEDGER);
    listen_on_socket(&behind, "0600");
    let listening = Listening::start(&behind);
    let program = Program::unconfigured();
    let configuration = |socket: &Path| {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n[ledger]\npath = \"\"\n\
             [upstreams.up]\nprovider = \"other\"\nurl = \"unix:{}:/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n",
            socket.display()
        )
    };
    program.configure(&configuration(&listening.path));
    // Forward proxies are not for sockets.
    let mut command = program.command(&["serve"]);
    command.env("HTTP_PROXY", "http://127.0.0.1:1");
    let serving = program.serve_as(command);
    for _ in 0..3 {
        let mut client = Client::connect(serving.address);
        client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
        let response = client.next_response().unwrap();
        assert_eq!(response.status(), 200, "{}", response.text());
    }
    drop(listening);
    let mut client = Client::connect(serving.address);
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
    assert_eq!(client.next_response().unwrap().error()["code"], "upstream_unreachable");
}

//! Admin pages on a Unix socket of the real program, and the commands that use it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::harness::{Program, Serving};

const NO_LEDGER: &str = "path = \"\"";

/// A program whose admin pages are on `admin.sock` in its folder.
fn start(mode: &str, more: &str) -> (Program, Serving) {
    let program = Program::with_admin("listen = \"\"", NO_LEDGER);
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    let socket = program.path("admin.sock");
    let admin = format!("[admin]\nlisten = \"unix:{}\"\nsocket_mode = \"{mode}\"\n{more}", socket.display());
    program.configure(&text.replace("[admin]\nlisten = \"\"", &admin));
    let serving = program.serve();
    (program, serving)
}

/// The exit status and the output of a command of the program.
fn command(program: &Program, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = program.command(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The whole response to a GET with these lines of headers.
fn get(socket: &Path, path: &str, headers: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn mode(socket: &Path) -> u32 {
    fs::metadata(socket).unwrap().permissions().mode() & 0o777
}

#[test]
fn commands_reach_the_admin_pages_over_their_socket() {
    let (program, serving) = start("0660", "");
    let socket = program.path("admin.sock");
    assert_eq!(mode(&socket), 0o660);
    let (status, out, said) = command(&program, &["health", "--ready"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(out.starts_with("ready\n"), "{out}");
    let (status, out, said) = command(&program, &["reload"]);
    assert_eq!(status, Some(0), "{out}{said}");
    let (status, ..) = command(&Program::unconfigured(), &["health", "--address", &address(&socket)]);
    assert_eq!(status, Some(0));
    // A second process must not take the socket over.
    let (status, _, said) = command(&program, &["serve"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("admin.listen: cannot listen on") && said.contains("listens there"), "{said}");
    serving.signal("-TERM");
    assert_eq!(serving.end_with_status().0, Some(0));
    let (status, _, said) = command(&program, &["health"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("admin.sock/healthz: ") && said.contains("streamgauge does not run"), "{said}");
}

fn address(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

#[test]
fn admin_socket_has_the_rules_of_a_port_for_hosts_and_tokens() {
    let (program, _serving) =
        start("0600", "token = { value = \"a-token-of-some-length\" }\nhosts = [\"ops.example\"]\n");
    let socket = program.path("admin.sock");
    let status = |path: &str, headers: &str| get(&socket, path, headers)["HTTP/1.1 ".len()..][..3].to_owned();
    assert_eq!(status("/metrics", "host: evil.example\r\n"), "421", "a proxy passes on what a page names");
    for host in ["localhost", "127.0.0.1", "ops.example"] {
        assert_eq!(status("/metrics", &format!("host: {host}\r\n")), "401", "{host}");
        let token = "authorization: Bearer a-token-of-some-length\r\n";
        assert_eq!(status("/metrics", &format!("host: {host}\r\n{token}")), "200", "{host}");
    }
    assert_eq!(status("/healthz", "host: localhost\r\n"), "200");
}

#[test]
fn upgrade_passes_the_admin_socket_on() {
    let (program, serving) = start("0600", "");
    let socket = program.path("admin.sock");
    let before = fs::metadata(&socket).unwrap().ino();
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&text.replace("socket_mode = \"0600\"", "socket_mode = \"0640\""));
    serving.signal("-USR2");
    assert_eq!(serving.wait(), Some(0));
    assert_eq!(command(&program, &["health", "--ready"]).0, Some(0));
    assert_eq!(fs::metadata(&socket).unwrap().ino(), before, "the successor listens on the same socket");
    assert_eq!(mode(&socket), 0o640, "with the permissions of its configuration");
    program.end_successors();
}

//! `streamgauge keys` and the keys that it makes, for the tests of each store.

use std::process::{Command, Output};

use crate::harness::{Client, Program, Response};

pub fn keys(program: &Program, arguments: &[&str]) -> Command {
    program.command(&[&["keys"], arguments].concat())
}

/// The output of a command that succeeds.
pub fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same without the end of its last line: the key that `create` prints.
pub fn line(output: Output) -> String {
    text(output).trim_end().to_owned()
}

/// The id of a key.
pub fn id(key: &str) -> String {
    streamgauge::gate::KeyDigest::of(key.as_bytes()).id()
}

/// Sends a request without a body, so that the connection stays after a refusal.
pub fn ask(client: &mut Client, key: &str) -> Response {
    let head = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer";
    client.send(format!("{head} {key}\r\n\r\n")).response()
}

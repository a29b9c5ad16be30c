//! The access log: the contents of a line, its level, and the requests that have one.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::harness::{Client, Program};

/// The lines of these requests, given as the members of the body besides the messages.
fn lines(access: &str, requests: &[&str]) -> Vec<Value> {
    let program = Program::new("path = \"a.db\"");
    let file = program.path("streamgauge.toml");
    let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
    writeln!(file, "[[prices]]\nmodel = \"*\"\ninput = 1\noutput = 2\n[tags]\nnames = [\"team\"]").unwrap();
    let mut command = program.command(&["serve", "--log", "info"]);
    command.env("STREAMGAUGE_LOG__ACCESS", access);
    let serving = program.serve_as(command);
    for members in requests {
        let body = format!("{{{members},\"messages\":[]}}");
        let request = format!(
            "POST /v1/chat/completions?secret=1 HTTP/1.1\r\nhost: localhost\r\nx-request-id: mine-1\r\n\
             x-streamgauge-tags: team=a b\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Client::connect(serving.address).send(request).response();
    }
    Client::connect(serving.address).send("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n").response();
    serving.signal("-TERM");
    let log = serving.end();
    let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == "streamgauge::access").collect()
}

const SERVED: &str = r#""model":"m:events=3","user":"ada""#;
const FAILED: &str = r#""model":"m:status=500""#;
const LIMITED: &str = r#""model":"m:status=429""#;

#[test]
fn an_access_line_says_who_asked_for_what_and_how_it_went() {
    let lines = lines("all", &[SERVED, FAILED, LIMITED]);
    let levels: Vec<_> =
        lines.iter().map(|line| (&line["level"], &line["status"], &line["outcome"])).collect();
    assert_eq!(
        levels,
        [
            (&json!("INFO"), &json!(200), &json!("complete")),
            (&json!("WARN"), &json!(500), &json!("upstream_error")),
            (&json!("INFO"), &json!(429), &json!("rate_limited")),
            (&json!("INFO"), &json!(404), &json!("rejected")),
        ]
    );
    let line = &lines[0];
    for (field, value) in [
        ("message", "POST 200"),
        ("method", "POST"),
        ("path", "/v1/chat/completions"),
        ("client_address", "127.0.0.1"),
        ("client", "anonymous"),
        ("user", "ada"),
        ("request_id", "mine-1"),
        ("tags", "{\"team\":\"a b\"}"),
        ("upstream", "up"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(line["cost"].as_str().unwrap().ends_with(" USD"), "{line}");
    assert!(line["upstream_request_id"].is_string(), "{line}");
    assert_eq!((&lines[3]["code"], &lines[3]["path"]), (&json!("unknown_path"), &json!("/nothing")));
    assert!(lines.iter().all(|line| !line.to_string().contains("secret")), "no query is logged");
}

#[test]
fn the_access_log_can_have_failures_only_or_nothing() {
    let statuses = |access: &str| -> Vec<_> {
        lines(access, &[SERVED, FAILED, LIMITED]).iter().map(|line| line["status"].clone()).collect()
    };
    assert_eq!(statuses("failures"), [500, 429, 404]);
    assert_eq!(statuses("off"), [0; 0]);
}

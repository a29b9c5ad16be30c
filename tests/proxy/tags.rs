//! Tags of requests: in which records they are, that a bad one costs no request, and what adds up by
//! them.

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::harness::postgres::Server;
use crate::harness::{
    CHAT_BODY, Client, PATIENCE, Program, Proxy, Request, Response, Serving, Upstream, free_address, proxy,
    sized, until, upstream,
};

const TAGS: &str = r#"
[tags]
names = ["team", "feature"]
metadata = ["team"]
metrics = ["team"]
"#;

const CLIENTS: &str = r#"
[clients.search]
key = { value = "sg-search-0123456789" }
keys = [{ value = "sg-batch-01234567890", tags = { feature = "batch" } }]
tags = { team = "search" }
[clients.other]
key = { value = "sg-other-0123456789a" }
"#;

/// A proxy whose upstream passes on what arrives.
fn watched(tables: &str) -> (Proxy, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            sender.send(request).unwrap();
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    (proxy().admin().upstream(&up).tables(tables).run(), requests)
}

fn ask(proxy: &Proxy, head: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {length}\r\n\r\n{body}"
    );
    proxy.client().send(request).response()
}

const PLAIN: &str = r#"{"model":"m","messages":[]}"#;

#[test]
fn tags_of_header_and_metadata_are_in_the_record() {
    let (proxy, requests) = watched(TAGS);
    for (head, body, tags) in [
        ("", PLAIN, Value::Null),
        (
            "X-Streamgauge-Tags: team=search, feature=summary\r\n",
            PLAIN,
            json!({"team": "search", "feature": "summary"}),
        ),
        (
            "x-streamgauge-tags: feature=a\r\nx-streamgauge-tags: feature=b\r\n",
            PLAIN,
            json!({"feature": "b"}),
        ),
        (
            "",
            r#"{"model":"m","metadata":{"team":"a\u0062","feature":"x","n":{"team":"y"}}}"#,
            json!({"team": "ab"}),
        ),
        (
            "x-streamgauge-tags: team=head\r\n",
            r#"{"metadata":{"team":"body"},"model":"m"}"#,
            json!({"team": "head"}),
        ),
    ] {
        let response = ask(&proxy, head, body);
        assert_eq!(response.status(), 200, "{head}: {}", response.text());
        assert_eq!(proxy.record()["tags"], tags, "{head} {body}");
        let request = requests.recv().unwrap();
        assert!(!request.head.to_ascii_lowercase().contains("streamgauge"), "{}", request.head);
        assert_eq!(request.body, body.as_bytes());
    }
}

#[test]
fn bad_tag_costs_no_request_and_is_counted() {
    let (proxy, _requests) = watched(TAGS);
    let long = "v".repeat(65);
    for (head, body, tags) in [
        ("x-streamgauge-tags: cost=7, team=a\r\n".to_owned(), PLAIN, json!({"team": "a"})),
        ("x-streamgauge-tags: team\r\n".to_owned(), PLAIN, Value::Null),
        (format!("x-streamgauge-tags: team={long}\r\n"), PLAIN, Value::Null),
        (String::new(), r#"{"model":"m","metadata":{"team":7}}"#, Value::Null),
    ] {
        assert_eq!(ask(&proxy, &head, body).status(), 200, "{head}");
        assert_eq!(proxy.record()["tags"], tags, "{head} {body}");
    }
    assert_eq!(proxy.metric("streamgauge_tags_dropped_total"), 4.0);
}

#[test]
fn fixed_tags_of_client_and_key_win() {
    let (proxy, _requests) = watched(&format!("{TAGS}{CLIENTS}"));
    let own = "x-streamgauge-tags: team=mine, feature=mine\r\n";
    for (key, head, tags) in [
        ("sg-search-0123456789", "", json!({"team": "search"})),
        ("sg-search-0123456789", own, json!({"team": "search", "feature": "mine"})),
        ("sg-batch-01234567890", "", json!({"team": "search", "feature": "batch"})),
        ("sg-batch-01234567890", own, json!({"team": "search", "feature": "batch"})),
        ("sg-other-0123456789a", "", Value::Null),
        ("sg-other-0123456789a", own, json!({"team": "mine", "feature": "mine"})),
    ] {
        ask(&proxy, &format!("api-key: {key}\r\n{head}"), PLAIN);
        assert_eq!(proxy.record()["tags"], tags, "{key} {head}");
    }
    ask(&proxy, &format!("api-key: unknown\r\n{own}"), PLAIN);
    assert_eq!(proxy.record()["tags"], Value::Null, "a client that is unknown has no tags");
}

#[test]
fn without_listed_tags_none_is_read() {
    let (proxy, requests) = watched("");
    ask(&proxy, "x-streamgauge-tags: team=a\r\n", r#"{"model":"m","metadata":{"team":"b"}}"#);
    assert_eq!(proxy.record()["tags"], Value::Null);
    assert!(!requests.recv().unwrap().head.contains("streamgauge"), "the header is not forwarded");
    assert_eq!(proxy.metric("streamgauge_tags_dropped_total"), 0.0);
}

#[test]
fn only_chosen_tags_are_in_metrics() {
    let (proxy, _requests) = watched(TAGS);
    for _ in 0..2 {
        ask(&proxy, "x-streamgauge-tags: team=search, feature=summary\r\n", PLAIN);
        proxy.record();
    }
    for line in [
        "streamgauge_tag_requests_total{tag=\"team\",value=\"search\"} 2",
        "streamgauge_tag_tokens_total{tag=\"team\",value=\"search\",type=\"input\"} 18",
    ] {
        let has_line = || proxy.page("/metrics").text().lines().any(|found| found == line).then_some(());
        until(PATIENCE, line, has_line);
    }
    let page = proxy.page("/metrics");
    assert!(!page.text().contains("summary"), "{}", page.text());
}

#[test]
fn reload_changes_the_listed_tags() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let text = |names: &str| proxy().upstream(&up).tables(&format!("[tags]\nnames = {names}")).text();
    fs::write(&path, text("[]")).unwrap();
    let proxy = proxy().run_from(&path);
    for (names, tags) in [
        ("[]", Value::Null),
        ("[\"team\"]", json!({"team": "a"})),
        ("[\"feature\"]", json!({"feature": "b"})),
    ] {
        fs::write(&path, text(names)).unwrap();
        proxy.reload();
        ask(&proxy, "x-streamgauge-tags: team=a, feature=b\r\n", PLAIN);
        assert_eq!(proxy.record()["tags"], tags, "{names}");
    }
}

fn get(admin: SocketAddr, path: &str) -> String {
    let response =
        Client::connect(admin).send(format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n")).response();
    assert_eq!(response.status(), 200, "{path}: {}", response.text());
    response.text().to_owned()
}

/// A program with pages of `ledger`, which has run requests with tags: two of search, one of them
/// with a feature, one of another team, and one without tags.
fn tagged(ledger: &str, pages: &str) -> (Program, Serving, SocketAddr) {
    let admin = free_address();
    let keys = format!("listen = \"{admin}\"\nledger = \"{pages}\"");
    let program = Program::with_admin(&keys, &format!("{ledger}\n[tags]\nnames = [\"team\", \"feature\"]"));
    if pages == "postgres" {
        let output = program.command(&["ledger", "migrate"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let serving = program.serve();
    for tags in ["team=search, feature=\"a\"", "team=search", "team=other", ""] {
        let head = format!("host: localhost\r\nx-streamgauge-tags: {tags}");
        let length = PLAIN.len();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{PLAIN}"
        );
        assert_eq!(Client::connect(serving.address).send(request).response().status(), 200);
    }
    until(PATIENCE, "the record of each request", || {
        let sums: Value = serde_json::from_str(&get(admin, "/usage?since=1h&by=client")).unwrap();
        (sums["total"]["requests"] == 4).then_some(())
    });
    (program, serving, admin)
}

/// Checks the sums, the records and the pages of [`tagged`].
fn check_sums(program: &Program, admin: SocketAddr, from: &str) {
    let command = |arguments: &[&str]| -> Value {
        let output = program.usage(&[&["--from", from, "--format", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let groups = |sums: &Value| -> Vec<Value> {
        let groups = sums["groups"].as_array().unwrap().iter();
        groups.map(|group| json!([group["tag.team"], group["requests"]])).collect()
    };
    let expected = [json!(["other", 1]), json!(["search", 2]), json!([null, 1])];
    let sums = command(&["--by", "tag.team", "--attempts"]);
    assert_eq!((groups(&sums), &sums["by"]), (expected.to_vec(), &json!(["tag.team"])));
    let page: Value = serde_json::from_str(&get(admin, "/usage?since=1h&by=tag.team")).unwrap();
    assert_eq!(groups(&page), expected);
    let sorted = command(&["--by", "tag.team", "--sort", "-tag.team"]);
    assert_eq!(groups(&sorted)[0], json!(["search", 2]));

    let requests = |sums: &Value| sums["total"]["requests"].clone();
    assert_eq!(requests(&command(&["--tag", "team=search"])), 2);
    assert_eq!(requests(&command(&["--tag", "team=search", "--tag", "feature=\"a\""])), 1);
    let page: Value = serde_json::from_str(&get(admin, "/usage?since=1h&tag.team=search")).unwrap();
    assert_eq!(requests(&page), 2);
    let csv = get(admin, "/usage?since=1h&by=tag.team&format=csv");
    assert!(csv.starts_with("tag.team,") && csv.contains("\nsearch,2,"), "{csv}");

    let records: Value = serde_json::from_str(&get(admin, "/records?since=1h&tag.feature=%22a%22")).unwrap();
    assert_eq!(records["records"].as_array().unwrap().len(), 1, "{records}");
    assert_eq!(records["records"][0]["tags"], json!({"team": "search", "feature": "\"a\""}));

    let page = get(admin, "/?tab=tag.team&split=tag.feature");
    for part in [
        "tab=tag.team",
        "tab=tag.feature",
        "name=\"tag.team\"",
        "<option value=\"search\">",
        "tag.team=search&amp;split=tag.feature&amp;tab=tag.team\" title=\"search\"><bdi>search</bdi></a>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let page = get(admin, "/?tag.team=other");
    assert!(page.contains("value=\"other\"") && !page.contains("tab=tag.feature"), "{page}");
    assert!(get(admin, "/?tag.team=nobody").contains("Clear the filters"));
}

#[test]
fn command_and_pages_add_up_by_tags() {
    let (program, serving, admin) = tagged("path = \"usage.db\"", "sqlite");
    check_sums(&program, admin, "sqlite");
    for (argument, reason) in [
        (&["--by", "tag.Team"][..], "\"tag.Team\" is none of model, "),
        (&["--tag", "team"], "write NAME=VALUE"),
        (&["--tag", "Team=a"], "\"Team\" is not the name of a tag"),
    ] {
        let output = program.usage(argument);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(reason), "{argument:?}: {stderr}");
    }
    serving.signal("-TERM");
    serving.end();
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn fleet_adds_up_by_tags() {
    let server = Server::start();
    let ledger = format!("path = \"usage.db\"\n[ledger.postgres]\nurl = {{ value = \"{}\" }}", server.url());
    let (program, _serving, admin) = tagged(&ledger, "postgres");
    check_sums(&program, admin, "postgres");
    let sql = "SELECT count(*) FROM usage_records WHERE tags::jsonb->>'team' = 'search'";
    assert_eq!(server.number(sql), 2);
}

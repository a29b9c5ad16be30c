//! Tokens that attempts reported before their response was thrown away.

use serde_json::{Value, json};

use crate::harness::encoders::{header_value, whole};
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Program, Proxy, Upstream, proxy, sized, upstream,
};

const PATH: &str = "/v1/chat/completions";

const JSON: &str = "application/json";

/// An error after the event in which Anthropic reports the input.
const STARTED: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n\
     event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";

/// An error that reports usage itself.
const FAILED: &str = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"x\"},\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";

/// The body of an error status that reports usage.
const REFUSED: &str =
    r#"{"error":{"message":"x","code":"x"},"usage":{"prompt_tokens":25,"completion_tokens":1}}"#;

/// The tables of a group of `a` and then `b`.
const TABLES: &str = "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[groups.chat.retry]\nbudget = 10\n\
     [groups.chat.breaker]\nfailures = 0\nsuccess_rate = 0\n[[routes]]\nupstream = \"chat\"\n";

fn fallback(a: &Upstream, b: &Upstream, lines: &str) -> Proxy {
    proxy().other("a", a.address).tables(lines).other("b", b.address).tables(TABLES).run()
}

fn good() -> Upstream {
    Upstream::responding(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()))
}

/// The upstream, tokens and `billed` of each attempt.
fn attempts(record: &Value) -> Vec<(&Value, &Value, &Value)> {
    let attempts = record["attempts"].as_array().unwrap_or_else(|| panic!("{record}"));
    attempts.iter().map(|each| (&each["upstream"], &each["tokens"], &each["billed"])).collect()
}

#[test]
fn attempt_keeps_the_tokens_that_it_reported() {
    let coded = whole("gzip", STARTED.as_bytes());
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {}\r\ncontent-length: {}\r\n\r\n",
        header_value("gzip"),
        coded.len()
    );
    for thrown_away in [
        sized("200 OK", "text/event-stream", STARTED.as_bytes()),
        sized("200 OK", "text/event-stream", FAILED.as_bytes()),
        [head.into_bytes(), coded].concat(),
        sized("429 Too Many Requests", JSON, REFUSED.as_bytes()),
        sized("503 Busy", JSON, REFUSED.as_bytes()),
    ] {
        let proxy = fallback(&Upstream::responding(thrown_away), &good(), "");
        let response = proxy.client().post(PATH, CHAT_REQUEST).response();
        assert_eq!(response.header("x-streamgauge-upstream"), Some("b"));
        let record = proxy.record();
        let tokens = json!({"input_tokens": 25, "output_tokens": 1});
        assert_eq!(
            attempts(&record),
            [(&"a".into(), &tokens, &"yes".into()), (&"b".into(), &Value::Null, &"yes".into())]
        );
        assert_eq!(record["usage_source"], "reported", "those of b: {record}");
    }
}

#[test]
fn tokens_of_the_relayed_limit_are_not_counted_twice() {
    let limit = |seconds: u32| {
        let text = sized("429 Too Many Requests", JSON, REFUSED.as_bytes());
        let text = String::from_utf8(text).unwrap();
        Upstream::responding(text.replacen("\r\n", &format!("\r\nretry-after: {seconds}\r\n"), 1))
    };
    let proxy = fallback(&limit(3), &limit(30), "");
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_eq!(response.header("retry-after"), Some("3"));
    let record = proxy.record();
    let tokens = json!({"input_tokens": 25, "output_tokens": 1});
    let [(_, relayed, _), (_, thrown_away, _)] = attempts(&record)[..] else { panic!("{record}") };
    assert_eq!((relayed, thrown_away, &record["input_tokens"]), (&Value::Null, &tokens, &25.into()));
}

#[test]
fn websocket_and_drain_keep_the_tokens_of_an_attempt() {
    let a = upstream(|connection| {
        while connection.head().is_some() {
            connection.send(sized("503 Busy", JSON, REFUSED.as_bytes()));
        }
    });
    let b = upstream(|connection| {
        connection.head().unwrap();
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        connection.wait_for_close();
    });
    let proxy = fallback(&a, &b, "");
    let mut client = proxy.client();
    client.send(
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(client.head().starts_with("HTTP/1.1 101"));
    drop(client);
    let tokens = json!({"input_tokens": 25, "output_tokens": 1});
    assert_eq!(attempts(&proxy.record())[0].1, &tokens);

    let a = Upstream::responding(sized("503 Busy", JSON, REFUSED.as_bytes()));
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let b = upstream(move |connection| {
        connection.request();
        let response = sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes());
        let (head, rest) = response.split_at(response.len() - CHAT_STREAM.len() + 40);
        connection.send(head);
        let _ = wait.lock().unwrap().recv();
        connection.send(rest);
        connection.wait_for_close();
    });
    let proxy = proxy_that_drains(&a, &b);
    let mut client = proxy.client();
    client.post(PATH, CHAT_REQUEST).head();
    client.reset();
    // The proxy sees that the client has left before it sees the rest.
    std::thread::sleep(std::time::Duration::from_millis(100));
    go_on.send(()).unwrap();
    let record = proxy.record();
    assert_eq!(record["usage_source"], "drained", "{record}");
    assert_eq!(attempts(&record)[0].1, &tokens);
}

fn proxy_that_drains(a: &Upstream, b: &Upstream) -> Proxy {
    let drain = "on_disconnect = \"drain\"";
    let builder = proxy().other("a", a.address).tables(drain).other("b", b.address).tables(drain);
    builder.tables(TABLES).run()
}

#[test]
fn usage_adds_the_attempts_to_their_upstreams_if_it_is_asked_to() {
    let a = Upstream::responding(sized("503 Busy", JSON, REFUSED.as_bytes()));
    let b = Upstream::responding(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
    let program = Program::unconfigured();
    let upstream = |name: &str, at: &Upstream| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"http://{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n",
            at.address
        )
    };
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n\
         [ledger]\npath = \"usage.db\"\n{}{}{TABLES}",
        upstream("a", &a),
        upstream("b", &b)
    ));
    let serving = program.serve();
    let mut client = crate::harness::Client::connect(serving.address);
    for _ in 0..3 {
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
    }
    serving.signal("-TERM");
    serving.end();
    let sums = |arguments: &[&str]| {
        let output = program.usage(&[&["--by", "upstream", "--format", "json"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let groups = report["groups"].as_array().unwrap().clone();
        let sum = |group: &Value| {
            (group["upstream"].clone(), group["requests"].clone(), group["input_tokens"].clone())
        };
        groups.iter().map(sum).collect::<Vec<_>>()
    };
    let own = ("b".into(), 3.into(), 27.into());
    assert_eq!(sums(&[]), std::slice::from_ref(&own));
    assert_eq!(sums(&["--attempts"]), [("a".into(), 0.into(), 75.into()), own]);
    assert_eq!(sums(&["--attempts", "--upstream", "a"]), [("a".into(), 0.into(), 75.into())]);
    assert_eq!(sums(&["--upstream", "a"]), []);
}

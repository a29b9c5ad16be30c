//! Groups: the members that a request is sent to, the client's response, and the records.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::proxy::Builder;
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Connection, PATIENCE, Proxy, Request, Response, Upstream,
    free_address, proxy, sized, until, upstream,
};

const PATH: &str = "/v1/chat/completions";

const JSON: &str = "application/json";

/// A member of a group, and the requests that it gets.
struct Member {
    up: Upstream,
    requests: Receiver<Request>,
}

/// A member with the same response to every request.
fn member(response: impl Into<Vec<u8>>) -> Member {
    let (seen, requests) = mpsc::channel();
    let response = response.into();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let _ = seen.send(request);
            connection.send(&response);
        }
    });
    Member { up, requests }
}

fn good() -> Member {
    member(sized("200 OK", JSON, CHAT_BODY.as_bytes()))
}

/// A member that refuses every request with this status and a body.
fn refusing(status: &str, code: &str) -> Member {
    member(sized(status, JSON, error_body(code).as_bytes()))
}

fn error_body(code: &str) -> String {
    json!({"error": {"message": format!("This is {code}."), "type": "invalid_request_error", "code": code}})
        .to_string()
}

/// A member that closes the connection of every request.
fn closing() -> Member {
    let (seen, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        if let Some(request) = connection.request() {
            let _ = seen.send(request);
        }
    });
    Member { up, requests }
}

/// A member that responds to one request, and ends while it has the next of the same connection.
fn dying() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut connection = Connection::accept(&listener);
        connection.request().unwrap();
        connection.send(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
        connection.request().unwrap();
        drop(listener);
    });
    address
}

impl Member {
    fn count(&self) -> usize {
        self.requests.try_iter().count()
    }
}

/// A proxy whose group `chat` has these upstreams, named a, b and so on, each in a tier of its own.
fn tiers(addresses: &[SocketAddr], lines: &str) -> Builder {
    let names = ["a", "b", "c", "d"];
    let tiers: Vec<_> = names[..addresses.len()].iter().map(|name| format!("[\"{name}\"]")).collect();
    group(addresses, &format!("[{}]", tiers.join(", ")), lines)
}

/// A proxy with these tiers.
fn group(addresses: &[SocketAddr], tiers: &str, lines: &str) -> Builder {
    let builder = ["a", "b", "c", "d"]
        .into_iter()
        .zip(addresses)
        .fold(proxy(), |builder, (name, address)| builder.other(name, *address));
    builder.tables(&format!("[groups.chat]\ntiers = {tiers}\n[[routes]]\nupstream = \"chat\"\n{lines}"))
}

const RETRY: &str = "[groups.chat.retry]\n";

fn ask(proxy: &Proxy) -> (Response, Value) {
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    (response, proxy.record())
}

/// Waits until a record is counted.
fn has_metric(proxy: &Proxy, start: &str) {
    until(PATIENCE, start, || {
        proxy.page("/metrics").text().lines().any(|line| line.starts_with(start)).then_some(())
    });
}

/// The upstream and the number of attempts in the response's headers.
fn served(response: &Response) -> (&str, &str) {
    let header = |name| response.header(name).unwrap_or_else(|| panic!("{name} in {}", response.head));
    (header("x-streamgauge-upstream"), header("x-streamgauge-attempts"))
}

#[test]
fn failed_member_is_followed_by_the_next() {
    for (status, code) in [
        ("429 Too Many Requests", "rate_limit_exceeded"),
        ("500 Internal Server Error", "server_error"),
        ("502 Bad Gateway", "bad_gateway"),
        ("503 Service Unavailable", "overloaded"),
        ("529 Overloaded", "overloaded_error"),
        ("401 Unauthorized", "invalid_api_key"),
        ("403 Forbidden", "forbidden"),
        ("404 Not Found", "model_not_found"),
    ] {
        let (a, b) = (refusing(status, code), good());
        let proxy = tiers(&[a.up.address, b.up.address], "").run();
        let (response, record) = ask(&proxy);
        assert_eq!((response.status(), response.text()), (200, CHAT_BODY), "{status}");
        assert_eq!(served(&response), ("b", "2"));
        assert_eq!((a.count(), b.count()), (1, 1));
        assert_eq!((&record["upstream"], &record["group"]), (&"b".into(), &"chat".into()));
        assert_eq!((&record["outcome"], &record["total_tokens"]), (&"complete".into(), &10.into()));
        let number: u16 = status[..3].parse().unwrap();
        let attempts = record["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 2);
        for (attempt, upstream, status, billed) in
            [(&attempts[0], "a", number, "no"), (&attempts[1], "b", 200, "yes")]
        {
            assert_eq!((&attempt["upstream"], &attempt["status"]), (&upstream.into(), &status.into()));
            assert_eq!((&attempt["billed"], &attempt["model"]), (&billed.into(), &"gpt-asked".into()));
            assert!(attempt["ms"].as_f64() >= attempt["first_byte_ms"].as_f64(), "{attempt}");
        }
    }
}

#[test]
fn unreachable_member_is_followed_by_the_next() {
    let b = good();
    let proxy = tiers(&[free_address(), b.up.address], "").run();
    let (response, record) = ask(&proxy);
    assert_eq!((response.text(), served(&response)), (CHAT_BODY, ("b", "2")));
    let first = &record["attempts"][0];
    assert_eq!(
        (&first["status"], &first["first_byte_ms"], &first["billed"]),
        (&Value::Null, &Value::Null, &"no".into())
    );
    assert!(first["error"].as_str().unwrap().starts_with("upstream_unreachable: "), "{first}");
}

#[test]
fn refusal_of_the_request_itself_is_relayed() {
    for (status, code) in [
        ("400 Bad Request", "context_length_exceeded"),
        ("404 Not Found", "not_found"),
        ("413 Content Too Large", "too_large"),
        ("422 Unprocessable Entity", "invalid_value"),
        ("501 Not Implemented", "not_implemented"),
        ("504 Gateway Timeout", "timeout"),
        ("408 Request Timeout", "timeout"),
    ] {
        let (a, b) = (refusing(status, code), good());
        let proxy = tiers(&[a.up.address, b.up.address], "").run();
        let (response, record) = ask(&proxy);
        assert_eq!(
            (response.status().to_string().as_str(), response.text()),
            (&status[..3], &*error_body(code))
        );
        assert_eq!((served(&response), b.count()), (("a", "1"), 0));
        assert_eq!((&record["group"], &record["attempts"]), (&"chat".into(), &Value::Null));
    }
}

#[test]
fn doubtful_failure_is_tried_again_only_if_that_is_chosen() {
    let timeout = |status: &str| refusing(status, "timeout");
    for a in [closing(), timeout("504 Gateway Timeout"), timeout("408 Request Timeout")] {
        let b = good();
        let addresses = [a.up.address, b.up.address];
        let proxy = tiers(&addresses, "").run();
        assert!(ask(&proxy).0.status() >= 400);
        assert_eq!((a.count(), b.count()), (1, 0));
        let proxy = tiers(&addresses, &format!("{RETRY}on = [\"doubtful\"]")).run();
        let (response, record) = ask(&proxy);
        assert_eq!((response.text(), served(&response)), (CHAT_BODY, ("b", "2")));
        assert_eq!(record["attempts"][0]["billed"], "maybe");
    }
}

#[test]
fn member_that_ends_with_a_request_may_have_executed_it() {
    for (on, asked_elsewhere) in [("retryable", 0), ("closed", 1)] {
        let b = good();
        let proxy = tiers(&[dying(), b.up.address], &format!("{RETRY}on = [\"{on}\"]")).run();
        assert_eq!(ask(&proxy).0.status(), 200);
        let (response, record) = ask(&proxy);
        assert_eq!(b.count(), asked_elsewhere, "{on}: {}", response.text());
        if asked_elsewhere == 0 {
            assert_eq!(response.error()["code"], "upstream_protocol");
        } else {
            assert_eq!(record["attempts"][0]["billed"], "maybe", "{record}");
        }
    }
}

#[test]
fn member_without_a_response_in_time_is_followed_by_the_next() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let a = upstream(move |connection| {
        connection.request();
        let _ = wait.lock().unwrap().recv();
    });
    let b = good();
    let lines = format!("{RETRY}on = [\"retryable\", \"first_byte\"]\nfirst_byte = \"200ms\"");
    let proxy = tiers(&[a.address, b.up.address], &lines).run();
    let (response, record) = ask(&proxy);
    assert_eq!((response.text(), served(&response)), (CHAT_BODY, ("b", "2")));
    assert!(record["attempts"][0]["error"].as_str().unwrap().contains("retry.first_byte"), "{record}");
    drop(go_on);
}

#[test]
fn last_response_is_relayed_as_it_is() {
    let (a, b) = (refusing("503 Service Unavailable", "first"), refusing("500 Oh No", "second"));
    let proxy = tiers(&[a.up.address, b.up.address], "").run();
    let (response, record) = ask(&proxy);
    assert!(response.head.starts_with("HTTP/1.1 500 Oh No\r\n"), "{}", response.head);
    assert_eq!((response.text(), served(&response)), (&*error_body("second"), ("b", "2")));
    assert_eq!((&record["upstream"], &record["status"]), (&"b".into(), &500.into()));
    assert_eq!(record["error"], "This is second.");
}

#[test]
fn error_after_the_last_attempt_lists_all_of_them() {
    let a = refusing("503 Service Unavailable", "overloaded");
    let proxy = tiers(&[a.up.address, free_address()], "").run();
    let (response, record) = ask(&proxy);
    assert_eq!((response.status(), response.error()["code"].as_str()), (502, Some("upstream_unreachable")));
    let message = response.error()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("Attempts: 1. a: 503. 2. b: upstream_unreachable."), "{message}");
    assert_eq!((&record["upstream"], record["attempts"].as_array().unwrap().len()), (&"b".into(), 2));
}

#[test]
fn limit_that_ends_first_is_relayed_of_several() {
    let limited = |seconds: u32| {
        let body = error_body("rate_limit_exceeded");
        member(format!(
            "HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for (pauses, upstream, pause) in
        [([40, 20, 30], "b", "20"), ([10, 20, 30], "a", "10"), ([40, 30, 20], "c", "20")]
    {
        let members = pauses.map(limited);
        let addresses: Vec<_> = members.iter().map(|member| member.up.address).collect();
        let proxy = tiers(&addresses, "").run();
        let (response, record) = ask(&proxy);
        assert_eq!((response.status(), response.header("retry-after")), (429, Some(pause)));
        assert_eq!(served(&response), (upstream, "3"));
        assert_eq!((&record["upstream"], &record["outcome"]), (&upstream.into(), &"rate_limited".into()));
        assert_eq!(response.text(), error_body("rate_limit_exceeded"));

        let (response, record) = ask(&proxy);
        assert_eq!(
            (response.status(), response.error()["code"].as_str()),
            (429, Some("upstreams_rate_limited"))
        );
        let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=pause.parse().unwrap()).contains(&seconds), "the earliest end: {seconds}");
        let millis: u32 = response.header("retry-after-ms").unwrap().parse().unwrap();
        assert!(millis <= seconds * 1000 && millis > (seconds - 1) * 1000, "{millis}");
        assert_eq!((&record["outcome"], &record["group"]), (&"rate_limited".into(), &"chat".into()));
        assert!(members.iter().all(|member| member.count() == 1), "no member is asked before that");
    }
}

#[test]
fn long_limit_tells_the_sdk_not_to_retry() {
    let a = member("HTTP/1.1 429 Too Many Requests\r\nretry-after: 300\r\ncontent-length: 0\r\n\r\n");
    let proxy = tiers(&[a.up.address], "").run();
    assert_eq!(ask(&proxy).0.header("retry-after"), Some("300"), "the upstream's own response");
    let (response, _) = ask(&proxy);
    assert_eq!((response.header("retry-after"), response.header("x-should-retry")), (None, Some("false")));
}

#[test]
fn each_member_gets_the_request_as_it_is_written_for_it() {
    let (a, b) = (refusing("503 Service Unavailable", "overloaded"), good());
    let text = "provider = \"other\"\ndefault_model = \"d\"\n";
    let tables = format!(
        "[upstreams.a]\n{text}url = \"http://{}/v1\"\napi_key = {{ value = \"sk-a\" }}\nmodels = {{ \"gpt-asked\" = \"alias\" }}\n\
         [upstreams.b]\n{text}url = \"http://{}/other/v1\"\napi_key = {{ value = \"sk-b\" }}\nmodels = {{ \"gpt-asked\" = \"alias\" }}\n\
         [groups.chat]\ntiers = [[\"a\"], [{{ upstream = \"b\", model = \"own\" }}]]\n[[routes]]\nupstream = \"chat\"",
        a.up.address, b.up.address
    );
    let proxy = proxy().tables(&tables).run();
    let (response, record) = ask(&proxy);
    assert_eq!(response.status(), 200);
    let (first, second) = (a.requests.recv().unwrap(), b.requests.recv().unwrap());
    let body = |model: &str| CHAT_REQUEST.replace("gpt-asked", model);
    assert_eq!(
        (first.line(), second.line()),
        ("POST /v1/chat/completions HTTP/1.1", "POST /other/v1/chat/completions HTTP/1.1")
    );
    assert_eq!(
        (first.header("authorization"), second.header("authorization")),
        (Some("Bearer sk-a"), Some("Bearer sk-b"))
    );
    assert_eq!(
        (String::from_utf8(first.body).unwrap(), String::from_utf8(second.body).unwrap()),
        (body("alias"), body("own"))
    );
    assert_eq!((&record["model_requested"], &record["model"]), (&"gpt-asked".into(), &"gpt-real".into()));
    assert_eq!(
        (&record["attempts"][0]["model"], &record["attempts"][1]["model"]),
        (&"alias".into(), &"own".into())
    );
}

#[test]
fn requests_of_a_tier_are_shared_by_weight() {
    let members = [good(), good(), good()];
    let addresses: Vec<_> = members.iter().map(|member| member.up.address).collect();
    let tiers = "[[\"a\", { upstream = \"b\", weight = 3 }, { upstream = \"c\", weight = 0 }]]\nbalance = \"weight\"\nsticky = []";
    let proxy = group(&addresses, tiers, "").run();
    let mut client = proxy.client();
    for _ in 0..400 {
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 200);
    }
    let [a, b, c] = members.map(|member| member.count());
    assert_eq!((a + b, c), (400, 0));
    assert!((60..=140).contains(&a), "a has {a} of 400");
}

#[test]
fn all_members_of_a_tier_come_before_the_next_tier() {
    let members = [refusing("503 Busy", "x"), refusing("503 Busy", "x"), good()];
    let addresses: Vec<_> = members.iter().map(|member| member.up.address).collect();
    let proxy = group(&addresses, "[[\"a\", \"b\"], [\"c\"]]", "").run();
    let (response, _) = ask(&proxy);
    assert_eq!(served(&response), ("c", "3"));
    assert_eq!(members.map(|member| member.count()), [1, 1, 1]);
}

#[test]
fn attempts_and_deadlines_bound_the_number_of_members() {
    let refusing = || refusing("503 Busy", "x");
    for (lines, headers, expected) in [
        ("attempts = 1", "", [1, 0]),
        ("attempts = 2", "", [1, 1]),
        // No attempt begins less than a second before the SDK gives up.
        ("", "x-stainless-timeout: 1\r\n", [1, 0]),
        ("", "x-stainless-read-timeout: 0.5\r\n", [1, 0]),
        ("", "x-stainless-read-timeout: 600\r\n", [1, 1]),
        ("", "x-stainless-timeout: soon\r\n", [1, 1]),
    ] {
        let members = [refusing(), refusing()];
        let proxy = tiers(&[members[0].up.address, members[1].up.address], &format!("{RETRY}{lines}")).run();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{CHAT_REQUEST}",
            CHAT_REQUEST.len()
        );
        assert_eq!(proxy.client().send(request).response().status(), 503);
        assert_eq!(members.map(|member| member.count()), expected, "{lines} {headers}");
    }
}

#[test]
fn budget_bounds_what_failures_add() {
    let members = [refusing("500 Oh No", "x"), refusing("500 Oh No", "x")];
    let addresses = [members[0].up.address, members[1].up.address];
    let proxy = tiers(&addresses, &format!("{RETRY}budget = 0")).admin().run();
    let mut client = proxy.client();
    // A prompt of its own each, so that no breaker opens before the budget is used up.
    for _ in 0..40 {
        assert_eq!(client.post(PATH, CHAT_REQUEST).response().status(), 500);
    }
    let [a, b] = members.map(|member| member.count());
    assert!((3..=20).contains(&b) && a + b < 80, "a has {a} and b has {b} of 40");
    has_metric(&proxy, "streamgauge_retries_denied_total{group=\"chat\"}");
}

#[test]
fn retries_are_counted_by_member_and_reason() {
    let (a, b) = (refusing("503 Busy", "x"), good());
    let proxy = tiers(&[a.up.address, b.up.address], "").admin().run();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nx-stainless-retry-count: 1\r\ncontent-length: {}\r\n\r\n{CHAT_REQUEST}",
        CHAT_REQUEST.len()
    );
    assert_eq!(proxy.client().send(request).response().status(), 200);
    proxy.record();
    let name = "streamgauge_retries_total{group=\"chat\",upstream=\"a\",reason=\"503\"}";
    has_metric(&proxy, &format!("{name} 1"));
    has_metric(&proxy, "streamgauge_client_retries_total{group=\"chat\"} 1");
}

#[test]
fn stream_of_the_next_member_passes_byte_for_byte() {
    let a = refusing("503 Busy", "x");
    let b = member(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()));
    let proxy = tiers(&[a.up.address, b.up.address], "").run();
    let (response, record) = ask(&proxy);
    assert_eq!((response.text(), served(&response)), (CHAT_STREAM, ("b", "2")));
    assert_eq!((&record["total_tokens"], &record["stream"]), (&11.into(), &true.into()));
}

#[test]
fn next_member_is_tried_behind_keep_alive_comments() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let a = upstream(move |connection| {
        connection.request();
        let _ = wait.lock().unwrap().recv();
        connection.send(sized("503 Busy", JSON, b"{}"));
    });
    let b = member(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()));
    let proxy = proxy()
        .other("a", a.address)
        .tables("keep_alive_comments = \"20ms\"")
        .other("b", b.up.address)
        .tables("[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"")
        .run();
    let mut client = proxy.client();
    assert!(client.post(PATH, CHAT_REQUEST).head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.chunk(), b": keep-alive\n\n");
    go_on.send(()).unwrap();
    let mut events = Vec::new();
    while events.len() < CHAT_STREAM.len() {
        let chunk = client.chunk();
        if chunk != b": keep-alive\n\n" {
            events.extend(chunk);
        }
    }
    assert_eq!(String::from_utf8(events).unwrap(), CHAT_STREAM);
    client.rest_of_response();
    let record = proxy.record();
    assert_eq!((&record["upstream"], record["attempts"].as_array().unwrap().len()), (&"b".into(), 2));
}

#[test]
fn passing_body_goes_to_next_member_until_a_byte_is_taken() {
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--\r\n";
    let request = format!(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let b = good();
    let proxy = tiers(&[free_address(), b.up.address], "").run();
    let response = proxy.client().send(&request).response();
    assert_eq!((response.status(), served(&response)), (200, ("b", "2")));
    assert_eq!(b.requests.recv().unwrap().body, form.as_bytes());

    let (a, b) = (refusing("503 Busy", "x"), good());
    let proxy = tiers(&[a.up.address, b.up.address], "").run();
    let response = proxy.client().send(&request).response();
    assert_eq!((response.status(), served(&response), b.count()), (503, ("a", "1"), 0), "the body is gone");
}

#[test]
fn websocket_is_tried_until_a_member_grants_it() {
    let a = upstream(|connection| {
        while connection.head().is_some() {
            connection.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let b = upstream(|connection| {
        connection.head().unwrap();
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        // Close frames both ways.
        connection.send([0x88, 2, 3, 0xe8]);
        connection.wait_for_close();
    });
    let proxy = tiers(&[a.address, b.address], "").run();
    let mut client = proxy.client();
    client.send(
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("x-streamgauge-upstream: b"), "{head}");
    assert_eq!(client.read(4), [0x88, 2, 3, 0xe8]);
    client.send([0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]);
    drop(client);
    let record = proxy.record();
    assert_eq!((&record["upstream"], record["attempts"].as_array().unwrap().len()), (&"b".into(), 2));
}

#[test]
fn request_whose_client_has_left_is_not_tried_again() {
    let (asked, is_asked) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let a = upstream(move |connection| {
        connection.request();
        asked.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        connection.send(sized("503 Busy", JSON, b"{}"));
        connection.wait_for_close();
    });
    let b = good();
    let proxy = proxy()
        .other("a", a.address)
        .tables("on_disconnect = \"drain\"")
        .other("b", b.up.address)
        .tables("[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n[[routes]]\nupstream = \"chat\"")
        .run();
    let mut client = proxy.client();
    client.post(PATH, CHAT_REQUEST);
    is_asked.recv().unwrap();
    client.reset();
    // The drain begins before the response.
    std::thread::sleep(Duration::from_millis(100));
    go_on.send(()).unwrap();
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["upstream"]), (&"client_disconnected".into(), &"a".into()));
    assert_eq!(b.count(), 0);
}

#[test]
fn reload_changes_the_members_of_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let members = [good(), good()];
    let addresses = [members[0].up.address, members[1].up.address];
    let write = |tiers: &str| std::fs::write(&path, group(&addresses, tiers, "").text()).unwrap();
    write("[[\"a\"]]");
    let proxy = proxy().run_from(&path);
    assert_eq!(served(&ask(&proxy).0), ("a", "1"));
    write("[[\"b\"], [\"a\"]]");
    proxy.reload();
    assert_eq!(served(&ask(&proxy).0), ("b", "1"));
}

/// A path that only Azure serves.
const AZURE_PATH: &str = "/openai/deployments/d/chat/completions?api-version=2024-10-21";

/// A proxy whose group has these tiers of `a`, an upstream of another kind, and `azure`.
fn with_azure(a: &Member, azure: &Member, tiers: &str) -> Proxy {
    let tables = format!(
        "[upstreams.azure]\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}\n\
         [groups.chat]\ntiers = {tiers}\n[[routes]]\nupstream = \"chat\"",
        azure.up.address
    );
    proxy().other("a", a.up.address).tables(&tables).run()
}

#[test]
fn error_is_relayed_if_no_other_member_serves_the_path() {
    let (a, azure) = (good(), refusing("503 Service Unavailable", "busy"));
    let proxy = with_azure(&a, &azure, "[[\"azure\"], [\"a\"]]");
    let response = proxy.client().post(AZURE_PATH, CHAT_REQUEST).response();
    assert_eq!((response.status(), response.text()), (503, &*error_body("busy")));
    assert_eq!((served(&response), a.count()), (("azure", "1"), 0));
}

#[test]
fn member_that_does_not_serve_the_path_is_passed_over() {
    let (a, b) = (good(), good());
    let proxy = with_azure(&a, &b, "[[\"a\"], [\"azure\"]]");
    let response = proxy.client().post(AZURE_PATH, CHAT_REQUEST).response();
    assert_eq!((served(&response), a.count()), (("azure", "1"), 0));
    let response = proxy.client().post("/elsewhere", CHAT_REQUEST).response();
    assert_eq!((response.status(), response.error()["code"].as_str()), (404, Some("unknown_path")));
}

#[test]
fn failing_member_is_left_out_after_a_while() {
    let (a, b) = (closing(), good());
    let proxy = tiers(
        &[a.up.address, b.up.address],
        &format!("{RETRY}on = [\"retryable\", \"doubtful\"]\nbudget = 10"),
    )
    .run();
    let mut client = proxy.client();
    let started = Instant::now();
    for number in 0..20 {
        let request = CHAT_REQUEST.replace("Hi", &format!("Hi {number}"));
        assert_eq!(client.post(PATH, &request).response().status(), 200);
    }
    let asked = a.count();
    assert!((5..20).contains(&asked) || started.elapsed() > Duration::from_secs(1), "{asked} of 20");
}

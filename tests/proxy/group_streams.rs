//! Groups and streams: a first event that is an error, and streams that pass.

use std::sync::mpsc;
use std::time::Duration;

use crate::harness::encoders::{CODINGS, header_value, whole};
use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Connection, EVENTS_HEAD, LAST_CHUNK, Proxy, Response, Upstream, chunk, proxy,
    sized, upstream,
};

const EVENTS: &str = "text/event-stream";

const ERROR: &str = "data: {\"error\":{\"message\":\"Busy.\",\"type\":\"server_error\",\"code\":\"server_is_overloaded\"}}\n\n";

/// A proxy whose group tries `a` and then `b`.
fn fallback(a: &Upstream, b: &Upstream, lines: &str) -> Proxy {
    group(a, b, lines, "retryable")
}

/// The same, after failures of this class or word.
fn group(a: &Upstream, b: &Upstream, lines: &str, on: &str) -> Proxy {
    proxy()
        .other("a", a.address)
        .other("b", b.address)
        .tables(&format!(
            "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\n{lines}\n[groups.chat.retry]\nbudget = 10\non = [\"{on}\"]\n\
             [groups.chat.breaker]\nfailures = 0\nsuccess_rate = 0\n[[routes]]\nupstream = \"chat\""
        ))
        .run()
}

/// An upstream whose streams break off after this beginning.
fn upstream_that_breaks_off(beginning: &str) -> Upstream {
    let beginning = chunk(beginning.as_bytes());
    upstream(move |connection| {
        connection.request().unwrap();
        connection.send(EVENTS_HEAD);
        connection.send(&beginning);
    })
}

fn streaming(stream: &str) -> Upstream {
    Upstream::responding(sized("200 OK", EVENTS, stream.as_bytes()))
}

/// An upstream that sends each request's stream in the pieces that `pieces` returns.
fn in_pieces(pieces: impl Fn(usize) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Upstream {
    let number = std::sync::atomic::AtomicUsize::new(0);
    upstream(move |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.send(EVENTS_HEAD);
            for piece in pieces(number.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                connection.send(chunk(&piece));
                // A read of its own, mostly.
                std::thread::yield_now();
            }
            connection.send(LAST_CHUNK);
        }
    })
}

fn ask(proxy: &Proxy) -> Response {
    proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response()
}

fn assert_served_by(response: &Response, upstream: &str, text: &str) {
    assert_eq!(response.header("x-streamgauge-upstream"), Some(upstream), "{}", response.head);
    assert_eq!(response.text(), text);
}

#[test]
fn error_as_first_event_is_followed_by_the_next_member() {
    for (stream, code) in [
        (ERROR.to_owned(), "server_is_overloaded"),
        (format!(": comment\n\ndata:\n\n{ERROR}"), "server_is_overloaded"),
        ("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n".to_owned(), "overloaded_error"),
        ("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\ndata: {\"error\":{\"code\":429,\"message\":\"x\"}}\n\n".to_owned(), "429"),
        // Without its blank line.
        ("error: {\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}".to_owned(), "503"),
        (String::new(), "no event"),
        (": ping\n\n".to_owned(), "no event"),
    ] {
        let (a, b) = (streaming(&stream), streaming(CHAT_STREAM));
        let proxy = fallback(&a, &b, "");
        assert_served_by(&ask(&proxy), "b", CHAT_STREAM);
        let record = proxy.record();
        let first = &record["attempts"][0];
        assert_eq!((&first["status"], &first["billed"]), (&200.into(), &"no".into()), "{record}");
        assert_eq!(first["error"], format!("first_event: {code}"));
        assert_eq!((&record["total_tokens"], &record["outcome"]), (&11.into(), &"complete".into()));
    }
}

#[test]
fn stream_that_breaks_off_before_an_event_is_doubtful() {
    for (on, upstream, outcome) in [("retryable", "a", "truncated"), ("closed", "b", "complete")] {
        let a = upstream_that_breaks_off(": ping\n\n");
        let b = streaming(CHAT_STREAM);
        let proxy = group(&a, &b, "", on);
        let mut client = proxy.client();
        let head = client.post("/v1/chat/completions", CHAT_REQUEST).head();
        assert!(head.contains(&format!("x-streamgauge-upstream: {upstream}\r\n")), "{on}: {head}");
        let record = proxy.record();
        assert_eq!(record["outcome"], outcome, "{record}");
        if upstream == "a" {
            assert!(client.cut_body(&head).starts_with(": ping\n\n"));
        } else {
            let first = &record["attempts"][0];
            assert_eq!((&first["status"], &first["billed"]), (&200.into(), &"maybe".into()), "{record}");
            assert!(first["error"].as_str().unwrap().starts_with("upstream_truncated: "), "{first}");
        }
    }
}

#[test]
fn error_is_found_at_every_split_and_other_streams_pass() {
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null,\"usage\":null}}\n\n";
    let failed = format!(
        "{created}event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"error\":{{\"code\":\"server_error\",\"message\":\"x\"}}}}}}\n\n"
    );
    let good = format!(
        "{created}event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}}\n\n"
    );
    for (stream, expected) in [(failed, "b"), (good, "a")] {
        let (text, length) = (stream.clone(), stream.len());
        let a = in_pieces(move |number| {
            let (one, other) = text.as_bytes().split_at(1 + number % (length - 1));
            vec![one.to_vec(), other.to_vec()]
        });
        let b = streaming(CHAT_STREAM);
        let proxy = fallback(&a, &b, "");
        let mut client = proxy.client();
        for split in 1..length {
            let response = client.post("/v1/chat/completions", CHAT_REQUEST).response();
            let text = if expected == "a" { &*stream } else { CHAT_STREAM };
            assert_eq!(response.header("x-streamgauge-upstream"), Some(expected), "split at {split}");
            assert_eq!(response.text(), text, "split at {split}");
        }
    }
}

#[test]
fn error_is_found_behind_long_instructions_and_in_every_coding() {
    let instructions = "word ".repeat(12_000);
    let stream = format!(
        "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"instructions\":\"{instructions}\",\"error\":null}}}}\n\n\
         event: error\ndata: {{\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}\n\n"
    );
    let b = streaming(CHAT_STREAM);
    assert_served_by(&ask(&fallback(&streaming(&stream), &b, "")), "b", CHAT_STREAM);
    for coding in CODINGS {
        let coded = |text: &str| {
            let body = whole(coding, text.as_bytes());
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {EVENTS}\r\ncontent-encoding: {}\r\ncontent-length: {}\r\n\r\n",
                header_value(coding),
                body.len()
            );
            Upstream::responding([head.as_bytes(), &body].concat())
        };
        assert_served_by(&ask(&fallback(&coded(&stream), &b, "")), "b", CHAT_STREAM);
        let response = ask(&fallback(&coded(CHAT_STREAM), &b, ""));
        assert_eq!(response.header("x-streamgauge-upstream"), Some("a"));
        assert_eq!(response.body(), whole(coding, CHAT_STREAM.as_bytes()), "the coded bytes pass");
    }
}

#[test]
fn error_passes_as_it_came_where_no_other_member_is_left() {
    let (a, b) = (streaming(ERROR), streaming(&format!(": b\n\n{ERROR}")));
    assert_served_by(&ask(&fallback(&a, &b, "")), "b", &format!(": b\n\n{ERROR}"));
    assert_served_by(&ask(&fallback(&a, &b, "first_event = \"\"")), "a", ERROR);
    let invalid =
        "data: {\"error\":{\"type\":\"invalid_request_error\",\"code\":\"context_length_exceeded\"}}\n\n";
    assert_served_by(&ask(&fallback(&streaming(invalid), &b, "")), "a", invalid);
}

#[test]
fn undecided_beginning_is_released_after_its_time() {
    let created = "event: response.created\ndata: {\"type\":\"response.created\"}\n\n";
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let a = upstream(move |connection| {
        connection.request();
        connection.send([EVENTS_HEAD.as_bytes(), &chunk(created.as_bytes())].concat());
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
        connection.send([&chunk(ERROR.as_bytes()), LAST_CHUNK.as_bytes()].concat());
    });
    let proxy = fallback(&a, &streaming(CHAT_STREAM), "first_event = \"50ms\"");
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    assert_eq!(client.chunks(created.len()), created.as_bytes(), "the member thinks");
    go_on.send(()).unwrap();
    assert_eq!(client.chunks(ERROR.len()), ERROR.as_bytes());
    client.rest_of_response();
    assert_eq!(proxy.record()["upstream"], "a");
}

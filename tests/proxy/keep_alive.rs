//! Comments in silences: a load balancer that cuts silent connections must not cut a model that is
//! thinking.

use std::sync::mpsc;

use crate::harness::encoders::{header_value, whole};
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized, upstream,
};

const COMMENT: &[u8] = b": keep-alive\n\n";
const KEEP_ALIVE: &str = "keep_alive_comments = \"20ms\"";

/// An upstream that continues at the test's signal.
fn slow(parts: Vec<Vec<u8>>) -> (Upstream, mpsc::Sender<()>) {
    let (go_on, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        for part in &parts {
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            connection.send(part);
        }
        connection.wait_for_close();
    });
    (up, go_on)
}

#[test]
fn comments_come_before_response_and_in_silences_not_in_events() {
    let (first, rest) = CHAT_STREAM.split_at(CHAT_STREAM.find("\n\n").unwrap() + 2);
    let (half, other_half) = rest.split_at(20);
    let parts = vec![
        [EVENTS_HEAD.as_bytes(), &chunk(first.as_bytes())].concat(),
        chunk(half.as_bytes()),
        [&chunk(other_half.as_bytes()), LAST_CHUNK.as_bytes()].concat(),
    ];
    let (up, go_on) = slow(parts);
    let proxy = proxy().upstream(&up).tables(KEEP_ALIVE).run();
    let mut client = proxy.client();
    let head = client.post("/v1/chat/completions", CHAT_REQUEST).head();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    assert_eq!(client.chunk(), COMMENT, "before the response");
    assert_eq!(client.chunk(), COMMENT);
    go_on.send(()).unwrap();
    let mut next = || loop {
        let chunk = client.chunk();
        if chunk != COMMENT {
            return chunk;
        }
    };
    assert_eq!(next(), first.as_bytes());
    go_on.send(()).unwrap();
    assert_eq!(next(), half.as_bytes());
    go_on.send(()).unwrap();
    assert_eq!(client.chunk(), other_half.as_bytes(), "nothing comes inside an event");
    let record = proxy.record();
    assert_eq!(record["total_tokens"], 11);
    assert_eq!(record["outcome"], "complete");
    assert_eq!(record["response_bytes"], CHAT_STREAM.len(), "comments are ours, not the upstream's");
}

#[test]
fn an_error_after_the_first_comment_is_told_as_an_event() {
    let error = "{\"error\": {\"message\": \"Rate limit\",\n \"type\": \"requests\", \"code\": \"rate_limit_exceeded\"}}";
    let plain = "overloaded";
    for (status, kind, body, code, outcome) in [
        ("429 Too Many Requests", "application/json", error, "rate_limit_exceeded", "rate_limited"),
        ("503 Service Unavailable", "text/plain", plain, "upstream_refused", "upstream_error"),
    ] {
        let (up, go_on) = slow(vec![sized(status, kind, body.as_bytes())]);
        let proxy = proxy().upstream(&up).tables(KEEP_ALIVE).run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", CHAT_REQUEST).head();
        assert_eq!(client.chunk(), COMMENT);
        go_on.send(()).unwrap();
        let event = loop {
            let chunk = client.chunk();
            if chunk != COMMENT {
                break chunk;
            }
        };
        let event = String::from_utf8(event).unwrap();
        let event = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).unwrap();
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["error"]["code"], code);
        assert_eq!(client.rest(), b"", "no final chunk");
        let record = proxy.record();
        assert_eq!(record["outcome"], outcome);
        assert_eq!(record["status"], status[..3].parse::<u16>().unwrap());
    }
}

#[test]
fn response_without_stream_after_a_comment_is_an_upstream_error() {
    for (body, has_usage) in [(CHAT_BODY, true), ("{\"hello\":1}", false)] {
        let (up, go_on) = slow(vec![sized("200 OK", "application/json", body.as_bytes())]);
        let proxy = proxy().upstream(&up).tables(KEEP_ALIVE).run();
        let mut client = proxy.client();
        let head = client.post("/v1/chat/completions", CHAT_REQUEST).head();
        assert_eq!(client.chunk(), COMMENT);
        go_on.send(()).unwrap();
        assert!(client.cut_body(&head).contains("upstream_refused"));
        let record = proxy.record();
        assert_eq!(
            (&record["outcome"], &record["status"]),
            (&"upstream_error".into(), &200.into()),
            "{record}"
        );
        assert_eq!(record["error"], "upstream_refused: the response is not an event stream");
        // The upstream bills it.
        assert_eq!(record["usage_source"] == "reported", has_usage, "{record}");
    }
}

#[test]
fn upstream_that_fails_after_first_comment_yields_error_event() {
    let (up, go_on) = slow(vec![Vec::new()]);
    let proxy = proxy().upstream(&up).tables(KEEP_ALIVE).run();
    let mut client = proxy.client();
    let head = client.post("/v1/chat/completions", CHAT_REQUEST).head();
    assert_eq!(client.chunk(), COMMENT);
    drop(go_on);
    assert!(client.cut_body(&head).contains("upstream_protocol"));
    assert_eq!(proxy.record()["outcome"], "upstream_error");
}

#[test]
fn response_in_time_is_the_same_as_without_comments() {
    let up = Upstream::responding(sized("401 Unauthorized", "application/json", b"{}"));
    let proxy = proxy().upstream(&up).tables("keep_alive_comments = \"1h\"").run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!((response.status(), response.text()), (401, "{}"));
}

/// The client has a head without `Content-Encoding` when the encoded response arrives.
#[test]
fn encoded_stream_after_first_comment_is_decoded() {
    for coding in ["gzip", "zstd"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {}\r\n\
             transfer-encoding: chunked\r\n\r\n",
            header_value(coding)
        );
        let body = chunk(&whole(coding, CHAT_STREAM.as_bytes()));
        let (up, go_on) = slow(vec![[head.as_bytes(), &body, LAST_CHUNK.as_bytes()].concat()]);
        let proxy = proxy().upstream(&up).tables(KEEP_ALIVE).run();
        let mut client = proxy.client();
        // Usage is not requested on this endpoint, so that nothing else would decode it.
        client.post("/v1/messages", "{\"model\":\"m\",\"stream\":true}").head();
        assert_eq!(client.chunk(), COMMENT);
        go_on.send(()).unwrap();
        let mut events = Vec::new();
        while events.len() < CHAT_STREAM.len() {
            let chunk = client.chunk();
            events.extend_from_slice(if chunk == COMMENT { &[] } else { &chunk });
        }
        assert_eq!(String::from_utf8(events).unwrap(), CHAT_STREAM, "{coding}");
        assert_eq!(proxy.record()["outcome"], "complete");
    }
}

#[test]
fn encoded_error_after_first_comment_is_told_as_event() {
    let error = "{\"error\": {\"message\": \"Rate limit\", \"type\": \"requests\", \"code\": \"rate_limit_exceeded\"}}";
    let body = whole("gzip", error.as_bytes());
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let (up, go_on) = slow(vec![[head.as_bytes(), &body].concat()]);
    let proxy = proxy().upstream(&up).tables(KEEP_ALIVE).run();
    let mut client = proxy.client();
    let head = client.post("/v1/messages", "{\"model\":\"m\",\"stream\":true}").head();
    assert_eq!(client.chunk(), COMMENT);
    go_on.send(()).unwrap();
    assert!(client.cut_body(&head).contains("rate_limit_exceeded"));
    assert_eq!(proxy.record()["outcome"], "rate_limited");
}

//! An upstream's errors in the record: their cause, by status and by the contents of a stream, and
//! their text.

use serde_json::{Value, json};

use crate::harness::{CHAT_REQUEST, EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_status_of_the_upstream_decides_the_outcome() {
    let body = br#"{"error":{"message":"no","type":"server_error","code":"rate_limit_exceeded"}}"#;
    for (outcome, statuses) in [
        ("invalid_request", &[400, 402, 404, 405, 409, 413, 415, 418, 422, 451][..]),
        ("rate_limited", &[429]),
        ("upstream_error", &[401, 403, 408, 500, 502, 503, 504, 529]),
        ("complete", &[200, 201, 202]),
    ] {
        for status in statuses {
            let body: &[u8] = if *status < 300 { b"{}" } else { body };
            let up = Upstream::responding(sized(&format!("{status} Said"), "application/json", body));
            let proxy = proxy().upstream(&up).run();
            assert_eq!(proxy.client().post(CHAT, CHAT_REQUEST).response().status(), *status);
            let record = proxy.record();
            assert_eq!((&record["outcome"], &record["status"]), (&json!(outcome), &json!(status)));
        }
    }
}

#[test]
fn error_inside_a_stream_decides_by_code_and_then_by_type() {
    for (outcome, error) in [
        ("rate_limited", r#"{"message":"no","type":"tokens","code":"rate_limit_exceeded"}"#),
        ("rate_limited", r#"{"message":"no","type":"invalid_request_error","code":"insufficient_quota"}"#),
        ("rate_limited", r#"{"message":"no","code":429}"#),
        ("rate_limited", r#"{"type":"rate_limit_error","message":"no"}"#),
        ("invalid_request", r#"{"message":"no","type":"invalid_request_error","code":null}"#),
        ("invalid_request", r#"{"code":"context_length_exceeded","message":"no"}"#),
        ("invalid_request", r#"{"object":"error","message":"no","type":"BadRequestError","code":400}"#),
        ("upstream_error", r#"{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}"#),
        ("upstream_error", r#"{"message":"no","type":"server_error","code":null}"#),
        ("upstream_error", r#"{"message":"no","code":503,"status":"UNAVAILABLE"}"#),
        ("upstream_error", r#"{"message":"no"}"#),
        ("upstream_error", r#""no""#),
    ] {
        let stream = format!("data: {{\"choices\":[]}}\n\ndata: {{\"error\":{error}}}\n\n");
        let wire = [EVENTS_HEAD.as_bytes(), &chunk(stream.as_bytes()), LAST_CHUNK.as_bytes()].concat();
        let body = format!("{{\"error\":{error}}}");
        for wire in [wire, sized("200 OK", "application/json", body.as_bytes())] {
            let proxy = proxy().upstream(&Upstream::responding(wire)).run();
            proxy.client().post(CHAT, CHAT_REQUEST).response();
            let record = proxy.record();
            assert_eq!((&record["outcome"], &record["error"]), (&json!(outcome), &json!("no")), "{error}");
        }
    }
}

#[test]
fn an_error_event_of_other_endpoints_decides_likewise() {
    for (outcome, path, events) in [
        (
            "rate_limited",
            "/v1/responses",
            r#"event: error
data: {"type":"error","code":"rate_limit_exceeded","message":"no","param":null}
"#,
        ),
        (
            "invalid_request",
            "/v1/responses",
            r#"event: response.failed
data: {"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"no"}}}
"#,
        ),
        (
            "rate_limited",
            "/v1/messages",
            r#"event: error
data: {"type":"error","error":{"type":"rate_limit_error","message":"no"}}
"#,
        ),
        (
            "upstream_error",
            "/v1/messages",
            r#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"no"}}
"#,
        ),
        ("rate_limited", CHAT, "error: {\"code\":429,\"message\":\"no\",\"type\":\"x\"}\n"),
    ] {
        let wire = [EVENTS_HEAD.as_bytes(), &chunk(format!("{events}\n").as_bytes()), LAST_CHUNK.as_bytes()];
        let proxy = proxy().upstream(&Upstream::responding(wire.concat())).run();
        proxy.client().post(path, CHAT_REQUEST).response();
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["error"]), (&json!(outcome), &json!("no")), "{events}");
    }
}

#[test]
fn an_error_without_a_known_message_is_told_by_its_body() {
    let long = "é".repeat(2000);
    let escaped = format!("{{\"error\":\"{}\"}}", "\\u00e9".repeat(2000));
    for (kind, body, error) in [
        ("application/json", r#"{"detail":"Not Found"}"#, json!(r#"{"detail":"Not Found"}"#)),
        ("application/json", r#" [1, "no"] "#, json!(r#"[1, "no"]"#)),
        ("application/json", r#"{"message":"no such model"}"#, json!("no such model")),
        ("application/json", r#"{"error":{"code":"c"},"detail":"d"}"#, json!("c")),
        ("text/plain", "404 page not found\n", json!("404 page not found")),
        ("text/html", "<html><h1>Bad Gateway</h1>", json!("<html><h1>Bad Gateway</h1>")),
        ("text/plain", &format!("x{long}"), json!(format!("x{}", "é".repeat(511)))),
        ("application/json", &escaped, json!("é".repeat(512))),
        ("text/plain", "", Value::Null),
    ] {
        for status in ["404 Not Found", "503 Service Unavailable"] {
            let proxy = proxy().upstream(&Upstream::responding(sized(status, kind, body.as_bytes()))).run();
            proxy.client().post(CHAT, CHAT_REQUEST).response();
            assert_eq!(proxy.record()["error"], error, "{body:.40}");
        }
    }
    // A body that is not an error is not quoted.
    let proxy = proxy().upstream(&Upstream::responding(sized("200 OK", "text/plain", b"fine"))).run();
    proxy.client().post(CHAT, CHAT_REQUEST).response();
    assert_eq!(proxy.record()["error"], Value::Null);
}

#[test]
fn secrets_that_an_upstream_repeats_are_masked_in_the_record() {
    let echo = Upstream::responding(sized("400 Bad Request", "text/plain", b"you sent Bearer sk-upstream"));
    let proxy = proxy().upstream(&echo).run();
    let response = proxy.client().post(CHAT, CHAT_REQUEST).response();
    assert!(response.text().contains("sk-upstream"), "the response passes as it came");
    assert_eq!(proxy.record()["error"], "you sent Bearer ***");
}

#[test]
fn stream_is_what_was_asked_for_also_where_the_upstream_refuses() {
    let body = br#"{"error":{"message":"slow down"}}"#;
    for (path, request, stream) in [
        (CHAT, r#"{"model":"m","stream":true}"#, true),
        (CHAT, r#"{"model":"m","stream":false}"#, false),
        (CHAT, r#"{"model":"m"}"#, false),
        ("/v1/responses/r_1?stream=true", "{}", true),
    ] {
        let up = Upstream::responding(sized("429 Too Many Requests", "application/json", body));
        let proxy = proxy().upstream(&up).run();
        proxy.client().post(path, request).response();
        let record = proxy.record();
        assert_eq!(
            (&record["stream"], &record["usage_source"]),
            (&json!(stream), &json!("none")),
            "{path} {request}"
        );
    }
}

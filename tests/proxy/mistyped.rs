//! Responses whose content differs from their type, or without a type.

use serde_json::{Value, json};

use crate::asking::{PATH, UNASKED, stripped};
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, LAST_CHUNK, Proxy, Upstream, chunk, proxy, sized,
};

/// Types under which streams arrive, and none.
const TYPES: [Option<&str>; 5] = [
    Some("text/plain; charset=utf-8"),
    Some("application/json"),
    Some("application/octet-stream"),
    Some("application/x-ndjson"),
    None,
];

fn head(content_type: Option<&str>) -> String {
    let content_type = content_type.map(|value| format!("content-type: {value}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 200 OK\r\n{content_type}transfer-encoding: chunked\r\n\r\n")
}

/// A response in chunks of this length.
fn chunked(content_type: Option<&str>, body: &str, length: usize) -> Vec<u8> {
    let chunks: Vec<u8> = body.as_bytes().chunks(length).flat_map(chunk).collect();
    [head(content_type).as_bytes(), &chunks, LAST_CHUNK.as_bytes()].concat()
}

/// The response for the client, and the record.
fn exchange(response: Vec<u8>, request: &str) -> (Proxy, String, Value) {
    let up = Upstream::responding(response);
    let proxy = proxy().upstream(&up).run();
    let text = proxy.client().post(PATH, request).response().text().to_owned();
    let record = proxy.record();
    (proxy, text, record)
}

fn counts(record: &Value) -> [&Value; 3] {
    ["usage_source", "input_tokens", "output_tokens"].map(|key| &record[key])
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_stream_is_metered_and_withheld_from_whatever_its_type() {
    for content_type in TYPES {
        for (request, expected) in [(UNASKED, stripped()), (CHAT_REQUEST, CHAT_STREAM.to_owned())] {
            for before in ["", "\u{feff}", "\n\n", ": ping\n\n"] {
                for length in [1, 50, usize::MAX >> 1] {
                    let (before_stream, body) = (before.to_owned(), before.to_owned() + CHAT_STREAM);
                    let (_, text, record) = exchange(chunked(content_type, &body, length), request);
                    assert_eq!(text, before_stream + &expected, "{content_type:?} in pieces of {length}");
                    assert_eq!(counts(&record), [&json!("reported"), &json!(9), &json!(2)], "{record}");
                    assert_eq!((&record["events"], &record["stream"]), (&json!(5), &json!(true)));
                    assert_eq!(record["outcome"], "complete");
                }
            }
        }
    }
}

#[test]
fn a_declared_length_of_a_mistyped_stream_is_not_kept() {
    let (_, text, record) = exchange(sized("200 OK", "text/plain", CHAT_STREAM.as_bytes()), UNASKED);
    assert_eq!(text, stripped());
    assert_eq!(counts(&record)[0], "reported");
}

#[test]
fn json_under_the_type_of_a_stream_is_read_as_json() {
    for length in [1, 7, usize::MAX >> 1] {
        for before in ["", "\u{feff}", " \r\n"] {
            for request in [UNASKED, CHAT_REQUEST] {
                let body = before.to_owned() + CHAT_BODY;
                let (_, text, record) = exchange(chunked(Some("text/event-stream"), &body, length), request);
                assert_eq!(text, body);
                assert_eq!(counts(&record), [&json!("reported"), &json!(9), &json!(1)], "{record}");
                assert_eq!((&record["outcome"], &record["events"]), (&json!("complete"), &Value::Null));
            }
        }
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_failure_in_the_place_of_a_stream_has_no_tokens() {
    let failures = [
        r#"{"error":{"message":"the prompt is too long","code":400}}"#,
        r#"{"detail":"Internal error"}"#,
        r#"[{"error":{"code":400,"message":"API key not valid"}}]"#,
        "<html><body>Bad gateway</body></html>",
        "Internal Server Error",
        "",
        "\n\n",
    ];
    for content_type in TYPES.into_iter().chain([Some("text/event-stream")]) {
        for body in failures {
            for request in [UNASKED, CHAT_REQUEST] {
                let (_, text, record) = exchange(chunked(content_type, body, 9), request);
                assert_eq!(text, body);
                let shown = format!("{body:?} as {content_type:?}: {record}");
                assert_eq!(counts(&record), [&json!("none"), &Value::Null, &Value::Null], "{shown}");
                let promises = content_type == Some("text/event-stream");
                if promises || body.trim().is_empty() || body.contains("\"error\"") {
                    assert!(record["outcome"] != "complete" && record["error"].is_string(), "{shown}");
                }
            }
        }
    }
}

#[test]
fn an_empty_stream_is_a_failure_of_the_upstream() {
    for response in [
        sized("200 OK", "text/event-stream", b""),
        chunked(Some("text/event-stream"), "", 1),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec(),
        chunked(Some("text/event-stream"), ": ping\n\n", 1),
    ] {
        let up = crate::harness::upstream(move |connection| {
            connection.request();
            connection.send(&response);
        });
        let proxy = proxy().upstream(&up).run();
        for path in [PATH, "/v1/responses", "/v1/messages"] {
            proxy.client().post(path, UNASKED).response();
            let record = proxy.record();
            assert_eq!(record["outcome"], "upstream_error", "{record}");
            assert_eq!(counts(&record), [&json!("none"), &Value::Null, &Value::Null], "{record}");
            assert!(record["error"].is_string());
        }
    }
}

#[test]
fn events_that_cannot_be_read_leave_the_output_unknown() {
    let long = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"a\":\"{}\"}}}}\n\n",
        "x".repeat(20_000)
    );
    for events in [
        "data: \u{1}\u{2}\n\n".repeat(33),
        "data: {\"token\":{\"text\":\"x\"}}\n\n".repeat(33),
        long.repeat(3),
    ] {
        let (_, text, record) = exchange(chunked(Some("text/event-stream"), &events, 1000), CHAT_REQUEST);
        assert_eq!(text, events);
        assert_eq!(record["output_tokens"], Value::Null, "{record}");
    }
}

#[test]
fn last_event_without_blank_line_is_read_and_stays_withheld() {
    let (body, end) = CHAT_STREAM.split_at(CHAT_STREAM.len() - "\n\ndata: [DONE]\n\n".len());
    assert_eq!(end, "\n\ndata: [DONE]\n\n");
    let before = &body[..body.rfind("data: ").unwrap()];
    for line_end in ["", "\n", "\r\n", "\r"] {
        for length in [1, 64, usize::MAX >> 1] {
            for (request, expected) in
                [(UNASKED, before.to_owned()), (CHAT_REQUEST, body.to_owned() + line_end)]
            {
                let response = chunked(Some("text/event-stream"), &(body.to_owned() + line_end), length);
                let (_, text, record) = exchange(response, request);
                assert_eq!(text, expected, "with {line_end:?} in pieces of {length}");
                assert_eq!(counts(&record), [&json!("reported"), &json!(9), &json!(2)], "{record}");
                assert_eq!(record["events"], 4);
            }
        }
    }
}

#[test]
fn a_last_event_that_ends_the_stream_needs_no_blank_line() {
    for rest in ["data: [DONE]", "data: [DONE]\n"] {
        let body = CHAT_STREAM.trim_end().strip_suffix("data: [DONE]").unwrap().to_owned() + rest;
        let response =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}");
        let up = crate::harness::upstream(move |connection| {
            connection.request();
            connection.send(&response);
        });
        let proxy = proxy().upstream(&up).run();
        assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).response().text(), body);
        assert_eq!(proxy.record()["outcome"], "complete", "it is not cut");
    }
}

#[test]
fn times_are_in_the_order_in_which_things_happen() {
    // Head and events in one packet, and in several.
    let whole = chunked(Some("text/event-stream"), CHAT_STREAM, usize::MAX >> 1);
    for pieces in [1, 3] {
        let whole = whole.clone();
        let up = crate::harness::upstream(move |connection| {
            while connection.request().is_some() {
                whole.chunks(whole.len().div_ceil(pieces)).for_each(|piece| connection.send(piece));
            }
        });
        let proxy = proxy().upstream(&up).run();
        for request in [UNASKED, CHAT_REQUEST].repeat(5) {
            Client::connect(proxy.address).post(PATH, request).response();
            let record = proxy.record();
            let time = |name: &str| record[name].as_f64().unwrap();
            let times = ["byte", "event", "token"].map(|what| time(&format!("time_to_first_{what}_ms")));
            assert!(times.is_sorted(), "{times:?}");
            assert!(
                times[2] <= time("time_to_last_event_ms")
                    && time("time_to_last_event_ms") <= time("duration_ms")
            );
        }
    }
}

/// The stream is recognised by its first bytes, which come after its client has had comments.
#[test]
fn a_mistyped_stream_behind_comments_is_relayed() {
    for content_type in ["text/plain", "application/json"] {
        for length in [20, usize::MAX >> 1] {
            for (request, expected) in [(UNASKED, stripped()), (CHAT_REQUEST, CHAT_STREAM.to_owned())] {
                let response = chunked(Some(content_type), CHAT_STREAM, length);
                let up = crate::harness::upstream(move |connection| {
                    connection.request();
                    // Longer than the silence before a comment.
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    connection.send(&response);
                });
                let proxy = proxy().upstream(&up).tables("keep_alive_comments = \"5ms\"").run();
                let text = proxy.client().post(PATH, request).response().text().to_owned();
                assert!(text.starts_with(": keep-alive\n\n"), "{text:?}");
                assert_eq!(text.replace(": keep-alive\n\n", ""), expected, "{content_type}");
                assert_eq!(proxy.record()["usage_source"], "reported");
            }
        }
    }
}

//! A truncated response: the client gets an error in its endpoint's form, and never a response that
//! looks complete.

use std::sync::Mutex;
use std::sync::mpsc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use streamgauge::codec::sse::{Event, EventDecoder, EventHandler};

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, End, Proxy, Upstream, chunk, http2_client, proxy, sized,
    upstream,
};

const PATH: &str = "/v1/chat/completions";

/// Events as a client's parser returns them: name and data.
#[derive(Default)]
struct Events(Vec<(String, String)>);

impl EventHandler for Events {
    fn event(&mut self, event: Event<'_>) {
        self.0.push((String::from_utf8_lossy(event.name).into_owned(), event.data_str().into_owned()));
    }
}

fn events(stream: &str) -> Vec<(String, String)> {
    let mut events = Events::default();
    EventDecoder::new().push(stream.as_bytes(), &mut events);
    events.0
}

/// Asserts that the last event is the error in the form of the endpoint.
pub fn assert_last_is_error(stream: &str, path: &str, code: &str) {
    let events = events(stream);
    let (name, data) = events.last().unwrap_or_else(|| panic!("{stream:?} has no event"));
    let data: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("merged: {data:?} in {stream:?}"));
    match path {
        "/v1/messages" => {
            assert_eq!((name.as_str(), &data["type"]), ("error", &"error".into()), "{stream}");
            assert_eq!(data["error"]["type"], "api_error");
            assert!(data["error"]["message"].is_string());
            assert_eq!(data["error"]["code"], code);
        }
        "/v1/responses" => {
            assert_eq!((name.as_str(), &data["type"]), ("response.failed", &"response.failed".into()));
            assert_eq!(data["sequence_number"], events.len() - 1);
            assert_eq!(data["response"]["status"], "failed");
            assert_eq!(data["response"]["error"]["code"], code);
            assert_eq!(data["error"]["code"], code, "the SDKs raise on it");
        }
        PATH | "/v1/completions" => {
            assert_eq!((name.as_str(), &data["error"]["code"]), ("message", &code.into()));
        }
        _ => assert_eq!((name.as_str(), &data["error"]["code"]), ("error", &code.into())),
    }
}

/// Sends `sent` of a stream and closes.
fn breaking_off(sent: &str) -> Upstream {
    let bytes = [EVENTS_HEAD.as_bytes(), &chunk(sent.as_bytes())].concat();
    upstream(move |connection| {
        connection.request();
        connection.send(&bytes);
    })
}

const ENDPOINTS: [&str; 6] =
    [PATH, "/v1/completions", "/v1/messages", "/v1/responses", "/v1/images/generations", "/v1/audio/speech"];

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn broken_stream_ends_with_endpoints_error_and_no_final_chunk() {
    for path in ENDPOINTS {
        let sent = "event: x\ndata: {}\n\nevent: x\ndata: {}\n\n";
        let up = breaking_off(sent);
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        let head = client.post(path, CHAT_REQUEST).head();
        let (body, end) = client.body_and_end(&head);
        assert_eq!(end, End::Closed, "{path}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.starts_with(sent), "{body}");
        assert_last_is_error(&body, path, "upstream_truncated");
        assert_eq!(proxy.record()["outcome"], "truncated", "{path}");
        assert_eq!(proxy.stop().len(), 0, "one record");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn error_event_stands_alone_wherever_the_stream_was_cut() {
    for line_end in ["\n", "\r\n", "\r"] {
        let stream = ["event: a", "data: {\"x\":1}", "", ": c", "id: 7", "data: {}", "", ""].join(line_end);
        for cut in 1..=stream.len() {
            let sent = &stream[..cut];
            let up = breaking_off(sent);
            let proxy = proxy().upstream(&up).run();
            let text = proxy.client().post("/v1/messages", CHAT_REQUEST).cut_response();
            assert!(text.starts_with(sent), "{sent:?}");
            assert_last_is_error(&text, "/v1/messages", "upstream_truncated");
        }
    }
}

#[test]
fn stream_broken_after_last_event_is_cut_without_error_event() {
    let up = breaking_off(CHAT_STREAM);
    let proxy = proxy().upstream(&up).run();
    assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).cut_response(), CHAT_STREAM);
}

#[test]
fn idle_timeout_ends_in_error_and_cut() {
    for path in ENDPOINTS {
        let up = upstream(|connection| {
            connection.request();
            connection.send(EVENTS_HEAD);
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).tables("[upstreams.up.timeouts]\nidle = \"50ms\"").run();
        let text = proxy.client().post(path, CHAT_REQUEST).cut_response();
        assert_last_is_error(&text, path, "idle_timeout");
        assert_eq!(proxy.record()["outcome"], "timed_out");
    }
}

#[test]
fn http_1_0_client_gets_error_event_and_reset() {
    let up = breaking_off("data: 1\n\n");
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let length = CHAT_REQUEST.len();
    let head = client
        .send(format!(
            "POST {PATH} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{CHAT_REQUEST}"
        ))
        .head();
    let (body, end) = client.body_and_end(&head);
    assert_eq!(end, End::Reset, "a close would be the proper end");
    assert_last_is_error(std::str::from_utf8(&body).unwrap(), PATH, "upstream_truncated");
}

#[test]
fn error_event_never_fills_declared_length() {
    // From no room at all to more than the event needs.
    for missing in [1, 100, 150, 200, 250, 300, 400, 2000] {
        let sent = "data: 1\n\n";
        let up = upstream(move |connection| {
            connection.request();
            let length = sent.len() + missing;
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n{sent}"
            ));
        });
        let proxy = proxy().upstream(&up).run();
        let text = proxy.client().post(PATH, CHAT_REQUEST).cut_response();
        assert!(text.starts_with(sent) && text.ends_with("\n\n"), "{missing}: {text:?}");
        if missing == 2000 {
            assert_last_is_error(&text, PATH, "upstream_truncated");
        }
    }
}

#[test]
fn encoded_stream_and_json_body_are_cut_without_a_byte_more() {
    for (head, sent) in [
        ("content-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked", "x"),
        ("content-type: application/json\r\ntransfer-encoding: chunked", "{\"id\":"),
    ] {
        let up = upstream(move |connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            connection.send(chunk(sent.as_bytes()));
        });
        let proxy = proxy().upstream(&up).run();
        assert_eq!(proxy.client().post(PATH, CHAT_REQUEST).cut_response(), sent, "{head}");
        assert_eq!(proxy.record()["outcome"], "truncated");
    }
}

#[test]
fn error_behind_comments_is_in_endpoint_form_and_cut() {
    let openai =
        "{\"error\":{\"message\":\"slow down\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}";
    for path in ENDPOINTS {
        for (status, body, code) in [
            ("429 Too Many Requests", openai, "rate_limit_exceeded"),
            ("500 Internal Server Error", "oops", "upstream_refused"),
            ("200 OK", "{}", "upstream_refused"),
        ] {
            let (commented, go_on) = mpsc::channel::<()>();
            let go_on = Mutex::new(go_on);
            let response = sized(status, "application/json", body.as_bytes());
            let up = upstream(move |connection| {
                connection.request();
                go_on.lock().unwrap().recv().unwrap();
                connection.send(&response);
                connection.wait_for_close();
            });
            let proxy = proxy().upstream(&up).tables("keep_alive_comments = \"10ms\"").run();
            let mut client = proxy.client();
            let head = client.post(path, CHAT_REQUEST).head();
            assert_eq!(client.chunk(), b": keep-alive\n\n");
            commented.send(()).unwrap();
            let text = client.cut_body(&head);
            assert_last_is_error(&text, path, code);
        }
    }
}

#[test]
fn keep_alive_stream_with_declared_length_goes_out_in_chunks() {
    let up = Upstream::responding(sized("200 OK", "text/event-stream", CHAT_STREAM.as_bytes()));
    let proxy = proxy().upstream(&up).tables("keep_alive_comments = \"1h\"").run();
    let response = proxy.client().post(PATH, CHAT_REQUEST).response();
    assert_eq!((response.header("content-length"), response.text()), (None, CHAT_STREAM));
}

/// An upstream that begins a stream and sends nothing more, or does not even begin.
fn stalling(begins: bool) -> Upstream {
    upstream(move |connection| {
        connection.request();
        if begins {
            connection.send([EVENTS_HEAD.as_bytes(), &chunk(b"data: {\"a\"")].concat());
        }
        connection.wait_for_close();
    })
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn drain_end_cuts_stream_with_error_event() {
    for path in ENDPOINTS {
        let up = stalling(true);
        let proxy = proxy().server("drain_timeout = \"50ms\"").upstream(&up).run();
        let mut client = proxy.client();
        let head = client.post(path, CHAT_REQUEST).head();
        let reader = std::thread::spawn(move || client.cut_body(&head));
        let records = proxy.stop();
        let text = reader.join().unwrap();
        let last = events(&text).pop().unwrap();
        assert!(last.1.contains("stopped"), "{path}: {text}");
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["outcome"], "cut");
        assert!(records[0]["error"].as_str().unwrap().contains("stopped"), "{}", records[0]);
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn drain_end_cuts_stream_that_has_only_comments() {
    let up = stalling(false);
    let proxy = proxy()
        .server("drain_timeout = \"50ms\"")
        .upstream(&up)
        .tables("keep_alive_comments = \"10ms\"")
        .run();
    let mut client = proxy.client();
    let head = client.post("/v1/messages", CHAT_REQUEST).head();
    let reader = std::thread::spawn(move || client.cut_body(&head));
    let records = proxy.stop();
    assert_last_is_error(&reader.join().unwrap(), "/v1/messages", "stopped");
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"cut".into()));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn drain_end_does_not_wait_for_client_that_takes_nothing() {
    let event = chunk(format!("data: {}\n\n", "x".repeat(60_000)).as_bytes());
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        while connection.try_send(&event) {}
    });
    let proxy = proxy().server("drain_timeout = \"300ms\"").upstream(&up).run();
    let mut client = proxy.client();
    client.post(PATH, CHAT_REQUEST).head();
    let begun = std::time::Instant::now();
    let records = proxy.stop();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"cut".into()));
}

/// Sends a request over HTTP/2, and returns the received data and the reason of the reset.
fn ask_http2(proxy: &Proxy, path: &str, then: impl FnOnce()) -> (String, Option<h2::Reason>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut sender, _) = http2_client(proxy.address).await;
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(CHAT_REQUEST)))
            .unwrap();
        let mut body = sender.send_request(request).await.unwrap().into_body();
        then();
        let mut text = String::new();
        loop {
            match body.frame().await {
                None => return (text, None),
                Some(Ok(frame)) => text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap(),
                Some(Err(error)) => {
                    let source = std::error::Error::source(&error).expect("h2's own error");
                    return (text, source.downcast_ref::<h2::Error>().and_then(h2::Error::reason));
                }
            }
        }
    })
}

#[test]
fn http2_stream_that_breaks_off_is_reset_behind_its_error_event() {
    for path in ENDPOINTS {
        let sent = "event: x\ndata: {}\n\n";
        let up = breaking_off(sent);
        let proxy = proxy().upstream(&up).run();
        let (text, reason) = ask_http2(&proxy, path, || {});
        assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR), "{path}: {text}");
        assert!(text.starts_with(sent));
        assert_last_is_error(&text, path, "upstream_truncated");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn http2_stream_beyond_the_drain_is_reset_after_its_error_event() {
    let up = stalling(true);
    let mut proxy = proxy().server("drain_timeout = \"100ms\"").upstream(&up).run();
    let running = proxy.running.take().unwrap();
    let (text, reason) = ask_http2(&proxy, "/v1/messages", || running.stop().drain());
    assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR), "{text}");
    assert_last_is_error(&text, "/v1/messages", "stopped");
    running.finish().unwrap();
    assert_eq!(proxy.record()["outcome"], "cut");
}

#[test]
fn connection_behind_a_cut_response_takes_no_request() {
    let up = breaking_off("data: 1\n\n");
    let proxy = proxy().upstream(&up).run();
    let mut client: Client = proxy.client();
    client.post(PATH, CHAT_REQUEST).post(PATH, CHAT_REQUEST).cut_response();
    assert_eq!(client.rest(), b"");
}

#[test]
fn stream_closed_before_its_last_event_is_recorded_as_truncated() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
    for (sent, outcome) in [(first, "truncated"), (CHAT_STREAM, "complete")] {
        let up = upstream(move |connection| {
            connection.request();
            connection.send(head);
            connection.send(sent);
        });
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post(PATH, CHAT_REQUEST).response();
        assert_eq!(response.text(), sent, "bytes are unchanged");
        let record = proxy.record();
        assert_eq!(record["outcome"], outcome);
        assert_eq!(record["error"].is_null(), outcome == "complete", "{record}");
    }
}

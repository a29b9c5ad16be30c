//! Promise 1: a byte of the upstream reaches the client unchanged, in order, as soon as it arrives.

use std::sync::mpsc;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, http2_client, proxy,
    sized, upstream,
};

#[test]
fn event_reaches_client_before_upstream_sends_the_next() {
    let (go_on, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request().unwrap();
        connection.send(EVENTS_HEAD);
        for event in CHAT_STREAM.split_inclusive("\n\n") {
            connection.send(chunk(event.as_bytes()));
            // Only when the client has it.
            wait.lock().unwrap().recv().unwrap();
        }
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    for event in CHAT_STREAM.split_inclusive("\n\n") {
        assert_eq!(client.chunk(), event.as_bytes());
        go_on.send(()).unwrap();
    }
    assert_eq!(client.chunk(), b"", "the body's end");
}

#[test]
fn a_stream_arrives_byte_for_byte_however_it_is_cut() {
    for step in [1, 2, 3, 7, 64, 1000] {
        let up = upstream(move |connection| {
            connection.request().unwrap();
            let body: Vec<u8> = CHAT_STREAM.as_bytes().chunks(step).flat_map(chunk).collect();
            let wire = [EVENTS_HEAD.as_bytes(), &body, LAST_CHUNK.as_bytes()].concat();
            // The pieces on the wire do not match the chunks.
            for piece in wire.chunks(step + 2) {
                connection.send(piece);
            }
        });
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.text(), CHAT_STREAM, "in steps of {step}");
        let record = proxy.record();
        assert_eq!(record["input_tokens"], 9);
        assert_eq!(record["output_tokens"], 2);
        assert_eq!(record["usage_source"], "reported");
        assert_eq!(record["outcome"], "complete");
        assert_eq!(record["events"], 5);
        assert_eq!(record["response_bytes"], CHAT_STREAM.len());
        assert_eq!(record["model"], "gpt-real");
        assert_eq!(record["model_requested"], "gpt-asked");
    }
}

#[test]
fn bytes_that_are_ready_together_leave_together() {
    let up = upstream(|connection| {
        connection.request().unwrap();
        let events: Vec<u8> = CHAT_STREAM.split_inclusive("\n\n").flat_map(|e| chunk(e.as_bytes())).collect();
        connection.send([EVENTS_HEAD.as_bytes(), &events, LAST_CHUNK.as_bytes()].concat());
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    assert_eq!(client.chunk(), CHAT_STREAM.as_bytes(), "one read becomes one chunk");
}

#[test]
fn a_body_with_a_length_keeps_it() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", "{\"model\":\"m\"}").response();
    assert_eq!(response.header("content-length"), Some(CHAT_BODY.len().to_string().as_str()));
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.text(), CHAT_BODY);
}

#[test]
fn a_body_that_ends_with_the_connection_is_whole() {
    let up = upstream(|connection| {
        connection.request().unwrap();
        connection.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
        connection.send(CHAT_BODY);
    });
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", "{\"model\":\"m\"}").response();
    assert_eq!(response.text(), CHAT_BODY);
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn the_upstreams_own_errors_pass_untouched() {
    let body = "{\"error\": {\"message\": \"Incorrect API key\", \"type\": \"invalid_request_error\",\n \"code\": \"invalid_api_key\"}}";
    let up = Upstream::responding(format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nx-request-id: req_1\r\nx-ratelimit-remaining-requests: 7\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 401);
    assert_eq!(response.text(), body);
    assert_eq!(response.header("x-ratelimit-remaining-requests"), Some("7"));
    let record = proxy.record();
    assert_eq!(record["outcome"], "upstream_error");
    assert_eq!(record["status"], 401);
    assert_eq!(record["error"], "Incorrect API key");
    assert_eq!(record["upstream_request_id"], "req_1");
    assert_eq!(record["usage_source"], "none");
}

#[test]
fn a_status_and_reason_that_are_not_in_the_book_pass() {
    let up = Upstream::responding("HTTP/1.1 529 Site is overloaded\r\ncontent-length: 0\r\n\r\n");
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().get("/v1/models").response();
    assert!(response.head.starts_with("HTTP/1.1 529 Site is overloaded\r\n"), "{}", response.head);
}

#[test]
fn a_head_request_gets_the_head_and_no_body() {
    let up = Upstream::responding(
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\ncontent-type: application/json\r\n\r\n",
    );
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for _ in 0..2 {
        let head = client.send("HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").head();
        assert!(head.contains("content-length: 1000"), "{head}");
        assert_eq!(proxy.record()["outcome"], "complete");
    }
    assert_eq!(up.accepted(), 1, "the connection was used again");
}

#[test]
fn responses_without_a_body_leave_the_connection_in_order() {
    for status in ["204 No Content", "304 Not Modified"] {
        let up = Upstream::responding(format!("HTTP/1.1 {status}\r\n\r\n"));
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        for _ in 0..3 {
            assert!(client.get("/v1/models").head().contains(status));
        }
        assert_eq!(up.accepted(), 1);
    }
}

#[test]
fn informational_responses_are_not_the_response() {
    let up = Upstream::responding(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{}",
        String::from_utf8(sized("200 OK", "application/json", CHAT_BODY.as_bytes())).unwrap()
    ));
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", "{\"model\":\"m\"}").response();
    assert_eq!((response.status(), response.text()), (200, CHAT_BODY));
}

#[test]
fn trailers_pass_to_a_client_that_takes_them() {
    let up = Upstream::responding(
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "{}");
    assert_eq!(client.get("/v1/models").response().text(), "{}", "the connection is in order afterwards");
    assert_eq!(up.accepted(), 1);
}

#[test]
fn an_http2_client_gets_the_same_bytes() {
    use http_body_util::{BodyExt, Full};

    let up = upstream(|connection| {
        while connection.request().is_some() {
            let body: Vec<u8> = CHAT_STREAM.as_bytes().chunks(50).flat_map(chunk).collect();
            connection.send([EVENTS_HEAD.as_bytes(), &body, LAST_CHUNK.as_bytes()].concat());
        }
    });
    let proxy = proxy().upstream(&up).run();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, _) = http2_client(proxy.address).await;
        let one = |mut sender: hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>| async move {
            let request = http::Request::post("http://localhost/v1/chat/completions")
                .body(Full::new(CHAT_REQUEST.into()))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert!(response.headers().contains_key("x-streamgauge-id"));
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let all = (0..8).map(|_| tokio::spawn(one(sender.clone()))).collect::<Vec<_>>();
        for body in all {
            assert_eq!(body.await.unwrap(), CHAT_STREAM);
        }
    });
    for _ in 0..8 {
        assert_eq!(proxy.record()["total_tokens"], 11);
    }
}

//! Promise 4: memory is bounded, and each limit has its own response.

use crate::harness::{CHAT_REQUEST, Upstream, proxy, sized, upstream};

fn ok() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", b"{}"))
}

#[test]
fn headers_beyond_the_limit_get_431_as_json_and_a_record() {
    let up = ok();
    let proxy = proxy().upstream(&up).run();
    let large = format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(80 * 1024));
    let many = format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(200));
    for request in [large, many] {
        let mut client = proxy.client();
        let response = client.send(&request).response();
        assert_eq!(response.status(), 431);
        assert_eq!(response.error()["code"], "headers_too_large");
        assert_eq!(client.rest(), b"", "the connection is closed");
        let record = proxy.record();
        assert_eq!(record["id"], response.header("x-streamgauge-id").unwrap());
        assert_eq!(record["status"], 431);
        assert_eq!(record["outcome"], "rejected");
    }
}

#[test]
fn other_protocol_gets_400_as_json_and_a_record() {
    let up = ok();
    let proxy = proxy().upstream(&up).run();
    for garbage in
        ["NOT HTTP\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n", "\x16\x03\x01\x02\x00\x01\r\n\r\n"]
    {
        let response = proxy.client().send(garbage).response();
        assert_eq!(response.status(), 400, "{garbage:?}");
        assert_eq!(response.error()["code"], "malformed_request");
        assert_eq!(proxy.record()["status"], 400);
    }
}

#[test]
fn garbage_after_a_good_request_is_refused_like_any_other() {
    let up = ok();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    assert_eq!(client.get("/v1/models").response().status(), 200);
    let response = client.send("NOT HTTP\r\n\r\n").response();
    assert_eq!(response.error()["code"], "malformed_request");
    assert_eq!(
        (proxy.record()["status"].clone(), proxy.record()["status"].clone()),
        (200.into(), 400.into())
    );
}

#[test]
fn headers_that_do_not_come_in_time_get_408() {
    let up = ok();
    let proxy = proxy().server("header_timeout = \"100ms\"").upstream(&up).run();
    let mut client = proxy.client();
    let response = client.send("GET /v1/models HTTP/1.1\r\nhost:").response();
    assert_eq!(response.status(), 408);
    assert_eq!(response.error()["code"], "header_timeout");
    assert_eq!(client.rest(), b"");
    assert_eq!(proxy.record()["status"], 408);
}

#[test]
fn idle_connection_is_closed_without_response_or_record() {
    let up = ok();
    let proxy =
        proxy().server("header_timeout = \"50ms\"\nkeep_alive_timeout = \"100ms\"").upstream(&up).run();
    let mut idle = proxy.client();
    assert_eq!(idle.rest(), b"");
    let mut used = proxy.client();
    assert_eq!(used.get("/v1/models").response().status(), 200);
    assert_eq!(used.rest(), b"");
    proxy.record();
    assert_eq!(proxy.stop().len(), 0, "only the one request has a record");
}

#[test]
fn body_beyond_the_limit_gets_413_with_or_without_length() {
    let up = ok();
    let proxy = proxy().server("max_request_bytes = 1000").upstream(&up).run();
    let large = "x".repeat(200_000);
    for (kind, framing, body) in [
        ("application/json", format!("content-length: {}", large.len()), large.clone()),
        (
            "application/json",
            "transfer-encoding: chunked".into(),
            format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()),
        ),
        (
            "multipart/form-data; boundary=x",
            "transfer-encoding: chunked".into(),
            format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()),
        ),
    ] {
        let response = proxy
            .client()
            .send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n{body}"))
            .response();
        assert_eq!(response.status(), 413, "{kind} {framing}");
        assert_eq!(response.error()["code"], "request_too_large");
        assert_eq!(proxy.record()["status"], 413);
    }
}

#[test]
fn bodies_beyond_the_process_budget_get_503_with_retry_after() {
    let (arrived, arrivals) = std::sync::mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        arrived.send(()).unwrap();
        connection.wait_for_close();
    });
    let proxy = proxy().server("max_buffered_bytes = 150").upstream(&up).run();
    let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "y".repeat(80));
    let mut first = proxy.client();
    first.post("/v1/chat/completions", &body);
    arrivals.recv().unwrap();
    let response = proxy.client().post("/v1/chat/completions", &body).response();
    assert_eq!(response.status(), 503);
    assert_eq!(response.error()["code"], "overloaded");
    assert!(response.header("retry-after").is_some());
    drop(first);
    assert_eq!(proxy.record()["status"], 503);
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
    // Buffered bytes have been freed.
    proxy.client().post("/v1/chat/completions", &body);
    arrivals.recv().unwrap();
}

#[test]
fn a_client_beyond_the_connection_limit_waits_for_its_turn() {
    let up = ok();
    let proxy = proxy().server("max_connections = 2").upstream(&up).run();
    let mut first = proxy.client();
    assert_eq!(first.get("/v1/models").response().status(), 200);
    let mut second = proxy.client();
    assert_eq!(second.get("/v1/models").response().status(), 200);
    let mut third = proxy.client();
    third.get("/v1/models");
    drop(first);
    assert_eq!(third.response().status(), 200);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_client_that_does_not_read_slows_the_upstream_down() {
    const PIECE: usize = 64 * 1024;
    let (sent, pieces) = std::sync::mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
        connection.block_after(std::time::Duration::from_millis(300));
        // 256 MiB, unless the proxy stops reading.
        let mut written = 0;
        while written < 4096 && connection.try_send(&[b' '; PIECE]) {
            written += 1;
        }
        sent.send(written).unwrap();
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    let written = pieces.recv().unwrap();
    assert!(written * PIECE < 32 << 20, "the proxy took {written} pieces that nobody read");
}

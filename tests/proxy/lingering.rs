//! Responses before the end of a request's body reach clients that read only after they have sent
//! all of it.

use std::time::{Duration, Instant};

use crate::harness::{Connection, Frames, HEADERS, RST_STREAM, Upstream, proxy};

/// A size above that of all buffers on the path.
const LARGE: usize = 40 << 20;

#[test]
fn early_response_is_read_by_client_that_sends_everything_first() {
    let up = Upstream::responding("");
    let proxy = proxy().upstream(&up).server("max_request_bytes = \"1MiB\"").run();
    let path = "/v1/chat/completions";
    let part = vec![b'x'; 1 << 20];
    let chunk = [b"100000\r\n", &part[..], b"\r\n"].concat();
    for (framing, piece, pieces) in [
        (format!("content-length: {LARGE}"), part.clone(), LARGE >> 20),
        ("transfer-encoding: chunked".to_owned(), chunk, LARGE >> 20),
    ] {
        let mut client = proxy.client();
        client.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n"));
        for _ in 0..pieces {
            client.send(&piece);
        }
        let response = client.response();
        assert_eq!(response.status(), 413, "{framing}");
        assert_eq!(response.error()["code"], "request_too_large");
        assert_eq!(response.header("connection"), Some("close"));
    }
}

#[test]
fn client_after_early_response_keeps_place_until_it_is_needed() {
    let up = Upstream::responding("");
    let proxy = proxy().upstream(&up).server("max_connections = 1\nmax_request_bytes = 1000").run();
    let mut first = proxy.client();
    first.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{");
    assert_eq!(first.response().status(), 413);
    // The proxy would read it for 5 s more.
    let start = Instant::now();
    assert_eq!(proxy.client().get("/health").response().status(), 200);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn early_http2_response_is_whole_then_resets_without_error() {
    let up = Upstream::responding("");
    let proxy = proxy().upstream(&up).server("max_request_bytes = 1000").run();
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[]);
    frames.post_head(1, "/v1/chat/completions");
    frames.data(1, &[b'x'; 2000], false);
    let head = frames.wait_on(HEADERS, 1).expect("a response");
    assert_eq!(head.flags & 1, 0, "it has a body");
    let mut ended = false;
    loop {
        let frame = frames.next().expect("the end of the stream");
        ended |= frame.kind == crate::harness::DATA && frame.flags & 1 != 0;
        if frame.kind == RST_STREAM {
            // NO_ERROR, RFC 9113 section 8.1.
            assert_eq!((frame.stream, &frame.payload[..]), (1, &[0; 4][..]));
            assert!(ended, "the response is whole before");
            return;
        }
    }
}

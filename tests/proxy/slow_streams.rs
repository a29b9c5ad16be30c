//! HTTP/2 clients that do not read their responses: `server.write_timeout` applies to each stream.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Connection, DATA, EVENTS_HEAD, Frames, HEADERS, INITIAL_WINDOW_SIZE,
    LAST_CHUNK, Proxy, RST_STREAM, Upstream, chunk, proxy, sized, upstream,
};

const CANCEL: u32 = 8;

/// A size above the windows of a connection whose client does not open them further.
const LARGE: usize = 200_000;

fn streaming() -> Upstream {
    upstream(|connection| {
        while connection.request().is_some() {
            connection.send([EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes())].concat());
            connection.send(LAST_CHUNK);
        }
    })
}

fn limited(up: &Upstream, timeout: &str) -> Proxy {
    proxy().server(&format!("write_timeout = {timeout:?}")).upstream(up).admin().run()
}

fn assert_given_up(record: &Value) {
    assert_eq!(record["outcome"], "client_disconnected", "{record}");
    assert!(record["error"].as_str().unwrap().contains("server.write_timeout"), "{record}");
}

#[test]
fn http2_stream_without_window_is_reset_and_recorded() {
    let up = streaming();
    let proxy = limited(&up, "300ms");
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[(INITIAL_WINDOW_SIZE, 0)]);
    let begun = Instant::now();
    for stream in [1, 3] {
        frames.post(stream, "/v1/chat/completions", CHAT_REQUEST);
    }
    for _ in [1, 3] {
        let reset = frames.wait_for(RST_STREAM).expect("the streams are reset, not the connection");
        assert_eq!(reset.payload, CANCEL.to_be_bytes());
        assert!(begun.elapsed() >= Duration::from_millis(300));
        assert_given_up(&proxy.record());
    }
    // The connection continues.
    frames.post(5, "/v1/chat/completions", CHAT_REQUEST);
    frames.open_window(5, 1 << 20);
    assert_eq!(frames.wait_on(DATA, 5).unwrap().payload, CHAT_STREAM.as_bytes());
    assert_eq!(proxy.record()["outcome"], "complete");
    assert_eq!(proxy.metric("streamgauge_requests_limited_total{limit=\"write_timeout\"}"), 2.0);
}

#[test]
fn http2_stream_without_connection_window_is_reset() {
    let up = Upstream::responding(sized("200 OK", "application/json", &vec![b' '; LARGE]));
    let proxy = limited(&up, "300ms");
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
    frames.post(1, "/v1/embeddings", CHAT_REQUEST);
    assert_eq!(frames.wait_for(RST_STREAM).unwrap().stream, 1);
    assert_given_up(&proxy.record());
}

#[test]
fn half_read_http2_body_is_not_complete() {
    let up = Upstream::responding(sized("200 OK", "application/json", &[b' '; 10_000]));
    let proxy = limited(&up, "300ms");
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[(INITIAL_WINDOW_SIZE, 5_000)]);
    frames.post(1, "/v1/embeddings", CHAT_REQUEST);
    assert_eq!(frames.wait_for(HEADERS).unwrap().stream, 1);
    assert_eq!(frames.wait_for(DATA).unwrap().payload.len(), 5_000);
    assert_eq!(frames.wait_for(RST_STREAM).unwrap().stream, 1);
    assert_given_up(&proxy.record());
}

#[test]
fn http2_window_opened_byte_by_byte_is_no_progress() {
    let up = Upstream::responding(sized("200 OK", "application/json", &vec![b' '; LARGE]));
    let proxy = limited(&up, "500ms");
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[(INITIAL_WINDOW_SIZE, 1)]);
    frames.post(1, "/v1/embeddings", CHAT_REQUEST);
    let mut bytes = 0;
    // Each byte gets a window for the next one.
    loop {
        let frame = frames.next().expect("the connection goes on");
        match frame.kind {
            DATA => {
                bytes += frame.payload.len();
                std::thread::sleep(Duration::from_millis(20));
                frames.open_window(1, 1);
            }
            RST_STREAM => break,
            _ => {}
        }
    }
    assert!(bytes < 100, "{bytes}");
    assert_given_up(&proxy.record());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn http2_client_that_reads_slowly_is_not_given_up() {
    const PIECE: u32 = 20_000;
    let up = Upstream::responding(sized("200 OK", "application/json", &vec![b' '; LARGE]));
    let proxy = limited(&up, "600ms");
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[(INITIAL_WINDOW_SIZE, PIECE)]);
    frames.post(1, "/v1/embeddings", CHAT_REQUEST);
    let (mut bytes, mut taken) = (0, 0);
    // Pauses that are each shorter than the limit and together longer.
    while bytes < LARGE {
        let data = frames.wait_for(DATA).expect("it goes on").payload.len();
        (bytes, taken) = (bytes + data, taken + data);
        if taken >= PIECE as usize {
            taken = 0;
            std::thread::sleep(Duration::from_millis(100));
            frames.open_window(1, PIECE);
            frames.open_window(0, PIECE);
        }
    }
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn silence_of_the_upstream_is_no_stall_of_the_client() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(b"data: 1\n\n"));
        gone.lock().unwrap().recv().unwrap();
        connection.send(chunk(b"data: [DONE]\n\n"));
        connection.send(LAST_CHUNK);
    });
    let proxy = limited(&up, "100ms");
    let mut connection = Connection::to(proxy.address);
    // A window for exactly the first event, so that nothing waits behind it.
    let mut frames = Frames::ask(&mut connection, &[(INITIAL_WINDOW_SIZE, 9)]);
    frames.post(1, "/v1/chat/completions", CHAT_REQUEST);
    frames.wait_for(DATA).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    frames.open_window(1, 1000);
    go.send(()).unwrap();
    assert_eq!(frames.wait_for(DATA).unwrap().payload, b"data: [DONE]\n\n");
    assert_eq!(proxy.record()["outcome"], json!("complete"));
}

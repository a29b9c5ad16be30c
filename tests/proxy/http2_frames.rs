//! HTTP/2 frame by frame: resets, GOAWAY, and the notification of the upstream when a client
//! leaves.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::{
    CHAT_REQUEST, CHAT_STREAM, Client, Connection, DATA, FINAL, Frames, GOAWAY, HEADERS, Proxy, RST_STREAM,
    proxy, upstream,
};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The time within which the upstream must be notified.
const AT_ONCE: Duration = Duration::from_millis(100);

fn serve(frames: &mut Frames<'_>) {
    while let Some(stream) = frames.request() {
        frames.head(stream, "text/event-stream");
        frames.data(stream, CHAT_STREAM.as_bytes(), FINAL);
    }
}

fn ask(proxy: &Proxy) -> crate::harness::Response {
    proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response()
}

#[test]
fn request_unprocessed_by_the_upstream_is_resent_once() {
    // Refused; above a GOAWAY's last stream; the same with a reason that is an error.
    for refusal in 0..3 {
        let up = upstream(move |connection| {
            let first = connection.number == 0;
            let mut frames = Frames::begin(connection, &[]);
            if first {
                let stream = frames.request().unwrap();
                match refusal {
                    0 => frames.reset(stream, REFUSED_STREAM),
                    1 => frames.go_away(0, NO_ERROR),
                    _ => frames.go_away(0, INTERNAL_ERROR),
                }
            }
            serve(&mut frames);
        });
        let proxy = proxy().http2(up.address).run();
        assert_eq!(ask(&proxy).text(), CHAT_STREAM, "refusal {refusal}");
        assert_eq!(up.accepted(), 2, "another connection");
        assert_eq!(proxy.record()["outcome"], "complete");
    }
}

#[test]
fn a_request_that_is_refused_twice_is_not_sent_again() {
    let up = upstream(move |connection| {
        let mut frames = Frames::begin(connection, &[]);
        while let Some(stream) = frames.request() {
            frames.reset(stream, REFUSED_STREAM);
        }
    });
    let proxy = proxy().http2(up.address).run();
    let response = ask(&proxy);
    assert_eq!(response.error()["code"], "upstream_unreachable");
    assert!(response.text().contains("REFUSED_STREAM"), "{}", response.text());
    assert_eq!(up.accepted(), 2);
}

#[test]
fn request_on_dead_kept_connection_is_resent_but_not_on_new_one() {
    // The number of the request that finds the connection closed.
    for fatal in [2, 1] {
        let up = upstream(move |connection| {
            let first = connection.number == 0;
            let mut frames = Frames::begin(connection, &[]);
            let mut requests = 0;
            while let Some(stream) = frames.request() {
                requests += 1;
                if first && requests == fatal {
                    return;
                }
                frames.head(stream, "text/event-stream");
                frames.data(stream, CHAT_STREAM.as_bytes(), FINAL);
            }
        });
        let proxy = proxy().http2(up.address).run();
        if fatal == 1 {
            assert_eq!(ask(&proxy).error()["code"], "upstream_protocol");
            assert_eq!(up.accepted(), 1);
        } else {
            assert_eq!(ask(&proxy).text(), CHAT_STREAM);
            assert_eq!(ask(&proxy).text(), CHAT_STREAM);
            assert_eq!(up.accepted(), 2);
        }
    }
}

#[test]
fn a_reset_ends_one_stream_and_no_other() {
    let events: Vec<_> = CHAT_STREAM.split_inclusive("\n\n").collect();
    // CANCEL and NO_ERROR must not count as a normal end.
    for reason in [INTERNAL_ERROR, CANCEL, NO_ERROR] {
        let (first, rest) = (events[0], events[1..].concat());
        let up = upstream(move |connection| {
            let mut frames = Frames::begin(connection, &[]);
            let (one, two) = (frames.request().unwrap(), frames.request().unwrap());
            for stream in [one, two] {
                frames.head(stream, "text/event-stream");
                frames.data(stream, first.as_bytes(), !FINAL);
            }
            frames.reset(one, reason);
            frames.data(two, rest.as_bytes(), FINAL);
            serve(&mut frames);
        });
        let proxy = proxy().http2(up.address).run();
        let mut one = proxy.client();
        one.post("/v1/chat/completions", CHAT_REQUEST);
        // The truncated one tells the two apart.
        let mut two = proxy.client();
        two.post("/v1/chat/completions", CHAT_REQUEST);
        let responses = [one, two].map(|mut client| {
            let head = client.head();
            String::from_utf8(client.body_and_end(&head).0).unwrap()
        });
        assert!(responses.iter().any(|text| text == CHAT_STREAM), "{responses:?}");
        let broken = responses.iter().find(|text| *text != CHAT_STREAM).expect("one was reset");
        let event = broken.strip_prefix(first).expect("what came before it").trim();
        let event: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["error"]["code"], "upstream_truncated");
        let mut outcomes = [proxy.record(), proxy.record()].map(|record| record["outcome"].to_string());
        outcomes.sort();
        assert_eq!(outcomes, ["\"complete\"", "\"truncated\""]);
        assert_eq!(up.accepted(), 1);
    }
}

#[test]
fn a_goaway_in_mid_life_lets_the_running_streams_end() {
    let (go_on, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let events: Vec<_> = CHAT_STREAM.split_inclusive("\n\n").collect();
    let (first, rest) = (events[0], events[1..].concat());
    let up = upstream(move |connection| {
        let number = connection.number;
        let mut frames = Frames::begin(connection, &[]);
        if number > 0 {
            return serve(&mut frames);
        }
        let stream = frames.request().unwrap();
        frames.head(stream, "text/event-stream");
        frames.data(stream, first.as_bytes(), !FINAL);
        frames.go_away(stream, NO_ERROR);
        wait.lock().unwrap().recv().unwrap();
        frames.data(stream, rest.as_bytes(), FINAL);
        while frames.next().is_some() {}
    });
    let proxy = proxy().http2(up.address).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    assert_eq!(client.chunk(), first.as_bytes());
    assert_eq!(ask(&proxy).text(), CHAT_STREAM, "a new request has a new connection");
    assert_eq!(up.accepted(), 2);
    go_on.send(()).unwrap();
    let mut text = first.to_owned();
    text += std::str::from_utf8(&client.chunks(CHAT_STREAM.len() - first.len())).unwrap();
    assert_eq!(text, CHAT_STREAM);
    assert_eq!(client.chunk(), b"");
}

#[test]
fn a_client_that_leaves_resets_its_stream_at_once() {
    // Before the head; in mid-stream; while the upstream accepts nothing of the upload.
    for stage in 0..3 {
        let (tell, told) = mpsc::channel();
        let (arrived, arrival) = mpsc::channel();
        let up = upstream(move |connection| {
            let window = if stage == 2 { 0 } else { 65_535 };
            let mut frames = Frames::begin(connection, &[(INITIAL_WINDOW_SIZE, window)]);
            let stream = match stage {
                2 => frames.wait_for(HEADERS).unwrap().stream,
                _ => frames.request().unwrap(),
            };
            if stage == 1 {
                frames.head(stream, "text/event-stream");
                frames.data(stream, b"data: 1\n\n", !FINAL);
            }
            arrived.send(()).unwrap();
            let reset = frames.wait_for(RST_STREAM);
            tell.send((Instant::now(), reset, stream)).unwrap();
            frames.wait_for(GOAWAY);
        });
        let proxy = proxy().http2(up.address).run();
        let mut client: Client = proxy.client();
        client.post("/v1/chat/completions", CHAT_REQUEST);
        arrival.recv().unwrap();
        if stage == 1 {
            client.head();
            client.chunk();
        }
        let left = Instant::now();
        drop(client);
        let (at, reset, stream) = told.recv().unwrap();
        assert!(at - left < AT_ONCE, "stage {stage}: it took {:?}", at - left);
        let reset = reset.expect("the stream is reset and the connection goes on");
        assert_eq!((reset.stream, reset.payload), (stream, CANCEL.to_be_bytes().to_vec()));
        assert_eq!(proxy.record()["outcome"], "client_disconnected", "stage {stage}");
    }
}

#[test]
fn http2_client_that_leaves_resets_its_http2_upstream_at_once() {
    for drops_connection in [false, true] {
        let (tell, told) = mpsc::channel();
        let up = upstream(move |connection| {
            let mut frames = Frames::begin(connection, &[]);
            let stream = frames.request().unwrap();
            frames.head(stream, "text/event-stream");
            frames.data(stream, b"data: 1\n\n", !FINAL);
            let reset = frames.wait_for(RST_STREAM).unwrap();
            tell.send((Instant::now(), reset.payload)).unwrap();
            frames.wait_for(GOAWAY);
        });
        let proxy = proxy().http2(up.address).run();
        let mut connection = Connection::to(proxy.address);
        let mut frames = Frames::ask(&mut connection, &[]);
        frames.post(1, "/v1/chat/completions", CHAT_REQUEST);
        assert_eq!(frames.wait_on(DATA, 1).unwrap().payload, b"data: 1\n\n");
        let left = Instant::now();
        if drops_connection {
            drop(connection);
        } else {
            frames.reset(1, CANCEL);
        }
        let (at, reason) = told.recv().unwrap();
        assert!(at - left < AT_ONCE, "it took {:?}", at - left);
        assert_eq!(reason, CANCEL.to_be_bytes());
        assert_eq!(proxy.record()["outcome"], "client_disconnected");
    }
}

#[test]
fn a_silent_upstream_is_timed_out() {
    let up = upstream(|connection| {
        let mut frames = Frames::begin(connection, &[]);
        let silent = frames.request().unwrap();
        let begun = frames.request().unwrap();
        frames.head(begun, "text/event-stream");
        frames.data(begun, b"data: 1\n\n", !FINAL);
        assert_eq!(frames.wait_for(RST_STREAM).unwrap().stream, silent);
        assert_eq!(frames.wait_for(RST_STREAM).unwrap().stream, begun);
    });
    let proxy = proxy()
        .http2(up.address)
        .tables("[upstreams.up.timeouts]\nfirst_byte = \"300ms\"\nidle = \"600ms\"")
        .run();
    let mut silent = proxy.client();
    silent.post("/v1/chat/completions", CHAT_REQUEST);
    let mut begun = proxy.client();
    begun.post("/v1/chat/completions", CHAT_REQUEST);
    let mut texts = [silent, begun].map(|mut client| {
        let head = client.head();
        String::from_utf8(client.body_and_end(&head).0).unwrap()
    });
    texts.sort();
    assert!(texts[0].starts_with("data: 1\n\n") && texts[0].contains("idle_timeout"), "{texts:?}");
    assert!(texts[1].contains("first_byte_timeout"), "{texts:?}");
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    let (tell, told) = mpsc::channel();
    let up = upstream(move |connection| {
        let mut frames = Frames::begin(connection, &[]);
        let stream = frames.request().unwrap();
        frames.head(stream, "text/event-stream");
        frames.data(stream, CHAT_STREAM.as_bytes(), FINAL);
        tell.send(frames.wait_for(GOAWAY).is_some()).unwrap();
    });
    for pool in ["idle_timeout = \"50ms\"", "max_idle = 0"] {
        let proxy = proxy().http2(up.address).tables(&format!("[upstreams.up.pool]\n{pool}")).run();
        assert_eq!(ask(&proxy).text(), CHAT_STREAM);
        assert!(told.recv().unwrap(), "{pool}: it says GOAWAY");
    }
}

#[test]
fn peer_that_breaks_the_protocol_ends_its_streams_in_error() {
    let up = upstream(|connection| {
        let mut frames = Frames::begin(connection, &[]);
        let stream = frames.request().unwrap();
        // DATA before any HEADERS.
        frames.data(stream, b"x", !FINAL);
        while frames.next().is_some() {}
    });
    let proxy = proxy().http2(up.address).run();
    assert_eq!(ask(&proxy).error()["code"], "upstream_protocol");
}

//! HTTP/2 to an upstream: the messages that cross it, the number of its connections, and its
//! bounds.

use std::fs;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Barrier;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, Http2, Upstream, proxy, sized, upstream, write,
};

#[test]
fn a_stream_arrives_byte_for_byte_however_it_is_cut() {
    for step in [1, 7, 64, 10_000] {
        let up = Http2::default().run(move |mut exchange| async move {
            exchange.body().await;
            let mut stream = exchange.head(200, &[("content-type", "text/event-stream")], false);
            for piece in CHAT_STREAM.as_bytes().chunks(step) {
                write(&mut stream, piece).await;
            }
            stream.send_data(Bytes::new(), true).unwrap();
        });
        let proxy = proxy().http2(up.address).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.text(), CHAT_STREAM, "in steps of {step}");
        let record = proxy.record();
        assert_eq!(record["outcome"], "complete");
        assert_eq!(record["usage_source"], "reported");
        assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&9.into(), &2.into()));
        assert_eq!(record["response_bytes"], CHAT_STREAM.len());
    }
}

#[test]
fn event_reaches_client_before_upstream_sends_the_next() {
    let (go_on, wait) = tokio::sync::mpsc::unbounded_channel();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let up = Http2::default().run(move |mut exchange| {
        let wait = Arc::clone(&wait);
        async move {
            let mut stream = exchange.head(200, &[("content-type", "text/event-stream")], false);
            for event in CHAT_STREAM.split_inclusive("\n\n") {
                write(&mut stream, event).await;
                // Only when the client has it.
                let () = wait.lock().await.recv().await.unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        }
    });
    let proxy = proxy().http2(up.address).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    for event in CHAT_STREAM.split_inclusive("\n\n") {
        assert_eq!(client.chunk(), event.as_bytes());
        go_on.send(()).unwrap();
    }
    assert_eq!(client.chunk(), b"", "the body's end");
}

#[test]
fn the_request_is_the_one_that_http_1_would_carry() {
    let (tell, seen) = mpsc::channel();
    let up = Http2::default().run(move |mut exchange| {
        let tell = tell.clone();
        async move {
            let body = exchange.body().await;
            tell.send((exchange.request.uri().clone(), exchange.request.headers().clone(), body)).unwrap();
            exchange.respond("application/json", CHAT_BODY.as_bytes()).await;
        }
    });
    let proxy = proxy().http2(up.address).run();
    let response = proxy
        .client()
        .send(format!(
            "POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\
             te: trailers\r\nauthorization: Bearer client\r\nx-first: 1\r\nx-other: 2\r\ntransfer-encoding: chunked\r\n\r\n\
             {:x}\r\n{CHAT_REQUEST}\r\n0\r\n\r\n",
            CHAT_REQUEST.len()
        ))
        .response();
    assert_eq!(response.text(), CHAT_BODY);
    let (uri, headers, body) = seen.recv().unwrap();
    assert_eq!(uri.to_string(), format!("http://{}/v1/chat/completions?x=1", up.address));
    assert_eq!(body, CHAT_REQUEST.as_bytes());
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let length = CHAT_REQUEST.len().to_string();
    assert_eq!(
        headers,
        [
            ("x-first", "1"),
            ("x-other", "2"),
            ("authorization", "Bearer sk-upstream"),
            ("content-length", &length)
        ]
    );
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recordings_have_same_bytes_and_usage_as_over_http1() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let Ok(index) = fs::read_to_string(root.join("index.jsonl")) else {
        assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", root.display());
        eprintln!("not tested, the corpus is missing: {}", root.display());
        return;
    };
    let next = Arc::new(Mutex::new((String::new(), Bytes::new())));
    let (h1, h2) = (Arc::clone(&next), Arc::clone(&next));
    let old = upstream(move |connection| {
        while connection.request().is_some() {
            let (content_type, body) = h1.lock().unwrap().clone();
            connection.send(sized("200 OK", &content_type, &body));
        }
    });
    let new = Http2::default().run(move |mut exchange| {
        let (content_type, body) = h2.lock().unwrap().clone();
        async move { exchange.respond(&content_type, &body).await }
    });
    let (old, new) = (proxy().upstream(&old).run(), proxy().http2(new.address).run());
    let (mut by_old, mut by_new) = (old.client(), new.client());
    let mut seen = 0;
    for line in index.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let body = fs::read(root.join(case["file"].as_str().unwrap())).unwrap();
        let content_type = case["content_type"].as_str().unwrap_or("application/json");
        *next.lock().unwrap() = (content_type.to_owned(), body.clone().into());
        let records = [(&old, &mut by_old), (&new, &mut by_new)].map(|(proxy, client)| {
            let response = client.post("/v1/chat/completions", CHAT_REQUEST).response();
            assert!(response.body() == body, "{} came changed", case["file"]);
            let mut record = proxy.record();
            let fields = record.as_object_mut().unwrap();
            fields.retain(|name, _| !name.ends_with("_ms") && !matches!(&**name, "id" | "started_at"));
            record
        });
        assert_eq!(records[0], records[1], "{}", case["file"]);
        seen += 1;
    }
    assert!(seen > 100, "there were {seen} recordings");
}

#[test]
fn streams_beyond_peers_limit_get_connections_and_never_wait() {
    const STREAMS: usize = 300;
    for (limit, most) in [(100, 4), (10, 40)] {
        // No client gets a response before all requests have arrived.
        let all = Arc::new(Barrier::new(STREAMS));
        let up = Http2 { max_streams: Some(limit), ..Http2::default() }.run(move |mut exchange| {
            let all = Arc::clone(&all);
            async move {
                all.wait().await;
                exchange.respond("text/event-stream", CHAT_STREAM.as_bytes()).await;
            }
        });
        let proxy = proxy().http2(up.address).run();
        let mut clients: Vec<_> = (0..STREAMS).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.post("/v1/chat/completions", CHAT_REQUEST);
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), CHAT_STREAM);
        }
        let least = STREAMS / limit as usize;
        assert!(
            (least..=most).contains(&up.accepted()),
            "{} connections for a limit of {limit}",
            up.accepted()
        );
        for _ in 0..STREAMS {
            assert_eq!(proxy.record()["outcome"], "complete");
        }
    }
}

#[test]
fn a_connection_is_used_again() {
    let up = Http2::default().run(|mut exchange| async move {
        exchange.body().await;
        exchange.respond("application/json", CHAT_BODY.as_bytes()).await;
    });
    let proxy = proxy().http2(up.address).run();
    for _ in 0..5 {
        assert_eq!(proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response().text(), CHAT_BODY);
    }
    assert_eq!(up.accepted(), 1);
}

#[test]
fn a_peer_that_says_goaway_again_and_again_loses_no_stream() {
    const REQUESTS: usize = 400;
    const THREADS: usize = 8;
    let up = Http2 { go_away_after: Some(20), ..Http2::default() }.run(|mut exchange| async move {
        exchange.body().await;
        exchange.respond("text/event-stream", CHAT_STREAM.as_bytes()).await;
    });
    let proxy = proxy().http2(up.address).run();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut client = Client::connect(proxy.address);
                for _ in 0..REQUESTS / THREADS {
                    let response = client.post("/v1/chat/completions", CHAT_REQUEST).response();
                    assert_eq!(response.text(), CHAT_STREAM);
                }
            });
        }
    });
    assert!(up.accepted() > REQUESTS / 100, "GOAWAY was never said: {} connections", up.accepted());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn client_that_never_reads_holds_one_window_and_stops_no_other() {
    const MORE: usize = 64 << 20;
    /// The stream's window, and the capacity of the sockets between here and the client.
    const BOUND: usize = (1 << 19) + (20 << 20);
    /// After this time without room nothing more will come.
    const STALL: Duration = Duration::from_secs(1);
    let (tell, stalled) = mpsc::channel();
    let up = Http2::default().run(move |mut exchange| {
        let tell = tell.clone();
        async move {
            if exchange.request.uri().path() != "/v1/files/slow" {
                return exchange.respond("application/json", CHAT_BODY.as_bytes()).await;
            }
            let mut stream = exchange.head(200, &[("content-type", "application/octet-stream")], false);
            let mut sent = 0;
            while sent < MORE {
                let write = write(&mut stream, vec![b'x'; 64 << 10]);
                match tokio::time::timeout(STALL, write).await {
                    Ok(count) => sent += count,
                    Err(_) => break,
                }
            }
            tell.send(sent).unwrap();
            std::future::pending::<()>().await;
        }
    });
    let proxy = proxy().http2(up.address).run();
    let mut slow = proxy.client();
    slow.get("/v1/files/slow").head();
    let sent = stalled.recv().unwrap();
    assert!(sent < BOUND, "{sent} bytes were taken from the upstream for a client that reads nothing");
    assert!(sent >= 1 << 19, "the window is smaller than it should be: {sent}");
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.text(), CHAT_BODY, "another stream of the same connection");
    assert_eq!(up.accepted(), 1);
}

#[test]
fn a_fast_stream_is_not_throttled() {
    const SIZE: usize = 64 << 20;
    let up = Http2::default().run(|mut exchange| async move {
        exchange.respond("application/octet-stream", &vec![b'x'; SIZE]).await;
    });
    let proxy = proxy().http2(up.address).run();
    let response = proxy.client().get("/v1/files/big").response();
    assert_eq!(response.body().len(), SIZE);
    assert!(response.body().iter().all(|&byte| byte == b'x'));
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn a_large_upload_arrives_whole() {
    const SIZE: usize = 8 << 20;
    let (tell, seen) = mpsc::channel();
    let up = Http2::default().run(move |mut exchange| {
        let tell = tell.clone();
        async move {
            let body = exchange.body().await;
            tell.send((body, exchange.request.headers().get("content-length").cloned())).unwrap();
            exchange.respond("application/json", b"{}").await;
        }
    });
    let proxy = proxy().http2(up.address).run();
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    // Passing through, and buffered.
    for (path, content_type) in [("files", "multipart/form-data"), ("embeddings", "application/json")] {
        let head = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {SIZE}\r\n\r\n"
        );
        let mut client = proxy.client();
        assert_eq!(client.send(head).send(&body).response().status(), 200);
        let (seen, length) = seen.recv().unwrap();
        assert!(seen == body, "{path}");
        assert_eq!(length.unwrap(), SIZE.to_string().as_str());
    }
}

#[test]
fn response_before_the_body_was_read_reaches_the_client() {
    let up = Http2::default().run(|mut exchange| async move {
        let mut stream = exchange.head(413, &[("content-type", "application/json")], false);
        stream.send_data(Bytes::from_static(b"{\"error\":1}"), true).unwrap();
        // The body is not read: its window closes, and dropping this resets the stream with
        // NO_ERROR or CANCEL.
    });
    let proxy = proxy().http2(up.address).run();
    let mut client = proxy.client();
    client.send("POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data\r\ncontent-length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 1000]);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "{\"error\":1}"));
}

#[test]
fn response_without_a_body_is_complete() {
    let up = Http2::default().run(|mut exchange| async move {
        let status = if exchange.request.method() == "HEAD" { 200 } else { 204 };
        let length: &[_] = if status == 200 { &[("content-length", "5")] } else { &[] };
        exchange.head(status, length, true);
    });
    let proxy = proxy().http2(up.address).run();
    let mut client = proxy.client();
    client.send("HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(client.head().contains("content-length: 5\r\n"));
    assert_eq!(
        client.send("DELETE /v1/files/x HTTP/1.1\r\nhost: localhost\r\n\r\n").response().status(),
        204
    );
    for status in [200, 204] {
        let record = proxy.record();
        assert_eq!((&record["status"], &record["outcome"]), (&status.into(), &"complete".into()));
    }
}

#[test]
fn response_of_declared_length_is_complete_at_its_last_byte() {
    for (is_late, status, outcome) in
        [(false, 200, "complete"), (true, 200, "complete"), (false, 429, "rate_limited")]
    {
        let up = Http2::default().run(move |mut exchange| async move {
            let length = CHAT_BODY.len().to_string();
            let headers = [("content-type", "application/json"), ("content-length", &*length)];
            let mut stream = exchange.head(status, &headers, false);
            write(&mut stream, CHAT_BODY).await;
            if is_late {
                // The end does not come before the proxy has no more use for it.
                let _ = poll_fn(|cx| stream.poll_reset(cx)).await;
            } else {
                let _ = stream.send_data(Bytes::new(), true);
            }
        });
        let proxy = proxy().http2(up.address).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!((response.status(), response.text()), (status, CHAT_BODY));
        assert_eq!(proxy.record()["outcome"], outcome, "late: {is_late}");
    }
}

#[test]
fn an_upstream_that_speaks_http_1_only_is_named() {
    let up = Upstream::responding("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    // The proxy waits for the end of a head that is an HTTP/2 preface: `PRI * HTTP/2.0`.
    let proxy = proxy().http2(up.address).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 502);
    let error = response.error();
    assert_eq!(error["code"], "upstream_protocol");
    assert!(error["message"].as_str().unwrap().contains("does not speak HTTP/2"), "{error}");
}

//! Promise 5: when the client leaves, its request to the upstream is cancelled immediately. Promise
//! 3: there is one record.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, LAST_CHUNK, chunk, http2_client, proxy, sized,
    upstream,
};

/// The time within which the upstream must be notified.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The time after the last client within which all traces of it must be gone.
const LEFT_OVER: Duration = Duration::from_secs(5);

#[test]
fn a_client_that_leaves_cancels_its_upstream_at_once() {
    let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
    // Before the head, after the head, in mid-stream.
    for stage in 0..3 {
        let (closed, told) = mpsc::channel();
        let (arrived, arrival) = mpsc::channel();
        let up = upstream(move |connection| {
            connection.request();
            if stage > 0 {
                connection.send(EVENTS_HEAD);
            }
            if stage > 1 {
                connection.send(chunk(first.as_bytes()));
            }
            arrived.send(()).unwrap();
            connection.wait_for_close();
            closed.send(Instant::now()).unwrap();
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", CHAT_REQUEST);
        arrival.recv().unwrap();
        if stage > 0 {
            client.head();
        }
        if stage > 1 {
            client.chunk();
        }
        let left = Instant::now();
        drop(client);
        let took = told.recv().unwrap() - left;
        assert!(took < AT_ONCE, "stage {stage}: it took {took:?}");
        let record = proxy.record();
        assert_eq!(record["outcome"], "client_disconnected", "stage {stage}");
        assert_eq!(record["status"].is_null(), stage == 0);
        assert_eq!(proxy.stop().len(), 0, "one record");
    }
}

#[test]
fn http2_client_that_resets_its_stream_cancels_the_upstream() {
    use http_body_util::{BodyExt, Full};

    let (closed, told) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(b": begun\n\n"));
        connection.wait_for_close();
        closed.send(Instant::now()).unwrap();
    });
    let proxy = proxy().upstream(&up).run();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut sender, _) = http2_client(proxy.address).await;
        let request = http::Request::post("http://localhost/v1/chat/completions")
            .body(Full::new(bytes::Bytes::from(CHAT_REQUEST)))
            .unwrap();
        let mut body = sender.send_request(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let left = Instant::now();
        drop(body);
        // The connection stays, and its task must run to send the reset.
        let took = tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap() - left;
        assert!(took < AT_ONCE, "it took {took:?}");
    });
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
}

#[test]
fn a_client_that_closes_after_the_last_event_is_complete() {
    // The upstream's own end never comes: many SDKs do not wait for it.
    let up = upstream(|connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(CHAT_STREAM.as_bytes()));
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    client.chunks(CHAT_STREAM.len());
    drop(client);
    let record = proxy.record();
    assert_eq!(record["outcome"], "complete");
    assert_eq!(record["usage_source"], "reported");
    assert_eq!(record["total_tokens"], 11);
}

#[test]
fn usage_reported_before_the_client_left_is_partial() {
    let event = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n";
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(event.as_bytes()));
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    client.chunks(event.len());
    drop(client);
    let record = proxy.record();
    assert_eq!(record["outcome"], "client_disconnected");
    assert_eq!(record["usage_source"], "partial");
    assert_eq!(record["output_tokens"], 1);
    assert!(record["time_to_first_token_ms"].is_number());
}

#[test]
fn client_cut_inside_its_body_has_a_record_and_no_upstream() {
    let up = upstream(|connection| {
        connection.request();
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.send(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"model\"",
    );
    client.finish();
    client.rest();
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
    assert_eq!(up.accepted(), 0);
}

/// The upstream reads the head and nothing after it: the client's bytes stay in the sockets, and
/// its close comes after them.
#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn client_that_aborts_an_unread_upload_is_noticed_at_once() {
    let (end, ended) = mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    let up = upstream(move |connection| {
        connection.head();
        let _ = ended.lock().unwrap().recv();
    });
    let proxy = proxy().server("max_request_bytes = \"1GiB\"").upstream(&up).run();
    let mut client = proxy.client();
    client.send(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\n\
         content-length: 1000000000\r\n\r\n",
    );
    let sent = client.send_until_full();
    let left = Instant::now();
    // A plain close could not leave the client's own system: it comes after bytes that no peer
    // accepts.
    client.reset();
    let record = proxy.record();
    let took = left.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    assert_eq!((&record["outcome"], &record["status"]), (&"client_disconnected".into(), &Value::Null));
    assert!(record["request_bytes"].as_u64() < Some(sent), "not all was read: {record}, of {sent}");
    assert_eq!(proxy.stop().len(), 0, "one record");
    drop(end);
}

/// A pipelined request hides the client's close in the same way.
#[test]
fn client_that_leaves_after_pipelining_is_noticed_at_once() {
    let (closed, told) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(b": begun\n\n"));
        connection.wait_for_close();
        closed.send(Instant::now()).unwrap();
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST);
    client.head();
    client.chunk();
    for _ in 0..10 {
        client.post("/v1/chat/completions", CHAT_REQUEST);
    }
    let left = Instant::now();
    drop(client);
    let took = told.recv().unwrap() - left;
    assert!(took < AT_ONCE, "it took {took:?}");
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
    assert_eq!(proxy.stop().len(), 0, "the requests behind it were never read");
}

#[test]
fn a_client_that_leaves_as_soon_as_it_has_asked_has_a_record() {
    const REQUESTS: usize = 200;
    let up = upstream(|connection| {
        while connection.request().is_some() {
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    let proxy = proxy().upstream(&up).run();
    for _ in 0..REQUESTS {
        // Most often the request and the end of the connection arrive together.
        proxy.client().post("/v1/chat/completions", CHAT_REQUEST);
    }
    for _ in 0..REQUESTS {
        let record = proxy.record();
        assert!(
            ["client_disconnected", "complete"].contains(&record["outcome"].as_str().unwrap()),
            "{record}"
        );
        assert_eq!(record["method"], "POST");
    }
    assert_eq!(proxy.stop().len(), 0);
}

#[test]
fn pipelined_request_waits_and_gets_a_response() {
    let up = upstream(|connection| {
        while connection.request().is_some() {
            connection.send(
                [EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes()), LAST_CHUNK.as_bytes()].concat(),
            );
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).post("/v1/chat/completions", CHAT_REQUEST);
    assert_eq!(client.response().text(), CHAT_STREAM);
    assert_eq!(client.response().text(), CHAT_STREAM);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn clients_that_close_at_any_byte_leave_only_a_record_each() {
    const REQUESTS: usize = 2000;
    const THREADS: usize = 8;
    const SILENT: usize = REQUESTS / 4;
    let up = upstream(|connection| {
        while let Some(request) = connection.request() {
            connection.send(EVENTS_HEAD);
            if request.header("x-silent").is_some() {
                return connection.wait_for_close();
            }
            for event in CHAT_STREAM.split_inclusive("\n\n") {
                connection.send(chunk(event.as_bytes()));
            }
            connection.send(LAST_CHUNK);
        }
    });
    let proxy = proxy().upstream(&up).run();
    let wire = EVENTS_HEAD.len() + CHAT_STREAM.len() + 64;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let address = proxy.address;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                for number in 0..REQUESTS / THREADS {
                    let mut client = Client::connect(address);
                    if number % (REQUESTS / SILENT) == 0 {
                        // Only the client's close ends this exchange.
                        client.send(format!(
                            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-silent: 1\r\ncontent-length: {}\r\n\r\n{CHAT_REQUEST}",
                            CHAT_REQUEST.len()
                        ));
                        client.read_up_to(random.usize(..EVENTS_HEAD.len()));
                        continue;
                    }
                    client.post("/v1/chat/completions", CHAT_REQUEST);
                    client.read_up_to(random.usize(..wire));
                }
            });
        }
    });
    let mut complete = 0;
    for _ in 0..REQUESTS {
        let record = proxy.record();
        let outcome = record["outcome"].as_str().unwrap().to_owned();
        assert!(["complete", "client_disconnected"].contains(&outcome.as_str()), "{record}");
        complete += usize::from(outcome == "complete");
    }
    assert!(complete <= REQUESTS - SILENT, "{complete} complete: a response without an end cannot be");
    // The drain ends only when no connection is left; a remaining one would delay it for the 30 s
    // of drain_timeout.
    let end = Instant::now();
    assert_eq!(proxy.stop().len(), 0, "a record each, and no more");
    assert!(end.elapsed() < LEFT_OVER, "a connection was left: the drain took {:?}", end.elapsed());
}

#[test]
fn request_sent_during_a_response_is_served_after_it() {
    let (go_on, waiting) = mpsc::channel::<()>();
    let waiting = std::sync::Mutex::new(waiting);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let events: Vec<_> = CHAT_STREAM.split_inclusive("\n\n").collect();
            connection.send(EVENTS_HEAD);
            connection.send(chunk(events[0].as_bytes()));
            if request.header("x-first").is_some() {
                waiting.lock().unwrap().recv().unwrap();
            }
            connection.send(chunk(events[1..].concat().as_bytes()));
            connection.send(LAST_CHUNK);
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let request = |more: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {}\r\n\r\n{CHAT_REQUEST}",
            CHAT_REQUEST.len()
        )
    };
    client.send(request("x-first: 1\r\n"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let first = client.chunk();
    // More than the read-ahead, in two pieces.
    let second = request(&format!("x-padding: {}\r\n", "p".repeat(2000)));
    client.send(&second[..100]);
    client.send(&second[100..]);
    go_on.send(()).unwrap();
    let mut body = first;
    while !body.ends_with(b"data: [DONE]\n\n") {
        body.extend(client.chunk());
    }
    assert_eq!(body, CHAT_STREAM.as_bytes());
    assert_eq!(client.chunk(), b"", "the end of the first response");
    assert_eq!(client.response().body(), CHAT_STREAM.as_bytes());
    assert_eq!(proxy.stop().len(), 2);
}

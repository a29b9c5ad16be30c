//! The rest of a response whose client leaves: `on_disconnect`, `drain_limits`, and the header.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, Connection, EVENTS_HEAD, Http2, LAST_CHUNK, PATIENCE,
    Proxy, Upstream, chunk, http2_client, proxy, sized, upstream, write,
};

/// The time within which the upstream must be notified.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The events of text in a long stream. The role precedes them, and the end of the stream follows:
/// 100 in all.
const TEXTS: usize = 96;

/// The place of usage in a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Usage {
    /// Usage in every chunk from the first text on, cumulative.
    Every,
    /// Usage in the last chunk.
    Last,
}

/// A stream of 100 events.
fn long_stream(usage: Usage) -> Vec<String> {
    let event = |choices: Value, usage: Option<usize>| {
        let usage = usage.map(
            |output| json!({ "prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output }),
        );
        let data = json!({ "object": "chat.completion.chunk", "model": "gpt-real", "choices": choices, "usage": usage });
        format!("data: {data}\n\n")
    };
    let every = |output| Some(output).filter(|_| usage == Usage::Every);
    let mut events =
        vec![event(json!([{ "index": 0, "delta": { "role": "assistant", "content": "" } }]), None)];
    events.extend((1..=TEXTS).map(|number| {
        event(json!([{ "index": 0, "delta": { "content": format!("word{number} ") } }]), every(number))
    }));
    events.push(event(json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]), every(TEXTS)));
    events.push(event(json!([]), Some(TEXTS)));
    events.push("data: [DONE]\n\n".to_owned());
    assert_eq!(events.len(), 100);
    events
}

/// An upstream that sends the number of events in the header `x-events`, and then obeys the header
/// `x-then`.
struct Staged {
    upstream: Upstream,
    /// Each message releases the rest of a stream.
    go: Sender<()>,
    /// The times at which the proxy closed a connection whose rest was not released.
    closed: Receiver<Instant>,
}

fn staged(events: Vec<String>) -> Staged {
    let (go, gone) = mpsc::channel();
    let (close, closed) = mpsc::channel();
    let gone = Arc::new(Mutex::new(gone));
    let upstream = upstream(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            let stop =
                request.header("x-events").and_then(|count| count.parse().ok()).unwrap_or(events.len());
            connection.send(EVENTS_HEAD);
            for event in &events[..stop] {
                connection.send(chunk(event.as_bytes()));
            }
            if request.header("x-then") == Some("wait") {
                gone.lock().unwrap().recv().unwrap();
                for event in &events[stop..] {
                    connection.send(chunk(event.as_bytes()));
                }
                connection.send(LAST_CHUNK);
                continue;
            }
            connection.wait_for_close();
            close.send(Instant::now()).unwrap();
        }
    });
    Staged { upstream, go, closed }
}

/// Requests a stream of which this many events come before the upstream waits.
fn ask(client: &mut Client, events: usize, then: &str, more: &str) {
    let length = CHAT_REQUEST.len();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         x-events: {events}\r\nx-then: {then}\r\n{more}\r\n{CHAT_REQUEST}"
    ));
}

/// Waits until the proxy has noticed that its only client has left.
fn until_noticed(proxy: &Proxy) {
    let since = Instant::now();
    while proxy.running.as_ref().unwrap().loads().iter().any(|&load| load > 0) {
        assert!(since.elapsed() < PATIENCE, "the proxy did not notice that its client left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn client_that_leaves_at_any_event_has_partial_usage() {
    for usage in [Usage::Every, Usage::Last] {
        let events = long_stream(usage);
        let staged = staged(events.clone());
        let proxy = proxy().upstream(&staged.upstream).run();
        // The machine may pause this for a while, but not at the same event again and again.
        let (mut count, mut late) = (0, 0);
        while count <= events.len() {
            let mut client = proxy.client();
            ask(&mut client, count, "stay", "");
            client.head();
            client.chunks(events[..count].iter().map(String::len).sum());
            let left = Instant::now();
            drop(client);
            let took = staged.closed.recv_timeout(PATIENCE).unwrap() - left;
            let record = proxy.record();
            let texts = count.saturating_sub(1).min(TEXTS);
            let (outcome, source, output) = match (usage, count) {
                (_, 100) => ("complete", "reported", json!(TEXTS)),
                (_, 99) => ("client_disconnected", "partial", json!(TEXTS)),
                (Usage::Every, 2..) => ("client_disconnected", "partial", json!(texts)),
                (_, 0..=1) => ("client_disconnected", "estimated", json!(0)),
                // A word, its number, and the space at the end.
                _ => ("client_disconnected", "estimated", json!(2 * texts + 1)),
            };
            let what = format!("{usage:?}, after {count} events: {record}");
            assert_eq!(
                (&record["outcome"], &record["usage_source"]),
                (&json!(outcome), &json!(source)),
                "{what}"
            );
            assert_eq!((&record["output_tokens"], &record["events"]), (&output, &json!(count)), "{what}");
            assert_eq!(record["time_to_disconnect_ms"].is_null(), outcome == "complete", "{what}");
            late = if took > AT_ONCE { late + 1 } else { 0 };
            count += usize::from(late == 0);
            assert!(late < 3, "{what}: the upstream was told after {took:?}, and late twice before");
        }
        assert_eq!(proxy.stop().len(), 0, "one record each");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn at_every_event_a_client_may_leave_and_the_rest_is_drained() {
    for usage in [Usage::Every, Usage::Last] {
        let events = long_stream(usage);
        let bytes: usize = events.iter().map(String::len).sum();
        let staged = staged(events.clone());
        let proxy = proxy().upstream(&staged.upstream).tables("on_disconnect = \"drain\"").run();
        for count in 0..=events.len() {
            let mut client = proxy.client();
            ask(&mut client, count, "wait", "");
            client.head();
            client.chunks(events[..count].iter().map(String::len).sum());
            drop(client);
            until_noticed(&proxy);
            staged.go.send(()).unwrap();
            let record = proxy.record();
            let (outcome, source) =
                if count == 100 { ("complete", "reported") } else { ("client_disconnected", "drained") };
            let what = format!("{usage:?}, after {count} events: {record}");
            assert_eq!(
                (&record["outcome"], &record["usage_source"]),
                (&json!(outcome), &json!(source)),
                "{what}"
            );
            assert_eq!(
                (&record["input_tokens"], &record["output_tokens"]),
                (&json!(7), &json!(TEXTS)),
                "{what}"
            );
            assert_eq!(
                (&record["events"], &record["response_bytes"]),
                (&json!(100), &json!(bytes)),
                "{what}"
            );
            assert_eq!((&record["status"], &record["error"]), (&json!(200), &Value::Null), "{what}");
            let time = |name: &str| record[name].as_f64().unwrap_or(f64::MAX);
            assert_eq!(record["time_to_disconnect_ms"].is_null(), outcome == "complete", "{what}");
            assert!(time("time_to_first_event_ms") <= time("time_to_last_event_ms"), "{what}");
            assert!(count < 100 || time("time_to_last_event_ms") <= time("time_to_disconnect_ms"), "{what}");
        }
        assert_eq!(staged.upstream.accepted(), 1, "after a full drain the connection is used again");
        assert_eq!(proxy.stop().len(), 0, "one record each");
    }
}

#[test]
fn on_disconnect_header_decides_and_stays_from_upstream() {
    for (configured, header, drained) in [("cancel", "drain", true), ("drain", "cancel", false)] {
        let events = long_stream(Usage::Last);
        let (go, gone) = mpsc::channel();
        let gone = Mutex::new(gone);
        let up = upstream(move |connection| {
            let request = connection.request().unwrap();
            assert_eq!(request.header("x-streamgauge-on-disconnect"), None);
            connection.send(EVENTS_HEAD);
            connection.send(chunk(events[0].as_bytes()));
            gone.lock().unwrap().recv().unwrap();
            connection.send(chunk(events[1..].concat().as_bytes()));
            connection.send(LAST_CHUNK);
        });
        let proxy = proxy().upstream(&up).tables(&format!("on_disconnect = {configured:?}")).run();
        let mut client = proxy.client();
        ask(&mut client, 0, "", &format!("x-streamgauge-on-disconnect: {header}\r\n"));
        client.head();
        client.chunk();
        drop(client);
        until_noticed(&proxy);
        go.send(()).unwrap();
        let record = proxy.record();
        assert_eq!(record["outcome"], "client_disconnected");
        assert_eq!(record["usage_source"], if drained { "drained" } else { "estimated" }, "{header}");
    }
}

#[test]
fn unknown_on_disconnect_value_is_refused_before_sending() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    ask(&mut client, 0, "", "x-streamgauge-on-disconnect: keep\r\n");
    let response = client.response();
    assert_eq!((response.status(), &response.error()["code"]), (400, &json!("invalid_header")));
    assert!(
        response.error()["message"].as_str().unwrap().contains("\"cancel\" or \"drain\""),
        "{}",
        response.text()
    );
    assert_eq!(proxy.record()["outcome"], "rejected");
    assert_eq!(up.accepted(), 0);
}

#[test]
fn client_that_leaves_before_the_response_is_drained_too() {
    // With comments the response's head is the proxy's own, and its body holds the request.
    for comments in ["", "keep_alive_comments = \"1ms\""] {
        for response in [
            [EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes()), LAST_CHUNK.as_bytes()].concat(),
            sized("200 OK", "application/json", CHAT_BODY.as_bytes()),
        ] {
            let (go, gone) = mpsc::channel();
            let (arrived, arrival) = mpsc::channel();
            let gone = Mutex::new(gone);
            let up = upstream(move |connection| {
                while connection.request().is_some() {
                    arrived.send(()).unwrap();
                    gone.lock().unwrap().recv().unwrap();
                    connection.send(&response);
                }
            });
            let proxy = proxy().upstream(&up).tables("on_disconnect = \"drain\"").tables(comments).run();
            for _ in 0..2 {
                let mut client = proxy.client();
                client.post("/v1/chat/completions", CHAT_REQUEST);
                arrival.recv().unwrap();
                if !comments.is_empty() {
                    client.head();
                }
                drop(client);
                until_noticed(&proxy);
                go.send(()).unwrap();
                let record = proxy.record();
                assert_eq!(record["outcome"], "client_disconnected", "{record}");
                assert_eq!(record["usage_source"], "drained", "{record}");
                assert_eq!(
                    (&record["status"], &record["input_tokens"]),
                    (&json!(200), &json!(9)),
                    "{record}"
                );
            }
            assert_eq!(up.accepted(), 1, "the connection is used again");
            assert_eq!(proxy.stop().len(), 0);
        }
    }
}

#[test]
fn client_that_left_has_no_second_try_without_stream_options() {
    for comments in ["", "keep_alive_comments = \"1ms\""] {
        let (go, gone) = mpsc::channel();
        let (arrived, arrival) = mpsc::channel();
        let gone = Mutex::new(gone);
        let up = upstream(move |connection| {
            while connection.request().is_some() {
                arrived.send(()).unwrap();
                gone.lock().unwrap().recv().unwrap();
                let refusal = b"{\"error\":{\"message\":\"stream_options are unknown\"}}";
                connection.send(sized("400 Bad Request", "application/json", refusal));
            }
        });
        let proxy = proxy().upstream(&up).tables("on_disconnect = \"drain\"").tables(comments).run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[],\"stream\":true}");
        arrival.recv().unwrap();
        if !comments.is_empty() {
            client.head();
        }
        drop(client);
        until_noticed(&proxy);
        go.send(()).unwrap();
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["status"]), (&json!("client_disconnected"), &json!(400)));
        assert_eq!(proxy.stop().len(), 0);
        assert_eq!(arrival.try_iter().count(), 0, "nothing is sent for a client that is gone");
    }
}

#[test]
fn a_body_is_drained_and_what_cannot_be_read_is_not() {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let kind = request.header("x-kind").unwrap().to_owned();
            let body = if kind == "application/json" { CHAT_BODY } else { "sounds like nothing to a meter" };
            let response = sized("200 OK", &kind, body.as_bytes());
            let (first, rest) = response.split_at(response.len() - 5);
            connection.send(first);
            if kind == "application/json" {
                gone.lock().unwrap().recv().unwrap();
                connection.send(rest);
            } else {
                connection.wait_for_close();
            }
        }
    });
    let proxy = proxy().upstream(&up).tables("on_disconnect = \"drain\"").run();
    for (kind, source) in [("application/json", "drained"), ("audio/mpeg", "none"), ("text/plain", "none")] {
        let mut client = proxy.client();
        ask(&mut client, 0, "", &format!("x-kind: {kind}\r\n"));
        client.head();
        client.read_up_to(20);
        drop(client);
        until_noticed(&proxy);
        if source == "drained" {
            go.send(()).unwrap();
        }
        let record = proxy.record();
        assert_eq!(
            (&record["outcome"], &record["usage_source"]),
            (&json!("client_disconnected"), &json!(source)),
            "{kind}"
        );
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_drain_ends_at_its_seconds() {
    let events = long_stream(Usage::Every);
    let staged = staged(events.clone());
    let proxy = proxy()
        .upstream(&staged.upstream)
        .tables("on_disconnect = \"drain\"\ndrain_limits = { seconds = 1 }")
        .run();
    let mut client = proxy.client();
    ask(&mut client, 10, "stay", "");
    client.head();
    client.chunks(events[..10].iter().map(String::len).sum());
    let left = Instant::now();
    drop(client);
    let took = staged.closed.recv_timeout(PATIENCE).unwrap() - left;
    assert!((Duration::from_millis(990)..Duration::from_secs(5)).contains(&took), "it took {took:?}");
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"]),
        (&json!("client_disconnected"), &json!("partial"))
    );
    assert_eq!(record["output_tokens"], 9);
    assert!(record["error"].as_str().unwrap().contains("drain_limits.seconds"), "{record}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn drain_that_waits_for_a_response_ends_at_its_time_limit() {
    let (arrived, arrival) = mpsc::channel();
    let (closed, told) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        arrived.send(()).unwrap();
        connection.wait_for_close();
        closed.send(()).unwrap();
    });
    let proxy =
        proxy().upstream(&up).tables("on_disconnect = \"drain\"\ndrain_limits = { seconds = 1 }").run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST);
    arrival.recv().unwrap();
    drop(client);
    told.recv_timeout(PATIENCE).unwrap();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"]),
        (&json!("client_disconnected"), &json!("none"))
    );
    assert_eq!(record["status"], Value::Null);
    assert!(record["error"].as_str().unwrap().contains("drain_limits.seconds"), "{record}");
}

#[test]
fn a_drain_ends_at_its_bytes() {
    const LIMIT: u64 = 1 << 20;
    let (closed, told) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        // Sends without end, as much as the proxy accepts.
        let text = "x".repeat(4000);
        let mut output = 0_u64;
        loop {
            output += 1;
            let event = format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":{{\"completion_tokens\":{output}}}}}\n\n"
            );
            if !connection.try_send(&chunk(event.as_bytes())) {
                break;
            }
        }
        closed.send(output).unwrap();
    });
    let tables = format!("on_disconnect = \"drain\"\ndrain_limits = {{ bytes = {LIMIT} }}");
    let proxy = proxy().upstream(&up).tables(&tables).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    client.chunk();
    drop(client);
    let sent = told.recv_timeout(PATIENCE).unwrap();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"]),
        (&json!("client_disconnected"), &json!("partial"))
    );
    assert!(record["error"].as_str().unwrap().contains("drain_limits.bytes"), "{record}");
    let (bytes, output) =
        (record["response_bytes"].as_u64().unwrap(), record["output_tokens"].as_u64().unwrap());
    assert!(bytes > LIMIT && output > LIMIT / 4200 && output <= sent, "{record}, of {sent} events");
    assert_eq!(proxy.stop().len(), 0);
}

#[test]
fn no_more_drains_than_allowed_are_under_way_at_once() {
    let events = long_stream(Usage::Every);
    let staged = staged(events.clone());
    let proxy = proxy()
        .server("workers = 2")
        .upstream(&staged.upstream)
        .tables("on_disconnect = \"drain\"\ndrain_limits = { concurrent = 2 }")
        .run();
    let leave = || {
        let mut client = proxy.client();
        ask(&mut client, 10, "wait", "");
        client.head();
        client.chunks(events[..10].iter().map(String::len).sum());
        drop(client);
        until_noticed(&proxy);
    };
    leave();
    leave();
    // There is no place for the third. The first two are not disturbed, and free theirs.
    leave();
    let refused = proxy.record();
    assert_eq!(
        (&refused["usage_source"], &refused["output_tokens"]),
        (&json!("partial"), &json!(9)),
        "{refused}"
    );
    assert!(refused["error"].as_str().unwrap().contains("drain_limits.concurrent"), "{refused}");
    // One for each of the three waiting upstream connections.
    (0..3).for_each(|_| staged.go.send(()).unwrap());
    for _ in 0..2 {
        assert_eq!(proxy.record()["usage_source"], "drained");
    }
    leave();
    staged.go.send(()).unwrap();
    assert_eq!(proxy.record()["usage_source"], "drained");
}

#[test]
fn upstream_that_fails_during_a_drain_leaves_partial_record() {
    let events = long_stream(Usage::Every);
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let sent = events.clone();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(sent[..5].concat().as_bytes()));
        gone.lock().unwrap().recv().unwrap();
        connection.send(chunk(sent[5..20].concat().as_bytes()));
    });
    let proxy = proxy().upstream(&up).tables("on_disconnect = \"drain\"").run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    client.chunks(events[..5].iter().map(String::len).sum());
    drop(client);
    until_noticed(&proxy);
    go.send(()).unwrap();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"]),
        (&json!("client_disconnected"), &json!("partial"))
    );
    assert_eq!((&record["output_tokens"], &record["events"]), (&json!(19), &json!(20)));
    assert!(record["error"].is_string(), "{record}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn upstream_silent_after_last_event_does_not_delay_the_record() {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        connection.send(chunk(b": begun\n\n"));
        gone.lock().unwrap().recv().unwrap();
        connection.send(chunk(CHAT_STREAM.as_bytes()));
        connection.wait_for_close();
    });
    let proxy = proxy().upstream(&up).tables("on_disconnect = \"drain\"").run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    client.chunk();
    drop(client);
    until_noticed(&proxy);
    go.send(()).unwrap();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"]),
        (&json!("client_disconnected"), &json!("drained"))
    );
    assert_eq!((&record["error"], &record["total_tokens"]), (&Value::Null, &json!(11)));
}

#[test]
fn a_stop_waits_for_drains() {
    let events = long_stream(Usage::Last);
    let staged = staged(events.clone());
    let proxy = proxy().upstream(&staged.upstream).tables("on_disconnect = \"drain\"").run();
    let mut client = proxy.client();
    ask(&mut client, 10, "wait", "");
    client.head();
    client.chunks(events[..10].iter().map(String::len).sum());
    drop(client);
    until_noticed(&proxy);
    proxy.running.as_ref().unwrap().stop().drain();
    staged.go.send(()).unwrap();
    let records = proxy.stop();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["usage_source"], "drained");
}

#[test]
fn a_drain_that_is_cut_at_the_end_of_a_stop_has_its_record() {
    let events = long_stream(Usage::Every);
    // One waits inside its response, one before it.
    for inside in [true, false] {
        let sent = events.clone();
        let (arrived, arrival) = mpsc::channel();
        let up = upstream(move |connection| {
            connection.request();
            if inside {
                connection.send(EVENTS_HEAD);
                connection.send(chunk(sent[..10].concat().as_bytes()));
            }
            arrived.send(()).unwrap();
            connection.wait_for_close();
        });
        let proxy = proxy()
            .server("drain_timeout = \"200ms\"")
            .upstream(&up)
            .tables("on_disconnect = \"drain\"")
            .run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", CHAT_REQUEST);
        arrival.recv().unwrap();
        if inside {
            client.head();
            client.chunks(events[..10].iter().map(String::len).sum());
        }
        drop(client);
        until_noticed(&proxy);
        let records = proxy.stop();
        assert_eq!(records.len(), 1);
        let record = &records[0];
        let (source, output) = if inside { ("partial", json!(9)) } else { ("none", Value::Null) };
        assert_eq!(
            (&record["outcome"], &record["usage_source"]),
            (&json!("client_disconnected"), &json!(source))
        );
        assert_eq!(record["output_tokens"], output);
        assert!(record["error"].as_str().unwrap().contains("stopped"), "{record}");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn http2_drain_shares_its_connection_and_limit_resets_stream() {
    for seconds in [300, 1] {
        let (go, gone) = tokio::sync::mpsc::unbounded_channel();
        let gone = Arc::new(tokio::sync::Mutex::new(gone));
        let (reset, was_reset) = mpsc::channel();
        let up = Http2::default().run(move |mut exchange| {
            let (gone, reset) = (Arc::clone(&gone), reset.clone());
            async move {
                exchange.body().await;
                let mut stream = exchange.head(200, &[("content-type", "text/event-stream")], false);
                write(&mut stream, &b": begun\n\n"[..]).await;
                if seconds == 1 {
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    reset.send(reason.unwrap()).unwrap();
                    return;
                }
                let () = gone.lock().await.recv().await.unwrap();
                write(&mut stream, CHAT_STREAM).await;
                stream.send_data(bytes::Bytes::new(), true).unwrap();
            }
        });
        let limits = format!("on_disconnect = \"drain\"\ndrain_limits = {{ seconds = {seconds} }}");
        let proxy = proxy().http2(up.address).tables(&limits).run();
        for _ in 0..2 {
            let mut client = proxy.client();
            client.post("/v1/chat/completions", CHAT_REQUEST).head();
            client.chunk();
            drop(client);
            until_noticed(&proxy);
            let source = if seconds == 1 {
                assert_eq!(was_reset.recv_timeout(PATIENCE).unwrap(), h2::Reason::CANCEL);
                "estimated"
            } else {
                go.send(()).unwrap();
                "drained"
            };
            let record = proxy.record();
            assert_eq!(record["outcome"], "client_disconnected", "{record}");
            assert_eq!(record["usage_source"], source, "{record}");
        }
        assert_eq!(up.accepted(), 1);
    }
}

#[test]
fn http2_reset_or_dropped_connection_starts_a_drain() {
    use http_body_util::{BodyExt, Full};

    for whole_connection in [false, true] {
        let events = long_stream(Usage::Last);
        let staged = staged(events);
        let proxy = proxy().upstream(&staged.upstream).tables("on_disconnect = \"drain\"").run();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut sender, connection) = http2_client(proxy.address).await;
            let request = |events: &str, then: &str| {
                http::Request::post("http://localhost/v1/chat/completions")
                    .header("x-events", events)
                    .header("x-then", then)
                    .body(Full::new(bytes::Bytes::from(CHAT_REQUEST)))
                    .unwrap()
            };
            let mut body = sender.send_request(request("10", "wait")).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            if whole_connection {
                connection.abort();
                drop((sender, body));
                tokio::task::yield_now().await;
                until_noticed(&proxy);
            } else {
                drop(body);
                // A whole stream of another exchange on the same connection: the reset has arrived
                // before it.
                let mut body = sender.send_request(request("100", "stay")).await.unwrap().into_body();
                let mut read = Vec::new();
                while !read.ends_with(b"data: [DONE]\n\n") {
                    read.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
                }
            }
            staged.go.send(()).unwrap();
        });
        // Ends the upstream's connection too.
        drop(runtime);
        let records =
            if whole_connection { vec![proxy.record()] } else { vec![proxy.record(), proxy.record()] };
        let drained = records.iter().filter(|record| record["usage_source"] == "drained").count();
        assert_eq!(drained, 1, "whole connection: {whole_connection}, {records:?}");
        assert_eq!(proxy.stop().len(), 0);
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_client_that_never_reads_is_given_up_in_time() {
    for (drain, source) in [("cancel", "partial"), ("drain", "drained")] {
        let (stop, stopped) = mpsc::channel::<()>();
        let (closed, told) = mpsc::channel();
        let stopped = Mutex::new(stopped);
        let up = upstream(move |connection| {
            connection.request();
            connection.send(EVENTS_HEAD);
            let text = "x".repeat(16_000);
            let event = format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":{{\"completion_tokens\":1}}}}\n\n"
            );
            let stopped = stopped.lock().unwrap();
            // More than the sockets hold.
            while connection.try_send(&chunk(event.as_bytes())) {
                if stopped.try_recv().is_ok() {
                    connection.send(chunk(b"data: [DONE]\n\n"));
                    connection.send(LAST_CHUNK);
                    return;
                }
            }
            closed.send(()).unwrap();
        });
        let proxy = proxy()
            .server("write_timeout = \"300ms\"")
            .upstream(&up)
            .tables(&format!("on_disconnect = {drain:?}\ndrain_limits = {{ bytes = \"100GB\" }}"))
            .run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", CHAT_REQUEST).head();
        // The connection stays open, and its client does not read.
        if drain == "drain" {
            until_noticed(&proxy);
            stop.send(()).unwrap();
        } else {
            told.recv_timeout(PATIENCE).unwrap();
        }
        let record = proxy.record();
        assert_eq!(
            (&record["outcome"], &record["usage_source"]),
            (&json!("client_disconnected"), &json!(source))
        );
        assert!(record["error"].as_str().unwrap().contains("server.write_timeout"), "{record}");
        assert!(record["time_to_disconnect_ms"].as_f64().unwrap() >= 300.0, "{record}");
        drop(client);
        assert_eq!(proxy.stop().len(), 0);
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_client_that_reads_slowly_is_not_given_up() {
    let up = upstream(|connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        let text = "x".repeat(16_000);
        for _ in 0..1000 {
            connection.send(chunk(format!("data: {text}\n\n").as_bytes()));
        }
        connection.send(LAST_CHUNK);
    });
    let proxy = proxy().server("write_timeout = \"500ms\"").upstream(&up).run();
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    // 2 MB at a time, with pauses that are each shorter than the limit and together longer.
    for _ in 0..7 {
        std::thread::sleep(Duration::from_millis(150));
        client.chunks(1 << 21);
    }
    while !client.chunk().is_empty() {}
    assert_eq!(proxy.record()["outcome"], "complete");
}

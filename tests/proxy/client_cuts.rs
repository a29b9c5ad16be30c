//! Limits that end running responses: `at_limit = "cut"`.

use std::sync::Mutex;
use std::sync::mpsc;

use serde_json::Value;

use crate::cuts::assert_last_is_error;
use crate::harness::encoders::encode;
use crate::harness::{
    Client, EVENTS_HEAD, End, PATIENCE, Proxy, Upstream, chunk, proxy, sized, until, upstream,
};

const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];

const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

/// A limit of 2,200 tokens has room for the input and two slices of output, and none for a third.
const LIMIT: u64 = 2_200;
const HELD: usize = 2_048;

/// More than 80 % of the first slice, so that the second one is taken.
const TO_SECOND: usize = 900;

fn tables(limits: &str) -> String {
    format!("[clients.search]\nkey = {{ value = \"sg-search-0123456789\" }}\nlimits = [{limits}]\n")
}

fn cutting(up: &Upstream) -> Proxy {
    let limit = format!("{{ tokens = {LIMIT}, per = \"hour\", at_limit = \"cut\" }}");
    proxy().upstream(up).tables(&tables(&limit)).admin().run()
}

fn send(client: &mut Client, path: &str, headers: &str) {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
         content-type: application/json\r\n{headers}content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    ));
}

/// One event with a token, of the endpoint.
fn token(path: &str) -> &'static str {
    match path {
        "/v1/messages" => {
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n"
        }
        "/v1/responses" => {
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\" word\"}\n\n"
        }
        _ => "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n",
    }
}

/// An upstream that sends each text that it gets from the test as a chunk, and then reports that it
/// was left.
fn told() -> (Upstream, mpsc::Sender<String>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel::<String>();
    let (left, was_left) = mpsc::channel();
    let told = Mutex::new(told);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        for events in told.lock().unwrap().iter() {
            connection.send(chunk(events.as_bytes()));
        }
        connection.wait_for_close();
        let _ = left.send(());
    });
    (up, tell, was_left)
}

/// The used tokens of the limit.
fn used(proxy: &Proxy) -> f64 {
    proxy.metric("streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[0]\"}") * LIMIT as f64
}

#[test]
fn stream_ends_in_endpoints_form_when_next_slice_has_no_room() {
    for path in PATHS {
        let (up, tell, was_left) = told();
        let proxy = cutting(&up);
        let mut client = proxy.client();
        send(&mut client, path, "");
        let event = token(path);
        tell.send(event.repeat(TO_SECOND)).unwrap();
        let head = client.head();
        let mut text = String::from_utf8(client.chunks(event.len() * TO_SECOND)).unwrap();
        // The last of these uses up the second slice.
        for events in [HELD - TO_SECOND - 1, 1] {
            tell.send(event.repeat(events)).unwrap();
            text += &String::from_utf8(client.chunks(event.len() * events)).unwrap();
        }
        tell.send(event.to_owned()).unwrap();
        text += &client.cut_body(&head);
        drop(tell);
        was_left.recv_timeout(PATIENCE).unwrap();
        assert!(text.starts_with(&event.repeat(HELD + 1)), "{path}: what arrives is passed on");
        assert_last_is_error(&text, path, "budget_exhausted");
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["status"]), (&"cut".into(), &200.into()), "{path}");
        let error = record["error"].as_str().unwrap();
        assert!(
            error.starts_with("The client search has used or reserved 20")
                && error.contains(" of 2200 tokens, and this response needs 10")
                && error.ends_with("more (limits[0] in [clients.search]): it was ended."),
            "{error}"
        );
        assert_eq!(
            proxy.metric("streamgauge_limit_exceeded_total{whose=\"clients.search\",limit=\"limits[0]\"}"),
            1.0,
            "{path}"
        );
        let used = used(&proxy);
        assert!((2_040.0..=2_100.0).contains(&used), "{path}: {used}");
    }
}

#[test]
fn stream_goes_on_when_another_request_gives_room_back() {
    let (up, tell, _was_left) = told();
    let proxy = cutting(&up);
    let mut client = proxy.client();
    send(&mut client, PATHS[0], "");
    let event = token(PATHS[0]);
    tell.send(event.to_owned()).unwrap();
    client.head();
    client.chunks(event.len());
    // Another request takes the room of the second slice, and leaves.
    let mut other = proxy.client();
    send(&mut other, PATHS[0], "");
    until(PATIENCE, "the hold", || (used(&proxy) > 2_048.0).then_some(()));
    tell.send(event.repeat(1_020)).unwrap();
    client.chunks(event.len() * 1_020);
    drop(other);
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
    for events in [3, 1, 900] {
        tell.send(event.repeat(events)).unwrap();
        client.chunks(event.len() * events);
    }
    tell.send("data: [DONE]\n\n".to_owned()).unwrap();
    client.chunks(14);
    drop(client);
    drop(tell);
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn last_counts_beyond_the_limit_cut_no_complete_stream() {
    let (up, tell, _was_left) = told();
    let proxy = cutting(&up);
    let mut client = proxy.client();
    send(&mut client, PATHS[1], "");
    let last = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
                \"usage\":{\"input_tokens\":60,\"output_tokens\":9000}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for (number, event) in [token(PATHS[1]), last, stop].into_iter().enumerate() {
        tell.send(event.to_owned()).unwrap();
        if number == 0 {
            client.head();
        }
        assert_eq!(client.chunks(event.len()), event.as_bytes());
    }
    drop(tell);
    drop(client);
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"], &record["error"]),
        (&"complete".into(), &"reported".into(), &Value::Null)
    );
    assert!((9_059.0..=9_060.0).contains(&used(&proxy)), "{}", used(&proxy));
}

#[test]
fn counts_of_each_chunk_are_in_the_record_of_a_cut_stream() {
    let (up, tell, _was_left) = told();
    let proxy = cutting(&up);
    let mut client = proxy.client();
    send(&mut client, PATHS[0], "");
    let event = |output: u64| {
        format!(
            "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}}}}],\
             \"usage\":{{\"prompt_tokens\":60,\"completion_tokens\":{output}}}}}\n\n"
        )
    };
    // Each event has many tokens.
    tell.send(event(1_000)).unwrap();
    let head = client.head();
    client.chunks(event(1_000).len());
    for output in [2_000, 2_100] {
        tell.send(event(output)).unwrap();
        client.chunks(event(output).len());
    }
    tell.send(event(2_150)).unwrap();
    let text = client.cut_body(&head);
    drop(tell);
    assert!(text.starts_with(&event(2_150)), "{text}");
    assert_last_is_error(&text, PATHS[0], "budget_exhausted");
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"], &record["output_tokens"]),
        (&"cut".into(), &"partial".into(), &2_150.into())
    );
    assert!((2_209.0..=2_210.0).contains(&used(&proxy)), "{}", used(&proxy));
}

#[test]
fn drained_stream_is_left_when_next_slice_has_no_room() {
    let (up, tell, was_left) = told();
    let proxy = cutting(&up);
    let mut client = proxy.client();
    send(&mut client, PATHS[1], "x-streamgauge-on-disconnect: drain\r\n");
    let event = token(PATHS[1]);
    tell.send(event.to_owned()).unwrap();
    client.head();
    client.chunks(event.len());
    drop(client);
    for _ in 0..2 {
        tell.send(event.repeat(HELD)).unwrap();
    }
    drop(tell);
    was_left.recv_timeout(PATIENCE).unwrap();
    let record = proxy.record();
    let error = record["error"].as_str().unwrap();
    assert!(record["outcome"] == "client_disconnected" && error.contains("it was ended"), "{record}");
}

#[test]
fn encoded_stream_is_cut_without_a_byte_more() {
    let event = token(PATHS[1]);
    let events = [event.repeat(HELD), event.to_owned()];
    let pieces = encode("gzip", &events.each_ref().map(|events| events.as_bytes()));
    let sent = pieces[..2].concat();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD.replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n"));
        for piece in &pieces[..2] {
            connection.send(chunk(piece));
            wait.lock().unwrap().recv().unwrap();
        }
        connection.wait_for_close();
    });
    let proxy = cutting(&up);
    let mut client = proxy.client();
    send(&mut client, PATHS[1], "accept-encoding: gzip\r\n");
    let head = client.head();
    let mut body = client.chunk();
    go_on.send(()).unwrap();
    let (rest, end) = client.body_and_end(&head);
    go_on.send(()).unwrap();
    body.extend(rest);
    assert_ne!(end, End::Proper);
    assert_eq!(body, sent);
    assert_eq!(proxy.record()["outcome"], "cut");
}

#[test]
fn whole_response_passes_and_is_charged() {
    let whole = br#"{"model":"m","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":60,"completion_tokens":9000}}"#;
    let up = Upstream::responding(sized("200 OK", "application/json", whole));
    let proxy = cutting(&up);
    let mut client = proxy.client();
    send(&mut client, PATHS[0], "");
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.record()["outcome"], "complete");
    let mut client = proxy.client();
    send(&mut client, PATHS[0], "");
    let refused = client.response();
    assert_eq!((refused.status(), &refused.error()["code"]), (429, &"rate_limit_exceeded".into()));
}

#[test]
fn member_whose_response_was_cut_is_not_blamed() {
    let (up, tell, _was_left) = told();
    let limit = format!("{{ tokens = {LIMIT}, per = \"hour\", at_limit = \"cut\" }}");
    let group =
        "[groups.chat]\ntiers = [[\"up\"]]\nbreaker = { failures = 1 }\n[[routes]]\nupstream = \"chat\"\n";
    let proxy = proxy().upstream(&up).tables(&(tables(&limit) + group)).admin().run();
    let mut client = proxy.client();
    send(&mut client, PATHS[0], "");
    let event = token(PATHS[0]);
    for _ in 0..2 {
        tell.send(event.repeat(HELD)).unwrap();
    }
    client.cut_response();
    drop(tell);
    let record = proxy.record();
    assert_eq!(record["outcome"], "cut");
    assert_eq!(proxy.metric("streamgauge_upstream_available{upstream=\"up\"}"), 1.0, "{record}");
}

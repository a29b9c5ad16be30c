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

/// A limit that cuts, by tokens.
fn cuts() -> String {
    tables(&format!("{{ tokens = {LIMIT}, per = \"hour\", at_limit = \"cut\" }}"))
}

/// A group of one member, which leaves it out after one failure.
const GROUP: &str =
    "[groups.chat]\ntiers = [[\"up\"]]\nbreaker = { failures = 1 }\n[[routes]]\nupstream = \"chat\"\n";

/// A limit of the same size by cost, by the route's upstream, and by the member of a group.
fn kinds_of_limits() -> [String; 4] {
    let prices = "[[prices]]\nmodel = \"m\"\ninput = 1\noutput = 1\n";
    let of_upstream = cuts().replace(" }]", ", upstream = \"up\" }]");
    [
        cuts(),
        tables("{ cost = 0.0022, per = \"hour\", at_limit = \"cut\" }") + prices,
        of_upstream.clone(),
        of_upstream + GROUP,
    ]
}

fn send(client: &mut Client, path: &str, headers: &str) {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sg-search-0123456789\r\n\
         content-type: application/json\r\n{headers}content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    ));
}

/// A running stream, whose upstream sends each text that the test tells it as a chunk.
struct Running {
    proxy: Proxy,
    client: Client,
    head: Option<String>,
    tell: mpsc::Sender<String>,
    /// The upstream was left after it was told all.
    was_left: mpsc::Receiver<()>,
}

impl Running {
    fn begin(tables: &str, path: &str, headers: &str) -> Self {
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
        let proxy = proxy().upstream(&up).tables(tables).admin().run();
        let mut client = proxy.client();
        send(&mut client, path, headers);
        Self { proxy, client, head: None, tell, was_left }
    }

    /// Sends events, and checks that the client gets them.
    fn pass(&mut self, events: impl Into<String>) {
        let events = events.into();
        self.tell.send(events.clone()).unwrap();
        self.head.get_or_insert_with(|| self.client.head());
        assert!(self.client.chunks(events.len()) == events.as_bytes(), "what arrives is passed on");
    }

    /// Sends events at which the stream is cut. Returns what the client gets from there on.
    fn cut(&mut self, events: impl Into<String>) -> String {
        self.tell.send(events.into()).unwrap();
        let head = self.head.get_or_insert_with(|| self.client.head());
        self.client.cut_body(head)
    }

    /// Waits until the upstream has been left, which was told all. Returns the proxy.
    fn left(self) -> Proxy {
        drop(self.tell);
        self.was_left.recv_timeout(PATIENCE).unwrap();
        self.proxy
    }

    /// Ends the stream after all that the upstream was told. Returns the proxy.
    fn over(self) -> Proxy {
        self.proxy
    }
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

/// The used tokens of the limit.
fn used(proxy: &Proxy) -> f64 {
    proxy.metric("streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[0]\"}") * LIMIT as f64
}

#[test]
fn stream_ends_in_endpoints_form_when_next_slice_has_no_room() {
    for (tables, path) in kinds_of_limits().iter().flat_map(|tables| PATHS.map(|path| (tables, path))) {
        let event = token(path);
        let mut running = Running::begin(tables, path, "");
        // The last of these uses up the second slice.
        for events in [TO_SECOND, HELD - TO_SECOND - 1, 1] {
            running.pass(event.repeat(events));
        }
        let text = running.cut(event);
        let proxy = running.left();
        assert!(text.starts_with(event), "{path}: what arrives is passed on");
        assert_last_is_error(&(event.repeat(HELD) + &text), path, "budget_exhausted");
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["status"]), (&"cut".into(), &200.into()), "{tables} {path}");
        let error = record["error"].as_str().unwrap();
        let (begins, goes_on) = match tables.contains("cost") {
            true => (" 0.0021 of 0.0022 USD", "needs 0.0011"),
            false => (" 20", " of 2200 tokens, and this response needs 10"),
        };
        assert!(
            error.starts_with(&format!("The client search has used or reserved{begins}"))
                && error.contains(goes_on)
                && error.ends_with("more (limits[0] in [clients.search]): it was ended."),
            "{error}"
        );
        assert_eq!(
            proxy.metric("streamgauge_limit_exceeded_total{whose=\"clients.search\",limit=\"limits[0]\"}"),
            1.0,
            "{tables} {path}"
        );
        let used = used(&proxy);
        assert!((2_040.0..=2_100.0).contains(&used), "{tables} {path}: {used}");
    }
}

#[test]
fn stream_goes_on_when_another_request_gives_room_back() {
    let event = token(PATHS[0]);
    let mut running = Running::begin(&cuts(), PATHS[0], "");
    running.pass(event);
    // Another request takes the room of the second slice, and leaves.
    let mut other = running.proxy.client();
    send(&mut other, PATHS[0], "");
    until(PATIENCE, "the hold", || (used(&running.proxy) > 2_048.0).then_some(()));
    running.pass(event.repeat(1_020));
    drop(other);
    assert_eq!(running.proxy.record()["outcome"], "client_disconnected");
    for events in [3, 1, 900] {
        running.pass(event.repeat(events));
    }
    running.pass("data: [DONE]\n\n");
    assert_eq!(running.over().record()["outcome"], "complete");
}

#[test]
fn last_counts_beyond_the_limit_cut_no_complete_stream() {
    let last = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
                \"usage\":{\"input_tokens\":60,\"output_tokens\":9000}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let mut running = Running::begin(&cuts(), PATHS[1], "");
    for event in [token(PATHS[1]), last, stop] {
        running.pass(event);
    }
    let proxy = running.over();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"], &record["error"]),
        (&"complete".into(), &"reported".into(), &Value::Null)
    );
    assert!((9_059.0..=9_060.0).contains(&used(&proxy)), "{}", used(&proxy));
}

#[test]
fn counts_of_each_chunk_are_in_the_record_of_a_cut_stream() {
    let event = |output: u64| {
        format!(
            "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}}}}],\
             \"usage\":{{\"prompt_tokens\":60,\"completion_tokens\":{output}}}}}\n\n"
        )
    };
    let mut running = Running::begin(&cuts(), PATHS[0], "");
    // Each event has many tokens.
    for output in [1_000, 2_000, 2_100] {
        running.pass(event(output));
    }
    let text = running.cut(event(2_150));
    assert!(text.starts_with(&event(2_150)), "{text}");
    assert_last_is_error(&text, PATHS[0], "budget_exhausted");
    let proxy = running.over();
    let record = proxy.record();
    assert_eq!(
        (&record["outcome"], &record["usage_source"], &record["output_tokens"]),
        (&"cut".into(), &"partial".into(), &2_150.into())
    );
    assert!((2_209.0..=2_210.0).contains(&used(&proxy)), "{}", used(&proxy));
}

#[test]
fn drained_stream_is_left_when_next_slice_has_no_room() {
    let event = token(PATHS[1]);
    let mut running = Running::begin(&cuts(), PATHS[1], "x-streamgauge-on-disconnect: drain\r\n");
    running.pass(event);
    running.client = running.proxy.client();
    for _ in 0..2 {
        running.tell.send(event.repeat(HELD)).unwrap();
    }
    let record = running.left().record();
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
    let proxy = proxy().upstream(&up).tables(&cuts()).run();
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
    let proxy = proxy().upstream(&up).tables(&cuts()).run();
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
    let event = token(PATHS[0]);
    let mut running = Running::begin(&(cuts() + GROUP), PATHS[0], "");
    running.pass(event.repeat(HELD));
    running.cut(event.repeat(HELD));
    let proxy = running.left();
    let record = proxy.record();
    assert_eq!(record["outcome"], "cut");
    assert_eq!(proxy.metric("streamgauge_upstream_available{upstream=\"up\"}"), 1.0, "{record}");
}

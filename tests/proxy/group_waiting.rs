//! Groups whose members are full or left out: who waits, how long, and who is served first.

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::proxy::Builder;
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, LAST_CHUNK, PATIENCE, Proxy, Request,
    Response, Upstream, chunk, proxy, sized, until, upstream,
};

const PATH: &str = "/v1/chat/completions";

const JSON: &str = "application/json";

/// A member whose requests wait for the test.
pub(super) struct Gate {
    pub(super) up: Upstream,
    arrived: Receiver<Arrived>,
}

/// A request at a member, and the way to respond to it.
pub(super) struct Arrived {
    request: Request,
    respond: Sender<Vec<u8>>,
}

pub(super) fn gate() -> Gate {
    let (tell, arrived) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let (respond, response) = mpsc::channel::<Vec<u8>>();
            if tell.send(Arrived { request, respond }).is_err() {
                return;
            }
            // Several pieces, until the test is done with it.
            response.iter().for_each(|piece| connection.send(piece));
        }
    });
    Gate { up, arrived }
}

impl Gate {
    /// The next request.
    pub(super) fn next(&self) -> Arrived {
        self.arrived.recv_timeout(PATIENCE).expect("a request")
    }

    /// Serves `running` and then this many requests, each once the one before is served. Returns
    /// their names.
    pub(super) fn serve_in_turn(&self, mut running: Arrived, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            running.serve();
            running = self.next();
            names.push(running.name().to_owned());
        }
        running.serve();
        names
    }

    pub(super) fn is_idle(&self) -> bool {
        self.arrived.try_recv().is_err()
    }
}

impl Arrived {
    fn send(&self, piece: impl Into<Vec<u8>>) -> &Self {
        self.respond.send(piece.into()).unwrap();
        self
    }

    /// Sends a whole response.
    pub(super) fn serve(self) {
        self.send(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
    }

    /// The text of the request's header `x-name`.
    pub(super) fn name(&self) -> &str {
        self.request.header("x-name").unwrap_or_default()
    }
}

/// A proxy with admin pages, whose group `chat` has these upstreams, named a and b, in one tier.
fn group(addresses: &[SocketAddr], lines: &str) -> Builder {
    let names = ["a", "b"];
    let named = names.into_iter().zip(addresses);
    let builder = named.fold(proxy().admin(), |builder, (name, address)| builder.other(name, *address));
    let members: Vec<_> = names[..addresses.len()].iter().map(|name| format!("\"{name}\"")).collect();
    builder.tables(&format!(
        "[[routes]]\nupstream = \"chat\"\n[groups.chat]\ntiers = [[{}]]\n{lines}",
        members.join(", ")
    ))
}

const WAIT: &str = "concurrent = 1\nwait = \"30s\"";

/// Sends a request with these further header lines.
fn post(proxy: &Proxy, headers: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n{headers}\r\n{CHAT_REQUEST}",
        CHAT_REQUEST.len()
    ));
    client
}

fn named(proxy: &Proxy, name: &str) -> Client {
    post(proxy, &format!("x-name: {name}\r\n"))
}

/// Waits until this many requests are in the queue.
fn wait_for_queue(proxy: &Proxy, count: usize) {
    until(PATIENCE, "the queue", || {
        let waiting = proxy.metric("streamgauge_requests_waiting{group=\"chat\"}");
        (waiting == count as f64).then_some(())
    });
}

/// The refusal's code, with its `retry-after`.
pub(super) fn refusal(response: &Response) -> (u16, String, Option<&str>) {
    let code = response.error()["code"].as_str().unwrap().to_owned();
    (response.status(), code, response.header("retry-after"))
}

pub(super) fn waited(record: &Value) -> f64 {
    record["time_waiting_ms"].as_f64().unwrap_or_else(|| panic!("{record}"))
}

#[test]
fn request_waits_for_a_place_and_says_how_long() {
    let gate = gate();
    let proxy = group(&[gate.up.address], WAIT).run();
    let mut first = named(&proxy, "first");
    let running = gate.next();
    let mut second = named(&proxy, "second");
    wait_for_queue(&proxy, 1);
    assert!(gate.is_idle(), "one request runs at a time");
    assert_eq!(proxy.metric("streamgauge_requests_running{upstream=\"a\",model=\"\"}"), 1.0);
    running.serve();
    let response = first.response();
    assert_eq!((response.text(), response.header("x-streamgauge-waited-ms")), (CHAT_BODY, None));
    gate.next().serve();
    let response = second.response();
    assert_eq!(response.text(), CHAT_BODY);
    let header: f64 = response.header("x-streamgauge-waited-ms").unwrap().parse().unwrap();
    let records = [proxy.record(), proxy.record()];
    assert_eq!(records[0]["time_waiting_ms"], Value::Null);
    assert!(waited(&records[1]) > 0.0 && (waited(&records[1]) - header).abs() <= 0.5, "{header}");
    assert_eq!((&records[1]["outcome"], &records[1]["attempts"]), (&"complete".into(), &Value::Null));
    until(PATIENCE, "the histogram", || {
        let count = proxy.page("/metrics").text().lines().find_map(|line| {
            Some(line.strip_prefix("streamgauge_time_waiting_seconds_count{group=\"chat\"} ")?.to_owned())
        });
        count.filter(|count| count == "1")
    });
    wait_for_queue(&proxy, 0);
}

#[test]
fn full_group_refuses_at_once_without_wait_and_after_it() {
    for lines in ["concurrent = 1", "concurrent = 1\nwait = \"50ms\""] {
        let gate = gate();
        let proxy = group(&[gate.up.address], lines).run();
        let _first = named(&proxy, "first");
        let _running = gate.next();
        let response = named(&proxy, "second").response();
        assert_eq!(refusal(&response), (503, "upstreams_busy".to_owned(), Some("1")));
        assert_eq!(response.header("x-streamgauge-waited-ms").is_some(), lines.contains("wait"));
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["group"]), (&"rejected".into(), &"chat".into()));
        assert_eq!(record["time_waiting_ms"].is_f64(), lines.contains("wait"), "{record}");
        assert!(gate.is_idle());
    }
}

/// Two clients with keys.
const CLIENTS: &str = "[clients.large]\nkey = { value = \"sk-large-0123456789\" }\n[clients.small]\nkey = { value = \"sk-small-0123456789\" }";

fn of(proxy: &Proxy, client: &str, name: &str) -> Client {
    post(proxy, &format!("authorization: Bearer sk-{client}-0123456789\r\nx-name: {name}\r\n"))
}

#[test]
fn clients_take_turns_and_each_is_served_in_order() {
    let gate = gate();
    let proxy = group(&[gate.up.address], &format!("{WAIT}\n{CLIENTS}")).run();
    let mut clients = vec![of(&proxy, "large", "running")];
    let running = gate.next();
    for (number, (client, name)) in
        [("large", "1"), ("large", "2"), ("large", "3"), ("small", "4"), ("small", "5")]
            .into_iter()
            .enumerate()
    {
        clients.push(of(&proxy, client, name));
        wait_for_queue(&proxy, number + 1);
    }
    let order = gate.serve_in_turn(running, 5);
    assert_eq!(order, ["1", "4", "2", "5", "3"]);
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn client_with_higher_priority_is_served_first() {
    let gate = gate();
    let proxy = group(&[gate.up.address], &format!("{WAIT}\n{CLIENTS}\npriority = 1")).run();
    let mut clients = vec![of(&proxy, "large", "running")];
    let running = gate.next();
    for (number, (client, name)) in
        [("large", "1"), ("large", "2"), ("small", "3"), ("small", "4")].into_iter().enumerate()
    {
        clients.push(of(&proxy, client, name));
        wait_for_queue(&proxy, number + 1);
    }
    let order = gate.serve_in_turn(running, 4);
    assert_eq!(order, ["3", "4", "1", "2"]);
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn full_queue_refuses_the_newest_of_the_largest_client() {
    let gate = gate();
    let proxy = group(&[gate.up.address], &format!("{WAIT}\nqueue = 2\n{CLIENTS}")).run();
    let _first = of(&proxy, "large", "running");
    let running = gate.next();
    let mut second = of(&proxy, "large", "1");
    wait_for_queue(&proxy, 1);
    let mut third = of(&proxy, "large", "2");
    wait_for_queue(&proxy, 2);
    let full = (429, "queue_full".to_owned(), Some("1"));
    assert_eq!(refusal(&of(&proxy, "large", "3").response()), full, "its own client has the most");
    let mut small = of(&proxy, "small", "4");
    assert_eq!(refusal(&third.response()), full);
    running.serve();
    for _ in 0..2 {
        gate.next().serve();
    }
    assert_eq!((second.response().status(), small.response().status()), (200, 200));
}

#[test]
fn client_that_leaves_is_taken_out_at_once() {
    for drains in [false, true] {
        let gate = gate();
        let lines = if drains { "on_disconnect = \"drain\"" } else { "" };
        let builder = proxy().admin().other("a", gate.up.address).tables(lines);
        let tables = format!("[[routes]]\nupstream = \"chat\"\n[groups.chat]\ntiers = [[\"a\"]]\n{WAIT}");
        let proxy = builder.tables(&tables).run();
        let mut first = named(&proxy, "first");
        let running = gate.next();
        drop(named(&proxy, "gone"));
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["status"]), (&"client_disconnected".into(), &Value::Null));
        assert!(waited(&record) >= 0.0 && waited(&record) <= record["duration_ms"].as_f64().unwrap());
        wait_for_queue(&proxy, 0);
        let mut third = named(&proxy, "third");
        wait_for_queue(&proxy, 1);
        running.serve();
        let next = gate.next();
        assert_eq!(next.name(), "third");
        next.serve();
        assert_eq!((first.response().status(), third.response().status()), (200, 200));
    }
}

#[test]
fn place_is_free_after_the_end_of_a_drain() {
    let gate = gate();
    let builder = proxy().admin().other("a", gate.up.address).tables("on_disconnect = \"drain\"");
    let tables = format!("[[routes]]\nupstream = \"chat\"\n[groups.chat]\ntiers = [[\"a\"]]\n{WAIT}");
    let proxy = builder.tables(&tables).run();
    let (begin, end) = CHAT_STREAM.split_at(CHAT_STREAM.find("\n\n").unwrap() + 2);
    let mut leaving = named(&proxy, "leaving");
    let drained = gate.next();
    drained.send([EVENTS_HEAD.as_bytes(), &chunk(begin.as_bytes())].concat());
    leaving.head();
    assert_eq!(leaving.chunk(), begin.as_bytes());
    drop(leaving);
    let mut second = named(&proxy, "second");
    wait_for_queue(&proxy, 1);
    assert!(gate.is_idle());
    drained.send([&chunk(end.as_bytes()), LAST_CHUNK.as_bytes()].concat());
    // The member reads the next request of the connection.
    drop(drained);
    gate.next().serve();
    assert_eq!(second.response().status(), 200);
    assert_eq!(proxy.record()["usage_source"], "drained");
}

#[test]
fn rate_limit_that_ends_in_time_is_waited_for() {
    let gate = gate();
    let proxy = group(&[gate.up.address], "wait = \"20s\"").run();
    let began = Instant::now();
    let mut client = named(&proxy, "first");
    let limited = "HTTP/1.1 429 Too Many Requests\r\nretry-after-ms: 300\r\ncontent-length: 0\r\n\r\n";
    gate.next().send(limited);
    let again = gate.next();
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    again.serve();
    let response = client.response();
    assert_eq!((response.text(), response.header("x-streamgauge-attempts")), (CHAT_BODY, Some("2")));
    let record = proxy.record();
    let attempts = record["attempts"].as_array().unwrap();
    assert_eq!(
        (attempts.len(), &attempts[0]["status"], &attempts[1]["status"]),
        (2, &429.into(), &200.into())
    );
    assert_eq!(attempts[0]["upstream"], attempts[1]["upstream"]);
    assert!(waited(&record) >= 250.0 && attempts[0]["ms"].as_f64() < Some(250.0), "{record}");
}

fn limited(after: u32) -> String {
    format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {after}\r\ncontent-length: 0\r\n\r\n")
}

/// The next request at any of the members.
fn next_of(gates: &[Gate]) -> Arrived {
    until(PATIENCE, "a request", || gates.iter().find_map(|gate| gate.arrived.try_recv().ok()))
}

#[test]
fn request_waits_for_the_first_rate_limit_that_ends() {
    let gates = [gate(), gate()];
    let proxy = group(&gates.each_ref().map(|gate| gate.up.address), "wait = \"2s\"").run();
    let mut client = named(&proxy, "first");
    next_of(&gates).send(limited(1));
    next_of(&gates).send(limited(30));
    next_of(&gates).serve();
    let response = client.response();
    assert_eq!((response.status(), response.header("x-streamgauge-attempts")), (200, Some("3")));
    assert!(waited(&proxy.record()) >= 800.0);
}

#[test]
fn rate_limits_longer_than_the_wait_are_refused_at_once() {
    let gates = [gate(), gate()];
    let proxy = group(&gates.each_ref().map(|gate| gate.up.address), "wait = \"2s\"").run();
    let mut last = named(&proxy, "last");
    next_of(&gates).send(limited(60));
    next_of(&gates).send(limited(50));
    assert_eq!((last.response().status(), &proxy.record()["time_waiting_ms"]), (429, &Value::Null));
    let response = named(&proxy, "refused").response();
    let (status, code, retry_after) = refusal(&response);
    assert_eq!((status, code.as_str()), (429, "upstreams_rate_limited"));
    assert!((45..=50).contains(&retry_after.unwrap().parse::<u32>().unwrap()), "{retry_after:?}");
}

#[test]
fn wait_ends_a_second_before_the_client_gives_up() {
    let gate = gate();
    let proxy = group(&[gate.up.address], WAIT).run();
    let _first = named(&proxy, "first");
    let _running = gate.next();
    let began = Instant::now();
    let response = post(&proxy, "x-stainless-timeout: 1.3\r\n").response();
    assert_eq!(refusal(&response).1, "upstreams_busy");
    assert!((0.2..1.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
}

#[test]
fn comments_are_sent_while_a_stream_waits() {
    let gate = gate();
    let builder = proxy().admin().other("a", gate.up.address).tables("keep_alive_comments = \"20ms\"");
    let tables = format!("[[routes]]\nupstream = \"chat\"\n[groups.chat]\ntiers = [[\"a\"]]\n{WAIT}");
    let proxy = builder.tables(&tables).run();
    let _first = named(&proxy, "first");
    let running = gate.next();
    let mut second = named(&proxy, "second");
    assert!(second.head().starts_with("HTTP/1.1 200"));
    for _ in 0..3 {
        assert_eq!(second.chunk(), b": keep-alive\n\n");
    }
    assert!(gate.is_idle());
    running.serve();
    let stream = [EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes()), LAST_CHUNK.as_bytes()].concat();
    gate.next().send(stream);
    let next = std::iter::repeat_with(|| second.chunk()).find(|chunk| chunk != b": keep-alive\n\n");
    assert_eq!(next.unwrap(), CHAT_STREAM.as_bytes());
}

#[test]
fn websocket_has_its_place_until_it_closes() {
    const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let up = upstream(|connection| {
        if connection.head().is_some() {
            connection.send(GRANTED);
            connection.wait_for_close();
        }
    });
    let proxy = group(&[up.address], WAIT).run();
    let open = || {
        let mut client = proxy.client();
        client.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        client
    };
    let mut first = open();
    assert!(first.head().starts_with("HTTP/1.1 101"));
    let mut second = open();
    wait_for_queue(&proxy, 1);
    assert_eq!(up.accepted(), 1);
    drop(first);
    let head = second.head();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("x-streamgauge-waited-ms: "), "{head}");
    assert_eq!(up.accepted(), 2);
}

#[test]
fn reload_gives_waiting_requests_the_new_limits() {
    let gate = gate();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let text = |concurrent: usize| {
        let lines = format!("concurrent = {concurrent}\nwait = \"30s\"");
        group(&[gate.up.address], &lines).text()
    };
    fs::write(&path, text(1)).unwrap();
    let proxy = proxy().run_from(&path);
    let mut clients = vec![named(&proxy, "1")];
    let first = gate.next();
    for number in 2..5 {
        clients.push(named(&proxy, &number.to_string()));
        wait_for_queue(&proxy, number - 1);
    }
    // A refused one changes nothing: it cannot write its file.
    let refused = text(3).replace("path = \"\"\n", &format!("path = \"\"\njsonl = {:?}\n", folder.path()));
    fs::write(&path, refused).unwrap();
    assert!(matches!(proxy.reload(), ReloadOutcome::Refused(reason) if reason.contains("ledger.jsonl")));
    first.serve();
    let first = gate.next();
    assert_eq!(first.name(), "2");
    wait_for_queue(&proxy, 2);
    clients.push(named(&proxy, "5"));
    wait_for_queue(&proxy, 3);

    fs::write(&path, text(3)).unwrap();
    proxy.reload();
    let running = [gate.next(), gate.next()];
    let mut names = running.each_ref().map(Arrived::name);
    // Each has a connection of its own, and either may arrive first.
    names.sort();
    assert_eq!(names, ["3", "4"]);
    wait_for_queue(&proxy, 1);
    assert!(gate.is_idle());
    first.serve();
    let last = gate.next();
    assert_eq!(last.name(), "5");
    last.serve();
    running.into_iter().for_each(Arrived::serve);
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn waiting_request_is_served_while_the_proxy_stops() {
    let gate = gate();
    let mut proxy = group(&[gate.up.address], WAIT).run();
    let mut first = named(&proxy, "first");
    let running = gate.next();
    let mut second = named(&proxy, "second");
    wait_for_queue(&proxy, 1);
    let stopped = proxy.running.take().unwrap();
    stopped.stop().drain();
    running.serve();
    gate.next().serve();
    assert_eq!((first.response().status(), second.response().status()), (200, 200));
    stopped.finish().unwrap();
}

#[test]
fn limit_of_an_upstream_holds_for_groups_and_routes_together() {
    let gate = gate();
    let builder = proxy().admin().other("a", gate.up.address).tables("concurrent = 1");
    let tables = "[[routes]]\npath = \"/direct\"\nupstream = \"a\"\n[[routes]]\npath = \"/other\"\nupstream = \"other\"\n\
        [[routes]]\nupstream = \"chat\"\n[groups.other]\ntiers = [[{ upstream = \"a\", model = \"m\" }]]\nwait = \"30s\"\n\
        [groups.chat]\ntiers = [[\"a\"]]\nwait = \"30s\"";
    let proxy = builder.tables(tables).run();
    let direct = |prefix: &str| {
        let mut client = proxy.client();
        client.post(&format!("{prefix}{PATH}"), CHAT_REQUEST);
        client
    };
    let mut first = direct("/direct");
    let running = gate.next();
    let refused = direct("/direct").response();
    assert_eq!(refusal(&refused), (503, "upstreams_busy".to_owned(), Some("1")));
    let mut second = named(&proxy, "second");
    wait_for_queue(&proxy, 1);
    running.serve();
    assert_eq!(first.response().status(), 200);
    let running = gate.next();
    let mut third = direct("/other");
    until(PATIENCE, "the other queue", || {
        (proxy.metric("streamgauge_requests_waiting{group=\"other\"}") == 1.0).then_some(())
    });
    assert!(gate.is_idle());
    running.serve();
    gate.next().serve();
    assert_eq!((second.response().status(), third.response().status()), (200, 200));
}

#[test]
fn half_open_member_lets_exactly_one_of_100_waiting_through() {
    let (tell, arrived) = mpsc::channel();
    let is_down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let down = std::sync::Arc::clone(&is_down);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            if down.load(std::sync::atomic::Ordering::SeqCst) {
                return;
            }
            let (respond, response) = mpsc::channel::<Vec<u8>>();
            if tell.send(Arrived { request, respond }).is_err() {
                return;
            }
            response.iter().for_each(|piece| connection.send(piece));
        }
    });
    let gate = Gate { up, arrived };
    let lines = "wait = \"50s\"\n[groups.chat.breaker]\nfailures = 4\npause = [\"1s\", \"1s\"]";
    let proxy = group(&[gate.up.address], lines).run();
    for number in 0..4 {
        // Failures count only with several prompts among them.
        let body = CHAT_REQUEST.replace("Hi", &number.to_string());
        assert_eq!(proxy.client().post(PATH, &body).response().status(), 502);
    }
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut clients: Vec<_> = (0..100).map(|number| named(&proxy, &number.to_string())).collect();
    let trial = gate.next();
    wait_for_queue(&proxy, 99);
    assert!(gate.is_idle(), "exactly one is let through");
    trial.serve();
    for _ in 0..99 {
        gate.next().serve();
    }
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
    wait_for_queue(&proxy, 0);
}

//! Limits with `at_limit = "wait"`: who waits, how long, and who is served first.

use std::time::{Duration, Instant};

use serde_json::Value;
use streamgauge::config::reload::ReloadOutcome;

use super::group_waiting::{Arrived, Gate, gate, refusal, waited};
use crate::harness::proxy::Builder;
use crate::harness::{CHAT_REQUEST, Client, PATIENCE, Proxy, proxy, until};

/// Two clients whose team has these limits. `lines` are keys of the second.
fn clients(limits: &str, lines: &str) -> String {
    format!(
        "[clients.large]\nkey = {{ value = \"sk-large-0123456789\" }}\nteam = \"all\"\n\
         [clients.small]\nkey = {{ value = \"sk-small-0123456789\" }}\nteam = \"all\"\n{lines}\n\
         [teams.all]\nlimits = [{limits}]\n"
    )
}

fn limited(gate: &Gate, limits: &str, lines: &str) -> Builder {
    proxy().upstream(&gate.up).tables(&clients(limits, lines)).admin()
}

fn ask(proxy: &Proxy, client: &str, name: &str) -> Client {
    ask_with(proxy, client, &format!("x-name: {name}\r\n"))
}

fn ask_with(proxy: &Proxy, client: &str, headers: &str) -> Client {
    ask_padded(proxy, client, headers, "")
}

fn ask_padded(proxy: &Proxy, client: &str, headers: &str, padding: &str) -> Client {
    let mut connection = proxy.client();
    connection.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-{client}-0123456789\r\n\
         {headers}content-length: {}\r\n\r\n{CHAT_REQUEST}{padding}",
        CHAT_REQUEST.len() + padding.len()
    ));
    connection
}

fn wait_for_queue(proxy: &Proxy, count: usize) {
    let name = "streamgauge_limit_waiting{whose=\"teams.all\",limit=\"limits[0]\"}";
    until(PATIENCE, "the requests wait", || (proxy.metric(name) == count as f64).then_some(()));
}

fn exceeded(proxy: &Proxy) -> f64 {
    proxy.metric("streamgauge_limit_exceeded_total{whose=\"teams.all\",limit=\"limits[0]\"}")
}

const ONE_RUNS: &str = "{ concurrent = 1, at_limit = \"wait\", wait = \"60s\" }";

#[test]
fn request_waits_for_its_place_in_a_limit_and_says_how_long() {
    let gate = gate();
    let proxy = limited(&gate, ONE_RUNS, "").run();
    let mut first = ask(&proxy, "large", "first");
    let running = gate.next();
    let mut second = ask(&proxy, "large", "second");
    wait_for_queue(&proxy, 1);
    assert!(gate.is_idle());
    running.serve();
    let response = first.response();
    assert_eq!((response.status(), response.header("x-streamgauge-waited-ms")), (200, None));
    assert_eq!(proxy.record()["time_waiting_ms"], Value::Null);
    gate.next().serve();
    let response = second.response();
    assert_eq!(response.status(), 200);
    let millis: f64 = response.header("x-streamgauge-waited-ms").unwrap().parse().unwrap();
    until(PATIENCE, "the histogram", || {
        let line = "\nstreamgauge_time_waiting_seconds_count{group=\"\"} 1\n";
        proxy.page("/metrics").text().contains(line).then_some(())
    });
    let record = proxy.record();
    assert!((waited(&record) - millis).abs() <= 0.5, "{millis}: {record}");
    assert_eq!(record["outcome"], "complete");
    wait_for_queue(&proxy, 0);
    assert_eq!(exceeded(&proxy), 0.0, "a request that was served is not over the limit");
}

#[test]
fn stream_that_begins_with_a_comment_says_how_long_it_waited() {
    let gate = gate();
    let comments = "keep_alive_comments = \"20ms\"";
    let proxy = proxy().upstream(&gate.up).tables(comments).tables(&clients(ONE_RUNS, "")).admin().run();
    let first = ask(&proxy, "large", "first");
    let running = gate.next();
    let mut second = ask(&proxy, "large", "second");
    wait_for_queue(&proxy, 1);
    drop(first);
    let _running = (running, gate.next());
    let head = second.head();
    assert!(head.contains("\r\nx-streamgauge-waited-ms: "), "{head}");
    assert_eq!(second.chunk(), b": keep-alive\n\n");
}

#[test]
fn clients_take_turns_in_the_queue_of_a_limit() {
    for (lines, expected) in [("", ["1", "4", "2", "5", "3"]), ("priority = 1", ["4", "5", "1", "2", "3"])] {
        let gate = gate();
        let proxy = limited(&gate, ONE_RUNS, lines).run();
        let mut clients = vec![ask(&proxy, "large", "running")];
        let running = gate.next();
        let order = [("large", "1"), ("large", "2"), ("large", "3"), ("small", "4"), ("small", "5")];
        for (number, (client, name)) in order.into_iter().enumerate() {
            clients.push(ask(&proxy, client, name));
            wait_for_queue(&proxy, number + 1);
        }
        let order = gate.serve_in_turn(running, 5);
        assert_eq!(order, expected);
        assert!(clients.iter_mut().all(|client| client.response().status() == 200));
    }
}

#[test]
fn rate_is_waited_for_and_its_pace_kept() {
    let gate = gate();
    let limits = "{ requests = 10, per = \"second\", burst = 1, at_limit = \"wait\" }, { concurrent = 9 }";
    let proxy = limited(&gate, limits, "").run();
    let began = Instant::now();
    let mut clients: Vec<_> = (0..4).map(|number| ask(&proxy, "large", &number.to_string())).collect();
    (0..4).for_each(|_| gate.next().serve());
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(299), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn request_without_room_in_time_is_refused_as_without_a_wait() {
    let gate = gate();
    let limits =
        "{ concurrent = 1, at_limit = \"wait\", wait = \"100ms\" }, { requests = 2, per = \"hour\" }";
    let proxy = limited(&gate, limits, "").run();
    let mut first = ask(&proxy, "large", "first");
    let running = gate.next();
    let response = ask(&proxy, "large", "second").response();
    assert_eq!(refusal(&response), (429, "rate_limit_exceeded".to_owned(), Some("1")));
    assert!(response.text().contains("1 of 1 running requests (limits[0] in [teams.all])"));
    assert!(response.header("x-streamgauge-waited-ms").is_some());
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["status"]), (&"rejected".into(), &429.into()));
    assert!((100.0..5_000.0).contains(&waited(&record)), "{record}");
    assert_eq!(exceeded(&proxy), 1.0);
    running.serve();
    assert_eq!(first.response().status(), 200);
    // The refused request counts nowhere.
    let mut third = ask(&proxy, "large", "third");
    gate.next().serve();
    assert_eq!(third.response().status(), 200);
    assert_eq!(ask(&proxy, "large", "fourth").response().status(), 429);
}

#[test]
fn rate_that_has_no_room_in_time_is_refused_at_once() {
    let gate = gate();
    let limits = "{ requests = 1, per = \"hour\", at_limit = \"wait\", wait = \"60s\" }";
    let proxy = limited(&gate, limits, "").run();
    let mut first = ask(&proxy, "large", "first");
    let running = gate.next();
    // Also while the first runs, whose end gives nothing back.
    let began = Instant::now();
    let refused = ask(&proxy, "large", "second").response();
    assert_eq!((refused.status(), refused.header("x-should-retry")), (429, Some("false")));
    assert!(began.elapsed() < Duration::from_secs(30));
    running.serve();
    assert_eq!(first.response().status(), 200);
}

#[test]
fn wait_for_a_limit_ends_a_second_before_the_client_gives_up() {
    let gate = gate();
    let proxy = limited(&gate, ONE_RUNS, "").run();
    let _first = ask(&proxy, "large", "first");
    let _running = gate.next();
    let began = Instant::now();
    let refused = ask_with(&proxy, "small", "x-stainless-timeout: 1.3\r\n").response();
    assert_eq!(refused.status(), 429);
    assert!((0.2..1.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
}

#[test]
fn client_that_leaves_the_queue_of_a_limit_gives_its_place_up() {
    let gate = gate();
    let folder = tempfile::tempdir().unwrap();
    let limits = format!("{ONE_RUNS}, {{ requests = 10, per = \"day\" }}");
    let proxy = limited(&gate, &limits, "").ledger(&folder.path().join("usage.db")).run();
    let mut first = ask(&proxy, "large", "first");
    let running = gate.next();
    let second = ask(&proxy, "large", "second");
    wait_for_queue(&proxy, 1);
    let mut third = ask(&proxy, "small", "third");
    wait_for_queue(&proxy, 2);
    drop(second);
    let record = proxy.record();
    assert_eq!(record["outcome"], "client_disconnected");
    assert!(waited(&record) > 0.0);
    wait_for_queue(&proxy, 1);
    running.serve();
    let next = gate.next();
    assert_eq!(next.name(), "third");
    next.serve();
    assert_eq!((first.response().status(), third.response().status()), (200, 200));
    proxy.record();
    proxy.record();
    // A request whose client left was not refused, so that the ledger counts it.
    let used = "streamgauge_limit_used_ratio{whose=\"teams.all\",limit=\"limits[1]\"}";
    assert_eq!(proxy.metric(used), 0.3);
}

#[test]
fn headers_about_limits_include_the_request_that_has_waited() {
    let gate = gate();
    let limits = format!("{ONE_RUNS}, {{ requests = 10, per = \"day\" }}");
    let folder = tempfile::tempdir().unwrap();
    let proxy = limited(&gate, &limits, "limit_headers = true").ledger(&folder.path().join("usage.db")).run();
    let mut clients = vec![ask(&proxy, "large", "first")];
    let mut running = gate.next();
    for (number, name) in ["second", "third"].into_iter().enumerate() {
        clients.push(ask(&proxy, "small", name));
        wait_for_queue(&proxy, number + 1);
    }
    for _ in 0..2 {
        running.serve();
        running = gate.next();
    }
    running.serve();
    let left: Vec<_> = clients
        .iter_mut()
        .map(|client| client.response().header("x-streamgauge-remaining-requests").map(str::to_owned))
        .collect();
    // The third one held its part before the second one began to run.
    assert_eq!(left, [None, Some("7".to_owned()), Some("7".to_owned())]);
}

#[test]
fn large_requests_take_fewer_turns_than_small_ones() {
    let gate = gate();
    let proxy = limited(&gate, ONE_RUNS, "").run();
    let mut clients = vec![ask(&proxy, "large", "running")];
    let running = gate.next();
    let padding = " ".repeat(20 * CHAT_REQUEST.len());
    for (number, (client, padding)) in
        [("large", &*padding), ("small", ""), ("small", ""), ("small", "")].into_iter().enumerate()
    {
        clients.push(ask_padded(&proxy, client, &format!("x-name: {number}\r\n"), padding));
        wait_for_queue(&proxy, number + 1);
    }
    let order = gate.serve_in_turn(running, 4);
    assert_eq!(order, ["1", "2", "3", "0"]);
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn reload_gives_requests_that_wait_for_a_limit_the_new_one() {
    let gate = gate();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let configured = |running: usize| {
        let builder = limited(&gate, &ONE_RUNS.replace("= 1,", &format!("= {running},")), "");
        std::fs::write(&path, builder.text()).unwrap();
        builder
    };
    let proxy = configured(1).run_from(&path);
    let mut clients = vec![ask(&proxy, "large", "first")];
    let mut running = vec![gate.next()];
    clients.extend(["second", "third", "fourth"].map(|name| ask(&proxy, "large", name)));
    wait_for_queue(&proxy, 3);
    configured(3);
    assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
    running.extend([gate.next(), gate.next()]);
    wait_for_queue(&proxy, 1);
    assert!(gate.is_idle());
    running.into_iter().for_each(Arrived::serve);
    gate.next().serve();
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
}

#[test]
fn stop_serves_waiting_requests_and_ends_those_that_are_late() {
    let gate = gate();
    let mut proxy = limited(&gate, ONE_RUNS, "").server("drain_timeout = \"2s\"").run();
    let mut served = ask(&proxy, "large", "first");
    let first = gate.next();
    let mut late = ["second", "third"].map(|name| ask(&proxy, "large", name));
    wait_for_queue(&proxy, 2);
    let stopped = proxy.running.take().unwrap();
    stopped.stop().drain();
    first.serve();
    let second = gate.next();
    assert_eq!(served.response().status(), 200);
    // One does not end in time, and the other waits for it.
    assert!(late.iter_mut().all(|client| client.rest().is_empty()));
    stopped.finish().unwrap();
    drop(second);
    let outcomes: Vec<_> = (0..3).map(|_| proxy.record()["outcome"].clone()).collect();
    assert_eq!(outcomes, ["complete", "cut", "cut"]);
}

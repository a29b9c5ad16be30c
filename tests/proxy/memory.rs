//! `server.max_memory`: what is refused when it is used up, and what goes on.

use std::time::Duration;

use crate::harness::{CHAT_REQUEST, Client, Proxy, proxy};
use crate::places::held;

const MIB: usize = 1 << 20;

/// Soon, compared with the limits on slow bodies.
const SOON: Duration = Duration::from_secs(5);

/// A client that sends a JSON body of this size without its last byte.
fn holder(proxy: &Proxy, bytes: usize) -> Client {
    let mut client = proxy.client();
    client.send(format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        bytes + 1
    ));
    client.send(vec![b' '; bytes]);
    client
}

/// The memory of a part.
fn part(proxy: &Proxy, part: &str) -> f64 {
    proxy.metric(&format!("streamgauge_memory_bytes{{part=\"{part}\"}}"))
}

/// Waits until a part has so many MiB.
fn wait_for(proxy: &Proxy, name: &str, is_enough: impl Fn(f64) -> bool) {
    let begun = std::time::Instant::now();
    while !is_enough(part(proxy, name) / MIB as f64) {
        assert!(begun.elapsed() < SOON, "{name}: {}", part(proxy, name));
    }
}

#[test]
fn full_memory_refuses_new_requests_and_running_ones_go_on() {
    let (up, arrivals, go) = held();
    let proxy = proxy().server("max_memory = \"16MiB\"").upstream(&up).admin().run();
    let mut kept = proxy.client();
    assert_eq!(kept.get("/v1/models").response().status(), 200);
    let mut running = proxy.client();
    running.post("/v1/chat/completions", CHAT_REQUEST);
    arrivals.recv_timeout(SOON).unwrap();

    let body = holder(&proxy, 11 * MIB);
    wait_for(&proxy, "bodies", |held| held >= 11.0);
    // Bodies that pass through: 82 KiB each, with their connections.
    let uploads: Vec<_> = (0..48)
        .map(|_| {
            let mut client = proxy.client();
            client.send("POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx");
            client
        })
        .collect();
    wait_for(&proxy, "requests", |held| held > 2.5);

    for client in [&mut kept, &mut proxy.client()] {
        let response = client.post("/v1/embeddings", CHAT_REQUEST).response();
        assert_eq!((response.status(), &response.error()["code"]), (503, &"memory_full".into()));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    assert_eq!(proxy.client().get("/healthz").response().status(), 200, "a probe");
    // Some of the uploads were refused too.
    assert!(proxy.metric("streamgauge_requests_limited_total{limit=\"max_memory\"}") >= 2.0);
    assert_eq!(proxy.metric("streamgauge_memory_limit_bytes"), (16 * MIB) as f64);
    go.send(()).unwrap();
    assert_eq!(running.response().status(), 200);

    drop((body, uploads));
    wait_for(&proxy, "bodies", |held| held < 1.0);
    wait_for(&proxy, "requests", |held| held < 1.0);
    assert_eq!(proxy.client().post("/v1/embeddings", CHAT_REQUEST).response().status(), 200);
}

#[test]
fn incomplete_heads_use_half_of_the_memory_at_most() {
    let (up, ..) = held();
    let proxy = proxy().server("max_memory = \"16MiB\"").upstream(&up).admin().run();
    let begun = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: ";
    let heads: Vec<_> = (0..250)
        .map(|_| {
            let mut client = proxy.client();
            client.send(format!("{begun}{}", "y".repeat(60_000)));
            client
        })
        .collect();
    wait_for(&proxy, "connections", |held| held > 7.0);
    let held = part(&proxy, "connections");
    assert!(held < (9 * MIB) as f64, "{held}: half of the budget, and what one more reads");
    drop(heads);
    wait_for(&proxy, "connections", |held| held < 1.0);
    assert_eq!(proxy.client().get("/v1/models").response().status(), 200);
}

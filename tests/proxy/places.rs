//! Places: their assignment when they are short, and evictions.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::harness::{
    CHAT_REQUEST, Client, Connection, DATA, Frames, HEADERS, Upstream, proxy, sized, upstream,
};

/// Soon, compared with the limits that would free a place otherwise.
const SOON: Duration = Duration::from_secs(5);

fn ok() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", b"{}"))
}

/// An upstream that responds to chats at the test's signal, and to anything else immediately.
pub(crate) fn held() -> (Upstream, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrived, arrivals) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            if request.line().contains("chat") {
                arrived.send(()).unwrap();
                if gone.lock().unwrap().recv().is_err() {
                    return;
                }
            }
            connection.send(sized("200 OK", "application/json", b"{}"));
        }
    });
    (up, arrivals, go)
}

#[test]
fn http2_streams_take_places_and_leave_some_to_connections() {
    let (up, arrivals, go) = held();
    let proxy = proxy().server("max_connections = 20").upstream(&up).admin().run();
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[]);
    // The connection's own, 17 more, and the last tenth is left.
    for number in 0..18 {
        frames.post(2 * number + 1, "/v1/chat/completions", CHAT_REQUEST);
        arrivals.recv_timeout(SOON).unwrap();
    }
    frames.post(101, "/v1/chat/completions", CHAT_REQUEST);
    frames.wait_on(HEADERS, 101).unwrap();
    let refusal = frames.wait_on(DATA, 101).unwrap();
    let refusal: serde_json::Value = serde_json::from_slice(&refusal.payload).unwrap();
    assert_eq!(refusal["error"]["code"], "no_place", "{refusal}");
    let record = proxy.record();
    assert_eq!((&record["status"], &record["outcome"]), (&503.into(), &"rejected".into()));
    assert_eq!(proxy.client().get("/v1/models").response().status(), 200, "there is room for another client");
    assert_eq!(proxy.record()["outcome"], "complete");
    assert_eq!(proxy.metric("streamgauge_requests_limited_total{limit=\"places\"}"), 1.0);
    // A stream that ends frees its place.
    go.send(()).unwrap();
    assert_eq!(proxy.record()["outcome"], "complete");
    frames.post(103, "/v1/chat/completions", CHAT_REQUEST);
    arrivals.recv_timeout(SOON).unwrap();
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn silent_connections_make_room_for_a_newcomer() {
    let up = ok();
    let proxy = proxy().server("max_connections = 4").upstream(&up).admin().run();
    // Nothing; the beginning of a head; the beginning of an HTTP/2 preface; all of it.
    let silent: Vec<_> =
        ["", "GET /v1/models HTTP/1.1\r\nx: ", "PRI * HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
            .into_iter()
            .map(|said| {
                let mut client = proxy.client();
                client.send(said);
                client
            })
            .collect();
    for _ in 0..4 {
        let begun = Instant::now();
        // Each of them needs a place of its own.
        let mut client = proxy.client();
        client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    drop(silent);
}

#[test]
fn idlest_kept_connection_is_closed_for_a_newcomer_at_once() {
    let up = ok();
    let proxy = proxy().server("max_connections = 2").upstream(&up).admin().run();
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert_eq!(second.get("/v1/models").response().status(), 200);
    assert_eq!(first.get("/v1/models").response().status(), 200);
    assert_eq!(second.get("/v1/models").response().status(), 200);
    let begun = Instant::now();
    let mut third = proxy.client();
    assert_eq!(third.get("/v1/models").response().status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(first.rest(), b"", "it had waited longest");
    assert_eq!(second.get("/v1/models").response().status(), 200);
    assert_eq!(proxy.metric("streamgauge_connections_closed_total{reason=\"evicted_idle\"}"), 1.0);
}

#[test]
fn idle_http2_connection_is_closed_for_a_newcomer_at_once() {
    let up = ok();
    let proxy = proxy().server("max_connections = 1").upstream(&up).run();
    let mut connection = Connection::to(proxy.address);
    let mut frames = Frames::ask(&mut connection, &[]);
    frames.post(1, "/v1/embeddings", CHAT_REQUEST);
    frames.wait_on(DATA, 1).unwrap();
    proxy.record();
    let begun = Instant::now();
    assert_eq!(proxy.client().get("/v1/models").response().status(), 200);
    // The client cannot delay this, as it can a graceful end.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn running_request_keeps_its_place() {
    let (up, arrivals, go) = held();
    let proxy = proxy().server("max_connections = 1").upstream(&up).run();
    let mut running = proxy.client();
    running.post("/v1/chat/completions", CHAT_REQUEST);
    arrivals.recv_timeout(SOON).unwrap();
    let mut newcomer = proxy.client();
    newcomer.get("/v1/models");
    // Longer than the grace of silent connections.
    std::thread::sleep(Duration::from_secs(2));
    go.send(()).unwrap();
    assert_eq!(running.response().status(), 200);
    assert_eq!(newcomer.response().status(), 200);
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn idle_connections_of_other_workers_make_room_too() {
    let up = ok();
    let proxy = proxy().server("max_connections = 4\nworkers = 4").upstream(&up).run();
    let mut kept = Vec::new();
    for _ in 0..24 {
        let begun = Instant::now();
        let mut client = proxy.client();
        assert_eq!(client.get("/v1/models").response().status(), 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        kept.push(client);
    }
}

#[test]
fn probe_gets_a_response_beside_silent_admin_connections() {
    let up = ok();
    let proxy = proxy().upstream(&up).admin().run();
    let admin = proxy.running.as_ref().unwrap().addresses().admin_port().unwrap();
    let silent: Vec<_> = (0..256).map(|_| Client::connect(admin)).collect();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let begun = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n");
        assert_eq!(Client::connect(admin).send(request).response().status(), 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{path}: {:?}", begun.elapsed());
    }
    drop(silent);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn header_timeout_counts_from_accept_on() {
    let up = ok();
    let proxy = proxy().server("header_timeout = \"400ms\"").upstream(&up).admin().run();
    for said in ["", "P", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"] {
        let begun = Instant::now();
        let mut client = proxy.client();
        client.send(said);
        client.rest();
        assert!(begun.elapsed() < SOON, "{said:?}: {:?}", begun.elapsed());
    }
    assert_eq!(proxy.metric("streamgauge_connections_closed_total{reason=\"header_timeout\"}"), 4.0);
    assert_eq!(proxy.stop().len(), 0, "nothing was asked");
}

#[test]
fn admin_port_closes_silent_connections_after_a_timeout() {
    let up = ok();
    let proxy = proxy().server("header_timeout = \"200ms\"").upstream(&up).admin().run();
    let admin = proxy.running.as_ref().unwrap().addresses().admin_port().unwrap();
    for said in ["", "GET /healthz HTTP/1.1\r\nx: ", "PRI * HTTP/2.0\r\n"] {
        let begun = Instant::now();
        let mut client = Client::connect(admin);
        client.send(said);
        assert_eq!(client.rest(), b"");
        assert!(begun.elapsed() < SOON, "{said:?}: {:?}", begun.elapsed());
    }
    assert_eq!(proxy.metric("streamgauge_connections_closed_total{reason=\"header_timeout\"}"), 3.0);
}

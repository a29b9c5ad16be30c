//! Request bodies that arrive slowly: `server.min_body_rate`, and whose memory is taken.

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Connection, DATA, Frames, HEADERS, PATIENCE, Upstream, proxy, sized, upstream};

fn ok() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", b"{}"))
}

/// A head whose JSON body is buffered, or whose form passes through.
fn head(content_type: &str, length: usize) -> String {
    let path = if content_type.starts_with("multipart/") { "files" } else { "chat/completions" };
    format!(
        "POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// A JSON object of this many bytes.
fn json(length: usize) -> String {
    let frame = "{\"model\":\"m\",\"x\":\"\"}";
    frame.replace("\"\"", &format!("\"{}\"", "y".repeat(length - frame.len())))
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn trickled_body_gets_408_and_a_record() {
    let up = ok();
    let proxy = proxy().upstream(&up).admin().run();
    // Buffered bodies, and bodies that pass through.
    let address = proxy.address;
    thread::scope(|scope| {
        for content_type in ["application/json", "multipart/form-data; boundary=x"] {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                client.send(head(content_type, 10_000));
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(12) {
                    client.send(" ");
                    thread::sleep(Duration::from_millis(500));
                }
                let response = client.response();
                assert_eq!(response.status(), 408, "{content_type}");
                assert_eq!(response.error()["code"], "body_too_slow");
            });
        }
        scope.spawn(move || {
            let mut connection = Connection::to(address);
            let mut frames = Frames::ask(&mut connection, &[]);
            frames.post_head(1, "/v1/chat/completions");
            for _ in 0..24 {
                frames.data(1, b" ", false);
                thread::sleep(Duration::from_millis(500));
            }
            frames.wait_on(HEADERS, 1).unwrap();
            let refusal = String::from_utf8(frames.wait_on(DATA, 1).unwrap().payload).unwrap();
            assert!(refusal.contains("body_too_slow"), "{refusal}");
        });
    });
    for _ in 0..3 {
        let record = proxy.record();
        assert_eq!((&record["status"], &record["outcome"]), (&408.into(), &"rejected".into()), "{record}");
    }
    assert_eq!(proxy.metric("streamgauge_requests_limited_total{limit=\"min_body_rate\"}"), 3.0);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn upstream_that_takes_nothing_is_not_the_clients_fault() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let up = upstream(move |connection| {
        gone.lock().unwrap().recv().unwrap();
        connection.request();
        connection.send(sized("200 OK", "application/json", b"{}"));
    });
    let proxy = proxy().upstream(&up).run();
    const LENGTH: usize = 24 << 20;
    let mut client = proxy.client();
    client.send(head("multipart/form-data; boundary=x", LENGTH));
    let sent = client.send_until_full() as usize;
    assert!(sent < LENGTH, "the sockets hold all of it");
    // Longer than any body's grace.
    thread::sleep(Duration::from_secs(12));
    go.send(()).unwrap();
    client.send(vec![b'x'; LENGTH - sent]);
    assert_eq!(client.response().status(), 200);
}

/// Waits until no bytes to this address are left in a socket's queue (proc(5), `/proc/net/tcp`).
fn until_all_is_read(address: SocketAddr) {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let begun = Instant::now();
    loop {
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let queued: usize = table
            .lines()
            .skip(1)
            .map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                let (unsent, unread) = fields[4].split_once(':').unwrap();
                let of = |port_of: &str, queue: &str| match port(port_of) == address.port() {
                    true => usize::from_str_radix(queue, 16).unwrap(),
                    false => 0,
                };
                // A listening socket counts the connections that wait.
                of(fields[1], unread) + of(fields[2], unsent)
            })
            .sum();
        if queued == 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{queued} bytes are unread");
        thread::yield_now();
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn slow_bodies_lose_their_memory_to_others() {
    const MIB: usize = 1 << 20;
    let up = ok();
    let proxy = proxy().server("max_buffered_bytes = \"3MiB\"").upstream(&up).admin().run();
    let mut slow: Vec<_> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            client.send(head("application/json", MIB)).send(&json(MIB)[..MIB - 10]);
            client
        })
        .collect();
    let begun = Instant::now();
    until_all_is_read(proxy.address);
    // A body may be late by a second.
    let status = loop {
        let status = proxy.client().post("/v1/chat/completions", &json(100_000)).response().status();
        if status == 200 || begun.elapsed() > Duration::from_secs(8) {
            break status;
        }
        assert_eq!(status, 503);
        slow.iter_mut().for_each(|client| {
            client.send("y");
        });
        thread::sleep(Duration::from_millis(400));
    };
    assert_eq!(status, 200);
    assert_eq!(proxy.metric("streamgauge_requests_limited_total{limit=\"body_evicted\"}"), 1.0);
    let mut records = std::iter::from_fn(|| Some(proxy.record()));
    let evicted = records.find(|record| record["status"] == 408).unwrap();
    assert!(evicted["error"].as_str().unwrap().starts_with("body_evicted"), "{evicted}");
}

#[test]
fn one_client_of_several_leaves_memory_to_others() {
    let (arrived, arrivals) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        arrived.send(()).unwrap();
        connection.wait_for_close();
    });
    let proxy = proxy()
        .server("max_buffered_bytes = \"1MiB\"")
        .upstream(&up)
        .tables("[clients.greedy]\nkey = { value = \"sg-greedy\" }\n[clients.other]\nkey = { value = \"sg-other\" }")
        .run();
    let post = |key: &str, length: usize| {
        let head = head("application/json", length);
        let head =
            head.replace("host: localhost", &format!("host: localhost\r\nauthorization: Bearer {key}"));
        let mut client: Client = proxy.client();
        client.send(head).send(json(length));
        client
    };
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(post("sg-greedy", 250_000));
        arrivals.recv().unwrap();
    }
    let refused = post("sg-greedy", 150_000).response();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.error()["code"], "client_overloaded");
    assert!(refused.header("retry-after").is_some());
    running.push(post("sg-other", 150_000));
    arrivals.recv().unwrap();
}

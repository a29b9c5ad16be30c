//! Promise 3 as a property: every request has exactly one record, however and whenever it ends,
//! also if the proxy is stopped in the middle of everything.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::harness::{
    CHAT_BODY, CHAT_STREAM, Client, Connection, EVENTS_HEAD, LAST_CHUNK, chunk, proxy, sized, upstream,
};

/// Threads that speak HTTP/1.1, and connections that speak HTTP/2.
const CLIENTS: usize = 8;

/// The state that all clients of one round share.
struct Round {
    address: SocketAddr,
    over: AtomicBool,
    number: AtomicUsize,
}

impl Round {
    /// A body with a unique name.
    fn body(&self) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("{{\"model\":\"m\",\"stream\":true,\"messages\":[],\"user\":\"request-{number}\"}}")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sends requests and leaves at any moment, over HTTP/1.1.
    fn http1(&self, mut random: fastrand::Rng) {
        while !self.is_over() {
            let Some(mut client) = Client::try_connect(self.address) else { return };
            for _ in 0..random.usize(1..4) {
                let drain = ["", "x-streamgauge-on-disconnect: drain\r\n"][random.usize(..2)];
                let body = self.body();
                client.send(format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{drain}\r\n{body}",
                    body.len()
                ));
                match random.usize(..4) {
                    0 => break,
                    1 => {
                        client.read_up_to(random.usize(1..1500));
                        break;
                    }
                    2 => {
                        std::thread::sleep(Duration::from_millis(random.u64(..10)));
                        break;
                    }
                    _ if client.next_response().is_none() => break,
                    _ => {}
                }
            }
        }
    }

    /// Does the same as [`Self::http1`] over HTTP/2, with resets of a stream or of its whole
    /// connection.
    async fn http2(&self, mut random: fastrand::Rng) {
        while !self.is_over() {
            let Ok(stream) = tokio::net::TcpStream::connect(self.address).await else { return };
            let Ok((mut sender, connection)) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await
            else {
                return;
            };
            let connection = tokio::spawn(connection);
            for _ in 0..random.usize(1..5) {
                let mut request = http::Request::post("http://localhost/v1/chat/completions");
                if random.bool() {
                    request = request.header("x-streamgauge-on-disconnect", "drain");
                }
                let request = request.body(Full::new(bytes::Bytes::from(self.body()))).unwrap();
                let patience = Duration::from_millis(random.u64(..30));
                let response = tokio::time::timeout(patience, sender.send_request(request)).await;
                let Ok(response) = response else { continue };
                let Ok(response) = response else { break };
                let mut body = response.into_body();
                for _ in 0..random.usize(..6) {
                    let frame = tokio::time::timeout(patience, body.frame()).await;
                    if !matches!(frame, Ok(Some(Ok(_)))) {
                        break;
                    }
                }
            }
            if random.bool() {
                connection.abort();
            }
        }
    }
}

/// Responds in one of many ways, and records the client.
fn respond(connection: &mut Connection, seen: &Mutex<HashSet<String>>) {
    let mut random = fastrand::Rng::with_seed(connection.number as u64);
    while let Some(request) = connection.request() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        seen.lock().unwrap().insert(body["user"].as_str().unwrap().to_owned());
        let way = random.usize(..16);
        if way == 0 {
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
            continue;
        }
        if way == 1 {
            connection.send(sized(
                "429 Too Many Requests",
                "application/json",
                b"{\"error\":{\"message\":\"no\"}}",
            ));
            continue;
        }
        if way == 2 {
            return;
        }
        std::thread::sleep(Duration::from_millis(random.u64(..15)));
        connection.send(EVENTS_HEAD);
        for event in CHAT_STREAM.split_inclusive("\n\n") {
            connection.send(chunk(event.as_bytes()));
            std::thread::sleep(Duration::from_millis(random.u64(..4)));
            if way == 3 && random.usize(..3) == 0 {
                return;
            }
        }
        if way == 4 {
            return connection.wait_for_close();
        }
        connection.send(LAST_CHUNK);
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn request_has_exactly_one_record_whatever_and_whenever_it_ends() {
    let mut total = 0;
    for seed in 0..12_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let noted = Arc::clone(&seen);
        let up = upstream(move |connection| respond(connection, &noted));
        let comments = ["", "keep_alive_comments = \"3ms\""][random.usize(..2)];
        let leaving = ["cancel", "drain"][random.usize(..2)];
        let proxy = proxy()
            .server(&format!(
                "workers = {}\ndrain_timeout = \"{}ms\"",
                random.usize(1..3),
                random.u64(50..400)
            ))
            .upstream(&up)
            .tables(&format!("{comments}\non_disconnect = {leaving:?}\ndrain_limits = {{ concurrent = 20 }}"))
            .run();
        let round =
            Round { address: proxy.address, over: AtomicBool::new(false), number: AtomicUsize::new(0) };
        let records = std::thread::scope(|scope| {
            for client in 0..CLIENTS as u64 {
                let (round, random) = (&round, fastrand::Rng::with_seed(seed * 100 + client));
                scope.spawn(move || round.http1(random));
            }
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    let clients = (50..50 + CLIENTS as u64)
                        .map(|client| round.http2(fastrand::Rng::with_seed(seed * 100 + client)));
                    futures_join(clients).await;
                });
            });
            // In the middle of it all.
            std::thread::sleep(Duration::from_millis(random.u64(200..500)));
            let records = proxy.stop();
            round.over.store(true, Ordering::Relaxed);
            records
        });
        let mut users = HashSet::new();
        let mut ids = HashSet::new();
        for record in &records {
            assert!(ids.insert(record["id"].as_str().unwrap().to_owned()), "twice: {record}");
            if let Some(user) = record["user"].as_str() {
                assert!(users.insert(user.to_owned()), "two records of one request: {record}");
            }
            let left = record["outcome"] == "client_disconnected";
            assert_eq!(record["time_to_disconnect_ms"].is_number(), left, "{record}");
            assert!(record["usage_source"] != "drained" || left, "{record}");
        }
        let lost: Vec<_> = seen.lock().unwrap().difference(&users).cloned().collect();
        assert!(lost.is_empty(), "seed {seed}: the upstream was asked, and there is no record: {lost:?}");
        total += users.len();
    }
    assert!(total > 500, "{total} requests show nothing");
}

/// Runs all futures to their ends.
async fn futures_join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

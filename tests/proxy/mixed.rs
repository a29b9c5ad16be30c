//! Promise 3, at length: ten thousand requests of every kind, each with exactly one record, and
//! every token that the upstream reported is in one of them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use streamgauge::simulator::{self, SimulatorSettings};

use crate::harness::{Client, proxy};

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 64;

/// The fate of a request. Wherever its client leaves or its upstream fails, the upstream has
/// reported all of its usage by then, and all of that has arrived, so that the sums must be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Stream,
    Body,
    Embeddings,
    UpstreamStatus,
    ErrorInside,
    CutInside,
    CutBody,
    GarbageInside,
    ResetBefore,
    SilentInside,
    SilentBefore,
    LeavesInside,
    LeavesAnywhere,
    LeavesBefore,
    DrainsInside,
    DrainsBefore,
    UnknownPath,
    UnknownWord,
    NotHttp,
    BreaksOffInBody,
}

/// The number of each per hundred.
const MIX: [(Kind, usize); 20] = [
    (Kind::Stream, 22),
    (Kind::Body, 12),
    (Kind::Embeddings, 5),
    (Kind::UpstreamStatus, 5),
    (Kind::ErrorInside, 5),
    (Kind::CutInside, 5),
    (Kind::CutBody, 3),
    (Kind::GarbageInside, 3),
    (Kind::ResetBefore, 3),
    (Kind::SilentInside, 2),
    (Kind::SilentBefore, 2),
    (Kind::LeavesInside, 6),
    (Kind::LeavesAnywhere, 5),
    (Kind::LeavesBefore, 3),
    (Kind::DrainsInside, 6),
    (Kind::DrainsBefore, 4),
    (Kind::UnknownPath, 3),
    (Kind::UnknownWord, 2),
    (Kind::NotHttp, 2),
    (Kind::BreaksOffInBody, 2),
];

/// One request as it is sent, and the moment when its client leaves.
struct Ask {
    kind: Kind,
    /// The user: the record has it if its body was read.
    user: String,
    endpoint: &'static str,
    directions: String,
    body: Value,
    headers: &'static str,
    leaves: Leaves,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    /// The client reads the whole response.
    Never,
    /// The client leaves without a byte of it.
    Before,
    /// The client leaves after this many events.
    After(usize),
    /// The client leaves after this many bytes.
    Bytes(usize),
}

/// The request of this number. `random` decides its sizes.
fn ask(number: usize, kind: Kind, random: &mut fastrand::Rng) -> Ask {
    let user = format!("{kind:?}-{number}");
    let words = vec!["word"; random.usize(1..20)].join(" ");
    let events = random.usize(1..40);
    let inside = random.usize(2..20);
    let place = ["every", "finish", "always", "asked"][random.usize(..4)];
    let shape = random.usize(..3);
    let (endpoint, mut body) = match shape {
        0 => ("completions", json!({ "prompt": words })),
        1 => ("responses", json!({ "input": words })),
        _ => ("chat/completions", json!({ "messages": [{ "role": "user", "content": words }] })),
    };
    let chat = ("chat/completions", json!({ "messages": [{ "role": "user", "content": words }] }));
    let mut streamed = true;
    let mut headers = "";
    let mut leaves = Leaves::Never;
    // Only the forms of completions, which can report inside.
    let (mut endpoint, mut directions) = match kind {
        Kind::Stream => (endpoint, format!("events={events},usage={place}")),
        Kind::Body => {
            streamed = false;
            (endpoint, format!("events={events},reasoning=3,cached=1"))
        }
        Kind::Embeddings => {
            streamed = false;
            body = json!({ "input": [words, "two words"] });
            ("embeddings", String::new())
        }
        Kind::UpstreamStatus => {
            (endpoint, format!("status={}", [400, 401, 429, 500, 503][random.usize(..5)]))
        }
        Kind::ErrorInside => (chat.0, format!("events=40,usage=every,fault=error@{inside}")),
        Kind::CutInside => (chat.0, format!("events=40,usage=every,fault=cut@{inside}")),
        Kind::CutBody => {
            streamed = false;
            (endpoint, format!("events={events},fault=cut@{inside}"))
        }
        Kind::GarbageInside => (chat.0, format!("events=40,usage=every,fault=garbage@{inside}")),
        Kind::ResetBefore => (endpoint, "fault=reset".to_owned()),
        Kind::SilentInside => (chat.0, format!("events=40,usage=every,fault=silence@{inside}")),
        Kind::SilentBefore => (endpoint, "fault=silence".to_owned()),
        Kind::LeavesInside => {
            leaves = Leaves::After(inside);
            (chat.0, format!("events=40,usage=every,fault=silence@{inside}"))
        }
        Kind::LeavesAnywhere => {
            leaves = Leaves::Bytes(random.usize(1..6000));
            (endpoint, "events=40,usage=none,pace=500us".to_owned())
        }
        Kind::LeavesBefore => {
            leaves = Leaves::Before;
            (endpoint, "fault=silence".to_owned())
        }
        Kind::DrainsInside => {
            headers = "x-streamgauge-on-disconnect: drain\r\n";
            leaves = Leaves::After(inside.min(events));
            (endpoint, format!("events={events},usage={place},pace=500us"))
        }
        Kind::DrainsBefore => {
            headers = "x-streamgauge-on-disconnect: drain\r\n";
            leaves = Leaves::Before;
            streamed = random.bool();
            (endpoint, format!("events={events},usage={place},delay=100ms"))
        }
        Kind::UnknownWord => {
            headers = "x-streamgauge-on-disconnect: wait\r\n";
            (endpoint, String::new())
        }
        Kind::UnknownPath | Kind::NotHttp | Kind::BreaksOffInBody => (endpoint, String::new()),
    };
    if endpoint == chat.0 {
        body = chat.1;
    }
    if kind == Kind::UnknownPath {
        endpoint = "../elsewhere";
    }
    body["model"] = json!("sim");
    body["user"] = json!(user);
    if streamed {
        body["stream"] = json!(true);
    }
    if streamed && endpoint != "responses" && random.bool() {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if directions.is_empty() {
        directions = "events=1".to_owned();
    }
    Ask { kind, user, endpoint, directions, body, headers, leaves }
}

impl Ask {
    fn bytes(&self) -> String {
        let Self { endpoint, directions, headers, .. } = self;
        let body = self.body.to_string();
        let length = body.len() + if self.kind == Kind::BreaksOffInBody { 10 } else { 0 };
        format!(
            "POST /v1/{endpoint} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             x-simulate: {directions}\r\n{headers}\r\n{body}"
        )
    }

    /// Returns true if the record can have the user.
    fn is_read(&self) -> bool {
        !matches!(self.kind, Kind::UnknownPath | Kind::NotHttp | Kind::BreaksOffInBody)
    }

    /// Sends it and reads the response, as far as the client wants it. Returns false if the
    /// connection is used up.
    fn run(&self, client: &mut Client) -> bool {
        if self.kind == Kind::NotHttp {
            client.send("this is not HTTP\r\n\r\n");
            client.rest();
            return false;
        }
        client.send(self.bytes());
        if self.kind == Kind::BreaksOffInBody {
            client.finish();
            client.rest();
            return false;
        }
        match self.leaves {
            Leaves::Never => return client.next_response().is_some_and(|response| response.status() == 200),
            // Sometimes before the request was read, most often after.
            Leaves::Before => std::thread::sleep(Duration::from_millis(fastrand::u64(..8))),
            Leaves::Bytes(bytes) => client.read_up_to(bytes),
            Leaves::After(events) => {
                client.head();
                let mut seen = Vec::new();
                while seen.windows(2).filter(|pair| pair == b"\n\n").count() < events {
                    seen.extend(client.chunk());
                }
            }
        }
        false
    }

    /// The possible outcomes and usage sources. If a client leaves, the response may have been
    /// faster: on a machine under load both are there when the proxy looks, however long the
    /// upstream waits.
    fn endings(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.kind {
            Kind::Stream => (&["complete"], &["reported", "none", "estimated"]),
            Kind::Body | Kind::Embeddings => (&["complete"], &["reported"]),
            Kind::UpstreamStatus => (&["upstream_error", "invalid_request", "rate_limited"], &["none"]),
            Kind::ErrorInside => (&["upstream_error", "truncated"], &["reported", "partial"]),
            Kind::CutInside => (&["truncated"], &["partial"]),
            Kind::CutBody => (&["truncated"], &["none", "estimated"]),
            Kind::GarbageInside => (&["upstream_error", "truncated"], &["partial"]),
            Kind::ResetBefore => (&["upstream_error"], &["none"]),
            Kind::SilentInside => (&["timed_out"], &["partial"]),
            Kind::SilentBefore => (&["timed_out"], &["none"]),
            Kind::LeavesInside => (&["client_disconnected", "timed_out"], &["partial"]),
            Kind::LeavesAnywhere => (&["client_disconnected", "complete"], &["none", "estimated"]),
            Kind::LeavesBefore => (&["client_disconnected", "timed_out"], &["none"]),
            Kind::DrainsInside => {
                (&["client_disconnected", "complete"], &["drained", "reported", "none", "estimated"])
            }
            Kind::DrainsBefore => {
                (&["client_disconnected", "complete"], &["drained", "reported", "none", "estimated"])
            }
            Kind::UnknownPath | Kind::UnknownWord | Kind::NotHttp => (&["rejected"], &["none"]),
            Kind::BreaksOffInBody => (&["client_disconnected"], &["none"]),
        }
    }
}

/// All requests, in the order in which they begin.
fn asks() -> Vec<Ask> {
    let mut random = fastrand::Rng::with_seed(4);
    let hundred: Vec<_> = MIX.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count)).collect();
    assert_eq!(hundred.len(), 100);
    let mut kinds: Vec<_> = hundred.into_iter().cycle().take(REQUESTS).collect();
    random.shuffle(&mut kinds);
    kinds.into_iter().enumerate().map(|(number, kind)| ask(number, kind, &mut random)).collect()
}

fn tally(simulator: SocketAddr) -> Value {
    let response = Client::connect(simulator).get("/simulator/tally").response();
    serde_json::from_slice(response.body()).unwrap()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn ten_thousand_requests_have_a_record_each_with_every_token() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let simulator = simulator::bind(&SimulatorSettings { listen, workers: 1, api_key: None }).unwrap();
    let address = simulator.address();
    let simulator = simulator.spawn();
    let proxy = proxy()
        .server("workers = 2")
        .other("up", address)
        .tables("drain_limits = { concurrent = 1000 }")
        .tables("[upstreams.up.timeouts]\nfirst_byte = \"1s\"\nidle = \"1s\"")
        .run();
    let asks = asks();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut kept: Option<Client> = None;
                while let Some(ask) = asks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(proxy.address));
                    kept = ask.run(&mut client).then_some(client);
                }
            });
        }
    });
    // Heads that are not HTTP are refused before authentication, and share records beyond a rate.
    let requests = |record: &Value| record["count"].as_u64().unwrap_or(1) as usize;
    let mut records = Vec::new();
    while records.iter().map(requests).sum::<usize>() < REQUESTS {
        records.push(proxy.record());
    }
    let told = tally(address);
    assert_eq!(proxy.stop().len(), 0, "a record each, and no more");
    simulator.stop();

    let mut by_user: HashMap<&str, &Value> = HashMap::new();
    let mut strangers: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        match record["user"].as_str() {
            Some(user) => assert!(by_user.insert(user, record).is_none(), "twice: {record}"),
            None => *strangers.entry(record["outcome"].as_str().unwrap()).or_default() += requests(record),
        }
    }
    let mut outcomes: BTreeMap<(Kind, &str, &str), usize> = BTreeMap::new();
    let mut unread: BTreeMap<&str, usize> = BTreeMap::new();
    for ask in &asks {
        let Some(record) = by_user.get(&*ask.user).filter(|_| ask.is_read()) else {
            // A client that leaves immediately may be gone before its body is read.
            assert!(!ask.is_read() || ask.leaves == Leaves::Before, "no record of {}", ask.user);
            *unread.entry(ask.endings().0[0]).or_default() += 1;
            continue;
        };
        let (outcome, source) =
            (record["outcome"].as_str().unwrap(), record["usage_source"].as_str().unwrap());
        let (may_end, may_know) = ask.endings();
        assert!(
            may_end.contains(&outcome) && may_know.contains(&source),
            "{:?}, {}: {record}",
            ask.kind,
            ask.directions
        );
        assert!(outcome != "complete" || source != "drained", "a whole response needs no draining: {record}");
        *outcomes.entry((ask.kind, outcome, source)).or_default() += 1;
    }
    assert_eq!(strangers, unread, "requests whose bodies were not read");
    for (kind, wanted) in [
        (Kind::LeavesInside, ("client_disconnected", "partial")),
        (Kind::DrainsInside, ("client_disconnected", "drained")),
        (Kind::DrainsBefore, ("client_disconnected", "drained")),
        (Kind::SilentInside, ("timed_out", "partial")),
    ] {
        let count = outcomes.get(&(kind, wanted.0, wanted.1)).copied().unwrap_or_default();
        assert!(count > 20, "{kind:?} must end like this for the test to mean anything: {count}");
    }
    // Estimates are ours, not the upstream's.
    let reported = || records.iter().filter(|record| record["usage_source"] != "estimated");
    for tokens in ["input_tokens", "output_tokens"] {
        let sum: u64 = reported().filter_map(|record| record[tokens].as_u64()).sum();
        assert_eq!(sum, told[tokens].as_u64().unwrap(), "{tokens}, by the simulator's own tally: {told}");
    }
    let with_usage = reported().filter(|record| record["usage_source"] != "none").count();
    assert_eq!(with_usage as u64, told["responses_with_usage"].as_u64().unwrap());
}

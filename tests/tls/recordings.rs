//! The recorded responses of some forty services through the whole proxy, over HTTPS and without,
//! in random pieces: each must arrive byte for byte, and its record must have the known model and
//! counts.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use streamgauge::tls::{HTTP_1_1, HTTP_2};
use tokio::net::TcpStream;

use crate::harness::service::{ServiceBody, service};
use crate::harness::tls::{Folder, connect, server_config};
use crate::witness::two_workers;

/// The number of concurrent clients.
const CLIENTS: usize = 8;

/// The counts, by their names in the index and in the record.
const COUNTS: [(&str, &str); 9] = [
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("total_tokens", "total_tokens"),
    ("cached_tokens", "cached_input_tokens"),
    ("cache_write_tokens", "cache_write_input_tokens"),
    ("reasoning_tokens", "reasoning_tokens"),
    ("input_audio_tokens", "input_audio_tokens"),
    ("output_audio_tokens", "output_audio_tokens"),
    ("duration_seconds", "billed_seconds"),
];

struct Recording {
    /// The recording's line of the index.
    case: Value,
    body: Bytes,
}

/// The recordings whose usage is checked. Without the corpus there is nothing to test, which fails
/// only in CI.
fn recordings() -> Option<Vec<Recording>> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let Ok(index) = fs::read_to_string(root.join("index.jsonl")) else {
        assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", root.display());
        eprintln!("not tested, the corpus is missing: {}", root.display());
        return None;
    };
    let recordings = index.lines().filter_map(|line| {
        let case: Value = serde_json::from_str(line).unwrap();
        let family = case["family"].as_str().unwrap();
        let judged = family.starts_with("openai-") || family.starts_with("anthropic-");
        if !judged || case.get("note").is_some() {
            return None;
        }
        let body = fs::read(root.join(case["file"].as_str().unwrap())).unwrap().into();
        Some(Recording { case, body })
    });
    let recordings: Vec<_> = recordings.collect();
    assert!(recordings.len() > 500, "there are {} recordings", recordings.len());
    Some(recordings)
}

impl Recording {
    fn is_stream(&self) -> bool {
        self.case["stream"] == true
    }

    fn status(&self) -> u16 {
        self.case["status"].as_u64().map_or(200, |status| status.try_into().unwrap())
    }

    /// The request for the service.
    fn request(&self) -> String {
        let more = match (self.is_stream(), self.case["family"].as_str().unwrap()) {
            (true, "openai-chat" | "openai-completions") => {
                ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
            }
            (true, _) => ",\"stream\":true",
            (false, _) => "",
        };
        format!("{{\"model\":\"asked\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]{more}}}")
    }

    /// The response in pieces of random sizes, small ones more often than large ones. A complete
    /// one has a length.
    fn respond(&self, mut random: fastrand::Rng) -> Response<ServiceBody> {
        let usual = if self.is_stream() { "text/event-stream" } else { "application/json" };
        let content_type = self.case["content_type"].as_str().unwrap_or(usual);
        let head = Response::builder().status(self.status()).header("content-type", content_type);
        if !self.is_stream() && random.bool() {
            return head.body(Full::new(self.body.clone()).boxed_unsync()).unwrap();
        }
        let pieces = unfold((self.body.clone(), random), |(mut rest, mut random)| async move {
            if rest.is_empty() {
                return None;
            }
            // Frames that are ready together are sent together.
            tokio::task::yield_now().await;
            let scale = random.u32(0..14);
            let piece = rest.split_to(random.usize(1..=1 << scale).min(rest.len()));
            Some((Ok(Frame::data(piece)), (rest, random)))
        });
        head.body(StreamBody::new(pieces).boxed_unsync()).unwrap()
    }

    /// The mistakes in the record of its request.
    fn faults(&self, record: &Value) -> Vec<String> {
        let expected = &self.case["expected"];
        let mut faults = Vec::new();
        let mut check = |name: &str, wanted: &Value| {
            // 27 and 27.0 are one number.
            let is_same = record[name] == *wanted
                || wanted.as_f64().is_some_and(|wanted| record[name].as_f64() == Some(wanted));
            if !is_same {
                faults.push(format!("{}: {name} is {} and not {wanted}", self.case["file"], record[name]));
            }
        };
        // Some have an error in their body, whose code tells the cause.
        let failed = ["upstream_error", "invalid_request", "rate_limited"];
        if record["error"].is_null() || !failed.iter().any(|outcome| record["outcome"] == *outcome) {
            check("outcome", &"complete".into());
        }
        check("response_bytes", &self.body.len().into());
        if expected["model"].as_str().is_some_and(|model| !model.is_empty()) {
            check("model", &expected["model"]);
        }
        if expected.is_object() {
            check("usage_source", &"reported".into());
            COUNTS.iter().for_each(|(theirs, ours)| check(ours, &expected[theirs]));
        } else {
            // An estimate is marked as such; no usage counts as reported.
            assert_ne!(record["usage_source"], "reported", "{}", self.case["file"]);
        }
        faults
    }
}

/// The HTTP version of the recordings, the same on both sides of the proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Http {
    Plain,
    Http1,
    Http2,
}

impl Http {
    fn alpn(self) -> &'static [u8] {
        if self == Self::Http2 { HTTP_2 } else { HTTP_1_1 }
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn connect(folder: &Folder, proxy: SocketAddr, http: Http) -> Self {
        if http == Http::Plain {
            let stream = TcpStream::connect(proxy).await.unwrap();
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            return Self::Http1(sender);
        }
        let stream = connect(&folder.client(None), proxy, &[http.alpn()]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(http.alpn()));
        let io = TokioIo::new(stream);
        if http == Http::Http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(sender)
        }
    }

    /// Status, the record's id, and the body.
    async fn ask(&mut self, number: usize, recording: &Recording) -> (StatusCode, String, Bytes) {
        let path = format!("/v1/{}", recording.case["endpoint"].as_str().unwrap());
        let uri = if matches!(self, Self::Http2(_)) { format!("https://localhost{path}") } else { path };
        let request = Request::post(uri)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("x-case", number)
            .body(Full::new(recording.request().into()))
            .unwrap();
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await
            }
            Self::Http2(sender) => sender.send_request(request).await,
        };
        let (head, body) = response.unwrap().into_parts();
        let id = head.headers["x-streamgauge-id"].to_str().unwrap().to_owned();
        let body = body.collect().await.unwrap_or_else(|error| panic!("{}: {error}", recording.case["file"]));
        (head.status, id, body.to_bytes())
    }
}

async fn every_recording(http: Http) {
    let Some(recordings) = recordings() else { return };
    let recordings = Arc::new(recordings);
    let folder = Arc::new(Folder::new());
    let replayed = Arc::clone(&recordings);
    let upstream = match http {
        Http::Plain => service(),
        _ => service().tls(server_config(&folder.ca.issue("up", &["127.0.0.1"]), None, &[http.alpn()])),
    };
    let upstream = upstream.run(move |request, _| {
        let number: usize = request.headers["x-case"].to_str().unwrap().parse().unwrap();
        replayed[number].respond(fastrand::Rng::with_seed(number as u64))
    });
    let proxy = match http {
        Http::Plain => two_workers().other("up", upstream.address),
        _ => two_workers().tls(&folder.lines("server")).https(upstream.address, &folder.ca_line("ca")),
    };
    // If the proxy requests usage itself, it withholds the event that only it requested.
    let proxy = proxy.tables("include_usage = \"never\"").run();

    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (recordings, folder, address) = (Arc::clone(&recordings), Arc::clone(&folder), proxy.address);
        clients.push(tokio::spawn(async move {
            let mut sender = Sender::connect(&folder, address, http).await;
            let mut ids = Vec::new();
            for (number, recording) in recordings.iter().enumerate().skip(client).step_by(CLIENTS) {
                let (status, id, body) = sender.ask(number, recording).await;
                assert_eq!(status.as_u16(), recording.status(), "{}", recording.case["file"]);
                assert!(body == recording.body, "{} came changed", recording.case["file"]);
                ids.push((id, number));
            }
            ids
        }));
    }
    let mut numbers = BTreeMap::new();
    for client in clients {
        numbers.extend(client.await.unwrap());
    }
    let mut faults = Vec::new();
    for _ in 0..recordings.len() {
        let record = proxy.record();
        let number = numbers.remove(record["id"].as_str().unwrap()).expect("one record of each request");
        faults.extend(recordings[number].faults(&record));
    }
    assert!(faults.is_empty(), "{http:?}:\n{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
async fn recordings_arrive_whole_and_counted_without_tls() {
    every_recording(Http::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
async fn recordings_arrive_whole_and_counted_over_https_with_http1() {
    every_recording(Http::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
async fn recordings_arrive_whole_and_counted_over_https_with_http2() {
    every_recording(Http::Http2).await;
}

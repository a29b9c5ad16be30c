//! The simulator over real sockets. `script` tests the contents of events.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::*;

mod endpoints;
mod messages;

/// A simulator on a free port, and its client.
struct Sim {
    address: SocketAddr,
    _running: RunningSimulator,
}

fn simulator(api_key: Option<&str>) -> Sim {
    let settings = SimulatorSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        workers: 1,
        api_key: api_key.map(str::to_owned),
    };
    let bound = bind(&settings).unwrap();
    Sim { address: bound.address(), _running: bound.spawn() }
}

/// A response, up to the end of the connection.
#[derive(Debug)]
struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Sim {
    fn connect(&self, request: &str) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> Reply {
        let mut bytes = Vec::new();
        let end = self.connect(request).read_to_end(&mut bytes);
        end.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)));
        let split =
            bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let body = bytes.split_off(split);
        Reply { head: String::from_utf8(bytes).unwrap().to_ascii_lowercase(), body }
    }

    fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n"))
    }

    /// A streamed chat completion.
    fn stream(&self, directions: &str) -> Reply {
        self.ask(&post("/v1/chat/completions", directions, CHAT))
    }

    fn tally(&self) -> Value {
        self.get("/simulator/tally").json()
    }
}

const CHAT: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"one two three"}]}"#;

fn post(path: &str, directions: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: sim\r\nX-Simulate: {directions}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Reply {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The HTTP chunks, and true if the last one came.
    fn chunks(&self) -> (Vec<String>, bool) {
        let (mut chunks, mut rest) = (Vec::new(), self.body.as_slice());
        while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
            let size =
                std::str::from_utf8(&rest[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let Some(size) = size else { break };
            if size == 0 {
                return (chunks, true);
            }
            chunks.push(String::from_utf8(rest[at + 2..at + 2 + size].to_vec()).unwrap());
            rest = &rest[at + size + 4..];
        }
        (chunks, false)
    }
}

#[test]
fn every_event_is_a_chunk_of_its_own() {
    let (chunks, ended) = simulator(None).stream("events=5").chunks();
    assert_eq!(chunks.len(), 1 + 5 + 1 + 1);
    assert!(chunks.iter().all(|chunk| chunk.starts_with("data: ") && chunk.ends_with("\n\n")), "{chunks:?}");
    assert!(ended);
}

#[test]
fn pieces_of_another_size_are_the_same_bytes() {
    let sim = simulator(None);
    let (pieces, ended) = sim.stream("events=5,chunk=7").chunks();
    assert!(ended && pieces.iter().rev().skip(1).all(|piece| piece.len() == 7));
    // Everything except the number of the response and the time.
    let plain = sim.stream("events=5").chunks().0.concat();
    let text = |stream: &str| {
        stream
            .split("\"choices\"")
            .skip(1)
            .map(|part| part.split('}').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&pieces.concat()), text(&plain));
    assert_eq!(pieces.concat().len(), plain.len());
}

#[test]
fn a_cut_comes_after_exactly_so_many_events() {
    let sim = simulator(None);
    for events in [0, 1, 3, 1000] {
        let (chunks, ended) = sim.stream(&format!("events=2000,fault=cut@{events}")).chunks();
        assert_eq!((chunks.len(), ended), (events, false));
    }
    let (chunks, ended) = sim.stream("events=5,fault=cut@8").chunks();
    assert_eq!((chunks.len(), ended), (8, false), "after the last event, before the last chunk");
    let (chunks, ended) = sim.stream("events=5,fault=cut@9").chunks();
    assert_eq!((chunks.len(), ended), (8, true), "there is no ninth event");
}

#[test]
fn a_cut_can_come_inside_an_event() {
    let (chunks, ended) = simulator(None).stream("events=5,fault=cut@2+9").chunks();
    assert_eq!((chunks.len(), chunks[2].as_str(), ended), (3, "data: {\"i", false));
}

#[test]
fn cut_before_the_headers_sends_no_response() {
    let reply = simulator(None).stream("fault=cut");
    assert_eq!((reply.head.as_str(), reply.body.len()), ("", 0));
}

#[test]
fn a_reset_is_seen_as_one() {
    let sim = simulator(None);
    let mut stream = sim.connect(&post("/v1/chat/completions", "fault=reset", CHAT));
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn garbage_replaces_a_response_or_a_chunk() {
    let sim = simulator(None);
    let mut bytes = Vec::new();
    sim.connect(&post("/v1/chat/completions", "fault=garbage", CHAT)).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, wire::GARBAGE);
    let reply = sim.stream("events=5,fault=garbage@2");
    assert_eq!((reply.status(), reply.chunks().0.len()), ("200", 2));
    assert!(reply.body.ends_with(wire::GARBAGE));
}

#[test]
fn an_error_ends_a_stream_in_good_order() {
    let (chunks, ended) = simulator(None).stream("events=5,fault=error@3").chunks();
    assert_eq!((chunks.len(), ended), (4, true));
    assert!(chunks[3].contains("\"server_error\""), "{}", chunks[3]);
    let body = CHAT.replace("true", "false");
    let reply = simulator(None).ask(&post("/v1/chat/completions", "fault=error", &body));
    assert_eq!((reply.status(), &reply.json()["error"]["type"]), ("200", &Value::from("server_error")));
}

#[test]
fn silence_lasts_until_the_other_side_leaves() {
    let sim = simulator(None);
    let mut stream = sim.connect(&post("/v1/chat/completions", "events=5,fault=silence@1", CHAT));
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(sim.tally()["streams_cancelled"], 0);
    stream.shutdown(Shutdown::Both).unwrap();
    let waited = Instant::now();
    while sim.tally()["streams_cancelled"] != 1 {
        assert!(waited.elapsed() < Duration::from_secs(10), "the stream goes on without a reader");
    }
}

#[test]
fn unstreamed_response_can_stop_short_of_its_length() {
    let body = CHAT.replace("true", "false");
    let reply = simulator(None).ask(&post("/v1/chat/completions", "fault=cut@10", &body));
    assert_eq!(reply.body.len(), 10);
    let (_, length) = reply.head.split_once("content-length: ").unwrap();
    assert!(length.lines().next().unwrap().parse::<usize>().unwrap() > 500, "{}", reply.head);
}

#[test]
fn pace_counts_from_the_first_event() {
    let start = Instant::now();
    let (chunks, _) = simulator(None).stream("events=10,pace=5ms").chunks();
    // The last of 13 events is due 12 steps after the first.
    assert_eq!(chunks.len(), 13);
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
}

#[test]
fn a_status_has_the_services_error_and_headers() {
    let sim = simulator(None);
    let reply = sim.stream("status=429");
    assert_eq!(
        (reply.status(), &reply.json()["error"]["code"]),
        ("429", &Value::from("rate_limit_exceeded"))
    );
    assert!(
        reply.head.contains("\r\nretry-after: 1\r\n")
            && reply.head.contains("x-ratelimit-remaining-requests: 0")
    );
    assert_eq!(sim.stream("status=503").json()["error"]["type"], "server_error");
    let azure = sim.ask(&post("/openai/v1/chat/completions", "status=401", CHAT)).json();
    assert_eq!(azure["error"]["code"], "invalid_api_key");
}

#[test]
fn a_model_can_carry_the_directions_and_the_header_wins() {
    let sim = simulator(None);
    let body = CHAT.replace("\"m\"", "\"sim:events=2,usage=always\"");
    let text = |directions: &str| sim.ask(&post("/v1/chat/completions", directions, &body)).chunks().0;
    assert_eq!(text("").len(), 1 + 2 + 1 + 1 + 1);
    assert_eq!(text("events=4").len(), 1 + 4 + 1 + 1 + 1);
    assert!(text("")[0].contains("\"model\":\"sim\""));
    let path = "/openai/deployments/sim%3Aevents=3/chat/completions?api-version=2024-10-21";
    assert_eq!(sim.ask(&post(path, "", CHAT)).chunks().0.len(), 2 + 3 + 1 + 1, "a deployment is a model too");
}

#[test]
fn requests_that_the_service_would_refuse_are_refused() {
    let sim = simulator(None);
    let ask = |path: &str, body: &str| {
        let reply = sim.ask(&post(path, "", body));
        (reply.status().to_owned(), reply.json()["error"]["message"].as_str().unwrap().to_owned())
    };
    for (path, body, status, message) in [
        ("/v1/chat/completions", "{", "400", "could not parse the JSON body"),
        ("/v1/chat/completions", "{}", "400", "must provide a model"),
        (
            "/v1/chat/completions",
            r#"{"model":"m","stream_options":{}}"#,
            "400",
            "only allowed when 'stream' is enabled",
        ),
        (
            "/v1/responses",
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            "400",
            "Unknown parameter",
        ),
        ("/v1/chat/completions", r#"{"model":"sim:events=x"}"#, "400", "expected a number"),
        ("/v1/nothing", "{}", "404", "Invalid URL (POST /v1/nothing)"),
        ("/chat/completions", "{}", "404", "Invalid URL"),
    ] {
        let (found, said) = ask(path, body);
        assert!(found == status && said.contains(message), "{path} {body}: {found} {said}");
    }
    let body = r#"{"model":"sim:reject=422","stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(ask("/v1/completions", body).0, "422");
}

#[test]
fn a_key_is_asked_for_in_either_header() {
    let sim = simulator(Some("secret"));
    let status = |header: &str| {
        let request = format!("GET /v1/models HTTP/1.1\r\nHost: sim\r\n{header}Connection: close\r\n\r\n");
        sim.ask(&request).status().to_owned()
    };
    assert_eq!(status(""), "401");
    assert_eq!(status("Authorization: Bearer wrong\r\n"), "401");
    assert_eq!(status("Authorization: secret\r\n"), "401");
    assert_eq!(status("Authorization: Bearer secret\r\n"), "200");
    assert_eq!(status("api-key: secret\r\n"), "200");
    assert!(!String::from_utf8_lossy(&sim.get("/v1/models").body).contains("secret"));
}

#[test]
fn models_are_listed_and_found_by_name() {
    let sim = simulator(None);
    assert_eq!(sim.get("/v1/models").json()["data"][0]["id"], "sim");
    assert_eq!(sim.get("/v1/models/gpt-4.1").json()["object"], "model");
    let missing = sim.get("/openai/models/none?api-version=2024-10-21");
    assert_eq!(
        (missing.status(), &missing.json()["error"]["code"]),
        ("404", &Value::from("model_not_found"))
    );
}

#[test]
fn the_echo_says_what_arrived() {
    let body = "{\"x\": \u{e9}}";
    let echo = simulator(None).ask(&post("/v1/simulator/echo?a=1", "events=3", body)).json();
    assert_eq!(
        (&echo["method"], &echo["path"], &echo["query"]),
        (&"POST".into(), &"/v1/simulator/echo".into(), &"a=1".into())
    );
    assert_eq!((&echo["body"], &echo["body_length"]), (&body.into(), &body.len().into()));
    let names: Vec<_> =
        echo["headers"].as_array().unwrap().iter().map(|header| header[0].as_str().unwrap()).collect();
    assert_eq!(names, ["host", "x-simulate", "connection", "content-length"]);
}

#[test]
fn tally_is_the_sum_of_the_responses() {
    let sim = simulator(None);
    sim.stream("events=5,usage=always");
    sim.stream("events=5,usage=every");
    sim.stream("events=5");
    sim.ask(&post("/v1/chat/completions", "events=9", &CHAT.replace("true", "false")));
    sim.ask(&post("/v1/embeddings", "", r#"{"model":"m","input":["one two","three"]}"#));
    sim.stream("status=500");
    let expected = serde_json::json!({
        "requests": 6, "streams": 3, "streams_cancelled": 0, "responses_with_usage": 4,
        "input_tokens": 12, "output_tokens": 19, "total_tokens": 31,
    });
    assert_eq!(sim.tally(), expected);
}

#[test]
fn http2_is_spoken_with_prior_knowledge() {
    let sim = simulator(None);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let body = runtime.block_on(async {
        let stream = TcpStream::connect(sim.address).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://sim/v1/chat/completions").header("x-simulate", "events=3");
        let response =
            sender.send_request(request.body(Full::new(bytes::Bytes::from(CHAT))).unwrap()).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        response.into_body().collect().await.unwrap().to_bytes()
    });
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.matches("\n\n").count() == 6 && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[test]
fn stopping_closes_what_is_open() {
    let sim = simulator(None);
    let mut stream = sim.connect(&post("/v1/chat/completions", "fault=silence", CHAT));
    drop(sim);
    // Closed or reset, not left open.
    let end = stream.read(&mut [0]);
    assert!(
        matches!(&end, Ok(0))
            || end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset),
        "{end:?}"
    );
}

#[test]
fn with_a_certificate_it_serves_through_tls() {
    use crate::tls::Verification;
    use crate::tls::tests::certificates::Authority;
    use crate::tls::tests::{client, client_config, server, server_config};

    let authority = Authority::new("Simulator CA");
    let tls = server_config(&server(&authority.issue("localhost", &["localhost"])));
    let settings = SimulatorSettings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, api_key: None };
    let bound = bind(&settings).unwrap().with_tls(tls);
    let address = bound.address();
    let _running = bound.spawn();

    let config = client_config(&client(Verification::Full, &authority.pem()));
    let session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(session, std::net::TcpStream::connect(address).unwrap());
    stream.write_all(post("/v1/chat/completions", "events=3", CHAT).as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.contains("data: [DONE]"), "{response}");
}

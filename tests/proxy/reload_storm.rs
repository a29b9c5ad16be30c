//! Many reloads while many streams run, over TLS whose certificate changes too: every byte arrives,
//! every record is right, no connection is refused, and no memory leaks.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, Connection, EVENTS_HEAD, LAST_CHUNK, PATIENCE, Proxy, Upstream, chunk, proxy,
    sized, upstream,
};

const TAKEN: ReloadOutcome = ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 };

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn reloads_leave_running_streams_whole() {
    storm(Storm { streams: 12, reloads: 12, pace: Duration::ZERO });
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn hundred_reloads_leave_200_streams_of_20_seconds_whole() {
    storm(Storm { streams: 200, reloads: 100, pace: Duration::from_millis(200) });
}

struct Storm {
    streams: usize,
    reloads: usize,
    /// The time between the reloads.
    pace: Duration,
}

/// The number of events of each stream that may be sent so far.
#[derive(Default)]
struct Gate {
    open: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn open_to(&self, events: usize) {
        *self.open.lock().unwrap() = events;
        self.changed.notify_all();
    }

    fn wait_for(&self, event: usize) {
        let open = self.open.lock().unwrap();
        let (open, waited) = self.changed.wait_timeout_while(open, PATIENCE, |open| *open <= event).unwrap();
        assert!(!waited.timed_out(), "event {event} of {open}");
    }
}

fn event(number: usize) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":\
         {{\"content\":\"{number}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn end(events: usize) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":{{\"prompt_tokens\":7,\
         \"completion_tokens\":{events},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
        events + 7
    )
}

/// Sends streams as the gate opens, and plain bodies otherwise.
fn streaming(gate: &Arc<Gate>, events: usize) -> Upstream {
    let gate = Arc::clone(gate);
    upstream(move |connection: &mut Connection| {
        while let Some(request) = connection.request() {
            if !String::from_utf8_lossy(&request.body).contains("\"stream\":true") {
                connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
                continue;
            }
            connection.send(EVENTS_HEAD);
            for number in 0..events {
                gate.wait_for(number);
                connection.send(chunk(event(number).as_bytes()));
            }
            connection.send(chunk(end(events).as_bytes()));
            connection.send(LAST_CHUNK);
        }
    })
}

fn storm(storm: Storm) {
    let Storm { streams, reloads, pace } = storm;
    let gate = Arc::new(Gate::default());
    let upstreams = [streaming(&gate, reloads), streaming(&gate, reloads)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let mut trusted = RootCertStore::empty();
    let certificates: Vec<_> = (0..2).map(|number| certificate(folder.path(), number)).collect();
    certificates.iter().for_each(|certificate| trusted.add(certificate.clone()).unwrap());
    let client = client(trusted);
    let configure = |number: usize| fs::write(&path, text(number, &upstreams)).unwrap();
    configure(0);
    let proxy = proxy().run_from(&path);
    let address = proxy.address;
    let expected: String = (0..reloads).map(event).collect::<String>() + &end(reloads);

    thread::scope(|scope| {
        let running: Vec<_> = (0..streams)
            .map(|_| {
                let mut stream = Stream::open(address, &client);
                stream.request(CHAT_REQUEST, &key(0));
                scope.spawn(move || stream.body())
            })
            .collect();
        // Each stream is known to run when its first event has arrived; the gate opens it for all.
        for number in 1..=reloads {
            let began = Instant::now();
            configure(number);
            assert_eq!(proxy.reload(), TAKEN);
            gate.open_to(number);
            for (key, status) in [(key(number), "200"), (key(number - 1), "401")] {
                let mut stream = Stream::open(address, &client);
                stream.request("{\"model\":\"m\",\"messages\":[]}", &key);
                assert_eq!(stream.status(), status, "reload {number}");
                assert_eq!(stream.certificate(), certificates[number % 2], "reload {number}");
            }
            thread::sleep(pace.saturating_sub(began.elapsed()));
        }
        for (number, body) in running.into_iter().map(|stream| stream.join().unwrap()).enumerate() {
            assert!(body == expected, "stream {number}: {body}");
        }
    });
    let records = records(&proxy, (streams + 2 * reloads) as u64);
    let of =
        |test: fn(&Value) -> bool| records.iter().filter(|record| test(record)).map(requests).sum::<u64>();
    assert_eq!(of(|record| record["stream"] == true && record["outcome"] == "complete"), streams as u64);
    assert_eq!(of(|record| record["outcome"] == "rejected" && record["status"] == 401), reloads as u64);
    assert_eq!(of(|record| record["stream"] == false && record["outcome"] == "complete"), reloads as u64);
    for record in records.iter().filter(|record| record["stream"] == true) {
        assert_eq!(
            (&record["client"], &record["usage_source"]),
            (&"a".into(), &"reported".into()),
            "{record}"
        );
        assert_eq!(
            (&record["input_tokens"], &record["output_tokens"]),
            (&7.into(), &reloads.into()),
            "{record}"
        );
    }
}

/// A client's key of each configuration.
fn key(number: usize) -> String {
    format!("sg-key-of-version-{number}")
}

/// Routes, a key, the upstreams' URLs, a price and the certificate differ in each.
fn text(number: usize, upstreams: &[Upstream; 2]) -> String {
    let [one, two] =
        if number.is_multiple_of(2) { [0, 1] } else { [1, 0] }.map(|at: usize| upstreams[at].address);
    let certificate = number % 2;
    let upstream = |name: &str, address: SocketAddr| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"http://{address}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n"
        )
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[server.tls]\ncertificate = {{ file = \"{certificate}.crt\" }}\n\
         private_key = {{ file = \"{certificate}.key\" }}\n[admin]\nlisten = \"127.0.0.1:0\"\n[ledger]\npath = \"\"\n\
         [clients.a]\nkey = {{ value = \"{}\" }}\n{}{}[[routes]]\npath = \"/route-{number}\"\nupstream = \"two\"\n[[routes]]\n\
         upstream = \"one\"\n[[prices]]\nmodel = \"*\"\ninput = {}\noutput = 2\n",
        key(number),
        upstream("one", one),
        upstream("two", two),
        number + 1
    )
}

fn certificate(folder: &Path, number: usize) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join(format!("{number}.crt")), made.cert.pem()).unwrap();
    fs::write(folder.join(format!("{number}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn client(trusted: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(trusted).with_no_client_auth();
    // Each handshake shows the current certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// One request over TLS, on a connection of its own.
struct Stream(StreamOwned<ClientConnection, TcpStream>);

impl Stream {
    fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(address).expect("no connection is refused");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Self(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket))
    }

    fn request(&mut self, body: &str, key: &str) {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).unwrap();
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    fn status(&mut self) -> String {
        let mut response = String::new();
        self.0.read_to_string(&mut response).unwrap();
        response[9..12].to_owned()
    }

    /// The body of a complete response without its chunks' framing.
    fn body(mut self) -> String {
        let mut response = Vec::new();
        self.0.read_to_end(&mut response).unwrap();
        let start = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let (mut rest, mut body) = (&response[start..], Vec::new());
        loop {
            let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                return String::from_utf8(body).unwrap();
            }
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 2 + size + 2..];
        }
    }
}

/// The records of this many requests. Refusals beyond a rate share one.
fn records(proxy: &Proxy, count: u64) -> Vec<Value> {
    let mut records = Vec::new();
    while records.iter().map(requests).sum::<u64>() < count {
        records.push(proxy.record());
    }
    records
}

fn requests(record: &Value) -> u64 {
    record["count"].as_u64().unwrap_or(1)
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn thousand_reloads_leave_no_memory_behind() {
    let gate = Arc::new(Gate::default());
    let upstreams = [streaming(&gate, 1), streaming(&gate, 1)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    (0..2).for_each(|number| drop(certificate(folder.path(), number)));
    fs::write(&path, text(0, &upstreams)).unwrap();
    let proxy = proxy().run_from(&path);
    let reload = |number: usize| {
        fs::write(&path, text(number, &upstreams)).unwrap();
        assert_eq!(proxy.reload(), TAKEN);
    };
    (1..=200).for_each(reload);
    let before = resident();
    (201..=1200).for_each(reload);
    let after = resident();
    println!("resident memory: {before} KiB after 200 reloads, {after} KiB after 1,200");
    assert!(after < before + 4096, "{before} KiB after 200 reloads, {after} KiB after 1,200");
}

/// This process's resident memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

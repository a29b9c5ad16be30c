//! The paths through the whole proxy: a client, the proxy's worker and a service on one thread, so
//! that the same steps run in the same order each time. Records are written as usual, by threads
//! whose instructions are not counted.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streamgauge::app::{App, Running};
use streamgauge::config::{self, Overrides, Sources};
use streamgauge::record::{Sink, UsageRecord};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::timeout;

use super::callgrind::counted;
use super::content::{LAST_EVENTS, chat_events, completion};

/// The number of exchanges before counting: they open connections and grow buffers.
const WARM: usize = 20;

/// The longest run.
const PATIENCE: Duration = Duration::from_secs(300);

const PROMPT: &str = r#""model":"gpt-4.1-mini","messages":[{"role":"user","content":"Say hi."}]"#;

/// A small prompt, and 1 KB of JSON for it, on kept connections.
pub(crate) fn requests(times: usize) {
    send_requests(times, "");
}

/// The same, to a group of this upstream alone.
pub(crate) fn requests_to_a_group(times: usize) {
    send_requests(times, "[groups.chat]\ntiers = [[\"openai\"]]\n[[routes]]\nupstream = \"chat\"\n");
}

/// A client with a key.
const CLIENT: &str = "[clients.search]\nkey = { value = \"sk-client\" }\n";

/// The limits of that client, which are never used up.
const LIMITS: &str = "limits = [{ requests = \"1M\", per = \"minute\" }, { tokens = \"1000M\", per = \"minute\" }, \
                      { tokens = \"1000M\", per = \"day\" }]\n";

/// The same, of a client with a key.
pub(crate) fn requests_of_a_client(times: usize) {
    send_requests(times, CLIENT);
}

/// The same, of a client with three limits.
pub(crate) fn requests_under_limits(times: usize) {
    send_requests(times, &[CLIENT, LIMITS].concat());
}

fn send_requests(times: usize, tables: &str) {
    let (question, body) = (format!("{{{PROMPT}}}"), completion());
    let sent = request(&question);
    let received = response("application/json", &format!("content-length: {}\r\n\r\n{body}", body.len()));
    let exchange = async |ends: &mut Ends, times| {
        for _ in 0..times {
            ends.client.write(&sent).await;
            ends.service.read(&question).await;
            ends.service.write(&received).await;
            ends.client.read(&body).await;
        }
    };
    let mut proxied = Proxied::start(tables);
    proxied.run(async |ends| exchange(ends, WARM).await);
    counted(&mut || proxied.run(async |ends| exchange(ends, times).await));
    proxied.finish((WARM + times) * 97);
}

/// The events of a stream, each in a chunk of its own, which arrives before the next is sent.
pub(crate) fn events(times: usize) {
    send_events(times, "");
}

/// The same, of a client with three limits.
pub(crate) fn events_under_limits(times: usize) {
    send_events(times, &[CLIENT, LIMITS].concat());
}

fn send_events(times: usize, tables: &str) {
    let question = format!("{{{PROMPT},\"stream\":true,\"stream_options\":{{\"include_usage\":true}}}}");
    let (sent, event) = (request(&question), chat_events().next().unwrap());
    let head = response("text/event-stream; charset=utf-8", "transfer-encoding: chunked\r\n\r\n");
    let (event_sent, last_sent) = (chunk(&event), chunk(LAST_EVENTS) + "0\r\n\r\n");
    // The chunk's length may have other digits.
    let event_read = event + "\r\n";
    let relay = async |ends: &mut Ends, times| {
        for _ in 0..times {
            ends.service.write(&event_sent).await;
            ends.client.read(&event_read).await;
        }
    };
    let mut proxied = Proxied::start(tables);
    proxied.run(async |ends| {
        ends.client.write(&sent).await;
        ends.service.read(&question).await;
        ends.service.write(&head).await;
        relay(ends, WARM).await;
    });
    counted(&mut || proxied.run(async |ends| relay(ends, times).await));
    proxied.run(async |ends| {
        ends.service.write(&last_sent).await;
        ends.client.read("0\r\n\r\n").await;
    });
    proxied.finish(419);
}

/// A client's request in the form of SDKs.
fn request(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:8080\r\naccept: application/json\r\n\
         content-type: application/json\r\nuser-agent: OpenAI/Python 2.8.1\r\nx-stainless-lang: python\r\n\
         x-stainless-retry-count: 0\r\nauthorization: Bearer sk-client\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A service's response; `rest` is the end of its body.
fn response(content_type: &str, rest: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ndate: Tue, 25 Nov 2025 22:21:27 GMT\r\ncontent-type: {content_type}\r\n\
         openai-organization: org\r\nopenai-processing-ms: 412\r\nopenai-version: 2020-10-01\r\n\
         x-request-id: req_9f6d7bd1a1a84f1ea9a4\r\ncf-cache-status: DYNAMIC\r\nserver: cloudflare\r\n{rest}"
    )
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// A proxy with the default configuration, including the ledger, between a client and a service.
struct Proxied {
    runtime: LocalRuntime,
    running: Running,
    ends: Ends,
    tokens: Arc<AtomicU64>,
    _folder: TempDir,
}

struct Ends {
    client: End,
    service: End,
}

impl Ends {
    /// Makes the proxy connect to the service by a first request.
    async fn connect(proxy: SocketAddr, service: &TcpListener) -> Self {
        let mut client = End::new(TcpStream::connect(proxy).await.unwrap());
        let head =
            "GET /v1/models HTTP/1.1\r\nhost: localhost:8080\r\nauthorization: Bearer sk-client\r\n\r\n";
        client.write(head).await;
        let mut service = End::new(service.accept().await.unwrap().0);
        service.read("\r\n\r\n").await;
        service.write(&response("application/json", "content-length: 2\r\n\r\n{}")).await;
        client.read("{}").await;
        Self { client, service }
    }
}

impl Proxied {
    /// `tables` are more of the configuration.
    fn start(tables: &str) -> Self {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let service = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (file, ledger) = (folder.path().join("streamgauge.toml"), folder.path().join("ledger.db"));
        let settings = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[ledger]\npath = {ledger:?}\n\
             [upstreams.openai]\nurl = \"http://{}/v1\"\napi_key = {{ value = \"sk-service\" }}\n{tables}",
            service.local_addr().unwrap()
        );
        fs::write(&file, settings).unwrap();
        let sources = Sources { file: Some(file), env: [].into(), overrides: Overrides::default() };
        let settings = config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
        let tokens = Tokens::default();
        let app = App::bind(&settings, vec![Box::new(tokens.clone())]).unwrap();
        let (running, worker) = app.spawn_all_but_one().unwrap();
        runtime.spawn_local(worker);
        let address = running.addresses().proxy.inet().expect("it listens on loopback");
        let ends =
            runtime.block_on(async { timeout(PATIENCE, Ends::connect(address, &service)).await.unwrap() });
        Self { runtime, running, ends, tokens: tokens.0, _folder: folder }
    }

    /// Runs `exchange` together with the worker.
    fn run(&mut self, exchange: impl AsyncFnOnce(&mut Ends)) {
        let all = async { timeout(PATIENCE, exchange(&mut self.ends)).await };
        self.runtime.block_on(all).expect("what was sent has arrived");
    }

    /// Ends; this many tokens must have been metered.
    fn finish(self, tokens: usize) {
        drop(self.runtime);
        drop(self.running);
        assert_eq!(self.tokens.load(Ordering::Relaxed), tokens as u64);
    }
}

/// A socket of the client or the service, which writes and reads known bytes.
struct End {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl End {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 64 << 10] }
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the received bytes end with `last`.
    async fn read(&mut self, last: &str) {
        let mut filled = 0;
        while !self.buffer[..filled].ends_with(last.as_bytes()) {
            let read = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert_ne!(read, 0, "the connection was closed");
            filled += read;
        }
    }
}

/// The sum of metered tokens.
#[derive(Clone, Default)]
struct Tokens(Arc<AtomicU64>);

impl Sink for Tokens {
    fn name(&self) -> String {
        "the bench".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        let tokens = batch.iter().filter_map(|row| row.usage.total_tokens).sum();
        self.0.fetch_add(tokens, Ordering::Relaxed);
        Ok(())
    }
}

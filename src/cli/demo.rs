//! `streamgauge demo`: the simulator, the proxy and a streamed chat completion, on free ports.

use std::error::Error as StdError;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::FAILED;
use super::output::unwritten;
use super::stop_signals::StopSignals;
use crate::app::{App, Running, preflight};
use crate::codec::sse::{self, Event, EventDecoder};
use crate::config;
use crate::record::{Sink, UsageRecord};
use crate::simulator::{self, SimulatorSettings};

/// The longest wait for the record after the last byte. It is written within milliseconds.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// The question of the demonstration.
const QUESTION: &str = "What does a stream gauge do?";

/// The simulator's directions: the number of events, at a visible pace.
const DIRECTIONS: &str = "events=24,pace=40ms";

/// The files of the simulator and its connections. The proxy counts its own.
const SIMULATOR_FILES: u64 = 16;

/// Options of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// End after one request instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,
}

type Result<T> = std::result::Result<T, Box<dyn StdError>>;

pub(super) fn run(args: &DemoArgs) -> ExitCode {
    let Err(error) = demo(args.once) else { return ExitCode::SUCCESS };
    match error.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => unwritten(error, 0),
        _ => {
            say!("demo: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn demo(once: bool) -> Result<()> {
    preflight::files(SIMULATOR_FILES)?;
    preflight::threads(2)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on a signal ends the following steps in order, so that the directory is removed.
    let mut signals = runtime.block_on(async { StopSignals::listen() })?;
    let settings = SimulatorSettings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, api_key: None };
    let upstream = simulator::bind(&settings)?;
    let upstream_address = upstream.address();
    let simulator = upstream.spawn();
    let (sender, records) = mpsc::channel();
    let folder = Folder::create()?;
    let running = start(upstream_address, &folder.0.join("usage.db"), sender)?;
    let address = running.addresses().proxy.inet().expect("it listens on loopback");

    let mut out = io::stdout();
    writeln!(out, "> {QUESTION}\n")?;
    let stopped = runtime.block_on(async {
        tokio::select! {
            chat = chat(address, &mut out) => chat.map(|()| false),
            _ = signals.next() => Ok(true),
        }
    })?;
    if stopped {
        running.stop().cut();
        running.finish()?;
        return Ok(());
    }
    let record = records.recv_timeout(RECORD_WAIT)?;
    writeln!(out, "\n\nthe usage record:\n{record}\n")?;
    writeln!(out, "proxy      http://{address}/v1   (an SDK's base URL)")?;
    writeln!(out, "simulator  http://{upstream_address}/v1   (its upstream)")?;
    if let Some(admin) = running.addresses().admin {
        writeln!(out, "dashboard  http://{admin}/")?;
    }
    out.flush()?;
    if !once {
        say!("\nserving until Ctrl-C");
        runtime.block_on(signals.next());
    }
    running.stop().drain();
    running.finish()?;
    drop(simulator);
    Ok(())
}

/// A directory that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("streamgauge-demo-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            say!("demo: {} is left behind: {error}", self.0.display());
        }
    }
}

/// The proxy in front of the simulator, with a ledger for the dashboard.
fn start(upstream: SocketAddr, ledger: &Path, records: mpsc::Sender<String>) -> Result<Running> {
    let ledger = ledger.display().to_string();
    let text = format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        workers = 1
        [admin]
        listen = "127.0.0.1:0"
        [ledger]
        path = {ledger:?}
        [upstreams.simulator]
        provider = "other"
        url = "http://{upstream}/v1"
        api_key = "none"
        default_model = "demo"
        "#
    );
    let settings = config::from_text(&text)?.settings;
    Ok(App::bind(&settings, vec![Box::new(Records(records))])?.spawn()?)
}

/// Sends the question through the proxy, and prints the response's text as it comes.
async fn chat(proxy: SocketAddr, out: &mut impl Write) -> Result<()> {
    let stream = TokioIo::new(TcpStream::connect(proxy).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let body = serde_json::json!({
        "model": "demo",
        "messages": [{ "role": "user", "content": QUESTION }],
        "stream": true,
    });
    let request = Request::post("/v1/chat/completions")
        .header(header::HOST, proxy.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-simulate", DIRECTIONS)
        .body(Full::new(Bytes::from(body.to_string())))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            return Result::Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        let mut body = response.into_body();
        let mut decoder = EventDecoder::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                let mut text = Text(String::new());
                decoder.push(data, &mut text);
                write!(out, "{}", text.0)?;
                out.flush()?;
            }
        }
        // Dropping the sender ends the connection.
        drop(sender);
        Result::Ok(())
    };
    tokio::try_join!(exchange, async { Ok(connection.await?) })?;
    Ok(())
}

/// The text of chat chunks.
struct Text(String);

impl sse::EventHandler for Text {
    fn event(&mut self, event: Event<'_>) {
        let chunk: serde_json::Value = serde_json::from_slice(event.data).unwrap_or_default();
        self.0.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
}

/// A sink that passes records on as JSON.
struct Records(mpsc::Sender<String>);

impl Sink for Records {
    fn name(&self) -> String {
        "the demonstration".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        for row in batch {
            // After the demonstration has its record, there is no receiver.
            drop(self.0.send(serde_json::to_string_pretty(row)?));
        }
        Ok(())
    }
}

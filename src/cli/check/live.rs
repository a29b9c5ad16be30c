//! Sends one request to an upstream through a proxy of its own, with the code and settings of
//! `serve`, so that clients will get the same results.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;
use super::probe::Probe;
use super::reply::CheckResponse;
use crate::app::App;
use crate::config::{Settings, Upstream};
use crate::record::{Sink, UsageRecord};
use crate::upstream::ConnectObserver;

/// The largest number of upstreams at the same time, since each has a proxy of its own.
const AT_ONCE: usize = 8;

/// The limit on waiting for the record, which is written within milliseconds.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// The delay before a message reports that the response is awaited.
const SILENCE: Duration = Duration::from_secs(5);

/// The version that Anthropic's SDKs send; the latest one (docs.anthropic.com/en/api/versioning).
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The largest number of bytes of a response that are read; a usual one has a few kilobytes.
const MAX_RESPONSE: usize = 1 << 20;

/// Checks the upstreams, several at the same time; calls `tell` with each finding, in their order.
pub(super) fn each<E: From<String>>(
    settings: &Settings,
    upstreams: &[&Upstream],
    question: &Probe,
    body: Option<&Bytes>,
    mut tell: impl FnMut(&Finding<'_>) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let mut waiting = upstreams.iter().copied().map(|upstream| {
            let bodies = body.map_or_else(|| question.bodies(upstream), |body| vec![body.clone()]);
            scope.spawn(move || check_in_turn(settings, upstream, &question.path, bodies))
        });
        let mut running: VecDeque<_> = waiting.by_ref().take(AT_ONCE).collect();
        while let Some(finding) = running.pop_front() {
            let finding = finding.join().map_err(|_| E::from("the check panicked".to_owned()))?;
            running.extend(waiting.next());
            tell(&finding.map_err(|error| E::from(format!("check --live: {error}")))?)?;
        }
        Ok(())
    })
}

type Failed = Box<dyn StdError + Send + Sync>;

/// Sends the bodies in turn until the upstream does not refuse one because of its limit on tokens.
fn check_in_turn<'a>(
    settings: &Settings,
    upstream: &'a Upstream,
    path: &str,
    bodies: Vec<Bytes>,
) -> Result<Finding<'a>, Failed> {
    let mut bodies = bodies.into_iter();
    let mut body = bodies.next().ok_or("there is no upstream to check")?;
    loop {
        let finding = check(settings, upstream, path, body)?;
        match bodies.next() {
            Some(next) if finding.is_about_limit() => body = next,
            _ => return Ok(finding),
        }
    }
}

/// Sends one request. An error is this program's or the system's, never the upstream's.
fn check<'a>(
    settings: &Settings,
    upstream: &'a Upstream,
    path: &str,
    body: Bytes,
) -> Result<Finding<'a>, Failed> {
    let observer = Arc::new(ConnectObserver::default());
    let (sender, records) = mpsc::channel();
    let app = App::bind_before(&alone(settings, upstream), vec![Box::new(Records(sender))], Some(&observer))?;
    let running = app.spawn()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_streamed =
        serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(|body| body["stream"] == true);
    let address = running.addresses().proxy.inet().expect("it listens on loopback");
    let sending = send(address, path, body);
    let response = runtime.block_on(async {
        let mut sending = std::pin::pin!(sending);
        match timeout(SILENCE, &mut sending).await {
            Ok(response) => response,
            Err(_) => {
                let name = &upstream.name;
                let (limit, key) = upstream.timeouts.first_byte_of(is_streamed);
                say!("{name}: no response yet; it may take {limit:?} (upstreams.{name}.{key})");
                sending.await
            }
        }
    })?;
    let record = records.recv_timeout(RECORD_WAIT)?;
    running.stop().cut();
    running.finish()?;
    Ok(Finding::new(upstream, path, &response, record, &observer))
}

/// Settings of a proxy for this upstream alone: without a ledger, on a free port of loopback.
fn alone(settings: &Settings, upstream: &Upstream) -> Settings {
    let mut alone = settings.clone();
    alone.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    alone.server.workers = 1;
    alone.server.tls = None;
    alone.admin.listen = None;
    alone.ledger.path = None;
    alone.ledger.jsonl = None;
    alone.ledger.postgres = None;
    alone.redis = None;
    alone.otlp = None;
    alone.clients = Vec::new();
    alone.routes = Vec::new();
    alone.upstreams = vec![upstream.clone()];
    alone
}

/// Sends the request through the proxy.
async fn send(proxy: SocketAddr, path: &str, body: Bytes) -> Result<CheckResponse, Failed> {
    let stream = TokioIo::new(TcpStream::connect(proxy).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = Request::post(path)
        .header(header::HOST, proxy.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::USER_AGENT, concat!("streamgauge-check/", env!("CARGO_PKG_VERSION")))
        // Required by Anthropic's API, ignored by others.
        .header("anthropic-version", ANTHROPIC_VERSION)
        .body(Full::new(body))?;
    let exchange = async {
        let (head, mut body) = sender.send_request(request).await?.into_parts();
        let mut text = Vec::new();
        // An incomplete body is reported by the record.
        while let Some(Ok(frame)) = body.frame().await
            && text.len() < MAX_RESPONSE
        {
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        // Dropping the sender ends the connection.
        drop(sender);
        Ok(CheckResponse::new(&head, text))
    };
    // The connection fails if the body was incomplete, which the record reports.
    let (response, _) = tokio::join!(exchange, connection);
    response
}

/// A sink that sends records to the check.
struct Records(mpsc::Sender<UsageRecord>);

impl Sink for Records {
    fn name(&self) -> String {
        "the check".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        for row in batch {
            // The receiver is gone after the first record.
            drop(self.0.send(row.clone()));
        }
        Ok(())
    }
}

//! Asks an upstream: a proxy is run for it alone, by the code and with the settings that `serve`
//! runs, and a client sends it one request. So whatever is found here is what clients will meet.

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

use super::answer::Answer;
use super::finding::Finding;
use super::question::Question;
use crate::app::App;
use crate::config::{Settings, Upstream};
use crate::record::{Sink, UsageRecord};
use crate::upstream::ConnectObserver;

/// How many upstreams are asked at the same time. The others wait: each of them is a proxy of its
/// own.
const AT_ONCE: usize = 8;

/// How long the record may take after the last byte. It is written within milliseconds.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// After how long somebody who looks on is told that an answer is waited for.
const SILENCE: Duration = Duration::from_secs(5);

/// What the SDKs of Anthropic say, and what no later version has replaced
/// (docs.anthropic.com/en/api/versioning).
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// How much of an answer is read. What is asked is answered in a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// Asks each, several at the same time; `tell` gets what was found in their order, as soon as it
/// may.
pub(super) fn each<E: From<String>>(
    settings: &Settings,
    upstreams: &[&Upstream],
    question: &Question,
    body: Option<&Bytes>,
    mut tell: impl FnMut(&Finding<'_>) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let mut waiting = upstreams.iter().copied().map(|upstream| {
            let bodies = body.map_or_else(|| question.bodies(upstream), |body| vec![body.clone()]);
            scope.spawn(move || ask_in_turn(settings, upstream, &question.path, bodies))
        });
        let mut asked: VecDeque<_> = waiting.by_ref().take(AT_ONCE).collect();
        while let Some(finding) = asked.pop_front() {
            let finding = finding.join().map_err(|_| E::from("the check panicked".to_owned()))?;
            asked.extend(waiting.next());
            tell(&finding.map_err(|error| E::from(format!("check --live: {error}")))?)?;
        }
        Ok(())
    })
}

type Failed = Box<dyn StdError + Send + Sync>;

/// What becomes of the first of these bodies whose limit on tokens the upstream takes.
fn ask_in_turn<'a>(
    settings: &Settings,
    upstream: &'a Upstream,
    path: &str,
    bodies: Vec<Bytes>,
) -> Result<Finding<'a>, Failed> {
    let mut bodies = bodies.into_iter();
    let mut body = bodies.next().ok_or("there is nothing to ask")?;
    loop {
        let finding = ask(settings, upstream, path, body)?;
        match bodies.next() {
            Some(next) if finding.is_about_limit() => body = next,
            _ => return Ok(finding),
        }
    }
}

/// What becomes of one request. An error is this program's or the system's, never the upstream's.
fn ask<'a>(
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
    let sending = send(running.addresses().proxy, path, body);
    let answer = runtime.block_on(async {
        let mut sending = std::pin::pin!(sending);
        match timeout(SILENCE, &mut sending).await {
            Ok(answer) => answer,
            Err(_) => {
                let name = &upstream.name;
                let (limit, key) = upstream.timeouts.first_byte_of(is_streamed);
                say!("{name}: no answer yet; it may take {limit:?} (upstreams.{name}.{key})");
                sending.await
            }
        }
    })?;
    let record = records.recv_timeout(RECORD_WAIT)?;
    running.stop().cut();
    running.finish()?;
    Ok(Finding::new(upstream, path, &answer, record, &observer))
}

/// The settings of a proxy for this upstream alone, which keeps nothing and which nobody else can
/// find.
fn alone(settings: &Settings, upstream: &Upstream) -> Settings {
    let mut alone = settings.clone();
    alone.server.listen = (Ipv4Addr::LOCALHOST, 0).into();
    alone.server.workers = 1;
    alone.server.tls = None;
    alone.admin.listen = None;
    alone.ledger.path = None;
    alone.ledger.jsonl = None;
    alone.ledger.postgres = None;
    alone.otlp = None;
    alone.clients = Vec::new();
    alone.routes = Vec::new();
    alone.upstreams = vec![upstream.clone()];
    alone
}

/// Sends the request through the proxy.
async fn send(proxy: SocketAddr, path: &str, body: Bytes) -> Result<Answer, Failed> {
    let stream = TokioIo::new(TcpStream::connect(proxy).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = Request::post(path)
        .header(header::HOST, proxy.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::USER_AGENT, concat!("streamgauge-check/", env!("CARGO_PKG_VERSION")))
        // Anthropic's API wants it; others pass it over.
        .header("anthropic-version", ANTHROPIC_VERSION)
        .body(Full::new(body))?;
    let exchange = async {
        let (head, mut body) = sender.send_request(request).await?.into_parts();
        let mut text = Vec::new();
        // A body that breaks off is told by the record.
        while let Some(Ok(frame)) = body.frame().await
            && text.len() < MAX_ANSWER
        {
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        // Dropping the sender ends the connection.
        drop(sender);
        Ok(Answer::new(&head, text))
    };
    // The connection ends with an error where the proxy broke a body off, which is no news.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

/// A sink that hands records on.
struct Records(mpsc::Sender<UsageRecord>);

impl Sink for Records {
    fn name(&self) -> String {
        "the check".to_owned()
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        for row in batch {
            // There is one request, and so one that waits.
            drop(self.0.send(row.clone()));
        }
        Ok(())
    }
}

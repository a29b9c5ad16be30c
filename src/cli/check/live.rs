//! Asks an upstream: a proxy is run for it alone, by the code and with the settings that `serve` runs, and a client sends it one
//! request. So whatever is found here is what clients will meet.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::Answer;
use super::finding::Finding;
use crate::app::App;
use crate::config::{Settings, Upstream};
use crate::provider::Provider;
use crate::record::{Sink, UsageRecord};
use crate::upstream::Witness;

/// How many upstreams are asked at the same time. The others wait: each of them is a proxy of its own.
const AT_ONCE: usize = 8;

/// How long the record may take after the last byte. It is written within milliseconds.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// After how long somebody who looks on is told that an answer is waited for.
const SILENCE: Duration = Duration::from_secs(5);

/// How much of an answer is read. What is asked is answered in a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// What OpenAI is asked for where no model is named anywhere.
const USUAL_MODEL: &str = "gpt-4.1-mini";

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// What to say to the model
    #[arg(long, value_name = "TEXT", default_value = "Hello world", requires = "live")]
    message: String,
    /// The model to ask [default: the upstream's default_model, else the first of its models or deployments, else gpt-4.1-mini]
    #[arg(long, value_name = "NAME", requires = "live")]
    model: Option<String>,
    /// Send this file ("-" is stdin) in place of a chat completion, as a client would
    #[arg(long, value_name = "FILE", requires = "live", conflicts_with_all = ["message", "model"])]
    body: Option<PathBuf>,
    /// Where to send it, such as /v1/embeddings
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions", requires = "live", value_parser = path)]
    path: String,
}

fn path(text: &str) -> Result<String, String> {
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(_) if text.starts_with('/') => Ok(text.to_owned()),
        _ => Err("a path begins with a slash and has no spaces, such as /v1/embeddings".to_owned()),
    }
}

impl Question {
    /// The file's text, if one is to be sent.
    pub(super) fn body(&self) -> Result<Option<Bytes>, String> {
        let Some(path) = &self.body else { return Ok(None) };
        let read = if path.as_os_str() == "-" {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map(|_| text)
        } else {
            std::fs::read(path)
        };
        let text = read.map_err(|error| format!("--body {}: {error}", path.display()))?;
        match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(_) => Ok(Some(text.into())),
            Err(error) => Err(format!("--body {}: is not JSON: {error}", path.display())),
        }
    }

    /// One user message, as the connectors that this replaces have always tested with. The proxy puts the `default_model` in.
    fn chat(&self, upstream: &Upstream) -> Bytes {
        let mut body = serde_json::json!({ "messages": [{ "role": "user", "content": self.message }] });
        if let Some(model) = self.model.as_deref().or_else(|| usual_model(upstream)) {
            body["model"] = model.into();
        }
        body.to_string().into()
    }
}

/// A model to ask for where the upstream has no default: one that the configuration names.
fn usual_model(upstream: &Upstream) -> Option<&str> {
    if upstream.default_model.is_some() {
        return None;
    }
    let named = upstream.models.keys().chain(upstream.deployments.keys()).next();
    named.map(String::as_str).or((upstream.provider == Provider::OpenAi).then_some(USUAL_MODEL))
}

/// Asks each, several at the same time; `tell` gets what was found in their order, as soon as it may.
pub(super) fn each<E: From<String>>(
    settings: &Settings,
    upstreams: &[&Upstream],
    question: &Question,
    body: Option<&Bytes>,
    mut tell: impl FnMut(&Finding<'_>) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let mut waiting = upstreams.iter().copied().map(|upstream| {
            scope.spawn(move || {
                let body = body.cloned().unwrap_or_else(|| question.chat(upstream));
                ask(settings, upstream, &question.path, body)
            })
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

/// What becomes of one request. An error is this program's or the system's, never the upstream's.
fn ask<'a>(
    settings: &Settings,
    upstream: &'a Upstream,
    path: &str,
    body: Bytes,
) -> Result<Finding<'a>, Failed> {
    let witness = Arc::new(Witness::default());
    let (sender, records) = mpsc::channel();
    let app = App::bind_before(&alone(settings, upstream), vec![Box::new(Records(sender))], Some(&witness))?;
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
    Ok(Finding::new(upstream, path, &answer, record, &witness))
}

/// The settings of a proxy for this upstream alone, which keeps nothing and which nobody else can find.
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

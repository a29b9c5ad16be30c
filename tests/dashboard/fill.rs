//! Fills a ledger with the records of a typical company's week, through the program's own writer:
//! `cargo run --example fill-ledger -- PATH ROWS DAYS`. The records end now. The same arguments
//! give the same records except for the random bits of their ids and the time.

#![allow(clippy::unwrap_used, reason = "a tool of the tests fails by panicking")]

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use jiff::Timestamp;
use streamgauge::llm::provider::Provider;
use streamgauge::llm::usage::Usage;
use streamgauge::record::{Entry, Journal, Outcome, Sink, UsageRecord, UsageSource, Writer};
use streamgauge::sinks::ledger::{Ledger, rebuild};
use uuid::Uuid;

const MODELS: [(&str, &str, Provider); 5] = [
    ("gpt-4.1-mini-2025-04-14", "openai", Provider::OpenAi),
    ("gpt-4.1-2025-04-14", "openai", Provider::OpenAi),
    ("gpt-4o-2024-11-20", "azure", Provider::Azure),
    ("llama-3.3-70b", "internal", Provider::Other),
    ("text-embedding-3-small", "openai", Provider::OpenAi),
];
const CLIENTS: [&str; 4] = ["support-bot", "search", "ide-plugin", "batch"];
const USERS: [&str; 16] = [
    "ada",
    "grace",
    "alan",
    "barbara",
    "donald",
    "edsger",
    "frances",
    "hedy",
    "ivan",
    "katherine",
    "leslie",
    "margaret",
    "niklaus",
    "radia",
    "tony",
    "<script>alert(1)</script>",
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [path, rows, days] = arguments.as_slice() else { panic!("PATH ROWS DAYS") };
    let (rows, days): (u64, u64) = (rows.parse().unwrap(), days.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let (now, span) = (Timestamp::now(), Duration::from_hours(24 * days));
    // The busiest hour has some eight times as many as the quietest: starts are drawn, and kept
    // with the probability of their hour.
    let mut starts: Vec<Timestamp> = Vec::with_capacity(rows as usize);
    while starts.len() < rows as usize {
        let start = now - span.mul_f64(random.f64());
        let hour = (start.as_second() % 86_400) as f64 / 3600.0;
        let weekend = matches!(start.as_second() / 86_400 % 7, 2 | 3);
        let busy = (0.15 + 0.85 * (-((hour - 13.0) / 4.0).powi(2)).exp()) * if weekend { 0.35 } else { 1.0 };
        if random.f64() < busy {
            starts.push(start);
        }
    }
    starts.sort_unstable();
    let mut ledger = Ledger::open(Path::new(path), None, &Journal::new(1)).unwrap();
    let blank = blank();
    for starts in starts.chunks(10_000) {
        let batch: Vec<_> = starts.iter().map(|start| record(blank.clone(), *start, &mut random)).collect();
        ledger.write(&batch).unwrap();
    }
    drop(ledger);
    // The proxy adds them up while it runs.
    rebuild(Path::new(path)).unwrap();
}

fn record(mut row: UsageRecord, started_at: Timestamp, random: &mut fastrand::Rng) -> UsageRecord {
    let (model, upstream, provider) = MODELS[weighted(random, MODELS.len())];
    let embedding = model.starts_with("text");
    row.client = CLIENTS[weighted(random, CLIENTS.len())].into();
    row.id = id(started_at, random);
    row.started_at = started_at;
    row.error = None;
    row.user = (random.u8(..) > 20).then(|| USERS[weighted(random, USERS.len())].into());
    row.upstream = Some(upstream.into());
    row.provider = Some(provider);
    row.method = Some(http::Method::POST);
    row.endpoint = Some(if embedding { "embeddings" } else { "chat/completions" }.into());
    row.model_requested = Some(model.into());
    row.stream = !embedding && random.u8(..) > 40;
    row.request_bytes = random.u64(200..20_000);
    let outcome = match random.u16(..1000) {
        0..955 => Outcome::Complete,
        955..978 => Outcome::ClientDisconnected,
        978..983 => Outcome::UpstreamError,
        983..985 => Outcome::InvalidRequest,
        985..988 => Outcome::RateLimited,
        988..993 => Outcome::Truncated,
        993..997 => Outcome::TimedOut,
        _ => Outcome::Rejected,
    };
    let wait = 180.0 * (random.f64() * 2.2).exp();
    row.time_to_first_byte_ms = Some(wait);
    row.status = Some(match outcome {
        Outcome::UpstreamError => 503,
        Outcome::InvalidRequest => 400,
        Outcome::RateLimited => 429,
        Outcome::Rejected => 401,
        Outcome::TimedOut => 504,
        _ => 200,
    });
    if matches!(outcome, Outcome::Complete | Outcome::ClientDisconnected | Outcome::Truncated) {
        row.model = Some(model.into());
        let input = (120.0 * (random.f64() * 4.0).exp()) as u64;
        let output = if embedding { 0 } else { (20.0 * (random.f64() * 3.6).exp()) as u64 };
        row.response_bytes = output * 180 + 400;
        if row.stream {
            row.time_to_first_token_ms = Some(wait + 40.0 * random.f64());
            row.events = Some(output + 3);
        }
        row.usage_source = match outcome {
            Outcome::Complete if random.u8(..) > 6 => UsageSource::Reported,
            Outcome::Complete => UsageSource::None,
            _ => UsageSource::Partial,
        };
        if row.usage_source != UsageSource::None {
            row.usage = Usage {
                input_tokens: Some(input),
                output_tokens: (!embedding).then_some(output),
                total_tokens: Some(input + output),
                cached_input_tokens: (!embedding).then_some(if random.u8(..) > 150 { input / 2 } else { 0 }),
                ..Usage::default()
            };
        }
    } else {
        row.error = Some("service unavailable".into());
    }
    row.outcome = outcome;
    row.duration_ms = wait + row.usage.output_tokens.unwrap_or(0) as f64 * 14.0;
    row
}

/// A few have most of the requests, as usual.
fn weighted(random: &mut fastrand::Rng, count: usize) -> usize {
    ((random.f64() * random.f64()) * count as f64) as usize
}

/// An id with the time of its start, as the proxy's have.
fn id(at: Timestamp, random: &mut fastrand::Rng) -> Uuid {
    let mut bits = [0; 10];
    random.fill(&mut bits);
    uuid::Builder::from_unix_timestamp_millis(at.as_millisecond() as u64, &bits).into_uuid()
}

/// A record with nothing known.
fn blank() -> UsageRecord {
    struct Taken(mpsc::Sender<UsageRecord>);
    impl Sink for Taken {
        fn name(&self) -> String {
            "taken".to_owned()
        }
        fn write(&mut self, batch: &[UsageRecord]) -> std::io::Result<()> {
            batch
                .iter()
                .cloned()
                .try_for_each(|row| self.0.send(row).map_err(|_| std::io::ErrorKind::BrokenPipe.into()))
        }
    }
    let (journal, (sender, receiver)) = (Journal::new(1), mpsc::channel());
    Entry::open(&journal, &"anonymous".into()).close(Outcome::Complete);
    drop(Writer::spawn(&journal, vec![Box::new(Taken(sender))]).unwrap());
    receiver.recv().unwrap()
}

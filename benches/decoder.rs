//! The speed of the stream meter, compared with a meter from common crates, and with a single
//! search over the same bytes, a lower bound for reading every byte.
//!
//! `cargo bench --bench decoder`. Uses the recorded chat streams if they exist, otherwise a
//! generated stream of the same form.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eventsource_stream::Eventsource;
use futures_util::{FutureExt, StreamExt, stream};
use memchr::memmem;
use serde_json::Value;
use streamgauge::codec::sse::{Event, EventDecoder, EventHandler};
use streamgauge::llm::usage::{BodyMeter, Room, StreamMeter};

/// The size of a socket read if an upstream is faster than we are.
const READ: usize = 16 << 10;

/// The streamed responses of one family in the recordings.
fn recorded(family: &str) -> Vec<Vec<u8>> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let Ok(index) = fs::read_to_string(root.join("index.jsonl")) else { return vec![made()] };
    let files =
        index.lines().map(|line| serde_json::from_str::<Value>(line).expect("the index is JSON lines"));
    files
        .filter(|case| case["family"] == family && case["stream"] == true)
        .map(|case| fs::read(root.join(case["file"].as_str().expect("a name"))).expect("a file of the index"))
        .collect()
}

/// A chat stream of OpenAI with `include_usage`.
fn made() -> Vec<u8> {
    let chunk = |delta: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-CfoZ1yFRsd0tYyh7kwbAUUK4PGDmR\",\"object\":\"chat.completion.chunk\",\
             \"created\":1764109287,\"model\":\"gpt-4.1-mini-2025-04-14\",\"service_tier\":\"default\",\
             \"system_fingerprint\":\"fp_aa8ae26c2d\",\"choices\":[{delta}],\"usage\":{usage},\
             \"obfuscation\":\"Jd82ls\"}}\n\n"
        )
    };
    let mut stream = String::new();
    for word in ["The", " river", " does", " not", " wait", ",\\n", " it", " is", " \\\"measured\\\"", "."]
        .repeat(400)
    {
        let delta = format!(
            "{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}"
        );
        stream.push_str(&chunk(&delta, "null"));
    }
    stream.push_str(&chunk("", "{\"prompt_tokens\":19,\"completion_tokens\":4000,\"total_tokens\":4019}"));
    stream.push_str("data: [DONE]\n\n");
    stream.into_bytes()
}

/// The pieces of a slow upstream: one event each.
fn events(stream: &[u8]) -> Vec<&[u8]> {
    let mut ends: Vec<usize> = memmem::find_iter(stream, b"\n\n").map(|at| at + 2).collect();
    ends.push(stream.len());
    let mut from = 0;
    ends.into_iter().map(|end| &stream[std::mem::replace(&mut from, end)..end]).collect()
}

fn meter<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    read(StreamMeter::new(), pieces)
}

/// Meters the pieces while the text is kept, in case no usage is reported.
fn meter_and_keep<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut meter = StreamMeter::new();
    meter.keep_output(&Room::new(1 << 30));
    read(meter, pieces)
}

fn read<'a>(mut meter: StreamMeter, pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    for piece in pieces {
        black_box(meter.push(piece));
    }
    meter.tally().events
}

struct Count(u64);

impl EventHandler for Count {
    fn event(&mut self, event: Event<'_>) {
        self.0 += black_box(event.data).len() as u64;
    }
}

/// The obvious meter: every event decoded, every payload parsed.
fn by_crates(pieces: &[&[u8]]) -> Option<Value> {
    let pieces = stream::iter(pieces.iter().map(|piece| Ok::<_, std::convert::Infallible>(*piece)));
    let mut events = pieces.eventsource();
    let mut usage = None;
    while let Some(event) = events.next().now_or_never().expect("nothing here waits") {
        let Ok(event) = event else { continue };
        if let Ok(mut payload) = serde_json::from_str::<Value>(&event.data)
            && payload["usage"].is_object()
        {
            usage = Some(payload["usage"].take());
        }
    }
    usage
}

fn streams(c: &mut Criterion, name: &str, streams: &[Vec<u8>]) {
    let bytes: u64 = streams.iter().map(|s| s.len() as u64).sum();
    let events: Vec<Vec<&[u8]>> = streams.iter().map(|s| events(s)).collect();
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes)).sample_size(20);
    group.bench_function("meter, whole", |b| {
        b.iter(|| streams.iter().map(|s| meter([&s[..]])).sum::<u64>());
    });
    group.bench_function("meter, 16 KiB a push", |b| {
        b.iter(|| streams.iter().map(|s| meter(s.chunks(READ))).sum::<u64>());
    });
    group.bench_function("meter, an event a push", |b| {
        b.iter(|| events.iter().map(|s| meter(s.iter().copied())).sum::<u64>());
    });
    group.bench_function("meter that keeps the text, 16 KiB a push", |b| {
        b.iter(|| streams.iter().map(|s| meter_and_keep(s.chunks(READ))).sum::<u64>());
    });
    group.bench_function("meter that keeps the text, an event a push", |b| {
        b.iter(|| events.iter().map(|s| meter_and_keep(s.iter().copied())).sum::<u64>());
    });
    group.bench_function("decoder alone, 16 KiB a push", |b| {
        b.iter(|| {
            let mut count = Count(0);
            for stream in streams {
                let mut decoder = EventDecoder::new();
                stream.chunks(READ).for_each(|piece| decoder.push(piece, &mut count));
            }
            count.0
        });
    });
    let finder = memmem::Finder::new("\"usage\"");
    group.bench_function("one memmem pass", |b| {
        b.iter(|| streams.iter().map(|s| finder.find_iter(s).count()).sum::<usize>());
    });
    group.bench_function("eventsource-stream and serde_json, an event a push", |b| {
        b.iter(|| events.iter().filter_map(|s| by_crates(s)).count());
    });
    group.finish();
}

fn body(c: &mut Criterion) {
    let numbers = "0.0023064255,-0.009327292,".repeat(64 * 768);
    let body = format!(
        "{{\"object\":\"list\",\"data\":[{{\"embedding\":[{numbers}0]}}],\"model\":\"text-embedding-3-large\",\
         \"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}"
    );
    let mut group = c.benchmark_group("an embeddings body");
    group.throughput(Throughput::Bytes(body.len() as u64)).sample_size(20);
    group.bench_function("meter, 16 KiB a push", |b| {
        b.iter(|| {
            let mut meter = BodyMeter::new();
            body.as_bytes().chunks(READ).for_each(|piece| meter.push(piece));
            meter.finish()
        });
    });
    group.bench_function("serde_json, whole", |b| b.iter(|| serde_json::from_str::<Value>(&body)));
    group.finish();
}

fn benches(c: &mut Criterion) {
    streams(c, "recorded chat streams", &recorded("openai-chat"));
    streams(c, "recorded responses streams", &recorded("openai-responses"));
    streams(c, "a made chat stream", &[made()]);
    body(c);
}

criterion_group!(all, benches);
criterion_main!(all);

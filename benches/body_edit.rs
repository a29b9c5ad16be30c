//! Reading a request body and editing its model, compared with a full parse and re-serialisation.
//!
//! `cargo bench --bench body_edit`. The bodies are chat requests of one long message with a line
//! feed each 80 characters, as pasted documents have; and an embedding request of token numbers,
//! without strings to skip.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use streamgauge::llm::rewrite::body::{Edited, peek, set_model};

const KB: usize = 1024;

/// A chat request of about `size` bytes. The model comes last, where a search that stops early
/// would not find it.
fn chat(size: usize) -> Bytes {
    let line = "It was the best of times, it was the \\\"worst\\\" of times, it was the age of wisdom,\\n";
    let text = line.repeat(size / line.len());
    Bytes::from(format!(
        "{{\"messages\":[{{\"role\":\"system\",\"content\":\"Be brief.\"}},{{\"role\":\"user\",\"content\":\"{text}\"}}],\
         \"temperature\":0.2,\"stream\":true,\"user\":\"u-1\",\"model\":\"fast\"}}"
    ))
}

/// An embedding request of about `size` bytes.
fn tokens(size: usize) -> Bytes {
    let numbers = "10432,17,988,".repeat(size / 13);
    Bytes::from(format!("{{\"input\":[{numbers}0],\"model\":\"fast\"}}"))
}

/// The proxy's way: read, edit, and have the pieces ready to be written.
fn splice(body: &Bytes) -> Edited {
    let seen = peek(body).expect("the body is an object");
    Edited::new(body, [set_model(body, &seen, "gpt-4.1-mini")])
}

/// The way of most gateways.
fn reserialise(body: &Bytes) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(body).expect("the body is JSON");
    value["model"] = "gpt-4.1-mini".into();
    serde_json::to_vec(&value).expect("a value has a JSON form")
}

fn body_edit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body_edit");
    let bodies = [1, 16, 400].map(|size| (format!("chat/{size}KB"), chat(size * KB)));
    for (name, body) in bodies.into_iter().chain([("tokens/400KB".to_owned(), tokens(400 * KB))]) {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("look", &name), &body, |bencher, body| {
            bencher.iter(|| peek(black_box(body)).expect("the body is an object").stream);
        });
        group.bench_with_input(BenchmarkId::new("look+edit", &name), &body, |bencher, body| {
            bencher.iter(|| splice(black_box(body)));
        });
        group.bench_with_input(BenchmarkId::new("look+edit, one piece", &name), &body, |bencher, body| {
            bencher.iter(|| splice(black_box(body)).pieces().concat());
        });
        group.bench_with_input(BenchmarkId::new("serde_json parse+write", &name), &body, |bencher, body| {
            bencher.iter(|| reserialise(black_box(body)));
        });
    }
    group.finish();
}

criterion_group!(benches, body_edit);
criterion_main!(benches);

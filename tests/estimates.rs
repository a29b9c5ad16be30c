//! Compares estimated counts with reported ones, over the recorded responses. To print the table:
//!
//! ```text
//! cargo nextest run --test estimates --no-capture
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use streamgauge::llm::estimate::{Counter, Encoding, Shape, input_tokens, output_tokens};
use streamgauge::llm::usage::{BodyMeter, Part, Room, StreamMeter, Tally};

/// The largest error of the median estimate of plain text by OpenAI's own models.
const PROMISED: f64 = 0.02;

/// The difference between estimate and report, as a share of the report.
#[derive(Default)]
struct Errors {
    output: Vec<f64>,
    input: Vec<f64>,
}

/// The tally of a response without usage: the recording's usage gets another name, and so do
/// llama.cpp's `timings`.
fn passed(bytes: &[u8], is_stream: bool) -> Tally {
    let room = Room::new(1 << 30);
    let names = [("\"usage", "\"u$age"), ("\"timings\"", "\"t$mings\"")];
    let text = String::from_utf8_lossy(bytes).into_owned();
    let bytes = names.iter().fold(text, |text, (name, other)| text.replace(name, other));
    if is_stream {
        let mut meter = StreamMeter::new();
        meter.keep_output(&room);
        bytes.as_bytes().chunks(997).for_each(|piece| {
            meter.push(piece);
        });
        meter.into_tally()
    } else {
        let mut meter = BodyMeter::new();
        meter.keep_output(&room);
        bytes.as_bytes().chunks(997).for_each(|piece| meter.push(piece));
        meter.finish()
    }
}

fn off(estimated: u64, reported: u64) -> f64 {
    (estimated as f64 - reported as f64) / reported as f64
}

/// The kind of the response.
fn group(case: &Value, model: &str, parts: &[Part]) -> String {
    let family = case["family"].as_str().unwrap();
    let name = model.rsplit('/').next().unwrap();
    let is_openai = ["openai", "azure"].contains(&case["provider"].as_str().unwrap())
        && ["gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-"].iter().any(|own| name.starts_with(own));
    let whose = if is_openai { "OpenAI" } else { "others" };
    let hides = case["expected"]["reasoning_tokens"].as_u64().is_some_and(|tokens| tokens > 0)
        && !parts.contains(&Part::Reasoning);
    let what = if family == "openai-embeddings" {
        "embeddings"
    } else if hides {
        "hidden reasoning"
    } else if parts.contains(&Part::Name) {
        "tool calls"
    } else if parts.contains(&Part::Reasoning) {
        "visible reasoning"
    } else {
        "plain text"
    };
    format!("{whose}, {family}, {what}")
}

/// The median error, and the 90th percentile of its size.
fn middle(errors: &mut [f64]) -> Option<(f64, f64)> {
    errors.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let at = |share: f64| errors.get((errors.len() as f64 * share) as usize).copied();
    Some((at(0.5)?, at(0.9)?))
}

#[test]
fn median_estimate_of_openai_plain_text_is_within_two_percent() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let Ok(index) = fs::read_to_string(root.join("index.jsonl")) else {
        assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", root.display());
        return eprintln!("not tested, the corpus is missing: {}", root.display());
    };
    let mut groups: BTreeMap<String, Errors> = BTreeMap::new();
    for line in index.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let Some(shape) = Shape::of(case["endpoint"].as_str().unwrap()) else { continue };
        let family = case["family"].as_str().unwrap();
        if !family.starts_with("openai-") && family != "anthropic-messages" || case.get("note").is_some() {
            continue;
        }
        let bytes = fs::read(root.join(case["file"].as_str().unwrap())).unwrap();
        let tally = passed(&bytes, case["stream"] == true);
        let output = tally.output.as_deref().expect("no usage was seen");
        let model = tally.model.as_deref().unwrap_or_default();
        let counter = Counter::new(Encoding::of(model), &|| false);

        let parts: Vec<Part> = output.texts().map(|(part, _)| part).collect();
        let errors = groups.entry(group(&case, model, &parts)).or_default();
        let reported = |key: &str| case["expected"][key].as_u64().filter(|&tokens| tokens > 0);
        if let Some(reported) = reported("output_tokens").filter(|_| !output.is_empty()) {
            errors.output.push(off(
                output_tokens(&counter, shape, model, output).expect("all of it is kept"),
                reported,
            ));
        }
        let request = case["request"].is_object().then(|| case["request"].to_string());
        if let Some(request) = request
            && let Some(reported) = reported("input_tokens")
            && let Some(estimated) = input_tokens(&counter, shape, request.as_bytes())
        {
            errors.input.push(off(estimated, reported));
        }
    }

    println!("{:55} {:>28} {:>28}", "", "output: n, median, 90 %", "input: n, median, 90 %");
    for (name, errors) in &mut groups {
        let row = |errors: &mut Vec<f64>| match middle(errors) {
            Some((median, most)) => {
                format!("{:4} {:+8.1} % {:+8.0} %", errors.len(), 100.0 * median, 100.0 * most)
            }
            None => "-".to_owned(),
        };
        println!("{name:55} {:>28} {:>28}", row(&mut errors.output), row(&mut errors.input));
    }
    let errors = groups.get_mut("OpenAI, openai-chat, plain text").expect("there are such recordings");
    assert!(errors.output.len() >= 20, "only {} recordings", errors.output.len());
    let (median, _) = middle(&mut errors.output).unwrap();
    assert!(median.abs() <= PROMISED, "the median is {:.1} % off", 100.0 * median);
}

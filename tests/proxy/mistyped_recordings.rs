//! Every recorded stream under wrong types, without its last blank line, and cut: bytes pass,
//! counts are exact or `partial`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::asking::PATH;
use crate::harness::{CHAT_REQUEST, LAST_CHUNK, Proxy, Upstream, chunk, proxy, upstream};

/// Types of a stream; an empty one is missing.
const TYPES: [&str; 5] =
    ["text/plain; charset=utf-8", "application/json", "application/octet-stream", "", "application/x-ndjson"];

/// A recorded stream, and its known contents.
struct Recording {
    file: String,
    bytes: Vec<u8>,
    tokens: [Value; 3],
}

/// Without the corpus, which CI has, there is nothing to test.
fn recordings() -> Vec<Recording> {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    let Ok(index) = std::fs::read_to_string(root.join("index.jsonl")) else {
        assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", root.display());
        eprintln!("not tested, the corpus is missing: {}", root.display());
        return Vec::new();
    };
    let cases = index.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let judged = |case: &Value| {
        let family = case["family"].as_str().unwrap();
        case["stream"] == true
            && case["note"].is_null()
            && (family.starts_with("openai-") || family == "anthropic-messages")
    };
    let recordings = cases.filter(judged).map(|case| {
        let file = case["file"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(root.join(&file)).unwrap();
        let tokens =
            ["input_tokens", "output_tokens", "total_tokens"].map(|key| case["expected"][key].clone());
        Recording { file, bytes, tokens }
    });
    recordings.collect()
}

/// An upstream that sends the response with the number in the request's `x-case`, and then closes
/// if that is not framed.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl Waiting {
    fn upstream(&self) -> Upstream {
        let waiting = self.clone();
        upstream(move |connection| {
            while let Some(request) = connection.request() {
                let response = waiting.0.lock().unwrap().remove(request.header("x-case").unwrap()).unwrap();
                connection.send(&response);
                if !response.ends_with(LAST_CHUNK.as_bytes()) {
                    return;
                }
            }
        })
    }

    /// The client's reading of this response, and its record's id.
    fn exchange(&self, proxy: &Proxy, number: usize, response: Vec<u8>) -> (Vec<u8>, String) {
        self.0.lock().unwrap().insert(number.to_string(), response);
        let mut client = proxy.client();
        client.send(format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nx-case: {number}\r\ncontent-length: {}\r\n\r\n{CHAT_REQUEST}",
            CHAT_REQUEST.len()
        ));
        let head = client.head();
        let id = crate::harness::header(&head, "x-streamgauge-id").unwrap().to_owned();
        (client.body_and_end(&head).0, id)
    }
}

fn head(content_type: &str) -> String {
    let content_type =
        if content_type.is_empty() { String::new() } else { format!("content-type: {content_type}\r\n") };
    format!("HTTP/1.1 200 OK\r\n{content_type}transfer-encoding: chunked\r\n\r\n")
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recorded_streams_are_metered_with_wrong_type_and_no_end() {
    let waiting = Waiting::default();
    let up = waiting.upstream();
    let proxy = proxy().upstream(&up).run();
    let recordings = recordings();
    let mut random = fastrand::Rng::with_seed(11);
    let mut sent = HashMap::new();
    for recording in &recordings {
        for content_type in TYPES {
            // Every second one ends without its last line ends.
            let is_bare = random.bool();
            let bytes = if is_bare { recording.bytes.trim_ascii_end() } else { &recording.bytes };
            let cut = random.usize(..bytes.len());
            let chunks = [&bytes[..cut], &bytes[cut..]]
                .map(|part| if part.is_empty() { Vec::new() } else { chunk(part) });
            let response = [head(content_type).as_bytes(), &chunks.concat(), LAST_CHUNK.as_bytes()].concat();
            let (passed, id) = waiting.exchange(&proxy, sent.len(), response);
            assert!(passed == bytes, "{} as {content_type:?} cut at {cut}", recording.file);
            sent.insert(id, (recording, content_type, is_bare));
        }
    }
    while !sent.is_empty() {
        let record = proxy.record();
        let (recording, content_type, is_bare) = sent.remove(record["id"].as_str().unwrap()).unwrap();
        let shown = format!("{} as {content_type:?}, bare {is_bare}: {record}", recording.file);
        let found = ["input_tokens", "output_tokens", "total_tokens"].map(|key| record[key].clone());
        match record["usage_source"].as_str().unwrap() {
            "reported" => assert_eq!(found, recording.tokens, "{shown}"),
            source => {
                assert_eq!(recording.tokens, [Value::Null, Value::Null, Value::Null], "{shown}");
                assert!(
                    source == "none" || record["error"].is_null() || found[1].as_u64() > Some(0),
                    "{shown}"
                );
            }
        }
        assert!(record["events"].is_u64() && record["stream"] == true, "{shown}");
    }
    assert!(recordings.is_empty() || recordings.len() > 250, "only {} recordings", recordings.len());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recorded_streams_cut_short_have_partial_or_exact_counts() {
    let waiting = Waiting::default();
    let up = waiting.upstream();
    let proxy = proxy().upstream(&up).run();
    let recordings = recordings();
    let mut random = fastrand::Rng::with_seed(12);
    let mut sent = HashMap::new();
    for recording in &recordings {
        for content_type in ["text/event-stream", TYPES[random.usize(..TYPES.len())]] {
            let cut = random.usize(1..recording.bytes.len());
            let bytes = &recording.bytes[..cut];
            let response = [head(content_type).as_bytes(), &chunk(bytes)].concat();
            let (passed, id) = waiting.exchange(&proxy, sent.len(), response);
            // Then there may be an event of ours.
            assert!(passed.starts_with(bytes), "{} as {content_type:?} cut at {cut}", recording.file);
            sent.insert(id, (recording, cut));
        }
    }
    while !sent.is_empty() {
        let record = proxy.record();
        let (recording, cut) = sent.remove(record["id"].as_str().unwrap()).unwrap();
        let shown = format!("{} cut at {cut}: {record}", recording.file);
        let found = ["input_tokens", "output_tokens", "total_tokens"].map(|key| record[key].clone());
        match record["usage_source"].as_str().unwrap() {
            // A recording of several streams has several ends.
            "reported" if recording.file.contains("anthropic") => {}
            "reported" => assert_eq!(found, recording.tokens, "{shown}"),
            "partial" => assert_ne!(recording.tokens[0], Value::Null, "{shown}"),
            _ => {}
        }
    }
}

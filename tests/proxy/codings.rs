//! Responses with a content coding: their bytes pass unchanged, and a decoded copy is metered. Only
//! a stream with usage requested for the client is decoded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::{fs, iter};

use serde_json::Value;
use streamgauge::llm::usage::{BodyMeter, StreamMeter};

use crate::asking::{PATH, UNASKED, asks, recorded, stripped};
use crate::harness::encoders::{CODINGS, encode, header_value, whole};
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, LAST_CHUNK, Upstream, chunk, proxy, sized, upstream,
};

fn head(coding: &str, content_type: &str) -> String {
    let coding = header_value(coding);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
}

/// A body in pieces of random sizes.
fn shred<'a>(body: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut rest = body;
    iter::from_fn(|| {
        let scale = random.u32(4..14);
        let size = random.usize(1..=1 << scale).min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (size > 0).then_some(piece)
    })
    .collect()
}

/// The directory of the recordings. Without them there is nothing to test, which fails only in CI.
fn corpus() -> Option<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"));
    if root.is_dir() {
        return Some(root);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", root.display());
    eprintln!("not tested, the corpus is missing: {}", root.display());
    None
}

/// The findings of a meter over the plain bytes, in the form of the record.
fn expected(bytes: &[u8], is_stream: bool) -> (Value, Value, Value, Value) {
    let tally = if is_stream {
        let mut meter = StreamMeter::new();
        meter.push(bytes);
        meter.into_tally()
    } else {
        let mut meter = BodyMeter::new();
        meter.push(bytes);
        meter.finish()
    };
    let usage = tally.usage.unwrap_or_default();
    (
        usage.input_tokens.into(),
        usage.output_tokens.into(),
        usage.total_tokens.into(),
        tally.model.as_deref().into(),
    )
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recordings_in_every_coding_are_metered_and_pass_unchanged() {
    let Some(root) = corpus() else { return };
    let index = fs::read_to_string(root.join("index.jsonl")).unwrap();
    let responses: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
    let served = Arc::clone(&responses);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let response = served.lock().unwrap().remove(request.header("x-case").unwrap()).unwrap();
            connection.send(&response);
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let mut random = fastrand::Rng::with_seed(4);
    let (mut with_usage, mut sent) = (0, HashMap::new());
    for (number, line) in index.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let file = case["file"].as_str().unwrap();
        let is_stream = case["stream"] == true;
        let content_type = if is_stream { "text/event-stream" } else { "application/json" };
        let bytes = fs::read(root.join(file)).unwrap();
        let expected = expected(&bytes, is_stream);
        with_usage += usize::from(!expected.0.is_null());
        for coding in CODINGS {
            let encoded = encode(coding, &shred(&bytes, &mut random)).concat();
            let chunks: Vec<u8> = shred(&encoded, &mut random).into_iter().flat_map(chunk).collect();
            let id = format!("{number} {coding}");
            let wire = [head(coding, content_type).as_bytes(), &chunks, LAST_CHUNK.as_bytes()].concat();
            responses.lock().unwrap().insert(id.clone(), wire);
            client.send(format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-case: {id}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{CHAT_REQUEST}",
                CHAT_REQUEST.len()
            ));
            let response = client.response();
            assert!(response.body() == encoded, "{file} in {coding}: the bytes that were sent pass");
            let name = format!("{file} in {coding}");
            let id = response.header("x-streamgauge-id").unwrap().to_owned();
            sent.insert(id, (name, expected.clone(), encoded.len(), is_stream));
        }
    }
    // Estimated records come later than they ended.
    while !sent.is_empty() {
        let mut record = proxy.record();
        let (name, expected, bytes, is_stream) = sent.remove(record["id"].as_str().unwrap()).unwrap();
        let mut take = |key: &str| record[key].take();
        let found = (take("input_tokens"), take("output_tokens"), take("total_tokens"), take("model"));
        if record["usage_source"] == "reported" {
            assert_eq!(found, expected, "{name}");
        } else {
            let (input, output, total, model) = expected;
            assert_eq!((input, output, total), (Value::Null, Value::Null, Value::Null), "{name}");
            assert_eq!(found.3, model, "{name}");
        }
        assert_eq!(record["response_bytes"], bytes, "{name}");
        assert_eq!(record["stream"], true, "a stream was asked for: {name}");
        assert_eq!(!record["events"].is_null(), is_stream, "{name}");
    }
    assert!(with_usage > 400, "only {with_usage} recordings have usage");
}

#[test]
fn a_flushed_event_is_metered_before_the_next_is_sent() {
    for coding in CODINGS {
        let events: Vec<&[u8]> = CHAT_STREAM.split_inclusive("\n\n").map(str::as_bytes).take(2).collect();
        let encoded = encode(coding, &events);
        let flushed = encoded[..2].to_vec();
        let up = upstream(move |connection| {
            connection.request().unwrap();
            connection.send(head(coding, "text/event-stream"));
            flushed.iter().for_each(|piece| connection.send(chunk(piece)));
            // The client leaves, and so does the proxy.
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        client.post("/v1/chat/completions", CHAT_REQUEST).head();
        client.chunks(encoded[..2].concat().len());
        drop(client);
        let record = proxy.record();
        assert_eq!(record["outcome"], "client_disconnected", "{coding}");
        assert_eq!(record["events"], 2, "{coding}: both events had been flushed");
        assert!(record["time_to_first_token_ms"].is_f64(), "{coding}: the second had a token");
    }
}

#[test]
fn a_document_in_a_coding_is_metered() {
    for coding in CODINGS {
        let body = whole(coding, CHAT_BODY.as_bytes());
        let response = String::from_utf8(sized("200 OK", "application/json", b"")).unwrap();
        let response = response.replace(
            "content-length: 0",
            &format!("content-length: {}\r\ncontent-encoding: {}", body.len(), header_value(coding)),
        );
        let up = Upstream::responding([response.as_bytes(), &body].concat());
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert_eq!(response.body(), body);
        assert_eq!(response.header("content-encoding"), Some(header_value(coding)));
        assert_eq!(response.header("content-length"), Some(&*body.len().to_string()));
        let record = proxy.record();
        assert_eq!(record["total_tokens"], 10, "{coding}");
        assert_eq!(record["usage_source"], "reported");
        assert_eq!(record["error"], Value::Null);
    }
}

#[test]
fn body_not_in_its_coding_passes_and_is_recorded_as_unread() {
    let cut = whole("gzip", CHAT_BODY.as_bytes());
    let cut = &cut[..cut.len() / 2];
    for (coding, body) in
        [("gzip", CHAT_STREAM.as_bytes()), ("gzip", cut), ("x-rot13", b"qngn"), ("br", b"\xff\xff")]
    {
        for content_type in ["text/event-stream", "application/json"] {
            let up = Upstream::responding(
                [head(coding, content_type).as_bytes(), &chunk(body), LAST_CHUNK.as_bytes()].concat(),
            );
            let proxy = proxy().upstream(&up).run();
            let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
            assert_eq!(response.body(), body);
            let record = proxy.record();
            assert_eq!(record["outcome"], "complete");
            assert_ne!(record["usage_source"], "reported");
            assert_eq!(record["error"], "the meter could not read 1 event(s) or bodies of this response");
        }
    }
}

#[test]
fn encoded_stream_that_fails_is_cut_with_nothing_inserted() {
    let up = upstream(|connection| {
        connection.request().unwrap();
        connection.send(head("gzip", "text/event-stream"));
        connection.send(chunk(&encode("gzip", &[CHAT_STREAM.as_bytes()])[0]));
    });
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.body, None, "it broke off");
    let record = proxy.record();
    assert_eq!(record["outcome"], "truncated");
    assert_eq!(record["total_tokens"], 11);
}

/// The size of the text in the bombs. Reading it in full would take minutes.
const BOMB: usize = 10 << 30;

#[test]
fn a_bomb_costs_its_number_and_nothing_else() {
    const PART: usize = 32 << 20;
    for coding in ["gzip", "zstd"] {
        // Consecutive members and frames.
        let part = chunk(&whole(coding, &vec![b'x'; PART]));
        let up = upstream(move |connection| {
            connection.request().unwrap();
            connection.send(head(coding, "text/event-stream"));
            (0..BOMB / PART).for_each(|_| connection.send(&part));
            connection.send(LAST_CHUNK);
        });
        let proxy = proxy().upstream(&up).run();
        let (memory, cpu) = (peak_memory(), cpu_ticks());
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert!(response.body.is_some(), "{coding}: its bytes pass");
        let record = proxy.record();
        assert_eq!(record["outcome"], "complete");
        assert_ne!(record["usage_source"], "reported");
        assert!(record["error"].as_str().unwrap().contains("could not read"), "{record}");
        let (memory, cpu) = (peak_memory() - memory, cpu_ticks() - cpu);
        assert!(memory < 64 << 20, "{coding}: {memory} bytes more than before");
        assert!(cpu < 1000, "{coding}: {cpu} hundredths of a second");
    }
}

/// The wire of an event stream in a coding.
fn encoded_stream(coding: &str, encoded: &[u8]) -> Vec<u8> {
    [head(coding, "text/event-stream").as_bytes(), &chunk(encoded), LAST_CHUNK.as_bytes()].concat()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recorded_streams_are_decoded_and_lose_only_the_asked_usage() {
    let mut random = fastrand::Rng::with_seed(6);
    let pairs = recorded();
    let with_event = pairs.iter().filter(|pair| pair.event.is_some()).count();
    let wire: Arc<Mutex<Vec<u8>>> = Arc::default();
    let served = Arc::clone(&wire);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            assert!(asks(&request));
            let wire = served.lock().unwrap().clone();
            connection.send(&wire);
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for pair in pairs.iter().filter(|pair| pair.event.is_some()) {
        for coding in CODINGS {
            let encoded = encode(coding, &shred(&pair.asked, &mut random)).concat();
            let chunks: Vec<u8> = shred(&encoded, &mut random).into_iter().flat_map(chunk).collect();
            *wire.lock().unwrap() =
                [head(coding, "text/event-stream").as_bytes(), &chunks, LAST_CHUNK.as_bytes()].concat();
            let response = client.post(PATH, UNASKED).response();
            assert!(response.body() == pair.unasked, "{} in {coding}", pair.file);
            assert_eq!(response.header("content-encoding"), None);
            let record = proxy.record();
            let found = (&record["input_tokens"], &record["output_tokens"]);
            assert_eq!(found, (&pair.tokens[0], &pair.tokens[1]), "{} in {coding}", pair.file);
            assert_eq!(record["usage_source"], "reported");
            assert_eq!(record["response_bytes"], pair.asked.len(), "{} in {coding}", pair.file);
        }
    }
    assert!(pairs.is_empty() || with_event > 75, "only {with_event} recordings have the event");
}

#[test]
fn the_head_of_a_decoded_stream_says_what_is_sent() {
    let encoded = whole("gzip", CHAT_STREAM.as_bytes());
    let up = Upstream::responding(
        [
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\nvary: accept-encoding\r\netag: \"a\"\r\ncontent-digest: sha-256=:AA==:\r\n\r\n",
                encoded.len()
            )
            .as_bytes(),
            &encoded,
        ]
        .concat(),
    );
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post(PATH, UNASKED).response();
    assert_eq!(response.text(), stripped());
    assert_eq!(response.header("vary"), Some("accept-encoding"));
    assert_eq!(response.header("etag"), Some("W/\"a\""));
    for gone in ["content-encoding", "content-length", "content-digest"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    let record = proxy.record();
    assert_eq!((&record["total_tokens"], &record["outcome"]), (&11.into(), &"complete".into()));
}

#[test]
fn client_that_refuses_identity_gets_no_include_usage() {
    let encoded = whole("br", stripped().as_bytes());
    let wire = encoded_stream("br", &encoded);
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            assert!(!asks(&request));
            connection.send(&wire);
        }
    });
    let proxy = proxy().upstream(&up).run();
    for accepts in ["br, identity;q=0", "br, *;q=0"] {
        let response = proxy
            .client()
            .send(format!(
                "POST {PATH} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {accepts}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{UNASKED}",
                UNASKED.len()
            ))
            .response();
        assert_eq!(response.body(), encoded, "{accepts}");
        assert_eq!(response.header("content-encoding"), Some("br"));
        assert_eq!(proxy.record()["usage_source"], "estimated");
    }
}

#[test]
fn a_coding_that_is_not_known_passes_with_the_event() {
    let up = Upstream::responding(encoded_stream("x-rot13", b"qngn"));
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().post(PATH, UNASKED).response();
    assert_eq!((response.body(), response.header("content-encoding")), (&b"qngn"[..], Some("x-rot13")));
    assert_eq!(proxy.record()["outcome"], "complete");
}

#[test]
fn a_decoded_event_passes_before_the_next_is_sent() {
    for coding in CODINGS {
        let events: Vec<&str> = CHAT_STREAM.split_inclusive("\n\n").collect();
        let encoded = encode(coding, &events.iter().map(|event| event.as_bytes()).collect::<Vec<_>>());
        let (go_on, may_go_on) = mpsc::channel();
        let may_go_on = Mutex::new(may_go_on);
        let up = upstream(move |connection| {
            connection.request().unwrap();
            connection.send(head(coding, "text/event-stream"));
            for piece in &encoded {
                connection.send(chunk(piece));
                may_go_on.lock().unwrap().recv().unwrap();
            }
            connection.send(LAST_CHUNK);
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        client.post(PATH, UNASKED).head();
        for event in &events {
            if stripped().contains(event) {
                assert_eq!(client.chunks(event.len()), event.as_bytes(), "{coding}");
            }
            go_on.send(()).unwrap();
        }
        go_on.send(()).unwrap();
        client.rest_of_response();
        assert_eq!(proxy.record()["total_tokens"], 11, "{coding}");
    }
}

#[test]
fn a_client_that_leaves_a_decoded_stream_stops_the_upstream() {
    for coding in CODINGS {
        let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
        let flushed = encode(coding, &[first.as_bytes()])[0].clone();
        let up = upstream(move |connection| {
            connection.request().unwrap();
            connection.send(head(coding, "text/event-stream"));
            connection.send(chunk(&flushed));
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        client.post(PATH, UNASKED).head();
        assert_eq!(client.chunks(first.len()), first.as_bytes());
        drop(client);
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["events"]), (&"client_disconnected".into(), &1.into()));
    }
}

#[test]
fn undecodable_stream_ends_with_error_event_after_decoded_data() {
    let begun = CHAT_STREAM.split_inclusive("\n\n").take(2).collect::<String>();
    for coding in CODINGS {
        let flushed = encode(coding, &[begun.as_bytes()])[0].clone();
        for (rest, case) in [(chunk(&[0xff; 64]), "broken"), (Vec::new(), "unfinished")] {
            let (passed, has_passed) = mpsc::channel();
            let has_passed = Mutex::new(has_passed);
            let flushed = flushed.clone();
            let up = upstream(move |connection| {
                connection.request().unwrap();
                connection.send(head(coding, "text/event-stream"));
                connection.send(chunk(&flushed));
                has_passed.lock().unwrap().recv().unwrap();
                connection.send([&rest, LAST_CHUNK.as_bytes()].concat());
            });
            let proxy = proxy().upstream(&up).run();
            let mut client = proxy.client();
            client.post(PATH, UNASKED).head();
            assert_eq!(client.chunks(begun.len()), begun.as_bytes(), "{coding} {case}");
            passed.send(()).unwrap();
            let error = String::from_utf8(client.chunk()).unwrap();
            assert!(error.contains("upstream_undecodable"), "{coding} {case}: {error}");
            assert!(error.ends_with("\n\n"), "{coding} {case}: {error}");
            assert_eq!(client.rest(), b"", "{coding} {case}: no final chunk");
            let record = proxy.record();
            assert_eq!(record["outcome"], "upstream_error", "{coding} {case}");
            assert_eq!(record["events"], 2, "{coding} {case}");
        }
    }
}

#[test]
fn coding_unfinished_after_the_last_event_is_harmless() {
    for coding in CODINGS {
        let flushed = encode(coding, &[CHAT_STREAM.as_bytes()])[0].clone();
        let up = Upstream::responding(encoded_stream(coding, &flushed));
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post(PATH, UNASKED).response();
        assert_eq!(response.text(), stripped(), "{coding}");
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["error"]), (&"complete".into(), &Value::Null), "{coding}");
        assert_eq!(record["total_tokens"], 11, "{coding}");
    }
}

#[test]
fn a_decoded_stream_that_breaks_off_ends_with_an_error_event() {
    let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
    let up = upstream(|connection| {
        connection.request().unwrap();
        connection.send(head("gzip", "text/event-stream"));
        connection.send(chunk(&encode("gzip", &[first.as_bytes()])[0]));
    });
    let proxy = proxy().upstream(&up).run();
    let text = proxy.client().post(PATH, UNASKED).cut_response();
    assert!(text.strip_prefix(first).unwrap().contains("upstream_truncated"), "{text}");
    assert_eq!(proxy.record()["outcome"], "truncated");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn decoded_bomb_ends_early_in_bounded_memory() {
    const PART: usize = 32 << 20;
    for coding in ["gzip", "zstd", "br"] {
        let part = chunk(&whole(coding, &vec![b'x'; PART]));
        let up = upstream(move |connection| {
            connection.request().unwrap();
            connection.send(head(coding, "text/event-stream"));
            connection.send(&part);
            // The proxy closes the connection.
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        let memory = peak_memory();
        let text = proxy.client().post(PATH, UNASKED).cut_response();
        assert!(text.contains("upstream_undecodable"), "{coding}");
        assert!(text.len() < 17 << 20, "{coding}: {} bytes", text.len());
        assert_eq!(proxy.record()["outcome"], "upstream_error");
        // The client here keeps the response too.
        let memory = peak_memory() - memory;
        assert!(memory < 128 << 20, "{coding}: {memory} bytes more than before");
    }
}

/// The peak memory of this process, in bytes.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// The CPU time of this process, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Fields 14 and 15; the first two are removed.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

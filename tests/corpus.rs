//! Reads the recorded responses of some forty services, and the event-stream vectors of other
//! projects, at many splits. The library's results must equal the known contents.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use streamgauge::codec::sse::{Event, EventDecoder, EventHandler, Line, Lines, Position};
use streamgauge::llm::usage::{BodyMeter, StreamMeter, Tally, Usage, Withhold};

/// The number of random splits of each recording.
const CUTS: usize = 4;

/// Recordings below this size are also tested byte by byte, which takes time.
const SMALL: usize = 100_000;

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

fn json(root: &std::path::Path, name: &str) -> Value {
    let file = fs::read(root.join(name)).expect("the corpus is whole");
    serde_json::from_slice(&file).expect("the corpus is JSON")
}

/// All splits of a small input: whole, byte by byte, and in two at each place.
fn cuts(input: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let two = (0..input.len()).map(|at| vec![&input[..at], &input[at..]]);
    [vec![input], input.chunks(1).collect()].into_iter().chain(two)
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    events: Vec<(String, String, String)>,
    comments: Vec<String>,
}

impl EventHandler for Heard {
    fn event(&mut self, event: Event<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.events.push((text(event.name), event.data_str().into_owned(), text(event.id)));
    }

    fn comment(&mut self, text: &[u8]) {
        self.comments.push(String::from_utf8_lossy(text).into_owned());
    }
}

#[test]
fn decoder_agrees_with_conformance_cases_at_every_split() {
    let Some(root) = corpus() else { return };
    let file = json(&root, "sse_conformance.json");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(Some(cases.len() as u64), file["count"].as_u64());
    for case in cases {
        let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let chunks: Vec<Vec<u8>> =
            case["chunks"].as_array().map(|chunks| chunks.iter().map(decode).collect()).unwrap_or_default();
        let input = decode(&case["input"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let events: Vec<_> = case["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| (text(&event["event"]), text(&event["data"]), text(&event["id"])))
            .collect();

        let check = |pieces: &[&[u8]]| {
            let mut heard = Heard::default();
            let mut decoder = EventDecoder::new();
            pieces.iter().for_each(|piece| decoder.push(piece, &mut heard));
            let name = &case["name"];
            assert_eq!(heard.events, events, "{name} in {} pieces", pieces.len());
            assert_eq!(decoder.retry(), case["retry"].as_u64(), "{name}");
            assert_eq!(decoder.skipped(), 0, "{name}");
            if let Some(comments) = case["comments"].as_array() {
                assert_eq!(heard.comments, comments.iter().map(text).collect::<Vec<_>>(), "{name}");
            }
            if case["unterminated_at_eof"] == true {
                assert_ne!(decoder.position(), Position::BetweenEvents, "{name}");
            }
        };
        if !chunks.is_empty() {
            check(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        // Two cases have many kilobytes; the others are split everywhere.
        if input.len() > 4096 {
            check(&[&input]);
            check(&input.chunks(1).collect::<Vec<_>>());
            (0..input.len()).step_by(97).for_each(|at| check(&[&input[..at], &input[at..]]));
        } else {
            cuts(&input).for_each(|pieces| check(&pieces));
        }
    }
}

#[test]
fn lines_end_where_the_vectors_say() {
    let Some(root) = corpus() else { return };
    for case in json(&root, "line_split_vectors.json")["cases"].as_array().unwrap() {
        let strings = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
        };
        let chunks = strings(&case["chunks"]);
        let check = |pieces: &[&[u8]]| {
            let mut lines = Lines::new(1 << 20);
            let mut found = Vec::new();
            for piece in pieces {
                let mut at = 0;
                while let Some(line) = lines.next(piece, &mut at) {
                    found.push(match line {
                        Line::Here { line, .. } => String::from_utf8(line.to_vec()).unwrap(),
                        Line::Pieced(line) => String::from_utf8(line).unwrap(),
                        long => panic!("no line here is long: {long:?}"),
                    });
                }
            }
            if case["flush"] == true && lines.in_line() {
                found.push(String::from_utf8(lines.tail().to_vec()).unwrap());
            }
            assert_eq!(found, strings(&case["lines"]), "{case}");
        };
        check(&chunks.iter().map(String::as_bytes).collect::<Vec<_>>());
        cuts(chunks.concat().as_bytes()).for_each(|pieces| check(&pieces));
    }
}

fn stream(pieces: &[&[u8]]) -> Tally {
    let mut meter = StreamMeter::new();
    pieces.iter().for_each(|piece| {
        meter.push(piece);
    });
    meter.into_tally()
}

fn body(pieces: &[&[u8]]) -> Tally {
    let mut meter = BodyMeter::new();
    pieces.iter().for_each(|piece| meter.push(piece));
    meter.finish()
}

/// The usage in the index.
fn expected(expected: &Value, metered: Option<Usage>) -> Option<Usage> {
    let count = |key: &str| expected[key].as_u64();
    expected.is_object().then(|| Usage {
        input_tokens: count("input_tokens"),
        output_tokens: count("output_tokens"),
        total_tokens: count("total_tokens"),
        cached_input_tokens: count("cached_tokens"),
        cache_write_input_tokens: count("cache_write_tokens"),
        // The index does not have them.
        cache_write_1h_input_tokens: metered.and_then(|usage| usage.cache_write_1h_input_tokens),
        reasoning_tokens: count("reasoning_tokens"),
        input_audio_tokens: count("input_audio_tokens"),
        output_audio_tokens: count("output_audio_tokens"),
        billed_seconds: expected["duration_seconds"].as_f64(),
    })
}

/// A body in pieces of random sizes, small ones more often than large ones.
fn shred<'a>(body: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let scale = random.u32(0..14);
        let size = random.usize(1..=1 << scale);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn every_recording_yields_its_model_and_every_count() {
    let Some(root) = corpus() else { return };
    let index = fs::read_to_string(root.join("index.jsonl")).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut seen, mut with_usage, mut wrong) = (0, 0, Vec::new());
    for line in index.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let family = case["family"].as_str().unwrap();
        let judged = family != "other";
        if !judged || case.get("note").is_some() {
            continue;
        }
        let file = case["file"].as_str().unwrap();
        let bytes = fs::read(root.join(file)).unwrap();
        let meter = if case["stream"] == true { stream } else { body };
        let tally = meter(&[&bytes]);

        let usage = expected(&case["expected"], tally.usage);
        if tally.usage != usage {
            wrong.push(format!("{file}: {:?} instead of {usage:?}", tally.usage));
        }
        let model = case["expected"]["model"].as_str().filter(|model| !model.is_empty());
        if model.is_some() && tally.model.as_deref() != model {
            wrong.push(format!("{file}: model {:?} instead of {model:?}", tally.model));
        }
        for _ in 0..CUTS {
            let cut = meter(&shred(&bytes, &mut random));
            assert_eq!(cut, tally, "{file} in pieces");
        }
        assert_eq!((tally.skipped, tally.not_understood()), (0, None), "{file}");
        seen += 1;
        with_usage += usize::from(usage.is_some());
    }
    assert!(wrong.is_empty(), "{} of {seen} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(with_usage > 400, "only {with_usage} of {seen} recordings have usage");
}

/// The ranges of the events of a recording that were sent because of `include_usage`: with usage,
/// with no choice but an empty one after the finish reason, and with nothing that the client would
/// miss.
fn asked_for(recording: &[u8]) -> Vec<Range<usize>> {
    const ENVELOPE: [&str; 12] = [
        "choices",
        "created",
        "id",
        "latency_checkpoint",
        "model",
        "obfuscation",
        "object",
        "provider",
        "service_tier",
        "system_fingerprint",
        "timings",
        "usage",
    ];
    let text = std::str::from_utf8(recording).unwrap_or_default();
    let mut found = Vec::new();
    let mut at = 0;
    for event in text.split_inclusive("\n\n") {
        let range = at..at + event.len();
        at = range.end;
        let Some(json) = event.strip_suffix("\n\n").and_then(|event| event.strip_prefix("data: ")) else {
            continue;
        };
        let Ok(Value::Object(chunk)) = serde_json::from_str(json) else { continue };
        let is_alone = chunk.iter().all(|(key, value)| ENVELOPE.contains(&&**key) || value.is_null());
        if !is_alone || !chunk.get("usage").is_some_and(Value::is_object) {
            continue;
        }
        let is_empty = match chunk.get("choices").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => true,
            Some([choice]) => {
                choice["finish_reason"].is_null()
                    && choice["delta"]["content"] == ""
                    && text[..range.start].contains("\"finish_reason\":\"")
            }
            _ => false,
        };
        if is_empty {
            found.push(range);
        }
    }
    found
}

/// The stream that the service sends without `include_usage`: without these events, and with
/// llama.cpp's `timings` in their original place.
fn unasked(asked: &[u8], events: &[Range<usize>]) -> Vec<u8> {
    let mut unasked = asked.to_vec();
    for event in events.iter().rev() {
        let text = std::str::from_utf8(&asked[event.clone()]).unwrap();
        let moved = text.find(",\"timings\":").map(|at| text[at..text.rfind('}').unwrap()].to_owned());
        unasked.drain(event.clone());
        if let Some(moved) = moved {
            let end = unasked[..event.start].iter().rposition(|&byte| byte == b'}').unwrap();
            unasked.splice(end..end, moved.into_bytes());
        }
    }
    unasked
}

/// The bytes that pass, and the meter's tally.
fn withheld(pieces: &[&[u8]]) -> (Vec<u8>, Tally) {
    let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
    let mut passed = Vec::new();
    for piece in pieces {
        let progress = meter.push(piece);
        passed.extend_from_slice(&withhold.pass(bytes::Bytes::copy_from_slice(piece), progress));
    }
    passed.extend_from_slice(&withhold.finish());
    (passed, meter.into_tally())
}

/// The recordings with the event make pairs: the recording is the stream with `include_usage`, and
/// the same without the event is the stream without it.
#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recorded_streams_become_those_that_were_not_asked_for_usage() {
    let Some(root) = corpus() else { return };
    let index = fs::read_to_string(root.join("index.jsonl")).unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let (mut pairs, mut others) = (0, 0);
    for line in index.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["stream"] != true {
            continue;
        }
        let file = case["file"].as_str().unwrap();
        let asked = fs::read(root.join(file)).unwrap();
        let events = asked_for(&asked);
        let expected_stream = unasked(&asked, &events);
        let whole = stream(&[&asked]);
        let check = |pieces: &[&[u8]]| {
            let (passed, tally) = withheld(pieces);
            assert!(
                passed == expected_stream,
                "{file} in {} pieces, the first of {}",
                pieces.len(),
                pieces[0].len()
            );
            assert_eq!(tally, whole, "the meter sees all of {file}");
        };
        check(&[&asked]);
        if asked.len() < SMALL {
            check(&asked.chunks(1).collect::<Vec<_>>());
        }
        for _ in 0..CUTS {
            check(&shred(&asked, &mut random));
        }
        // Two slices that meet anywhere in the event or beside it, and the event in three slices,
        // with the event before it and the one after it.
        for event in &events {
            // An empty text has no content only after the content, which is far away.
            if !asked[event.clone()].windows(12).any(|part| part == b"\"choices\":[]") {
                continue;
            }
            let begin = asked[..event.start.saturating_sub(2)].windows(2).rposition(|end| end == b"\n\n");
            let begin = begin.map_or(0, |at| at + 2);
            let behind = asked[event.end..].windows(2).position(|end| end == b"\n\n");
            let end = behind.map_or(asked.len(), |at| event.end + at + 2);
            // A stream of llama.cpp's server is recognised by its first event.
            let first = match file.starts_with("streams/llama.cpp") {
                true => asked.windows(2).position(|end| end == b"\n\n").map_or(0, |at| at + 2),
                false => 0,
            };
            let near = &[&asked[..first], &asked[begin..end]].concat()[..];
            let middle = event.start - begin + first;
            let kept = unasked(near, std::slice::from_ref(&(middle..event.end - begin + first)));
            let close = middle.saturating_sub(40)..=middle + event.len() + 40;
            for at in (0..=near.len()).filter(|at| at % 5 == 0 || close.contains(at)) {
                let mut ways = vec![vec![&near[..at], &near[at..]]];
                if at > middle && at % 7 == 0 {
                    ways.push(vec![&near[..middle], &near[middle..at], &near[at..]]);
                }
                for pieces in ways {
                    assert!(withheld(&pieces).0 == kept, "{file} cut at {}", begin + at);
                }
            }
        }
        if events.is_empty() {
            others += 1;
        } else {
            pairs += 1;
            let expected = expected(&case["expected"], whole.usage);
            assert_eq!(whole.usage, expected, "{file}");
        }
    }
    assert!(pairs > 75 && others > 200, "only {pairs} recordings with the event, and {others} without");
}

/// The number of places, evenly spaced, at which a recorded stream is cut.
const BROKEN_OFF: usize = 50;

/// The beginning and the end of a recording: the middle only takes time.
fn abridged(recording: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(recording).unwrap_or_default();
    let events: Vec<_> = text.split_inclusive("\n\n").collect();
    if events.len() < 20 {
        return recording.to_vec();
    }
    [&events[..6], &events[events.len() - 12..]].concat().concat().into()
}

/// A stream that ends at any place, cleanly or not: the last event counts if its JSON is complete.
#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn recorded_streams_cut_anywhere_yield_the_whole_events_so_far() {
    let Some(root) = corpus() else { return };
    let index = fs::read_to_string(root.join("index.jsonl")).unwrap();
    let mut seen = 0;
    for line in index.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["stream"] != true {
            continue;
        }
        let file = case["file"].as_str().unwrap();
        let asked = abridged(&fs::read(root.join(file)).unwrap());
        let events = asked_for(&asked);
        let whole = stream(&[&asked]);
        // Removes the last line ends, at a clean end.
        let bare = asked.trim_ascii_end();
        let (passed, _) = withheld(&[bare]);
        let expected = unasked(&asked, &events);
        assert!(passed.trim_ascii_end() == expected.trim_ascii_end(), "{file} without its last line ends");
        let ended = |bytes: &[u8], is_cut: bool| {
            let mut meter = StreamMeter::new();
            meter.push(bytes);
            meter.finish(is_cut);
            meter.into_tally()
        };
        assert_eq!(ended(bare, false).usage, whole.usage, "{file} without its last line ends");
        for place in 1..=BROKEN_OFF {
            let end = asked.len() * place / BROKEN_OFF;
            let cut = &asked[..end];
            // The complete events: all that have ended, and one more if its JSON is complete.
            let ended_at = cut.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
            let is_lf = !asked.contains(&b'\r');
            let data = cut[ended_at..].split(|&byte| byte == b'\n').rfind(|line| line.starts_with(b"data:"));
            let is_json =
                |data: &[u8]| serde_json::from_slice::<Value>(&data[5..]).is_ok_and(|json| json.is_object());
            let is_whole = data.is_some_and(is_json);
            let closed = [cut, b"\n\n"].concat();
            let expected = if is_whole { stream(&[&closed]) } else { stream(&[&cut[..ended_at]]) };
            if is_lf {
                assert_eq!(ended(cut, true).usage, expected.usage, "{file} cut at {end}");
            }
            // No byte is lost or added, except for the event and the members that were moved into
            // it.
            let (passed, _) = withheld(&[cut]);
            let begun = events.iter().any(|event| event.start < end && end < event.end);
            let expected = if begun && is_whole {
                let closed = [cut.trim_ascii_end(), b"\n\n"].concat();
                unasked(&closed, &asked_for(&closed))
            } else {
                let gone: Vec<_> = events.iter().filter(|event| event.end <= end).cloned().collect();
                unasked(cut, &gone)
            };
            assert!(passed == expected, "{file} cut at {end}");
        }
        seen += 1;
    }
    assert!(seen > 300, "only {seen} recordings are streams");
}

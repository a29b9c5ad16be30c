//! The filter that takes the usage event out of a stream, against one that has the whole stream and serde_json.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

use crate::usage::{HOLD_LIMIT, Room, StreamMeter, Withhold};

/// Input: a seed byte for the cuts, then the stream. However it is cut, the same bytes come out, and they are those that
/// the naive filter leaves.
pub fn withhold(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let whole = filtered([stream]);
    // Where the grammars differ: half surrogate pairs, and bytes that are no UTF-8.
    if !stream.windows(2).any(|pair| pair == b"\\u") && std::str::from_utf8(stream).is_ok() {
        assert_eq!(text(&whole), text(&naive(stream)), "the naive filter is right");
    }
    assert_eq!(text(&filtered(stream.chunks(1))), text(&whole), "byte by byte");
    assert_eq!(
        text(&filtered(stream.chunks(1 + usize::from(seed)))),
        text(&whole),
        "in pieces of {seed} + 1"
    );
    let at = usize::from(seed) * stream.len() / 255;
    assert_eq!(text(&filtered([&stream[..at], &stream[at..]])), text(&whole), "cut at {at}");
}

/// What comes out of the filter that the proxy uses.
pub(crate) fn filtered<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
    // As in the proxy, where events that repeat each other are told together.
    meter.keep_output(&Room::new(1 << 20));
    let mut passed = Vec::new();
    for slice in slices {
        let slice = Bytes::copy_from_slice(slice);
        let progress = meter.push(&slice);
        passed.extend_from_slice(&withhold.pass(slice, progress));
    }
    passed.extend_from_slice(&withhold.rest());
    passed
}

/// `expected` comes out whole, byte by byte, at every cut, and with an empty slice in the cut.
#[cfg(test)]
pub(crate) fn every_split(stream: &[u8], expected: &[u8]) {
    assert_eq!(text(&filtered([stream])), text(expected), "whole");
    assert_eq!(text(&filtered(stream.chunks(1))), text(expected), "byte by byte");
    for at in 0..=stream.len() {
        let (one, two) = stream.split_at(at);
        assert_eq!(text(&filtered([one, b"", two])), text(expected), "cut at {at} of {}", text(stream));
    }
}

/// The filter as one would write it with the whole stream at hand.
pub(crate) fn naive(stream: &[u8]) -> Vec<u8> {
    let mut passed = Vec::new();
    let mut block = Vec::new();
    for (number, line) in lines(stream).into_iter().enumerate() {
        block.push(line);
        let text = if number == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if matches!(text, b"\n" | b"\r\n" | b"\r") {
            let comments = block.iter().take_while(|line| line.starts_with(b":")).count();
            let kept = if is_asked_for(&block[comments..]) { &block[..comments] } else { &block[..] };
            passed.extend(kept.concat());
            block.clear();
        }
    }
    passed.extend(block.concat());
    passed
}

/// The lines with their ends; the last one may have none.
fn lines(stream: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = stream;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let end = at + if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        lines.push(&rest[..end]);
        rest = &rest[end..];
    }
    lines.push(rest);
    lines
}

fn is_asked_for(lines: &[&[u8]]) -> bool {
    let [data, _blank] = lines else { return false };
    let Some(json) = data.strip_prefix(b"data:") else { return false };
    let json = json.strip_prefix(b" ").unwrap_or(json);
    // The line, with one byte of its end.
    if data.len() - usize::from(data.ends_with(b"\r\n")) > HOLD_LIMIT {
        return false;
    }
    let Ok(Members(members)) = serde_json::from_slice(json) else { return false };
    let has = |key: &str| members.iter().any(|(other, _)| other == key);
    let fits = |(key, value): &(String, Value)| match key.as_str() {
        "choices" => value.as_array().is_some_and(Vec::is_empty),
        "usage" => value.is_object(),
        "id" | "object" | "created" | "model" | "system_fingerprint" | "service_tier" | "obfuscation" => {
            !value.is_array() && !value.is_object()
        }
        "latency_checkpoint" => true,
        _ => value.is_null(),
    };
    has("choices") && has("usage") && members.iter().all(fits)
}

/// Every member of an object, also those that a map would lose. A key with escapes is not what it stands for.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spelled;

        impl<'de> Visitor<'de> for Spelled {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key, E> {
                Ok(Key(key.to_owned()))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(format!("\\{key}")))
            }
        }

        deserializer.deserialize_str(Spelled)
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/withhold");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::withhold(&seed[..end]);
            }
        }
    }
}

//! Compares the filter that removes the usage event from a stream with one that has the whole
//! stream and serde_json.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

use crate::llm::usage::{HOLD_LIMIT, RESPONSE_MEMBERS, Room, StreamMeter, Withhold};

/// Input: a seed byte for the splits, then the stream. At every split the same bytes remain, equal
/// to those of the naive filter.
pub fn withhold(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let whole = filtered([stream]);
    // The grammars differ in half surrogate pairs, and in bytes that are not UTF-8.
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

/// The output of the proxy's filter.
pub(crate) fn filtered<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut meter, mut withhold) = (StreamMeter::new(), Withhold::new());
    // The proxy does the same; repeated events are then read together.
    meter.keep_output(&Room::new(1 << 20));
    let mut passed = Vec::new();
    for slice in slices {
        let slice = Bytes::copy_from_slice(slice);
        let progress = meter.push(&slice);
        passed.extend_from_slice(&withhold.pass(slice, progress));
    }
    passed.extend_from_slice(&withhold.finish());
    passed
}

/// Checks that `expected` remains whole, byte by byte, at every split, and with an empty slice at
/// the split.
#[cfg(test)]
pub(crate) fn every_split(stream: &[u8], expected: &[u8]) {
    assert_eq!(text(&filtered([stream])), text(expected), "whole");
    assert_eq!(text(&filtered(stream.chunks(1))), text(expected), "byte by byte");
    for at in 0..=stream.len() {
        let (one, two) = stream.split_at(at);
        assert_eq!(text(&filtered([one, b"", two])), text(expected), "cut at {at} of {}", text(stream));
    }
}

/// A filter that has the whole stream.
pub(crate) fn naive(stream: &[u8]) -> Vec<u8> {
    let (mut passed, mut block) = (Vec::new(), Vec::new());
    let (mut meter, mut has_content, mut at_start) = (StreamMeter::new(), false, true);
    for line in lines(stream) {
        let text = if at_start && block.is_empty() { line.strip_prefix(MARK).unwrap_or(line) } else { line };
        block.extend_from_slice(line);
        if matches!(text, b"\n" | b"\r\n" | b"\r") {
            passed.extend_from_slice(kept(&block, at_start, has_content));
            has_content |= meter.push(&block).begins;
            at_start = false;
            block.clear();
        }
    }
    passed.extend_from_slice(kept(&block, at_start, has_content));
    passed
}

const MARK: &[u8] = b"\xef\xbb\xbf";

/// The rest of a block, which may be the stream's unfinished last one.
fn kept(block: &[u8], at_start: bool, has_content: bool) -> &[u8] {
    let mark = MARK.iter().zip(block).take_while(|(mark, byte)| at_start && mark == byte).count();
    if matches!(mark, 1 | 2) {
        return block;
    }
    let (mut before, mut length) = (mark, 0);
    let (mut data, mut has_begun, mut is_error) = (Vec::new(), false, false);
    for line in lines(&block[mark..]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            break;
        }
        if !has_begun && text.starts_with(b":") {
            before += line.len();
            continue;
        }
        has_begun = true;
        length += line.len() - usize::from(line.ends_with(b"\r\n"));
        let colon = text.iter().position(|&byte| byte == b':');
        let (name, value) = colon.map_or((text, &b""[..]), |colon| (&text[..colon], &text[colon + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => data.push(value),
            b"event" => is_error |= value == b"error",
            _ => is_error |= name == b"error",
        }
    }
    let json = data.join(&b'\n');
    let is_asked_for = !is_error && length <= HOLD_LIMIT && is_asked_for(&json, has_content);
    if is_asked_for { &block[..before] } else { block }
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

fn is_asked_for(json: &[u8], has_content: bool) -> bool {
    let Ok(Tree::Object(members)) = serde_json::from_slice(json) else { return false };
    let mut is_hollow = false;
    let fits = |(key, value): &(String, Tree)| match (key.as_str(), value) {
        ("choices", Tree::List(choices)) => {
            choices.iter().all(|choice| is_empty(choice, 2, "", &mut is_hollow))
        }
        ("usage", value) => matches!(value, Tree::Object(_)),
        (key, value) if key == "choices" || RESPONSE_MEMBERS.contains(&key.as_bytes()) => {
            matches!(value, Tree::Null)
        }
        _ => true,
    };
    let has_usage = members.iter().any(|(key, _)| key == "usage");
    has_usage && members.iter().all(fits) && (has_content || !is_hollow)
}

/// Returns true if a value in `choices` has no content.
fn is_empty(value: &Tree, depth: usize, key: &str, is_hollow: &mut bool) -> bool {
    match (value, depth, key) {
        (Tree::Null | Tree::Bool(false), ..) | (Tree::Object(_), 3, "usage") => true,
        (Tree::Text(_) | Tree::Bool(_) | Tree::Number, 3, "index") => true,
        (Tree::Text(_) | Tree::Bool(_) | Tree::Number, 4, "role") => {
            *is_hollow = true;
            true
        }
        (Tree::Text(text), ..) => {
            *is_hollow = true;
            text.is_empty()
        }
        (Tree::Bool(true) | Tree::Number, ..) => false,
        (Tree::List(values), ..) => values.iter().all(|value| is_empty(value, depth + 1, "", is_hollow)),
        (Tree::Object(members), ..) => {
            members.iter().all(|(key, value)| is_empty(value, depth + 1, key, is_hollow))
        }
    }
}

/// A JSON value with every member of its objects, including those that a map would lose. A key with
/// escapes is compared as spelled.
enum Tree {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Grow;

        impl<'de> Visitor<'de> for Grow {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Number)
            }

            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Tree::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Tree::Object(members))
            }
        }

        deserializer.deserialize_any(Grow)
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

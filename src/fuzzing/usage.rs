//! Compares the meters with naive ones.
//!
//! The properties, for any bytes:
//! * at every split, [`StreamMeter`] and [`BodyMeter`] give the same result, including the output's
//!   text, and the parts of [`StreamMeter`]'s progress have the same sum;
//! * [`StreamMeter`] gives the result of a decoder, a complete parse of every payload by
//!   `serde_json`, and a plain implementation of the rule;
//! * [`BodyMeter`] gives the result of the same rule for the whole body, and nothing for a body
//!   that is not JSON. A body that is JSON so far may have yielded complete parts.
//!
//! The oracle abstains from differences that are allowed: lone surrogate escapes, numbers beyond
//! all types and nesting at the limit (`serde_json` refuses them, the meters do not), numbers of
//! more than 15 digits (`serde_json` rounds them differently), and texts that are so long that they
//! are cut.

mod billing;
mod counts;
#[cfg(test)]
pub(super) mod decoys;
mod json;
mod unread;

use billing::Billing;
use counts::{added, merged, read};
use json::{Json, Parsed, parse, parse_body};

use super::sse::cuts;
use crate::codec::sse::{Event, EventDecoder, EventHandler, Position};
use crate::llm::usage::{BodyMeter, Room, StreamMeter, Tally, Usage};

/// Checks the properties for one input.
pub fn usage(data: &[u8]) {
    let mut pieces = cuts(data).into_iter();
    let whole = pieces.next().expect("the first cut is none");
    let (stream, body) = (meter_stream(&whole), meter_body(&whole));
    for pieces in pieces {
        assert_eq!(meter_stream(&pieces), stream, "pieces {pieces:?}");
        assert_eq!(meter_body(&pieces), body, "pieces {pieces:?}");
    }
    if data.split(|b| !b.is_ascii_digit()).any(|digits| digits.len() > 15) {
        return;
    }
    if let Ok(expected) = naive_stream(data) {
        agree(&stream.tally, &expected, data);
        assert_eq!(reports(data), expected.reports, "every report, not only the last");
        assert_eq!(stream.tally.events, expected.events);
        assert_eq!(stream.tally.terminal, expected.terminal);
    }
    match parse_body(data) {
        Parsed::Json(json) => {
            let mut expected = Oracle::default();
            expected.billing.is_body = true;
            expected.take(&json, "");
            agree(&body, &expected, data);
            assert!(body.terminal || !matches!(json, Json::Object(_)), "a whole body is whole");
        }
        Parsed::NoJson => {
            let rest = Tally { output: None, skipped: 0, ..body };
            assert_eq!(rest, Tally::default(), "what is no JSON tells nothing but its text");
        }
        Parsed::CutOff | Parsed::Unsure => {}
    }
}

#[derive(Debug, PartialEq)]
struct Streamed {
    tally: Tally,
    position: Position,
    events: u32,
    first_tokens: u32,
    terminal: bool,
}

fn meter_stream(pieces: &[&[u8]]) -> Streamed {
    let mut meter = StreamMeter::new();
    meter.keep_output(&Room::new(1 << 20));
    let (mut events, mut first_tokens, mut terminal) = (0, 0, false);
    for piece in pieces {
        let progress = meter.push(piece);
        events += progress.events;
        first_tokens += u32::from(progress.first_token);
        terminal |= progress.terminal;
    }
    assert!(first_tokens <= 1, "there is one first token");
    assert_eq!(terminal, meter.tally().terminal);
    let position = meter.position();
    Streamed { tally: meter.into_tally(), position, events, first_tokens, terminal }
}

/// The usage after each report.
fn reports(data: &[u8]) -> Vec<Usage> {
    let mut meter = StreamMeter::new();
    let mut reports = Vec::new();
    for byte in data.chunks(1) {
        meter.push(byte);
        if meter.tally().usage_reports > reports.len() as u64 {
            reports.extend(meter.tally().usage);
        }
    }
    reports
}

fn meter_body(pieces: &[&[u8]]) -> Tally {
    let mut meter = BodyMeter::new();
    meter.keep_output(&Room::new(1 << 20));
    pieces.iter().for_each(|piece| meter.push(piece));
    meter.finish()
}

/// The lengths up to which texts cannot have been cut, whatever their escapes.
const MODEL_SURE: usize = 40;
const ERROR_SURE: usize = 80;

fn agree(tally: &Tally, expected: &Oracle, data: &[u8]) {
    let data = String::from_utf8_lossy(data);
    assert_eq!(tally.usage, expected.usage, "{data:?}");
    if expected.model.as_ref().is_none_or(|model| model.len() <= MODEL_SURE) {
        assert_eq!(tally.model.as_deref(), expected.model.as_deref(), "{data:?}");
    }
    expected.billing.agree(tally, &data);
    let is_whole = |usage: Usage| usage.input_tokens.is_some() && usage.output_tokens.is_some();
    let not_understood = expected.unread && !expected.usage.is_some_and(is_whole);
    assert_eq!(tally.not_understood().is_some(), not_understood, "{data:?}");
    match &expected.error {
        Some(Said::Text(text)) if text.len() <= ERROR_SURE => {
            assert_eq!(tally.error.as_deref(), Some(&text[..]), "{data:?}");
        }
        Some(_) => assert!(tally.error.is_some(), "{data:?}"),
        None => assert_eq!(tally.error, None, "{data:?}"),
    }
}

/// The text of an error, or any part of its own JSON.
#[derive(Debug)]
enum Said {
    Text(String),
    Something,
}

#[derive(Debug, Default)]
struct Oracle {
    model: Option<String>,
    usage: Option<Usage>,
    reports: Vec<Usage>,
    billing: Billing,
    /// Indexes of legacy completions whose usage was added up.
    indexes: Vec<u64>,
    is_cumulative: bool,
    merges: bool,
    unread: bool,
    events: u64,
    terminal: bool,
    error: Option<Said>,
    unsure: bool,
}

/// A decoded stream with every payload parsed. Fails if the oracle must abstain from one.
fn naive_stream(data: &[u8]) -> Result<Oracle, ()> {
    let mut oracle = Oracle::default();
    EventDecoder::new().push(data, &mut oracle);
    if oracle.unsure { Err(()) } else { Ok(oracle) }
}

const TERMINAL: [&str; 8] = [
    "response.completed",
    "response.incomplete",
    "response.failed",
    "message_stop",
    "transcript.text.done",
    "speech.audio.done",
    "image_generation.completed",
    "image_edit.completed",
];

impl EventHandler for Oracle {
    fn event(&mut self, event: Event<'_>) {
        self.events += 1;
        let (name, data) = (String::from_utf8_lossy(event.name), event.data_str());
        if event.data.trim_ascii() == b"[DONE]" {
            self.terminal = true;
            return;
        }
        self.terminal |= TERMINAL.contains(&&*name);
        match parse(data.as_bytes()) {
            Parsed::Json(json @ (Json::Object(_) | Json::List(_))) => self.take(&json, &name),
            Parsed::Unsure => self.unsure = true,
            _ => {}
        }
        if name == "error" && self.error.is_none() {
            self.error = Some(Said::Text(String::from_utf8_lossy(event.data.trim_ascii()).into_owned()));
        }
    }

    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        if name == b"error" && self.error.is_none() {
            self.error = match parse(value) {
                Parsed::Json(json @ (Json::Object(_) | Json::List(_))) => error_of(&json, true),
                Parsed::Unsure => return self.unsure = true,
                _ => None,
            };
            if self.error.is_none() {
                self.error = Some(Said::Text(String::from_utf8_lossy(value.trim_ascii()).into_owned()));
            }
        }
    }
}

impl Oracle {
    /// The rule, for one payload.
    fn take(&mut self, json: &Json, name: &str) {
        let named = name == "error";
        if self.error.is_none() {
            self.error = error_of(json, named);
        }
        let items = match json {
            Json::List(items) => &items[..],
            _ => &[],
        };
        let listed = |key| items.iter().flat_map(move |item| item.all(key));
        let [response, message, groq] = ["response", "message", "x_groq"].map(|key| json.get(key));
        let [interaction, delta, meta] = ["interaction", "delta", "meta"].map(|key| json.get(key));
        let choices = match json.get("choices") {
            Json::List(choices) => &choices[..],
            _ => &[],
        };
        let in_choice = choices.iter().flat_map(|choice| choice.all("usage")).filter_map(read).last();
        let completions = listed("object").any(|object| object.plain() == Some("text_completion"));
        let sum = listed("usage").filter(|_| completions).filter_map(read).reduce(added);
        let kind = json.get("type").plain().unwrap_or_default();
        let anthropic =
            self.merges || [kind, name].iter().any(|word| ["message_start", "message_delta"].contains(word));
        let candidates = [
            (read(json.get("usage")), anthropic),
            (read(response.get("usage")), anthropic),
            (read(message.get("usage")), true),
            (in_choice, anthropic),
            (read(groq.get("usage")), anthropic),
            (read(interaction.get("usage")), anthropic),
            (read(delta.get("usage")), anthropic),
            (read(json.get("usageMetadata")), anthropic),
            (listed("usageMetadata").filter_map(read).last(), anthropic),
            (sum, anthropic),
            (read(meta).filter(|_| self.billing.is_body), anthropic),
        ];
        let pictures = ["image_generation.completed", "image_edit.completed"];
        let picture = [kind, name].iter().any(|word| pictures.contains(word));
        let unread = self.billing.take(json, picture, TERMINAL.contains(&kind));
        let counts = candidates.into_iter().find_map(|(u, merges)| Some((u?, merges)));
        if counts.is_some() || self.usage.is_none() {
            self.unread = unread.unwrap_or(self.unread);
        }
        if let Some((usage, merges)) = counts {
            self.merges = merges;
            let adds = picture || self.adds(json, choices);
            let usage = match self.usage {
                Some(earlier) if adds => added(earlier, usage),
                Some(earlier) if merges => merged(earlier, usage),
                _ => usage,
            };
            self.usage = Some(usage);
            self.reports.push(usage);
        }
        if self.model.is_none() {
            let version = listed("modelVersion").last().unwrap_or(json.get("modelVersion"));
            self.model = [json, response, message, json.get("session"), interaction]
                .into_iter()
                .map(|place| place.get("model"))
                .chain([version, listed("model").last().unwrap_or(&Json::Null)])
                .filter_map(Json::text)
                .find(|model| !model.is_empty())
                .map(str::to_owned);
        }
        self.terminal |= TERMINAL.contains(&kind);
    }

    /// Returns true if a usage is added to the one before it, as that of another choice of a legacy
    /// completion.
    fn adds(&mut self, json: &Json, choices: &[Json]) -> bool {
        let is_completion = json.get("object").plain() == Some("text_completion");
        let choices: Vec<_> = choices.iter().filter(|choice| matches!(choice, Json::Object(_))).collect();
        let Some(last) = choices.last().filter(|_| is_completion) else {
            self.indexes.clear();
            return false;
        };
        if last.get("finish_reason").text().is_none_or(str::is_empty) {
            self.is_cumulative = true;
        }
        match last.get("index").count().filter(|_| choices.len() == 1) {
            _ if self.is_cumulative => false,
            None => {
                self.indexes.clear();
                false
            }
            Some(index) => {
                self.is_cumulative = self.indexes.contains(&index);
                self.indexes.push(index);
                !self.is_cumulative && self.indexes.len() > 1
            }
        }
    }
}

fn error_of(json: &Json, named: bool) -> Option<Said> {
    let listed = match json {
        Json::List(items) => items.iter().rev().find_map(|item| item.all("error").last()),
        _ => None,
    };
    let error = listed.unwrap_or(json.get("error"));
    let said = |error: &Json, keys: &[&str]| match error {
        Json::Object(_) => keys.iter().find_map(|key| says(error.get(key))),
        other => says(other),
    };
    let says_error =
        named || json.get("type").plain() == Some("error") || json.get("object").plain() == Some("error");
    said(error, &["message", "code", "type"])
        .or_else(|| says(json.get("x_groq").get("error")))
        .or_else(|| said(json.get("response").get("error"), &["message", "code"]))
        .or_else(|| {
            let message = json.get("message").text().filter(|text| says_error && !text.is_empty());
            message.map(|text| Said::Text(text.to_owned()))
        })
}

fn says(value: &Json) -> Option<Said> {
    match value {
        Json::Text { text, .. } if !text.is_empty() => Some(Said::Text(text.clone())),
        Json::Number(0.0) => None,
        Json::List(items) if items.is_empty() => None,
        Json::Number(_) | Json::List(_) => Some(Said::Something),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg_attr(not(feature = "slow"), ignore = "slow")]
    fn the_properties_hold_for_the_seeds_and_their_neighbours() {
        let words: [&[u8]; 32] = [
            b"\n\n",
            b"data: ",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\"",
            b"\\",
            b"\\u0061",
            b"\\ud800",
            b"null",
            b"0",
            b"12.0",
            b"-1",
            b"\"7\"",
            b"\"usage\":",
            b"\"usage\":null,",
            b"\"model\":",
            b"\"error\":",
            b"\"type\":\"error\",",
            b"\"message\":",
            b"\"response\":{",
            b"\"choices\":[{",
            b"event: error\n",
            b"event: image_edit.completed\n",
            b"\"type\":\"image_generation.completed\",",
            b"\"prompt_tokens\":3,",
            b"\"input_tokens_details\":{\"cached_tokens\":1},",
            b"\xff",
            b"",
        ];
        super::super::sse::run_seeds("usage", &words, super::usage);
    }
}

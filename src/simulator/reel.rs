//! A response whose events are written beforehand: tool calls, structured outputs, and everything
//! else except the sentence.
//!
//! Pure, like a script. It is held whole, so its makers bound its size.

mod chat;
mod messages;
mod responses;

pub(super) use responses::response_without_output;

use bytes::BytesMut;

use super::content::Part;
use super::directions::{Directions, UsagePlace};
use super::ordered::Json;
use super::place::Dialect;
use super::script::{Facts, UsageRule};
use super::shapes::{ERROR, Kind};
use super::tally::Tokens;

/// A response, streamed and not.
#[derive(Debug)]
pub(super) struct Reel {
    pub(super) directions: Directions,
    pub(super) events: Vec<Event>,
    /// The error that replaces an event for a fault.
    pub(super) error: String,
    pub(super) whole: Json,
    /// The usage of the whole response.
    pub(super) tokens: Option<Tokens>,
    pub(super) facts: Facts,
}

/// An event, and the counts that it reports.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) text: String,
    pub(super) tokens: Option<Tokens>,
}

/// The input of a reel.
pub(super) struct Plot {
    pub(super) dialect: Dialect,
    pub(super) directions: Directions,
    pub(super) facts: Facts,
    pub(super) parts: Vec<Part>,
    /// Encrypted reasoning before the parts, of the endpoint `responses`.
    pub(super) encrypted: Option<String>,
    usage: UsageRule,
}

impl Plot {
    /// `include_usage` is the value in the request's `stream_options`.
    pub(super) fn new(
        kind: Kind,
        dialect: Dialect,
        directions: Directions,
        include_usage: bool,
        facts: Facts,
        parts: Vec<Part>,
    ) -> Self {
        let usage = UsageRule::of(kind, directions.usage, include_usage);
        Self { dialect, directions, facts, parts, encrypted: None, usage }
    }

    /// The response of that endpoint.
    pub(super) fn reel(self, kind: Kind) -> Reel {
        match kind {
            Kind::Chat | Kind::Completions => chat::reel(self),
            Kind::Responses => responses::reel(self),
            Kind::Messages => messages::reel(self),
        }
    }

    /// Returns true if a response that always has usage must have it.
    fn reports(&self) -> bool {
        self.directions.usage != UsagePlace::None
    }

    /// The counts after this many pieces.
    fn tokens(&self, pieces: usize) -> Tokens {
        Tokens { input: self.facts.input_tokens, output: pieces as u64 + self.directions.reasoning }
    }

    /// The counts at the end.
    fn all_tokens(&self) -> Tokens {
        self.tokens(self.parts.iter().map(|part| part.pieces(&self.directions).len()).sum())
    }

    fn has_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call(_)))
    }

    /// The id of call `index`, after its endpoint's prefix.
    fn call_id(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}{:020x}{index:04x}", self.facts.id)
    }

    fn model(&self) -> Json {
        self.facts.quoted_model()
    }
}

impl Event {
    /// An event without a type.
    pub(super) fn data(json: &Json) -> Self {
        Self { text: format!("data: {}\n\n", json.as_str()), tokens: None }
    }

    /// An event whose type has a line of its own.
    pub(super) fn named(name: &str, json: &Json) -> Self {
        Self { text: format!("event: {name}\ndata: {}\n\n", json.as_str()), tokens: None }
    }

    pub(super) fn done() -> Self {
        Self { text: "data: [DONE]\n\n".to_owned(), tokens: None }
    }

    pub(super) fn reporting(self, tokens: Option<Tokens>) -> Self {
        Self { tokens, ..self }
    }
}

impl Reel {
    /// A response that can only be streamed.
    pub(super) fn of_events(events: Vec<Event>, directions: Directions) -> Self {
        let error = ERROR.to_owned();
        Self { directions, events, error, whole: Json::default(), tokens: None, facts: Facts::default() }
    }

    /// The approximate memory.
    pub(super) fn held_bytes(&self) -> usize {
        let events = self.events.iter().map(|event| event.text.capacity() + size_of::<Event>());
        events.sum::<usize>() + self.whole.as_str().len()
    }

    pub(super) fn events(&self) -> u64 {
        self.events.len() as u64
    }

    /// Appends event `index`, and returns the counts that it reports.
    pub(super) fn write(&self, index: u64, stamp: Option<u64>, out: &mut BytesMut) -> Option<Tokens> {
        let event = &self.events[index as usize];
        match event.text.strip_suffix("}\n\n").zip(stamp) {
            Some((start, stamp)) => {
                out.extend_from_slice(format!("{start},\"stamp\":{stamp}}}\n\n").as_bytes());
            }
            None => out.extend_from_slice(event.text.as_bytes()),
        }
        event.tokens
    }

    /// Appends the response unstreamed, and returns the counts that it reports.
    pub(super) fn write_whole(&self, stamp: Option<u64>, out: &mut BytesMut) -> Option<Tokens> {
        let whole = match stamp {
            Some(stamp) => self.whole.clone().with("stamp", &stamp),
            None => self.whole.clone(),
        };
        out.extend_from_slice(whole.as_str().as_bytes());
        out.extend_from_slice(b"\n");
        self.tokens
    }
}

#[cfg(test)]
mod tests;

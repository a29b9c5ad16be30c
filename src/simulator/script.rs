//! One response: the order of its events, and all of their bytes.
//!
//! Pure: the same script gives the same bytes, except for the stamps that its caller passes.

use std::fmt::Write;

use bytes::BytesMut;

use super::directions::{Directions, Finish, UsagePlace};
use super::ordered::Json;
use super::place::Dialect;
use super::shapes::{Kind, Shape};
use super::tally::Tokens;
use super::template::{Mark, Part, Template};
use super::text;

/// One response.
#[derive(Debug)]
pub(super) struct Script {
    shape: &'static Shape,
    directions: Directions,
    facts: Facts,
    usage: UsageRule,
}

/// The values of a response besides its text.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) id: u64,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Escaped for JSON, without quotes.
    pub(super) model: String,
    pub(super) input_tokens: u64,
}

impl Facts {
    pub(super) fn quoted_model(&self) -> Json {
        Json::raw(format!("\"{}\"", self.model))
    }
}

/// The events with a usage member, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum UsageRule {
    /// No event has it.
    Absent,
    /// All events have null, and an additional one has the counts.
    Event,
    /// All events up to the one with the finish reason have it: null, and at the end the counts.
    Finish,
    /// All have the counts so far.
    Every,
    /// The object at the end has the counts, those at the beginning have null (`responses`).
    Object,
    /// The first event has the counts so far, the one with the stop reason the final ones
    /// (`messages`).
    Both,
    /// The value null in all places of usage, for `responses` and `messages` without usage.
    Null,
}

impl UsageRule {
    pub(super) fn of(kind: Kind, place: UsagePlace, include_usage: bool) -> Self {
        match (kind, place) {
            (Kind::Responses | Kind::Messages, UsagePlace::None) => Self::Null,
            (Kind::Responses, _) => Self::Object,
            (Kind::Messages, _) => Self::Both,
            (_, UsagePlace::None) => Self::Absent,
            (_, UsagePlace::Asked) if !include_usage => Self::Absent,
            (_, UsagePlace::Asked | UsagePlace::Always) => Self::Event,
            (_, UsagePlace::Finish) => Self::Finish,
            (_, UsagePlace::Every) => Self::Every,
        }
    }
}

/// The place of an event in its response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cue {
    Opening(usize),
    Text(u64),
    Closing(usize),
    Usage,
    End,
}

/// The values that change from event to event.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// The number of the text in this event.
    text: u64,
    /// The number of texts up to this one.
    said: u64,
    sequence: u64,
    usage: Usage,
    stamp: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Usage {
    Absent,
    Null,
    Counts,
    /// The counts in the form of a whole response, if it differs.
    Full,
}

impl Usage {
    fn has_counts(self) -> bool {
        matches!(self, Self::Counts | Self::Full)
    }
}

impl Script {
    /// `include_usage` is the value in the request's `stream_options`.
    pub(super) fn new(
        kind: Kind,
        dialect: Dialect,
        directions: Directions,
        include_usage: bool,
        facts: Facts,
    ) -> Self {
        let usage = UsageRule::of(kind, directions.usage, include_usage);
        Self { shape: kind.shape(dialect), directions, facts, usage }
    }

    pub(super) fn directions(&self) -> &Directions {
        &self.directions
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The number of events.
    pub(super) fn events(&self) -> u64 {
        let usage = u64::from(self.has_usage_event());
        let end = u64::from(self.shape.end.is_some());
        (self.shape.opening.len() + self.shape.closing.len()) as u64 + self.directions.events + usage + end
    }

    /// Appends event `index`, and returns the counts that it reports.
    pub(super) fn write(&self, index: u64, stamp: Option<u64>, out: &mut BytesMut) -> Option<Tokens> {
        let cue = self.cue(index);
        let (text, said) = match cue {
            Cue::Opening(_) => (0, 0),
            Cue::Text(text) => (text, text + 1),
            Cue::Closing(_) | Cue::Usage | Cue::End => (0, self.directions.events),
        };
        let moment = Moment { text, said, sequence: index, usage: self.usage_at(cue), stamp };
        let template = match cue {
            Cue::Opening(at) => &self.shape.opening[at],
            Cue::Text(_) => &self.shape.text,
            Cue::Closing(at) => &self.shape.closing[at],
            Cue::Usage => self.shape.usage_event.as_ref().expect("the cue is only given where there is one"),
            Cue::End => self.shape.end.as_ref().expect("the cue is only given where there is one"),
        };
        self.render(template, &moment, out);
        moment.usage.has_counts().then(|| self.tokens(said))
    }

    /// Appends the error that replaces event `index`.
    pub(super) fn write_error(&self, index: u64, out: &mut BytesMut) {
        for (template, sequence) in self.shape.error.iter().zip(index..) {
            let moment = Moment { text: 0, said: 0, sequence, usage: Usage::Absent, stamp: None };
            self.render(template, &moment, out);
        }
    }

    /// Appends the response unstreamed, and returns the counts that it reports.
    pub(super) fn write_whole(&self, stamp: Option<u64>, out: &mut BytesMut) -> Option<Tokens> {
        let usage = match (self.directions.usage, self.usage) {
            (UsagePlace::None, UsageRule::Null) => Usage::Null,
            (UsagePlace::None, _) => Usage::Absent,
            _ => Usage::Full,
        };
        let said = self.directions.events;
        self.render(&self.shape.whole, &Moment { text: 0, said, sequence: 0, usage, stamp }, out);
        usage.has_counts().then(|| self.tokens(said))
    }

    fn has_usage_event(&self) -> bool {
        self.usage == UsageRule::Event && self.shape.usage_event.is_some()
    }

    fn cue(&self, index: u64) -> Cue {
        let opening = self.shape.opening.len() as u64;
        let closing = opening + self.directions.events;
        let usage = closing + self.shape.closing.len() as u64;
        if index < opening {
            Cue::Opening(index as usize)
        } else if index < closing {
            Cue::Text(index - opening)
        } else if index < usage {
            Cue::Closing((index - closing) as usize)
        } else if index == usage && self.has_usage_event() {
            Cue::Usage
        } else {
            Cue::End
        }
    }

    fn usage_at(&self, cue: Cue) -> Usage {
        let last = self.shape.closing.len() - 1;
        match (self.usage, cue) {
            (UsageRule::Absent, _) | (_, Cue::End) => Usage::Absent,
            (UsageRule::Event, Cue::Usage) => Usage::Counts,
            (UsageRule::Finish, Cue::Closing(_)) => Usage::Counts,
            (UsageRule::Object, Cue::Closing(at)) if at == last => Usage::Counts,
            (UsageRule::Both, Cue::Opening(0)) => Usage::Full,
            (UsageRule::Both, Cue::Closing(at)) if at + 1 == last => Usage::Counts,
            (UsageRule::Both, _) => Usage::Absent,
            (UsageRule::Every, _) => Usage::Counts,
            (UsageRule::Event | UsageRule::Finish | UsageRule::Object | UsageRule::Null, _) => Usage::Null,
        }
    }

    fn tokens(&self, said: u64) -> Tokens {
        Tokens { input: self.facts.input_tokens, output: said + self.directions.reasoning }
    }

    fn render(&self, template: &Template, moment: &Moment, out: &mut BytesMut) {
        for part in template.parts() {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Mark(mark) => self.value(*mark, moment, out),
            }
        }
    }

    fn value(&self, mark: Mark, moment: &Moment, out: &mut BytesMut) {
        let directions = &self.directions;
        let tokens = self.tokens(moment.said);
        let number = match mark {
            Mark::Created => self.facts.created,
            Mark::Sequence => moment.sequence,
            Mark::Input => tokens.input,
            Mark::Output => tokens.output,
            Mark::Total => tokens.input + tokens.output,
            Mark::Cached => directions.cached,
            Mark::Reasoning => directions.reasoning,
            Mark::Id => return write_number(out, format_args!("{:024x}", self.facts.id)),
            Mark::Model => return out.extend_from_slice(self.facts.model.as_bytes()),
            Mark::Text => return text::write(moment.text, directions.size, out),
            Mark::All => {
                return (0..directions.events).for_each(|index| text::write(index, directions.size, out));
            }
            Mark::Stop => return out.extend_from_slice(stop_reason(directions.finish).as_bytes()),
            Mark::Finish => return out.extend_from_slice(finish_reason(directions.finish).as_bytes()),
            Mark::Status => return out.extend_from_slice(status(directions.finish).as_bytes()),
            Mark::Incomplete => {
                return out.extend_from_slice(incomplete_details(directions.finish).as_bytes());
            }
            Mark::Usage => return self.write_usage(moment, out),
            Mark::Stamp => {
                return if let Some(stamp) = moment.stamp {
                    write_number(out, format_args!(",\"stamp\":{stamp}"));
                };
            }
        };
        write_number(out, format_args!("{number}"));
    }

    fn write_usage(&self, moment: &Moment, out: &mut BytesMut) {
        match moment.usage {
            Usage::Absent => {}
            Usage::Null => out.extend_from_slice(b",\"usage\":null"),
            Usage::Counts | Usage::Full => {
                let full = self.shape.full_usage.as_ref().filter(|_| moment.usage == Usage::Full);
                out.extend_from_slice(b",\"usage\":");
                self.render(full.unwrap_or(&self.shape.usage), moment, out);
            }
        }
    }
}

fn write_number(out: &mut BytesMut, number: std::fmt::Arguments<'_>) {
    out.write_fmt(number).expect("a buffer that grows takes any text");
}

pub(super) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ContentFilter => "content_filter",
    }
}

/// The reason in Anthropic's words.
pub(super) fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ContentFilter => "refusal",
    }
}

pub(super) fn status(finish: Finish) -> &'static str {
    if finish == Finish::Stop { "completed" } else { "incomplete" }
}

pub(super) fn incomplete_details(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "null",
        Finish::Length => r#"{"reason":"max_output_tokens"}"#,
        Finish::ContentFilter => r#"{"reason":"content_filter"}"#,
    }
}

#[cfg(test)]
mod tests;

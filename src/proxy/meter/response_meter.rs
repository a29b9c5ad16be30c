//! The meter of a response, chosen by its headers and first bytes.

use super::encoded_tap::EncodedTap;
use crate::codec::coding::Codings;
use crate::codec::head::{Headers, KnownName};
use crate::codec::sse::Position;
use crate::llm::usage::{BodyMeter, Content, Progress, Room, Sniff, StreamMeter, Tally};
use crate::support::memory::Memory;

/// A response body's meter, by kind of content.
#[derive(Debug)]
pub enum ResponseMeter {
    /// The first bytes decide.
    Undecided(Undecided),
    /// An event stream.
    Events(Box<StreamMeter>),
    /// A body that may be JSON: the meter stops at the first byte that cannot be.
    Document(Box<BodyMeter>),
    /// Any of these in a content coding.
    Encoded(Box<EncodedTap>),
    /// Audio, images and video, which are not metered.
    Opaque,
}

/// A body whose first bytes have not arrived.
#[derive(Debug)]
pub struct Undecided {
    sniff: Sniff,
    /// Memory for the output text, if it is kept.
    room: Option<Room>,
    /// The status is one of an error.
    expects_error: bool,
    expects_timings: bool,
    /// The status is one of success, and the media type that of an event stream.
    keeps_beginning: bool,
    is_completion: bool,
    keeps_id: bool,
}

impl Undecided {
    /// The meter for this content.
    fn decided(&mut self, content: Content) -> ResponseMeter {
        let mut kind = ResponseMeter::from(content);
        if let Some(room) = &self.room {
            kind.keep_output(room);
        }
        if self.expects_error {
            kind.expect_error();
        }
        if self.keeps_beginning {
            kind.keep_beginning();
        }
        if self.is_completion {
            kind.expect_completion();
        }
        if self.expects_timings {
            kind.expect_timings();
        }
        if self.keeps_id {
            kind.keep_id();
        }
        kind
    }
}

impl From<Content> for ResponseMeter {
    fn from(content: Content) -> Self {
        match content {
            Content::Events => Self::Events(Box::default()),
            // The meter stops at the first byte of a page.
            Content::Json | Content::Other => Self::Document(Box::default()),
        }
    }
}

/// The kind of content that a media type declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Events,
    /// Audio, images, video.
    Opaque,
    Anything,
}

impl Says {
    fn of(headers: &Headers) -> Self {
        let starts = |value: &[u8], with: &str| {
            value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        let media_type = headers.get(KnownName::ContentType).unwrap_or_default();
        if starts(media_type, "text/event-stream") {
            Self::Events
        } else if ["audio/", "image/", "video/"].iter().any(|kind| starts(media_type, kind)) {
            Self::Opaque
        } else {
            Self::Anything
        }
    }
}

impl ResponseMeter {
    /// Chooses by the response headers. With `asked_for_stream`, the first bytes decide whether the
    /// body is an event stream, regardless of its type.
    pub fn of(headers: &Headers, asked_for_stream: bool) -> Self {
        let content = match Says::of(headers) {
            Says::Opaque => return Self::Opaque,
            Says::Events => Self::undecided(true),
            Says::Anything if asked_for_stream => Self::undecided(false),
            Says::Anything => Self::from(Content::Other),
        };
        match Codings::of(headers) {
            Codings::Identity => content,
            Codings::Known(codings) => Self::Encoded(Box::new(EncodedTap::new(&codings, content))),
            Codings::Unknown => Self::Encoded(Box::new(EncodedTap::unknown(content))),
        }
    }

    /// A meter that reads nothing, of a body whose ids are read: a content coding is undone.
    pub fn opaque(headers: &Headers) -> Self {
        match Codings::of(headers) {
            Codings::Known(codings) => Self::Encoded(Box::new(EncodedTap::new(&codings, Self::Opaque))),
            Codings::Identity | Codings::Unknown => Self::Opaque,
        }
    }

    /// Returns true if the media type may be that of JSON or events.
    pub fn may_have_ids(headers: &Headers) -> bool {
        Says::of(headers) != Says::Opaque
    }

    /// The reading of a response of which only these bytes are read. `ended`: they are all of it.
    pub fn read(headers: &Headers, bytes: &[u8], ended: bool) -> Option<Tally> {
        let mut meter = Self::of(headers, false);
        meter.push(bytes);
        meter.take_tally(ended)
    }

    fn undecided(says_events: bool) -> Self {
        Self::Undecided(Undecided {
            sniff: Sniff::new(says_events),
            room: None,
            expects_error: false,
            expects_timings: false,
            keeps_beginning: false,
            is_completion: false,
            keeps_id: false,
        })
    }

    /// Returns true if the media type does not tell whether the body is an event stream.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Undecided(undecided) => !undecided.sniff.says_events(),
            Self::Encoded(tap) => tap.content().is_ambiguous(),
            Self::Events(_) | Self::Document(_) | Self::Opaque => false,
        }
    }

    /// Chooses the meter for `content` instead of deciding by the first bytes.
    #[must_use]
    pub fn decided(self, content: Content) -> Self {
        match self {
            Self::Undecided(mut undecided) => undecided.decided(content),
            known => known,
        }
    }

    /// Keeps the output text until usage is reported.
    /// Counts the memory of a decoder.
    pub(super) fn count_in(&mut self, memory: &Memory) {
        if let Self::Encoded(tap) = self {
            tap.count_in(memory);
        }
    }

    pub(super) fn keep_output(&mut self, room: &Room) {
        match self {
            Self::Undecided(undecided) => undecided.room = Some(room.clone()),
            Self::Events(meter) => meter.keep_output(room),
            Self::Document(meter) => meter.keep_output(room),
            Self::Encoded(tap) => tap.content_mut().keep_output(room),
            Self::Opaque => {}
        }
    }

    /// Reads llama.cpp's `timings` as usage, if this is an event stream.
    pub(super) fn expect_timings(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.expects_timings = true,
            Self::Events(meter) => meter.expect_timings(),
            Self::Encoded(tap) => tap.content_mut().expect_timings(),
            Self::Document(_) | Self::Opaque => {}
        }
    }

    /// Takes a document without a known error field as the error message itself.
    pub(super) fn expect_error(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.expects_error = true,
            Self::Document(meter) => meter.expect_error(),
            Self::Encoded(tap) => tap.content_mut().expect_error(),
            Self::Events(_) | Self::Opaque => {}
        }
    }

    /// Keeps the beginning of a document, in case it is no response.
    pub(super) fn keep_beginning(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.keeps_beginning = true,
            Self::Document(meter) => meter.keep_beginning(),
            Self::Encoded(tap) => tap.content_mut().keep_beginning(),
            Self::Events(_) | Self::Opaque => {}
        }
    }

    /// Reads events and documents as those of legacy completions.
    pub(super) fn expect_completion(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.is_completion = true,
            Self::Events(meter) => meter.expect_completion(),
            Self::Encoded(tap) => tap.content_mut().expect_completion(),
            Self::Document(_) | Self::Opaque => {}
        }
    }

    /// Keeps the id of the result, and whether it is made in the background.
    pub(super) fn keep_id(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.keeps_id = true,
            Self::Events(meter) => meter.keep_id(),
            Self::Document(meter) => meter.keep_id(),
            Self::Encoded(tap) => tap.content_mut().keep_id(),
            Self::Opaque => {}
        }
    }

    /// Returns true if the body is an event stream, encoded or not, as far as is known.
    pub fn is_events(&self) -> bool {
        match self {
            Self::Events(_) | Self::Undecided(_) => true,
            Self::Encoded(tap) => tap.content().is_events(),
            Self::Document(_) | Self::Opaque => false,
        }
    }

    /// Returns true if an event of ours may be inserted: the body is an event stream without a
    /// coding.
    pub fn takes_events(&self) -> bool {
        match self {
            Self::Events(_) => true,
            Self::Undecided(undecided) => undecided.sniff.says_events(),
            Self::Document(_) | Self::Encoded(_) | Self::Opaque => false,
        }
    }

    /// Returns true if further bytes can yield anything.
    pub(super) fn is_metered(&self) -> bool {
        match self {
            Self::Events(_) | Self::Undecided(_) => true,
            Self::Document(meter) => !meter.has_given_up(),
            Self::Encoded(tap) => tap.is_read() && tap.content().is_metered(),
            Self::Opaque => false,
        }
    }

    /// Returns true if the body has reached its own end, so that further bytes cannot change the
    /// counts.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Events(meter) => meter.tally().terminal,
            Self::Document(meter) => meter.is_complete(),
            Self::Encoded(tap) => tap.content().is_final(),
            Self::Undecided(_) | Self::Opaque => false,
        }
    }

    /// Meters bytes, and returns the findings.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Events(meter) => return meter.push(bytes),
            Self::Encoded(tap) => return tap.push(bytes),
            Self::Undecided(_) => return self.begin(bytes),
            Self::Document(meter) => meter.push(bytes),
            Self::Opaque => {}
        }
        Progress::default()
    }

    /// Meters the first bytes, without those that are skipped, once they decide.
    #[inline]
    fn begin(&mut self, bytes: &[u8]) -> Progress {
        let Self::Undecided(undecided) = self else { return Progress::default() };
        let (skipped, content) = undecided.sniff.push(bytes);
        let Some(content) = content else { return Progress { skipped, ..Progress::default() } };
        let mut kind = undecided.decided(content);
        if !undecided.sniff.word().is_empty() {
            kind.push(undecided.sniff.word());
        }
        *self = kind;
        Progress { skipped, is_other: content != Content::Events, ..self.push(&bytes[skipped..]) }
    }

    /// The events of a stream so far, and the output tokens reported so far.
    pub(super) fn progress(&self) -> Option<(u64, Option<u64>)> {
        match self {
            Self::Events(meter) => {
                let tally = meter.tally();
                Some((tally.events, tally.usage.and_then(|usage| usage.output_tokens)))
            }
            Self::Encoded(tap) => tap.content().progress(),
            Self::Document(_) | Self::Undecided(_) | Self::Opaque => None,
        }
    }

    /// Takes the result; nothing is metered afterwards. `ended`: the body is complete.
    pub(super) fn take_tally(&mut self, ended: bool) -> Option<Tally> {
        match std::mem::replace(self, Self::Opaque) {
            Self::Undecided(mut undecided) if undecided.sniff.says_events() => {
                undecided.decided(Content::Events).take_tally(ended)
            }
            Self::Undecided(_) => Some(Tally::default()),
            Self::Events(mut meter) => {
                meter.finish(!ended);
                Some(meter.into_tally())
            }
            Self::Document(mut meter) => Some(meter.finish()),
            Self::Encoded(tap) => tap.into_tally(ended),
            Self::Opaque => None,
        }
    }

    /// The reading of a stream so far. `None`: the body is no stream without a content coding.
    pub(super) fn tally(&self) -> Option<&Tally> {
        match self {
            Self::Events(meter) => Some(meter.tally()),
            Self::Undecided(_) | Self::Document(_) | Self::Encoded(_) | Self::Opaque => None,
        }
    }

    /// The bytes to insert before an event of ours.
    pub(super) fn separator(&self) -> &'static [u8] {
        match self {
            Self::Events(meter) => meter.separator(),
            _ => b"",
        }
    }

    /// The model that a stream has named so far.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Events(meter) => meter.tally().model.as_deref(),
            _ => None,
        }
    }

    /// The position within an event.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Events(meter) => meter.position(),
            _ => Position::BetweenEvents,
        }
    }
}

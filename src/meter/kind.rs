//! Which meter an answer gets.

use http::{HeaderMap, header};

use crate::sse::Position;
use crate::usage::{BodyMeter, Progress, Room, StreamMeter, Tally};

/// What an answer's body is, as far as the meter is concerned.
#[derive(Debug)]
pub enum Kind {
    /// `text/event-stream`.
    Events(Box<StreamMeter>),
    /// Anything that may turn out to be JSON: the meter gives up at the first byte that cannot be.
    Document(Box<BodyMeter>),
    /// Sound, pictures, and what is compressed: bytes that say nothing to the meter.
    Opaque,
}

impl Kind {
    /// Chosen by the answer's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map_or(&b""[..], |value: &http::HeaderValue| value.as_bytes());
        let starts = |value: &[u8], with: &str| {
            value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        let encoding = text(header::CONTENT_ENCODING);
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
            return Self::Opaque;
        }
        let media_type = text(header::CONTENT_TYPE);
        if starts(media_type, "text/event-stream") {
            Self::Events(Box::default())
        } else if ["audio/", "image/", "video/"].iter().any(|kind| starts(media_type, kind)) {
            Self::Opaque
        } else {
            Self::Document(Box::default())
        }
    }

    /// Keeps the text of the output, until usage is reported.
    pub(super) fn keep_output(&mut self, room: &Room) {
        match self {
            Self::Events(meter) => meter.keep_output(room),
            Self::Document(meter) => meter.keep_output(room),
            Self::Opaque => {}
        }
    }

    /// Whether it is an event stream.
    pub fn is_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }

    /// Whether anything can be learned from what follows.
    pub(super) fn is_metered(&self) -> bool {
        match self {
            Self::Events(_) => true,
            Self::Document(meter) => !meter.has_given_up(),
            Self::Opaque => false,
        }
    }

    /// Whether it has said that it is whole: nothing that may follow changes the counts.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Events(meter) => meter.tally().terminal,
            Self::Document(meter) => meter.is_complete(),
            Self::Opaque => false,
        }
    }

    /// Shows bytes to the meter, and says what was among them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Events(meter) => return meter.push(bytes),
            Self::Document(meter) => meter.push(bytes),
            Self::Opaque => {}
        }
        Progress::default()
    }

    /// Of an event stream: how many events have passed, and the output tokens that were reported so far.
    pub(super) fn progress(&self) -> Option<(u64, Option<u64>)> {
        match self {
            Self::Events(meter) => {
                let tally = meter.tally();
                Some((tally.events, tally.usage.and_then(|usage| usage.output_tokens)))
            }
            Self::Document(_) | Self::Opaque => None,
        }
    }

    /// What has been found; nothing is metered afterwards.
    pub(super) fn take_tally(&mut self) -> Option<Tally> {
        match std::mem::replace(self, Self::Opaque) {
            Self::Events(meter) => Some(meter.into_tally()),
            Self::Document(meter) => Some(meter.finish()),
            Self::Opaque => None,
        }
    }

    /// Where in an event the stream stands.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Events(meter) => meter.position(),
            Self::Document(_) | Self::Opaque => Position::BetweenEvents,
        }
    }
}

//! Which meter an answer gets.

use http::{HeaderMap, header};

use super::coded::Coded;
use crate::coding::Codings;
use crate::sse::Position;
use crate::usage::{BodyMeter, Progress, Room, StreamMeter, Tally};

/// What an answer's body is, as far as the meter is concerned.
#[derive(Debug)]
pub enum Kind {
    /// `text/event-stream`.
    Events(Box<StreamMeter>),
    /// Anything that may turn out to be JSON: the meter gives up at the first byte that cannot be.
    Document(Box<BodyMeter>),
    /// Any of these with a content coding.
    Coded(Box<Coded>),
    /// Sound and pictures: bytes that say nothing to the meter.
    Opaque,
}

impl Kind {
    /// Chosen by the answer's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let content = Self::of_content(headers);
        match Codings::of(headers) {
            _ if matches!(content, Self::Opaque) => content,
            Codings::Identity => content,
            Codings::Known(codings) => Self::Coded(Box::new(Coded::new(&codings, content))),
            Codings::Unknown => Self::Coded(Box::new(Coded::unknown(content))),
        }
    }

    /// What it is once it is decoded.
    fn of_content(headers: &HeaderMap) -> Self {
        let starts = |value: &[u8], with: &str| {
            value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
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
            Self::Coded(coded) => coded.content_mut().keep_output(room),
            Self::Opaque => {}
        }
    }

    /// The status says that it is an error: a document that names none is told by its own text.
    pub(super) fn expect_error(&mut self) {
        match self {
            Self::Document(meter) => meter.expect_error(),
            Self::Coded(coded) => coded.content_mut().expect_error(),
            Self::Events(_) | Self::Opaque => {}
        }
    }

    /// Keeps the id of the result that the answer is of, and whether it is made in the background.
    pub(super) fn keep_id(&mut self) {
        match self {
            Self::Events(meter) => meter.keep_id(),
            Self::Document(meter) => meter.keep_id(),
            Self::Coded(coded) => coded.content_mut().keep_id(),
            Self::Opaque => {}
        }
    }

    /// Whether it is an event stream, encoded or not.
    pub fn is_events(&self) -> bool {
        match self {
            Self::Events(_) => true,
            Self::Coded(coded) => coded.content().is_events(),
            Self::Document(_) | Self::Opaque => false,
        }
    }

    /// Whether an event of the proxy's own may stand in it: not in an event stream that is encoded.
    pub fn takes_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }

    /// Whether anything can be learned from what follows.
    pub(super) fn is_metered(&self) -> bool {
        match self {
            Self::Events(_) => true,
            Self::Document(meter) => !meter.has_given_up(),
            Self::Coded(coded) => coded.is_read() && coded.content().is_metered(),
            Self::Opaque => false,
        }
    }

    /// Whether it has said that it is whole: nothing that may follow changes the counts.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Events(meter) => meter.tally().terminal,
            Self::Document(meter) => meter.is_complete(),
            Self::Coded(coded) => coded.content().is_final(),
            Self::Opaque => false,
        }
    }

    /// Shows bytes to the meter, and says what was among them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Events(meter) => return meter.push(bytes),
            Self::Coded(coded) => return coded.push(bytes),
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
            Self::Coded(coded) => coded.content().progress(),
            Self::Document(_) | Self::Opaque => None,
        }
    }

    /// What has been found; nothing is metered afterwards. `ended`: the body came to its end.
    pub(super) fn take_tally(&mut self, ended: bool) -> Option<Tally> {
        match std::mem::replace(self, Self::Opaque) {
            Self::Events(meter) => Some(meter.into_tally()),
            Self::Document(meter) => Some(meter.finish()),
            Self::Coded(coded) => coded.into_tally(ended),
            Self::Opaque => None,
        }
    }

    /// The bytes behind which an event of the proxy's own may follow.
    pub(super) fn separator(&self) -> &'static [u8] {
        match self {
            Self::Events(meter) => meter.separator(),
            Self::Document(_) | Self::Coded(_) | Self::Opaque => b"",
        }
    }

    /// The model, as far as an event stream has named it.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Events(meter) => meter.tally().model.as_deref(),
            Self::Document(_) | Self::Coded(_) | Self::Opaque => None,
        }
    }

    /// Where in an event the stream stands.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Events(meter) => meter.position(),
            Self::Document(_) | Self::Coded(_) | Self::Opaque => Position::BetweenEvents,
        }
    }
}

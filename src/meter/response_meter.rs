//! Which meter an answer gets.

use http::{HeaderMap, header};

use super::encoded_tap::EncodedTap;
use crate::coding::Codings;
use crate::sse::Position;
use crate::usage::{BodyMeter, Content, Progress, Room, Sniff, StreamMeter, Tally};

/// What an answer's body is, as far as the meter is concerned.
#[derive(Debug)]
pub enum ResponseMeter {
    /// What its first bytes will tell.
    Undecided(Undecided),
    /// An event stream.
    Events(Box<StreamMeter>),
    /// Anything that may turn out to be JSON: the meter gives up at the first byte that cannot be.
    Document(Box<BodyMeter>),
    /// Any of these with a content coding.
    Encoded(Box<EncodedTap>),
    /// Sound and pictures: bytes that say nothing to the meter.
    Opaque,
}

/// A body of which nothing is here that tells what it is.
#[derive(Debug)]
pub struct Undecided {
    sniff: Sniff,
    /// The room for the text of its output, where that is to be kept.
    room: Option<Room>,
    /// Its status says that it is an error.
    expects_error: bool,
    expects_timings: bool,
    keeps_id: bool,
}

impl Undecided {
    /// The meter of what it turned out to be.
    fn decided(&mut self, content: Content) -> ResponseMeter {
        let mut kind = ResponseMeter::from(content);
        if let Some(room) = &self.room {
            kind.keep_output(room);
        }
        if self.expects_error {
            kind.expect_error();
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
            // A page is given up at its first byte.
            Content::Json | Content::Other => Self::Document(Box::default()),
        }
    }
}

/// What a body's type says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Events,
    /// Sound or pictures.
    Opaque,
    Anything,
}

impl Says {
    fn of(headers: &HeaderMap) -> Self {
        let starts = |value: &[u8], with: &str| {
            value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
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
    /// Chosen by the answer's headers. `asked_for_stream`: its first bytes may tell that it is an
    /// event stream, whatever its type is.
    pub fn of(headers: &HeaderMap, asked_for_stream: bool) -> Self {
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

    fn undecided(says_events: bool) -> Self {
        Self::Undecided(Undecided {
            sniff: Sniff::new(says_events),
            room: None,
            expects_error: false,
            expects_timings: false,
            keeps_id: false,
        })
    }

    /// Whether its type leaves it open if it is an event stream.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Undecided(undecided) => !undecided.sniff.says_events(),
            Self::Encoded(tap) => tap.content().is_ambiguous(),
            Self::Events(_) | Self::Document(_) | Self::Opaque => false,
        }
    }

    /// The same, if it was not known what it is, and is now.
    #[must_use]
    pub fn decided(self, content: Content) -> Self {
        match self {
            Self::Undecided(mut undecided) => undecided.decided(content),
            known => known,
        }
    }

    /// Keeps the text of the output, until usage is reported.
    pub(super) fn keep_output(&mut self, room: &Room) {
        match self {
            Self::Undecided(undecided) => undecided.room = Some(room.clone()),
            Self::Events(meter) => meter.keep_output(room),
            Self::Document(meter) => meter.keep_output(room),
            Self::Encoded(tap) => tap.content_mut().keep_output(room),
            Self::Opaque => {}
        }
    }

    /// If it is an event stream, it is one of llama.cpp's server, which has counts of its own.
    pub(super) fn expect_timings(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.expects_timings = true,
            Self::Events(meter) => meter.expect_timings(),
            Self::Encoded(tap) => tap.content_mut().expect_timings(),
            Self::Document(_) | Self::Opaque => {}
        }
    }

    /// The status says that it is an error: a document that names none is told by its own text.
    pub(super) fn expect_error(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.expects_error = true,
            Self::Document(meter) => meter.expect_error(),
            Self::Encoded(tap) => tap.content_mut().expect_error(),
            Self::Events(_) | Self::Opaque => {}
        }
    }

    /// Keeps the id of the result that the answer is of, and whether it is made in the background.
    pub(super) fn keep_id(&mut self) {
        match self {
            Self::Undecided(undecided) => undecided.keeps_id = true,
            Self::Events(meter) => meter.keep_id(),
            Self::Document(meter) => meter.keep_id(),
            Self::Encoded(tap) => tap.content_mut().keep_id(),
            Self::Opaque => {}
        }
    }

    /// Whether it is an event stream, encoded or not, as far as is known.
    pub fn is_events(&self) -> bool {
        match self {
            Self::Events(_) | Self::Undecided(_) => true,
            Self::Encoded(tap) => tap.content().is_events(),
            Self::Document(_) | Self::Opaque => false,
        }
    }

    /// Whether an event of the proxy's own may stand in it: not in an event stream that is encoded.
    pub fn takes_events(&self) -> bool {
        match self {
            Self::Events(_) => true,
            Self::Undecided(undecided) => undecided.sniff.says_events(),
            Self::Document(_) | Self::Encoded(_) | Self::Opaque => false,
        }
    }

    /// Whether anything can be learned from what follows.
    pub(super) fn is_metered(&self) -> bool {
        match self {
            Self::Events(_) | Self::Undecided(_) => true,
            Self::Document(meter) => !meter.has_given_up(),
            Self::Encoded(tap) => tap.is_read() && tap.content().is_metered(),
            Self::Opaque => false,
        }
    }

    /// Whether it has said that it is whole: nothing that may follow changes the counts.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Events(meter) => meter.tally().terminal,
            Self::Document(meter) => meter.is_complete(),
            Self::Encoded(tap) => tap.content().is_final(),
            Self::Undecided(_) | Self::Opaque => false,
        }
    }

    /// Shows bytes to the meter, and says what was among them.
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

    /// The first bytes: what is skipped of them is shown to no meter, the rest once it is decided.
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

    /// Of an event stream: how many events have passed, and the output tokens that were reported so
    /// far.
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

    /// What has been found; nothing is metered afterwards. `ended`: the body came to its end.
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

    /// The bytes behind which an event of the proxy's own may follow.
    pub(super) fn separator(&self) -> &'static [u8] {
        match self {
            Self::Events(meter) => meter.separator(),
            _ => b"",
        }
    }

    /// The model, as far as an event stream has named it.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Events(meter) => meter.tally().model.as_deref(),
            _ => None,
        }
    }

    /// Where in an event the stream stands.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Events(meter) => meter.position(),
            _ => Position::BetweenEvents,
        }
    }
}

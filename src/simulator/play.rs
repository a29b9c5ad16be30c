//! The two kinds of responses that consist of events.

use bytes::BytesMut;

use super::directions::Directions;
use super::reel::Reel;
use super::script::{Facts, Script};
use super::tally::Tokens;

/// A response that consists of events.
#[derive(Debug)]
pub(super) enum Play {
    /// The sentence, of any length, generated while it is sent.
    Script(Script),
    /// Any other response, generated beforehand.
    Reel(Reel),
}

impl Play {
    pub(super) fn directions(&self) -> &Directions {
        match self {
            Self::Script(script) => script.directions(),
            Self::Reel(reel) => &reel.directions,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        match self {
            Self::Script(script) => script.facts(),
            Self::Reel(reel) => &reel.facts,
        }
    }

    /// The approximate memory that it refers to.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Script(_) => 0,
            Self::Reel(reel) => reel.held_bytes(),
        }
    }

    /// The number of events.
    pub(super) fn events(&self) -> u64 {
        match self {
            Self::Script(script) => script.events(),
            Self::Reel(reel) => reel.events(),
        }
    }

    /// Appends event `index`, and returns the counts that it reports.
    pub(super) fn write(&self, index: u64, stamp: Option<u64>, out: &mut BytesMut) -> Option<Tokens> {
        match self {
            Self::Script(script) => script.write(index, stamp, out),
            Self::Reel(reel) => reel.write(index, stamp, out),
        }
    }

    /// Appends the error that replaces event `index`.
    pub(super) fn write_error(&self, index: u64, out: &mut BytesMut) {
        match self {
            Self::Script(script) => script.write_error(index, out),
            Self::Reel(reel) => out.extend_from_slice(reel.error.as_bytes()),
        }
    }

    /// Appends the response unstreamed, and returns the counts that it reports.
    pub(super) fn write_whole(&self, stamp: Option<u64>, out: &mut BytesMut) -> Option<Tokens> {
        match self {
            Self::Script(script) => script.write_whole(stamp, out),
            Self::Reel(reel) => reel.write_whole(stamp, out),
        }
    }
}

//! The turns of a session that have not ended, and their order.

use std::collections::VecDeque;

use crate::gate::limit::Use;
use crate::proxy::request::expected::{Expected, UNREAD};

/// The turns of a session that have not ended.
#[derive(Debug, Default)]
pub(in crate::proxy::request) struct Turns {
    pub(super) running: VecDeque<Turn>,
    /// There was a turn: the request that the upgrade has held is that turn's.
    pub(super) has_begun: bool,
    /// The tokens of the conversation at the end of the last turn.
    pub(super) context: u64,
    /// The last turn that an error without an id has ended before its beginning. The error may have
    /// been about another message.
    pub(super) doubtful: Option<Turn>,
    /// The use that the service may bill and the record lacks.
    pub(super) unrecorded: Use,
}

#[derive(Debug)]
pub(super) struct Turn {
    /// The client's own id of the message that asks for it.
    pub(super) event_id: Option<String>,
    pub(super) expected: Expected,
    /// The service has begun the response.
    pub(super) has_begun: bool,
    /// The output tokens that have passed.
    pub(super) output: u64,
    /// See `Running::lacks_room`.
    pub(super) lacks_room: bool,
}

impl Turns {
    /// The use that the session is expected to have beside what it has counted.
    pub(super) fn expected(&self, counts_tokens: bool) -> Use {
        if !self.has_begun {
            let input = if counts_tokens { UNREAD } else { 0 };
            return Expected { input, ..Expected::default() }.used();
        }
        self.running.iter().fold(Use::default(), |sum, turn| sum.plus(&turn.expected.used()))
    }

    pub(super) fn first_begun(&self) -> Option<usize> {
        self.running.iter().position(|turn| turn.has_begun)
    }

    pub(super) fn first_waiting(&self) -> Option<usize> {
        self.running.iter().position(|turn| !turn.has_begun)
    }

    /// The turn that an error is about, which may have the id of a message.
    pub(super) fn refused(&self, event_id: Option<&str>) -> Option<usize> {
        let Some(event_id) = event_id else {
            // Services name the id of a message that has one.
            let nameless = |turn: &Turn| !turn.has_begun && turn.event_id.is_none();
            return self.running.iter().position(nameless).or_else(|| self.first_waiting());
        };
        self.running.iter().position(|turn| turn.event_id.as_deref() == Some(event_id))
    }
}

impl Turn {
    pub(super) fn new(event_id: Option<String>, expected: Expected, has_begun: bool) -> Self {
        Self { event_id, expected, has_begun, output: 0, lacks_room: false }
    }
}

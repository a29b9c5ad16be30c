//! The missing parts of a response that ended in order.

use http::{Method, StatusCode};

use super::{Exchange, ResponseFrames};
use crate::llm::usage::Tally;

/// Endpoints whose streams end with an event that marks the end.
const ENDED_BY_EVENT: [&str; 4] = ["chat/completions", "completions", "messages", "responses"];

impl<B: ResponseFrames> Exchange<B> {
    /// The reason for which a complete response with status 200 counts as a failure: it has no
    /// content. Some servers fail like this (llama-cpp-python, if a prompt is too long for the
    /// model).
    pub(super) fn lack(&mut self, is_events: bool, tally: &Tally) -> Option<&'static str> {
        let is_body = self.reading.entry.method().is_some_and(|method| method != Method::HEAD);
        if self.status != StatusCode::OK || tally.skipped > 0 || !is_body {
            return None;
        }
        let is_empty = self.reading.entry.row().response_bytes == 0;
        if is_events {
            return (tally.events == 0).then_some(if is_empty {
                "the upstream sent an empty body"
            } else {
                "the upstream's event stream ended without an event"
            });
        }
        let has_output = tally.output.as_ref().is_some_and(|output| !output.is_empty());
        let is_response = tally.usage.is_some() || tally.model.is_some() || tally.pending || has_output;
        (self.promises_events && !is_response)
            .then_some("the upstream sent neither an event stream nor a completion")
    }

    pub(super) fn ends_by_event(&mut self) -> bool {
        self.reading
            .entry
            .row()
            .endpoint
            .as_deref()
            .is_some_and(|endpoint| ENDED_BY_EVENT.contains(&endpoint))
    }
}

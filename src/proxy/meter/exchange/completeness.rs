//! The missing parts of a response that ended in order.

use http::{Method, StatusCode};

use super::{Exchange, ResponseFrames};
use crate::llm::usage::Tally;

/// Endpoints whose streams end with an event that marks the end.
const ENDED_BY_EVENT: [&str; 4] = ["chat/completions", "completions", "messages", "responses"];

/// Other endpoints whose events are known, so that a stream without any of them is no response.
const WITH_KNOWN_EVENTS: [&str; 5] =
    ["audio/speech", "audio/transcriptions", "images/edits", "images/generations", "threads/runs"];

impl<B: ResponseFrames> Exchange<B> {
    /// The reason for which a complete response with status 200 counts as a failure: it has no
    /// content. Some servers fail like this (llama-cpp-python, if a prompt is too long for the
    /// model). The reason is the body's own text, if it has one.
    pub(super) fn lack(&mut self, is_events: bool, tally: &mut Tally) -> Option<Box<str>> {
        let method = self.reading.entry.method();
        let (is_body, creates) =
            method.map_or((false, false), |method| (method != Method::HEAD, method == Method::POST));
        if self.status != StatusCode::OK || tally.skipped > 0 || !is_body {
            return None;
        }
        let is_empty = self.reading.entry.row().response_bytes == 0;
        if is_events && tally.events == 0 {
            let text = if is_empty {
                "the upstream sent an empty body"
            } else {
                "the upstream's event stream ended without an event"
            };
            return Some(text.into());
        }
        if is_events {
            let is_nothing = creates && !tally.is_response && self.knows_events();
            let text = "the upstream's event stream has no event of a response";
            return is_nothing.then(|| tally.complaint.take().map_or_else(|| text.into(), |text| *text));
        }
        let has_output = tally.output.as_ref().is_some_and(|output| !output.is_empty());
        let is_response = tally.usage.is_some() || tally.model.is_some() || tally.pending || has_output;
        let text = "the upstream sent neither an event stream nor a completion";
        (self.promises_events && !is_response)
            .then(|| tally.complaint.take().map_or_else(|| text.into(), |text| *text))
    }

    pub(super) fn ends_by_event(&mut self) -> bool {
        self.serves_one_of(&ENDED_BY_EVENT)
    }

    fn knows_events(&mut self) -> bool {
        self.ends_by_event() || self.serves_one_of(&WITH_KNOWN_EVENTS)
    }

    fn serves_one_of(&mut self, endpoints: &[&str]) -> bool {
        self.reading.entry.row().endpoint.as_deref().is_some_and(|endpoint| endpoints.contains(&endpoint))
    }
}

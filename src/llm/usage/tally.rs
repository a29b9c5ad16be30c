//! The meter's reading of a response so far.

use super::calls::{CallCounts, ToolCalls};
use super::choices::Choices;
use super::cost;
use super::extracted::{EventKind, Extracted};
use super::slots::{ERROR_LIMIT, ItemAt};
use super::text_values::beginning;
use super::tier::Tier;
use super::{Cause, Output, Usage};

/// The reading of one response, stream or body.
#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    /// The first non-empty model name.
    pub model: Option<Box<str>>,
    /// The effective usage: the last one reported; for images, their sum.
    pub usage: Option<Usage>,
    pub service_tier: Option<Tier>,
    /// The cost that the service reported, in US dollars, in its own digits.
    pub reported_cost: Option<Box<str>>,
    /// Calls billed per use; `None` if there was none.
    pub calls: Option<Box<CallCounts>>,
    /// The usage of the choices of a legacy completion; `None` if none was reported.
    pub choices: Option<Box<Choices>>,
    /// The name of an unknown count, if the usage lacks its input or output.
    pub unread: Option<Box<str>>,
    /// Payloads that reported usage.
    pub usage_reports: u64,
    /// Events of any content.
    pub events: u64,
    /// The upstream broke off inside the response.
    pub broke_off: bool,
    /// Events, bodies and usage objects that were too large to be read.
    pub skipped: u64,
    /// The response declared its end: `[DONE]`, a final event type, or a body's last bracket.
    pub terminal: bool,
    /// The first error's text, cut to [`ERROR_LIMIT`] bytes.
    pub error: Option<Box<str>>,
    /// The cause of that error.
    pub cause: Cause,
    /// A body's `status` says that the response is not final (Responses in the background).
    pub pending: bool,
    /// The first id of a stored result, if the meter keeps it.
    pub id: Option<Box<str>>,
    /// The result says that it is made in the background, if the meter keeps it.
    pub background: Option<bool>,
    /// The response had llama.cpp's `timings`, which that server sends without `include_usage`.
    pub has_timings: bool,
    /// A payload is part of a response, or of an unknown form: neither a failure nor a keep-alive.
    pub is_response: bool,
    /// The text of the first payload that is a failure without an error, if no response precedes it.
    /// For a body, if the meter keeps it, its beginning if it has no such text.
    pub complaint: Option<Box<Box<str>>>,
    pub merging: Merging,
    /// The output text, if the meter keeps it and no usage was reported.
    pub output: Option<Box<Output>>,
}

/// The way in which usage is merged with the one before it, field by field (Anthropic).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merging {
    #[default]
    No,
    /// The last usage is that of a message that begins, with the beginning of its output.
    Begun,
    Yes,
}

impl Tally {
    /// Returns true if the usage is that of a message that only began.
    pub fn is_provisional(&self) -> bool {
        self.merging == Merging::Begun
    }

    /// Calls that are billed per use. `None` if there was none.
    pub fn tool_calls(&self) -> Option<ToolCalls> {
        self.calls.as_ref().map(|calls| calls.total())
    }

    /// The name of a count that was not understood, if the usage lacks its input or output.
    pub fn not_understood(&self) -> Option<&str> {
        let is_whole =
            self.usage.is_some_and(|usage| usage.input_tokens.is_some() && usage.output_tokens.is_some());
        self.unread.as_deref().filter(|_| !is_whole)
    }

    /// Merges one payload. `named`: the meaning of its event's name.
    pub(super) fn take(&mut self, extracted: &mut Extracted, named: EventKind) {
        if !self.is_response {
            self.is_response = extracted.is_response();
        }
        let merges = self.merging != Merging::No || named == EventKind::Merge || extracted.merges();
        self.has_timings |= extracted.timings.is_some();
        let begins = extracted.begins_message();
        let is_picture = [named, extracted.kind].contains(&EventKind::Picture);
        let mut tier = extracted.take_tier();
        let mut is_reported = false;
        let mut counted = extracted.counted_calls();
        if let Some(mut report) = extracted.take_report() {
            tier = tier.or(report.tier.take());
            counted = report.calls.or(counted);
            self.reported_cost = match (self.reported_cost.take(), report.cost.take()) {
                (Some(earlier), Some(cost)) if is_picture => cost::plus(&earlier, &cost),
                (earlier, cost) => cost.or(earlier),
            };
            if report.counts.is_some() || self.usage.is_none() {
                self.unread = report.unread.take();
            }
            if let Some(usage) = &report.counts {
                is_reported = true;
                self.usage_reports += 1;
                self.merging = match merges {
                    true if begins => Merging::Begun,
                    true => Merging::Yes,
                    false => Merging::No,
                };
                self.output = None;
                let adds = is_picture || Choices::add(&mut self.choices, extracted.shares());
                match &mut self.usage {
                    Some(earlier) if adds => *earlier = earlier.plus(*usage),
                    Some(earlier) if merges => *earlier = earlier.updated(*usage),
                    earlier => *earlier = report.counts,
                }
            }
        }
        if tier.is_some() && (is_reported || self.service_tier.is_none()) {
            self.service_tier = tier;
        }
        if !extracted.items.is_empty() || !counted.is_empty() {
            let done =
                if extracted.ends_item { extracted.items.calls(ItemAt::Event) } else { ToolCalls::default() };
            self.count_calls(CallCounts { reported: counted, done, listed: extracted.listed_calls() });
        }
        if self.model.is_none() {
            self.model = extracted.take_model();
        }
        self.take_error(extracted, named == EventKind::Error);
        if !self.is_response && self.complaint.is_none() {
            self.complaint = extracted.take_complaint().map(Box::new);
        }
        let (id, background) = extracted.take_result();
        self.id = self.id.take().or(id);
        self.background = background.or(self.background);
        self.terminal |= extracted.kind.is_terminal();
        self.pending = extracted.pending;
        self.skipped += u64::from(extracted.too_large);
    }

    /// Keeps the payload's error if it is the first. `is_error`: the event itself is an error.
    pub(super) fn take_error(&mut self, extracted: &mut Extracted, is_error: bool) {
        if self.error.is_none()
            && let Some((error, cause)) = extracted.take_error(is_error)
        {
            (self.error, self.cause) = (Some(error), cause);
        }
    }

    /// Keeps the beginning of a body that is not a response, unless it has a text of its own.
    pub(super) fn complain(&mut self, payload: &[u8]) {
        if !self.is_response && self.complaint.is_none() {
            self.complaint = start(payload).map(Box::new);
        }
    }

    fn count_calls(&mut self, extracted: CallCounts) {
        if extracted != CallCounts::default() {
            let calls = self.calls.get_or_insert_default();
            calls.reported = extracted.reported.or(calls.reported);
            calls.done = calls.done.plus(extracted.done);
            calls.listed = calls.listed.most(extracted.listed);
        }
    }

    /// Keeps the text of an error that is not JSON, or of no known form.
    pub(super) fn take_error_text(&mut self, text: &[u8]) {
        if self.error.is_none() {
            self.error = Some(start(text).unwrap_or_default());
        }
    }
}

/// The beginning of a text; `None` if it is blank.
fn start(text: &[u8]) -> Option<Box<str>> {
    let text = text.trim_ascii();
    // A character that begins before the limit stays whole.
    let start = String::from_utf8_lossy(&text[..text.len().min(ERROR_LIMIT + 3)]);
    (!text.is_empty()).then(|| beginning(start.into_owned()))
}

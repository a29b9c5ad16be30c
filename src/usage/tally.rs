//! What a meter knows so far.

use super::calls::{CallCounts, ToolCalls};
use super::choices::Choices;
use super::cost;
use super::found::{Announces, Found, beginning};
use super::places::{ERROR_LIMIT, ItemAt};
use super::tier::Tier;
use super::{Cause, Output, Usage};

/// What was read from one answer, stream or body.
#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    /// The first model that was named and not empty.
    pub model: Option<Box<str>>,
    /// The usage that holds: the last one reported; of pictures, the sum of theirs.
    pub usage: Option<Usage>,
    /// The service tier, as the service named it.
    pub service_tier: Option<Tier>,
    /// What the service says that the response cost, in US dollars; the digits are its own.
    pub reported_cost: Option<Box<str>>,
    /// Calls that are billed per use; `None` where there was none.
    pub calls: Option<Box<CallCounts>>,
    /// The usages of the choices of a legacy completion; `None` where none was reported.
    pub choices: Option<Box<Choices>>,
    /// A count whose name is not known, where the usage lacks its input or output.
    pub unread: Option<Box<str>>,
    /// How many payloads reported usage.
    pub usage_reports: u64,
    /// How many events there were, whatever was in them.
    pub events: u64,
    /// How many events, bodies or usage objects were too large to be read.
    pub skipped: u64,
    /// The answer said that it is whole: `[DONE]`, a type that ends a stream, or a body's last
    /// bracket.
    pub terminal: bool,
    /// What the first error in the answer said, cut to [`ERROR_LIMIT`] bytes.
    pub error: Option<Box<str>>,
    /// What that error comes of.
    pub cause: Cause,
    /// A body's `status` says that its answer is still to come (Responses in the background).
    pub pending: bool,
    /// The first id of a result that may be stored, where it was to be kept.
    pub id: Option<Box<str>>,
    /// What that result said last of whether it is made in the background, where it was to be kept.
    pub background: Option<bool>,
    /// It reported llama.cpp's `timings`, which that server sends unasked.
    pub has_timings: bool,
    /// The text of the output, where it was to be kept and no usage was reported.
    pub output: Option<Box<Output>>,
}

impl Tally {
    /// Calls that are billed per use; `None` where there was none.
    pub fn tool_calls(&self) -> Option<ToolCalls> {
        self.calls.as_ref().map(|calls| calls.total())
    }

    /// A count that was not understood, if the usage lacks its input or output for that.
    pub fn not_understood(&self) -> Option<&str> {
        let is_whole =
            self.usage.is_some_and(|usage| usage.input_tokens.is_some() && usage.output_tokens.is_some());
        self.unread.as_deref().filter(|_| !is_whole)
    }

    /// Takes over what one payload had. `called`: what its event's name announces.
    pub(super) fn take(&mut self, found: &mut Found, called: Announces) {
        let merges = found.merges();
        self.has_timings |= found.timings.is_some();
        let is_picture = [called, found.announces].contains(&Announces::Picture);
        let mut tier = found.take_tier();
        let mut is_reported = false;
        let mut counted = found.counted_calls();
        if let Some(mut report) = found.take_report() {
            tier = tier.or(report.tier.take());
            counted = report.calls.or(counted);
            self.reported_cost = match (self.reported_cost.take(), report.cost.take()) {
                (Some(earlier), Some(cost)) if is_picture => cost::plus(&earlier, &cost),
                (earlier, cost) => cost.or(earlier),
            };
            if report.counts.is_some() || self.usage.is_none() {
                self.unread = report.unread.take();
            }
            if let Some(usage) = report.counts {
                is_reported = true;
                self.usage_reports += 1;
                self.output = None;
                let adds = is_picture || Choices::add(&mut self.choices, found.shares());
                self.usage = Some(match self.usage {
                    Some(earlier) if adds => earlier.plus(usage),
                    Some(earlier) if merges => earlier.updated(usage),
                    _ => usage,
                });
            }
        }
        if tier.is_some() && (is_reported || self.service_tier.is_none()) {
            self.service_tier = tier;
        }
        if !found.items.is_empty() || !counted.is_empty() {
            let done = if found.ends_item { found.items.calls(ItemAt::Event) } else { ToolCalls::default() };
            self.count_calls(CallCounts { reported: counted, done, listed: found.listed_calls() });
        }
        if self.model.is_none() {
            self.model = found.take_model();
        }
        self.take_error(found, called == Announces::Error);
        let (id, background) = found.take_result();
        self.id = self.id.take().or(id);
        self.background = background.or(self.background);
        self.terminal |= found.announces.is_terminal();
        self.pending = found.pending;
        self.skipped += u64::from(found.too_large);
    }

    /// Takes over the payload's error, if it is the first. `named`: the event itself is an error.
    pub(super) fn take_error(&mut self, found: &mut Found, named: bool) {
        if self.error.is_none()
            && let Some((error, cause)) = found.take_error(named)
        {
            (self.error, self.cause) = (Some(error), cause);
        }
    }

    fn count_calls(&mut self, found: CallCounts) {
        if found != CallCounts::default() {
            let calls = self.calls.get_or_insert_default();
            calls.reported = found.reported.or(calls.reported);
            calls.done = calls.done.plus(found.done);
            calls.listed = calls.listed.most(found.listed);
        }
    }

    /// An error that is not told in JSON, or not in any way we know: its own text stands for it.
    pub(super) fn take_error_text(&mut self, text: &[u8]) {
        if self.error.is_none() {
            let text = text.trim_ascii();
            // The character that begins before the limit is whole.
            let text = String::from_utf8_lossy(&text[..text.len().min(ERROR_LIMIT + 3)]);
            self.error = Some(beginning(text.into_owned()));
        }
    }
}

//! The wanted values of one JSON text.

mod keep;

use super::calls::{ToolCalls, ToolKind};
pub(super) use super::event_kind::EventKind;
use super::items::Items;
use super::output::Part;
use super::report::Report;
use super::slots::{ErrorAt, ItemAt, UsageAt};
use super::tier::Tier;
use super::{Cause, Usage};

/// The number of places of errors.
const ERRORS: usize = ErrorAt::ResponseCode as usize + 1;

/// The wanted values of one JSON text: an event's data, a body or a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extracted {
    /// Usages by [`UsageAt`], best first.
    usage: [Option<Box<Report>>; 12],
    /// Models by [`ModelAt`](super::slots::ModelAt), best first.
    model: [Option<Box<str>>; 7],
    /// Errors by [`ErrorAt`], best first. Unallocated if there is none.
    errors: Option<Box<[Option<Box<str>>; ERRORS]>>,
    /// The client's id of the message that the error is about.
    pub(super) refused_id: Option<Box<str>>,
    /// Tiers by [`Beside`](super::slots::Beside), best first.
    tier: [Option<Tier>; 2],
    /// The items of the output.
    pub(super) items: Items,
    /// Web searches that the service counted, by [`Beside`](super::slots::Beside).
    web_searches: [u64; 2],
    /// The top-level `message`: an error's text if `says_error`.
    message: Option<Box<str>>,
    /// The top-level `code`, likewise.
    code: Option<Box<str>>,
    says_error: bool,
    /// The meaning of the top-level `type`.
    pub(super) kind: EventKind,
    /// The text contains output: text, reasoning or arguments of a tool call.
    pub(super) content: bool,
    /// Number of output texts.
    texts: u32,
    /// The last output text, and where it began in the piece that contains its beginning.
    text: Option<(Part, usize)>,
    /// The event adds an item of the output. No other event of the stream brings its name.
    pub(super) adds_item: bool,
    /// The event says that an item of the output is complete.
    pub(super) ends_item: bool,
    /// The top-level `status` says that the response is not final.
    pub(super) pending: bool,
    /// The `status` of the response in an event is `failed`.
    has_failed: bool,
    /// Ids by [`ResultAt`](super::slots::ResultAt), best first; empty unless the scan keeps ids.
    ids: [Option<Box<str>>; 2],
    background: [Option<bool>; 2],
    /// The object belongs to an assistant's run but is not the run itself.
    is_beside_run: bool,
    /// The object is a step of a run, whose usage the run's usage includes.
    is_step: bool,
    /// A usage object exceeded its limit.
    pub(super) too_large: bool,
    /// The top-level `usage` is an object, even an empty one.
    pub(super) usage_object: bool,
    /// llama.cpp's counts, used if there is no usage.
    pub(super) timings: Option<Box<Usage>>,
    /// The fingerprint is that of llama.cpp's server.
    pub(super) is_llama_cpp: bool,
    /// The text has an `event_type`, as Cohere's events of version 1 have.
    pub(super) has_event_type: bool,
    /// Number of choices; index and end of the last one.
    choices: u32,
    index: Option<u64>,
    is_finished: bool,
    /// A choice has a finish reason.
    pub(super) has_finished: bool,
    /// The text is a legacy completion, or a list of them.
    pub(super) is_completion: bool,
    /// The top-level `detail` or `errors`.
    detail: Option<Box<str>>,
    /// The top-level `object` or `type` is that of a part of a response.
    has_name: bool,
    is_keep_alive: bool,
}

/// The choices that the usage beside a choice covers, in legacy completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shares {
    /// All choices.
    All,
    /// An unfinished choice: the usage grows with every event.
    SoFar,
    /// The finished choice of this index.
    Own(u64),
}

impl Extracted {
    /// Takes the id of the stored result, and whether it is made in the background.
    pub(super) fn take_result(&mut self) -> (Option<Box<str>>, Option<bool>) {
        if self.is_beside_run {
            return (None, None);
        }
        let background = self.background.iter().copied().find_map(|said| said);
        (self.ids.iter_mut().find_map(Option::take), background)
    }

    /// Returns true if the usage is merged into the one before it instead of replacing it.
    pub(super) fn merges(&self) -> bool {
        self.kind == EventKind::Merge || self.begins_message()
    }

    /// Returns true if the usage is that of a message that begins.
    pub(super) fn begins_message(&self) -> bool {
        self.usage.iter().position(has_counts) == Some(UsageAt::Message as usize)
    }

    /// Takes the usage: the best one with counts, else the best one.
    pub(super) fn take_report(&mut self) -> Option<Box<Report>> {
        if self.is_step {
            return None;
        }
        if !self.is_completion {
            self.usage[UsageAt::Listed as usize] = None;
        }
        let at = self.usage.iter().position(has_counts);
        if let (None, Some(timings)) = (at, &self.timings) {
            return Some(Box::new(Report { counts: Some(**timings), ..Report::default() }));
        }
        let at = at.or_else(|| self.usage.iter().position(Option::is_some))?;
        self.usage[at].take()
    }

    /// Returns true if [`Extracted::take_report`] would return counts.
    pub(super) fn has_counts(&self) -> bool {
        let is_wanted = |at: usize| at != UsageAt::Listed as usize || self.is_completion;
        let mut usages = self.usage.iter().enumerate();
        !self.is_step
            && (self.timings.is_some() || usages.any(|(at, usage)| has_counts(usage) && is_wanted(at)))
    }

    /// The choices that the usage covers, in legacy completions.
    pub(super) fn shares(&self) -> Shares {
        match self.index {
            _ if !self.is_completion || self.choices == 0 => Shares::All,
            Some(index) if self.choices == 1 && self.is_finished => Shares::Own(index),
            _ if self.is_finished => Shares::All,
            _ => Shares::SoFar,
        }
    }

    pub(super) fn choice_begins(&mut self) {
        self.choices += 1;
        self.index = None;
        self.is_finished = false;
    }

    /// Takes the service tier that stands beside the usage.
    pub(super) fn take_tier(&mut self) -> Option<Tier> {
        self.tier.iter_mut().find_map(Option::take)
    }

    /// The billed items of an output that is listed whole.
    pub(super) fn listed_calls(&self) -> ToolCalls {
        self.items.calls(ItemAt::Body).most(self.items.calls(ItemAt::Response))
    }

    /// Calls that the service counted beside the usage.
    pub(super) fn counted_calls(&self) -> ToolCalls {
        if self.web_searches == [0; 2] {
            return ToolCalls::default();
        }
        let [top, response] = self.web_searches.map(|count| ToolCalls::of(ToolKind::WebSearch, count));
        top.or(response)
    }

    /// An output text begins at this offset of its piece.
    pub(super) fn text_begins(&mut self, part: Part, at: usize) {
        self.texts += 1;
        self.text = Some((part, at));
    }

    /// Returns true if there is an output text.
    pub(super) fn has_text(&self) -> bool {
        self.texts > 0
    }

    /// The only output text, and where it began in its piece; `None` if there are several.
    pub(super) fn lone_text(&self) -> Option<(Part, usize)> {
        self.text.filter(|_| self.texts == 1)
    }

    /// Returns true if the event's response has failed.
    pub(super) fn has_failed(&self) -> bool {
        let at_response = ErrorAt::ResponseText as usize..ERRORS;
        self.has_failed
            || self.errors.as_ref().is_some_and(|errors| errors[at_response].iter().any(Option::is_some))
    }

    /// Takes the best model name that is not empty.
    pub(super) fn take_model(&mut self) -> Option<Box<str>> {
        self.model.iter_mut().find_map(Option::take)
    }

    /// Returns true if the payload is part of a response, as far as its members show. Must be called
    /// before anything is taken.
    pub(super) fn is_response(&self) -> bool {
        self.content
            || self.has_name
            || self.choices > 0
            || self.usage.iter().any(Option::is_some)
            || self.model.iter().any(Option::is_some)
    }

    /// Returns true for a keep-alive, and for a failure in another form than an error.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_keep_alive || self.message.is_some() || self.detail.is_some()
    }

    /// Takes the text of a failure that is in no error's place.
    pub(super) fn take_complaint(&mut self) -> Option<Box<str>> {
        self.message.take().or(self.detail.take())
    }

    /// Takes the error's message, or the best substitute, and its cause. `is_error`: the event
    /// itself is an error.
    pub(super) fn take_error(&mut self, is_error: bool) -> Option<(Box<str>, Cause)> {
        let says_error = is_error || self.says_error || self.kind == EventKind::Error;
        if self.errors.is_none() && !says_error {
            return None;
        }
        let mut errors = self.errors.take().unwrap_or_default();
        let at = errors.iter().position(Option::is_some);
        if at.is_none() && !says_error {
            return None;
        }
        let words = [ErrorAt::Code, ErrorAt::ResponseCode].map(|at| &errors[at as usize]);
        let words = words.into_iter().chain([&self.code, &errors[ErrorAt::Type as usize]]);
        let cause = Cause::of(words.flatten().map(|word| &**word));
        let message = self.message.take().filter(|_| says_error);
        let text = at.and_then(|at| errors[at].take()).or(message)?;
        Some((text, cause))
    }
}

fn has_counts(report: &Option<Box<Report>>) -> bool {
    report.as_ref().is_some_and(|report| report.counts.is_some())
}

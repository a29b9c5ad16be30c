//! Keeps the wanted values that a scan meets.

use std::ops::Range;

use super::super::calls::ToolKind;
use super::super::event_kind::EventKind;
use super::super::places::{Key, Place};
use super::super::report::{Report, count};
use super::super::slots::{Beside, ErrorAt, ItemAt, ModelAt, ResultAt, Slot, UsageAt};
use super::super::text_values::{has_content, saying, text, word};
use super::super::tier::tier;
use super::super::timings;
use super::{ERRORS, Extracted, has_counts};

/// The values of `status` of a response, run, video or batch that is not final.
const PENDING: [&[u8]; 6] =
    [b"queued", b"in_progress", b"requires_action", b"validating", b"finalizing", b"cancelling"];

impl Extracted {
    /// Discards the values under a key that is repeated: the last of two equal keys counts.
    pub(in super::super) fn forget(&mut self, place: Place, key: Key) {
        match (place, key) {
            (Place::Top, Key::Choices) => {
                self.usage[UsageAt::Choice as usize] = None;
                self.choices = 0;
            }
            (Place::Top, Key::Interaction) => {
                self.usage[UsageAt::Interaction as usize] = None;
                self.model[ModelAt::Interaction as usize] = None;
            }
            (Place::Top, Key::Delta) => self.usage[UsageAt::Delta as usize] = None,
            (Place::Choice, Key::Index) => self.index = None,
            (Place::Choice, Key::FinishReason) => self.is_finished = false,
            (Place::Top, Key::XGroq) => {
                self.usage[UsageAt::XGroq as usize] = None;
                self.forget_errors(ErrorAt::Groq as usize..ErrorAt::ResponseText as usize);
            }
            (Place::Top, Key::Response) => {
                self.usage[UsageAt::Response as usize] = None;
                self.usage[UsageAt::ResponseMeta as usize] = None;
                self.tier[Beside::Response as usize] = None;
                self.items.forget(ItemAt::Response);
                self.web_searches[Beside::Response as usize] = 0;
                self.model[ModelAt::Response as usize] = None;
                self.ids[ResultAt::Response as usize] = None;
                self.background[ResultAt::Response as usize] = None;
                self.forget_errors(ErrorAt::ResponseText as usize..ERRORS);
            }
            (Place::Top, Key::Session) => self.model[ModelAt::Session as usize] = None,
            (Place::Top, Key::Message) => {
                self.usage[UsageAt::Message as usize] = None;
                self.model[ModelAt::Message as usize] = None;
                self.message = None;
            }
            (Place::Top | Place::Listed, Key::Error) => {
                self.forget_errors(0..ErrorAt::Groq as usize);
                self.refused_id = None;
            }
            (Place::Response | Place::StatusDetails, Key::Error) => {
                self.forget_errors(ErrorAt::ResponseText as usize..ERRORS)
            }
            (Place::Top, Key::Output) => self.items.forget(ItemAt::Body),
            (Place::Response, Key::Output) => self.items.forget(ItemAt::Response),
            (Place::Top, Key::Item) => self.items.forget(ItemAt::Event),
            (place, Key::Action) if place.item().is_some() => self.items.forget_action(),
            (Place::Top, Key::ToolUsage) => self.web_searches[Beside::Top as usize] = 0,
            (Place::Response, Key::ToolUsage) => self.web_searches[Beside::Response as usize] = 0,
            (Place::ToolUsage, Key::WebSearch) => self.web_searches[Beside::Top as usize] = 0,
            (Place::ResponseToolUsage, Key::WebSearch) => self.web_searches[Beside::Response as usize] = 0,
            // The other keys have plain values, which the last one replaces.
            _ => {}
        }
    }

    #[cold]
    fn forget_errors(&mut self, at: Range<usize>) {
        if let Some(errors) = &mut self.errors {
            errors[at].fill(None);
        }
    }

    /// Stores a wanted value. A value that exceeds its limit comes with one byte beyond the limit.
    pub(in super::super) fn take(&mut self, slot: Slot, value: &[u8]) {
        let too_long = value.len() > slot.limit();
        let value = &value[..value.len().min(slot.limit())];
        match slot {
            Slot::Usage(at) => {
                let report = if too_long { None } else { Report::read(value) };
                self.keep_usage(at, value, too_long, report);
            }
            Slot::Model(at) => self.model[at as usize] = if too_long { None } else { text(value) },
            Slot::Error(at) => match saying(value) {
                Some(error) => self.errors.get_or_insert_default()[at as usize] = Some(error),
                None => self.forget_errors(at as usize..at as usize + 1),
            },
            Slot::Message => self.message = saying(value).filter(|_| value.starts_with(b"\"")),
            Slot::Code => self.code = saying(value),
            Slot::Type => {
                self.kind = EventKind::from_type(word(value));
                self.is_keep_alive = matches!(word(value), b"ping" | b"keepalive");
                self.has_name |= !self.is_keep_alive && !matches!(word(value), b"" | b"error");
                self.adds_item = word(value) == b"response.output_item.added";
                self.ends_item = word(value) == b"response.output_item.done";
            }
            Slot::EventType => {
                self.has_event_type = value.starts_with(b"\"");
                if word(value) == b"stream-end" {
                    self.kind = EventKind::Terminal;
                }
            }
            Slot::Object => {
                let object = word(value);
                self.says_error = object == b"error";
                self.has_name |= !self.says_error && !object.is_empty();
                self.is_completion = object == b"text_completion";
                self.is_step = object == b"thread.run.step";
                self.is_beside_run = object.starts_with(b"thread") && object != b"thread.run";
            }
            Slot::ListedObject => self.is_completion |= word(value) == b"text_completion",
            Slot::Index => self.index = count(value),
            Slot::FinishReason => {
                self.is_finished = value.starts_with(b"\"") && value != b"\"\"";
                self.has_finished |= self.is_finished;
            }
            Slot::Detail => self.detail = saying(value),
            Slot::Status => self.pending = PENDING.contains(&word(value)),
            Slot::ResponseStatus => self.has_failed = word(value) == b"failed",
            Slot::Id(at) => self.ids[at as usize] = if too_long { None } else { text(value) },
            Slot::RefusedId => self.refused_id = if too_long { None } else { text(value) },
            Slot::Background(at) => {
                self.background[at as usize] = match value {
                    b"true" => Some(true),
                    b"false" => Some(false),
                    _ => None,
                };
            }
            Slot::Tier(at) => self.tier[at as usize] = if too_long { None } else { tier(value) },
            Slot::ItemType => self.items.kind(ToolKind::from_item(word(value))),
            Slot::ItemStatus => self.items.status(word(value)),
            Slot::ActionType => self.items.action(word(value)),
            Slot::WebSearches(at) => self.web_searches[at as usize] = count(value).unwrap_or(0),
            Slot::Timings => self.timings = if too_long { None } else { timings::read(value).map(Box::new) },
            Slot::Fingerprint => self.is_llama_cpp = timings::is_llama_cpp(value),
            Slot::Content => self.content |= has_content(value),
        }
    }

    /// Stores a usage of any length, and its counts.
    pub(in super::super) fn take_usage(&mut self, at: UsageAt, value: &[u8], report: Option<Box<Report>>) {
        let too_long = value.len() > Slot::Usage(at).limit();
        self.keep_usage(at, value, too_long, report.filter(|_| !too_long));
    }

    /// In a list, and among choices, a value without counts does not replace one with counts.
    fn keep_usage(&mut self, at: UsageAt, value: &[u8], too_long: bool, mut report: Option<Box<Report>>) {
        let is_object = value.starts_with(b"{");
        self.usage_object |= at == UsageAt::Top && is_object;
        // Other services may use `meta` for anything.
        self.too_large |= too_long && is_object && at != UsageAt::Meta;
        let place = &mut self.usage[at as usize];
        if let (UsageAt::Meta, Some(report)) = (at, &mut report) {
            report.unread = None;
        }
        if let (UsageAt::Listed, Some(sum), Some(report)) = (at, &mut *place, &mut report)
            && let (Some(earlier), Some(counts)) = (sum.counts, &mut report.counts)
        {
            *counts = earlier.plus(*counts);
        }
        let is_list = matches!(at, UsageAt::Choice | UsageAt::Listed | UsageAt::ListedMetadata);
        let keeps = if has_counts(place) { !has_counts(&report) } else { report.is_none() };
        if !(is_list && keeps) {
            *place = report;
        }
    }
}

//! The wanted values of one JSON text.

use super::calls::{ToolCalls, ToolKind};
use super::items::Items;
use super::json;
use super::output::Part;
use super::places::{Beside, ERROR_LIMIT, ErrorAt, ItemAt, Key, ModelAt, Place, ResultAt, Slot, UsageAt};
use super::report::{Report, count};
use super::tier::{Tier, tier};
use super::timings;
use super::{Cause, Usage};

/// The values of `status` of a response, run, video or batch that is not final.
const PENDING: [&[u8]; 6] =
    [b"queued", b"in_progress", b"requires_action", b"validating", b"finalizing", b"cancelling"];

/// The wanted values of one JSON text: an event's data, a body or a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extracted {
    /// Usages by [`UsageAt`], best first.
    usage: [Option<Box<Report>>; 11],
    /// Models by [`ModelAt`], best first.
    model: [Option<Box<str>>; 7],
    /// Errors by [`ErrorAt`], best first.
    error: [Option<Box<str>>; 7],
    /// Tiers by [`Beside`], best first.
    tier: [Option<Tier>; 2],
    /// The items of the output.
    pub(super) items: Items,
    /// Web searches that the service counted, by [`Beside`].
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
    /// Ids by [`ResultAt`], best first; empty unless the scan keeps ids.
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
    /// Number of choices; index and end of the last one.
    choices: u32,
    index: Option<u64>,
    is_finished: bool,
    /// The text is a legacy completion, or a list of them.
    is_completion: bool,
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

/// The meaning of an event's type for the meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EventKind {
    #[default]
    Other,
    /// The last event of the stream.
    Terminal,
    Error,
    /// Its usage is merged into the one before it (Anthropic).
    Merge,
    /// One finished image, perhaps of several: its usage is added to the others.
    Picture,
    /// A response of a realtime session begins.
    Begun,
    /// A response of a realtime session ends.
    Done,
    /// A response ends, and with it a stream of its own; a session has several.
    Completed,
    /// The client requests a response in a session.
    Asked,
    /// The input of a realtime session was transcribed.
    Transcribed,
}

impl EventKind {
    /// Returns true if a stream may end after this event.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, EventKind::Terminal | EventKind::Completed | EventKind::Picture)
    }

    /// The kind by the event's name or its `type` member.
    pub(super) fn from_type(word: &[u8]) -> EventKind {
        match word {
            b"response.completed" | b"response.incomplete" | b"response.failed" => EventKind::Completed,
            b"message_stop" | b"transcript.text.done" | b"speech.audio.done" => EventKind::Terminal,
            b"image_generation.completed" | b"image_edit.completed" => EventKind::Picture,
            b"error" => EventKind::Error,
            b"response.created" => EventKind::Begun,
            b"response.done" => EventKind::Done,
            b"response.create" => EventKind::Asked,
            b"conversation.item.input_audio_transcription.completed" => EventKind::Transcribed,
            b"message_start" | b"message_delta" => EventKind::Merge,
            _ => EventKind::Other,
        }
    }
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
        let at = self.usage.iter().position(has_counts);
        self.kind == EventKind::Merge || at == Some(UsageAt::Message as usize)
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

    /// Takes the best model name that is not empty.
    pub(super) fn take_model(&mut self) -> Option<Box<str>> {
        self.model.iter_mut().find_map(Option::take)
    }

    /// Takes the error's message, or the best substitute, and its cause. `is_error`: the event
    /// itself is an error.
    pub(super) fn take_error(&mut self, is_error: bool) -> Option<(Box<str>, Cause)> {
        let says_error = is_error || self.says_error || self.kind == EventKind::Error;
        let at = self.error.iter().position(Option::is_some);
        if at.is_none() && !says_error {
            return None;
        }
        let words = [ErrorAt::Code, ErrorAt::ResponseCode].map(|at| &self.error[at as usize]);
        let words = words.into_iter().chain([&self.code, &self.error[ErrorAt::Type as usize]]);
        let cause = Cause::of(words.flatten().map(|word| &**word));
        let message = self.message.take().filter(|_| says_error);
        let text = at.and_then(|at| self.error[at].take()).or(message)?;
        Some((text, cause))
    }

    /// Discards the values under a key that is repeated: the last of two equal keys counts.
    pub(super) fn forget(&mut self, place: Place, key: Key) {
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
            (Place::Top, Key::XGroq) => self.usage[UsageAt::XGroq as usize] = None,
            (Place::Top, Key::Response) => {
                self.usage[UsageAt::Response as usize] = None;
                self.tier[Beside::Response as usize] = None;
                self.items.forget(ItemAt::Response);
                self.web_searches[Beside::Response as usize] = 0;
                self.model[ModelAt::Response as usize] = None;
                self.ids[ResultAt::Response as usize] = None;
                self.background[ResultAt::Response as usize] = None;
                self.error[ErrorAt::ResponseText as usize..].fill(None);
            }
            (Place::Top, Key::Session) => self.model[ModelAt::Session as usize] = None,
            (Place::Top, Key::Message) => {
                self.usage[UsageAt::Message as usize] = None;
                self.model[ModelAt::Message as usize] = None;
                self.message = None;
            }
            (Place::Top | Place::Listed, Key::Error) => {
                self.error[..ErrorAt::ResponseText as usize].fill(None);
            }
            (Place::Response, Key::Error) => self.error[ErrorAt::ResponseText as usize..].fill(None),
            (Place::Top, Key::Output) => self.items.forget(ItemAt::Body),
            (Place::Response, Key::Output) => self.items.forget(ItemAt::Response),
            (Place::Top, Key::Item) => self.items.forget(ItemAt::Event),
            (place, Key::Action) if place.item().is_some() => self.items.forget_action(),
            (Place::Top, Key::ToolUsage) => self.web_searches[Beside::Top as usize] = 0,
            (Place::Response, Key::ToolUsage) => self.web_searches[Beside::Response as usize] = 0,
            (Place::ToolUsage(at), Key::WebSearch) => self.web_searches[at as usize] = 0,
            // The other keys have plain values, which the last one replaces.
            _ => {}
        }
    }

    /// Stores a wanted value. A value that exceeds its limit comes with one byte beyond the limit.
    pub(super) fn take(&mut self, slot: Slot, value: &[u8]) {
        let too_long = value.len() > slot.limit();
        let value = &value[..value.len().min(slot.limit())];
        match slot {
            Slot::Usage(at) => {
                let report = if too_long { None } else { Report::read(value) };
                self.keep_usage(at, value, too_long, report);
            }
            Slot::Model(at) => self.model[at as usize] = if too_long { None } else { text(value) },
            Slot::Error(at) => self.error[at as usize] = saying(value),
            Slot::Message => self.message = saying(value).filter(|_| value.starts_with(b"\"")),
            Slot::Code => self.code = saying(value),
            Slot::Type => {
                self.kind = EventKind::from_type(word(value));
                self.adds_item = word(value) == b"response.output_item.added";
                self.ends_item = word(value) == b"response.output_item.done";
            }
            Slot::Object => {
                let object = word(value);
                self.says_error = object == b"error";
                self.is_completion = object == b"text_completion";
                self.is_step = object == b"thread.run.step";
                self.is_beside_run = object.starts_with(b"thread") && object != b"thread.run";
            }
            Slot::ListedObject => self.is_completion |= word(value) == b"text_completion",
            Slot::Index => self.index = count(value),
            Slot::FinishReason => self.is_finished = value.starts_with(b"\"") && value != b"\"\"",
            Slot::Status => self.pending = PENDING.contains(&word(value)),
            Slot::Id(at) => self.ids[at as usize] = if too_long { None } else { text(value) },
            Slot::Background(at) => {
                self.background[at as usize] = match value {
                    b"true" => Some(true),
                    b"false" => Some(false),
                    _ => None,
                };
            }
            Slot::Tier(at) => self.tier[at as usize] = if too_long { None } else { tier(value) },
            Slot::ItemType => self.items.kind(ToolKind::from_item(word(value))),
            Slot::ActionType => self.items.action(word(value)),
            Slot::WebSearches(at) => self.web_searches[at as usize] = count(value).unwrap_or(0),
            Slot::Timings => self.timings = if too_long { None } else { timings::read(value).map(Box::new) },
            Slot::Fingerprint => self.is_llama_cpp = timings::is_llama_cpp(value),
            Slot::Content => self.content |= has_content(value),
        }
    }

    /// Stores a usage of any length, and its counts.
    pub(super) fn take_usage(&mut self, at: UsageAt, value: &[u8], report: Option<Box<Report>>) {
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

fn has_counts(report: &Option<Box<Report>>) -> bool {
    report.as_ref().is_some_and(|report| report.counts.is_some())
}

/// A non-empty string.
pub(super) fn text(value: &[u8]) -> Option<Box<str>> {
    json::string(value).filter(|text| !text.is_empty()).map(String::into_boxed_str)
}

/// An error's text: a string, a number, or a list as written; never a bare word.
fn saying(value: &[u8]) -> Option<Box<str>> {
    match value.first()? {
        b'"' => json::string(value).map(beginning).filter(|text| !text.is_empty()),
        b'[' | b'-' | b'0'..=b'9' => Some(beginning(String::from_utf8_lossy(value).into_owned())),
        _ => None,
    }
}

/// Up to [`ERROR_LIMIT`] bytes, cut at a character boundary.
pub(super) fn beginning(mut text: String) -> Box<str> {
    text.truncate(text.floor_char_boundary(ERROR_LIMIT));
    text.into()
}

/// A string without its quotes. The words compared have no escapes.
fn word(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(b"")
}

/// Returns true if this is a non-empty string, list or object.
fn has_content(value: &[u8]) -> bool {
    let inside = value.get(1..).unwrap_or_default();
    match value.first() {
        Some(b'"') => inside.first() != Some(&b'"'),
        Some(b'[' | b'{') => !matches!(inside.trim_ascii_start().first(), None | Some(b']' | b'}')),
        _ => false,
    }
}

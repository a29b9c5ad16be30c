//! What one JSON text had to say.

use super::calls::{ToolCalls, ToolKind};
use super::items::Items;
use super::json;
use super::output::Part;
use super::places::{Beside, ERROR_LIMIT, ErrorAt, ItemAt, Key, ModelAt, Place, ResultAt, Slot, UsageAt};
use super::report::{Report, count};
use super::tier::{Tier, tier};
use super::timings;
use super::{Cause, Usage};

/// What the `status` of a response, a run, a video or a batch is until it is final.
const PENDING: [&[u8]; 6] =
    [b"queued", b"in_progress", b"requires_action", b"validating", b"finalizing", b"cancelling"];

/// What was found in one text.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By [`UsageAt`], best first.
    usage: [Option<Box<Report>>; 11],
    /// By [`ModelAt`], best first.
    model: [Option<Box<str>>; 7],
    /// By [`ErrorAt`], best first.
    error: [Option<Box<str>>; 7],
    /// By [`Beside`], best first.
    tier: [Option<Tier>; 2],
    /// The items of the output.
    pub(super) items: Items,
    /// Searches of the web that the service counted, by [`Beside`].
    web_searches: [u64; 2],
    /// The top-level `message`, which is an error's in texts that say that they are one.
    message: Option<Box<str>>,
    /// The top-level `code`, the same.
    code: Option<Box<str>>,
    says_error: bool,
    /// The top-level `type`.
    pub(super) announces: Announces,
    /// Text, reasoning or a tool call's output is in it.
    pub(super) content: bool,
    /// How many texts of output there are.
    texts: u32,
    /// What the last of them is, and where it began in the piece it began in.
    text: Option<(Part, usize)>,
    /// The event begins an item of the output, whose name no other event of the stream brings.
    pub(super) adds_item: bool,
    /// The event says that an item of the output is done.
    pub(super) ends_item: bool,
    /// The top-level `status` says that the answer is still to come.
    pub(super) pending: bool,
    /// By [`ResultAt`], best first; only where they are kept.
    ids: [Option<Box<str>>; 2],
    background: [Option<bool>; 2],
    /// The text is about a part of an assistant's run, or about what it belongs to.
    is_beside_run: bool,
    /// It is about a step of a run, whose usage is part of the run's.
    is_step: bool,
    /// A usage object was beyond its limit.
    pub(super) too_large: bool,
    /// The top-level `usage` is an object, whatever is in it.
    pub(super) usage_object: bool,
    /// llama.cpp's counts, which count where there is no usage.
    pub(super) timings: Option<Box<Usage>>,
    /// It was made by llama.cpp's server.
    pub(super) is_llama_cpp: bool,
    /// How many choices there are, and what the last of them says of itself.
    choices: u32,
    index: Option<u64>,
    is_finished: bool,
    /// The text is a legacy completion, or a list of them.
    is_completion: bool,
}

/// Whose the usage beside a choice is, in legacy completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shares {
    /// That of all choices.
    All,
    /// The usage of a choice that is not over, which grows with every event.
    SoFar,
    /// That of the choice of this index, which is over.
    Own(u64),
}

/// What an event's type means to the meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Announces {
    /// Nothing.
    #[default]
    Other,
    /// It is the last one.
    Terminal,
    /// It is an error.
    Error,
    /// Its usage completes the one before it (Anthropic).
    Merge,
    /// It is one finished picture, perhaps of several: its usage adds to that of the others.
    Picture,
    /// A response begins, of which a realtime session has several.
    Begun,
    /// A response of a realtime session has ended.
    Done,
    /// A response has ended, and with it a stream of its own; a session has several.
    Completed,
    /// A client asks for a response in a session.
    Asked,
    /// The input of a realtime session was transcribed.
    Transcribed,
}

impl Announces {
    /// Whether the stream may end after it.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Announces::Terminal | Announces::Completed | Announces::Picture)
    }

    /// The meaning of a type, from the event's name or its `type` key.
    pub(super) fn from_type(word: &[u8]) -> Announces {
        match word {
            b"response.completed" | b"response.incomplete" | b"response.failed" => Announces::Completed,
            b"message_stop" | b"transcript.text.done" | b"speech.audio.done" => Announces::Terminal,
            b"image_generation.completed" | b"image_edit.completed" => Announces::Picture,
            b"error" => Announces::Error,
            b"response.created" => Announces::Begun,
            b"response.done" => Announces::Done,
            b"response.create" => Announces::Asked,
            b"conversation.item.input_audio_transcription.completed" => Announces::Transcribed,
            b"message_start" | b"message_delta" => Announces::Merge,
            _ => Announces::Other,
        }
    }
}

impl Found {
    /// The id of the stored result that the text is about, and whether that is made in the
    /// background.
    pub(super) fn take_result(&mut self) -> (Option<Box<str>>, Option<bool>) {
        if self.is_beside_run {
            return (None, None);
        }
        let background = self.background.iter().copied().find_map(|said| said);
        (self.ids.iter_mut().find_map(Option::take), background)
    }

    /// Whether the text's usage completes the one before it instead of replacing it.
    pub(super) fn merges(&self) -> bool {
        let at = self.usage.iter().position(has_counts);
        self.announces == Announces::Merge || at == Some(UsageAt::Message as usize)
    }

    /// The text's usage: the best that has counts, else the best.
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

    /// Whose the usage beside the choices is, in legacy completions.
    pub(super) fn shares(&self) -> Shares {
        match self.index {
            _ if !self.is_completion || self.choices == 0 => Shares::All,
            Some(index) if self.choices == 1 && self.is_finished => Shares::Own(index),
            _ if self.is_finished => Shares::All,
            _ => Shares::SoFar,
        }
    }

    /// A choice begins.
    pub(super) fn choice_begins(&mut self) {
        self.choices += 1;
        self.index = None;
        self.is_finished = false;
    }

    /// The service tier beside the usage.
    pub(super) fn take_tier(&mut self) -> Option<Tier> {
        self.tier.iter_mut().find_map(Option::take)
    }

    /// The billed items of the output where it is listed whole.
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

    /// A text of output begins at this place of its piece.
    pub(super) fn text_begins(&mut self, part: Part, at: usize) {
        self.texts += 1;
        self.text = Some((part, at));
    }

    /// Whether there is a text of output.
    pub(super) fn has_text(&self) -> bool {
        self.texts > 0
    }

    /// What the only text of output is, and where in its piece it began.
    pub(super) fn lone_text(&self) -> Option<(Part, usize)> {
        self.text.filter(|_| self.texts == 1)
    }

    /// The first name that is not empty.
    pub(super) fn take_model(&mut self) -> Option<Box<str>> {
        self.model.iter_mut().find_map(Option::take)
    }

    /// The error's message, or the best that it has instead, and what it comes of. `named`: the
    /// event itself is an error.
    pub(super) fn take_error(&mut self, named: bool) -> Option<(Box<str>, Cause)> {
        let says_error = named || self.says_error || self.announces == Announces::Error;
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

    /// Of two equal keys the last one counts, so what was found under the first is forgotten.
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
            // The others are values of their own, and the last one replaces what there was.
            _ => {}
        }
    }

    /// A wanted value has ended. Of one that is too long, a byte beyond the limit is there to show
    /// it.
    pub(super) fn take(&mut self, slot: Slot, value: &[u8]) {
        let too_long = value.len() > slot.limit();
        let value = &value[..value.len().min(slot.limit())];
        match slot {
            Slot::Usage(at) => {
                self.usage_object |= at == UsageAt::Top && value.starts_with(b"{");
                let report = if too_long { None } else { Report::read(value) };
                // Cohere's `meta` may be anything to others.
                self.too_large |= too_long && value.starts_with(b"{") && at != UsageAt::Meta;
                self.take_usage(at, report);
            }
            Slot::Model(at) => self.model[at as usize] = if too_long { None } else { text(value) },
            Slot::Error(at) => self.error[at as usize] = saying(value),
            Slot::Message => self.message = saying(value).filter(|_| value.starts_with(b"\"")),
            Slot::Code => self.code = saying(value),
            Slot::Type => {
                self.announces = Announces::from_type(word(value));
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

    /// In a list, and among choices, what has no counts does not undo what has some.
    fn take_usage(&mut self, at: UsageAt, mut report: Option<Box<Report>>) {
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

/// A string that is not empty.
pub(super) fn text(value: &[u8]) -> Option<Box<str>> {
    json::string(value).filter(|text| !text.is_empty()).map(String::into_boxed_str)
}

/// What an error has to say: a string, a number, a list of strings as it stands; never a bare word.
fn saying(value: &[u8]) -> Option<Box<str>> {
    match value.first()? {
        b'"' => json::string(value).map(beginning).filter(|text| !text.is_empty()),
        b'[' | b'-' | b'0'..=b'9' => Some(beginning(String::from_utf8_lossy(value).into_owned())),
        _ => None,
    }
}

/// Up to [`ERROR_LIMIT`] bytes, cut between two characters.
pub(super) fn beginning(mut text: String) -> Box<str> {
    text.truncate(text.floor_char_boundary(ERROR_LIMIT));
    text.into()
}

/// A string without its quotes; the words looked for have no escapes.
fn word(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(b"")
}

/// A string, list or object with something in it.
fn has_content(value: &[u8]) -> bool {
    let inside = value.get(1..).unwrap_or_default();
    match value.first() {
        Some(b'"') => inside.first() != Some(&b'"'),
        Some(b'[' | b'{') => !matches!(inside.trim_ascii_start().first(), None | Some(b']' | b'}')),
        _ => false,
    }
}

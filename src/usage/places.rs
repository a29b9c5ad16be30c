//! Where in a JSON text the wanted values are: the rule, as a table.

use super::json::Kind;

/// The largest usage object that is read. Real ones have 100 to 1,000 bytes.
const USAGE_LIMIT: usize = 16 << 10;

/// The longest model name that is believed.
const MODEL_LIMIT: usize = 256;

/// How much of an error message is kept.
pub(super) const ERROR_LIMIT: usize = 512;

/// What a short word (a type) may have before it is none that we know.
const WORD_LIMIT: usize = 48;

/// How much of a content value is looked at to see that it is not empty.
const CONTENT_LIMIT: usize = 16;

/// Where usage may be, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageAt {
    Top,
    Response,
    Message,
    Choice,
    XGroq,
}

/// Where a model's name may be, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelAt {
    Top,
    Response,
    Message,
}

/// Where an error says what it is, best first: the top-level error's places, then the response's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorAt {
    Text,
    Message,
    Code,
    Type,
    ResponseText,
    ResponseMessage,
    ResponseCode,
}

/// A value that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Usage(UsageAt),
    Model(ModelAt),
    Error(ErrorAt),
    Message,
    Type,
    Object,
    Content,
}

impl Slot {
    /// How much of the value is looked at.
    pub(super) fn limit(self) -> usize {
        match self {
            Slot::Usage(_) => USAGE_LIMIT,
            Slot::Model(_) => MODEL_LIMIT,
            Slot::Error(_) | Slot::Message => ERROR_LIMIT,
            Slot::Type | Slot::Object => WORD_LIMIT,
            Slot::Content => CONTENT_LIMIT,
        }
    }
}

/// A key that leads somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    #[default]
    Other,
    Usage,
    Model,
    Type,
    Object,
    Response,
    Message,
    Choices,
    XGroq,
    Error,
    Code,
    Delta,
    /// What a whole event's content is under.
    EventContent,
    /// What a choice and a delta have their content under.
    Text,
    /// What only a delta has its content under.
    DeltaContent,
}

impl Key {
    /// Longer keys than this are not looked at.
    pub(super) const LIMIT: usize = 32;

    pub(super) fn from_text(text: &[u8]) -> Key {
        match text {
            b"usage" => Key::Usage,
            b"model" => Key::Model,
            b"type" => Key::Type,
            b"object" => Key::Object,
            b"response" => Key::Response,
            b"message" => Key::Message,
            b"choices" => Key::Choices,
            b"x_groq" => Key::XGroq,
            b"error" => Key::Error,
            b"code" => Key::Code,
            b"delta" => Key::Delta,
            b"text" => Key::Text,
            b"audio" | b"b64_json" | b"partial_image_b64" => Key::EventContent,
            b"content" | b"reasoning_content" | b"reasoning" | b"reasoning_details" | b"thinking"
            | b"refusal" | b"tool_calls" | b"function_call" | b"partial_json" | b"images"
            | b"step_details" => Key::DeltaContent,
            _ => Key::Other,
        }
    }
}

/// A container on the way to wanted values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Document,
    Top,
    /// A list instead of an object: some upstreams put their error into one.
    List,
    Listed,
    Response,
    Message,
    XGroq,
    Choices,
    Choice,
    Delta,
    Error,
    ResponseError,
    Nowhere,
}

/// What a value is to the scan.
pub(super) enum Step {
    Enter(Place),
    Want(Slot),
    Pass,
}

impl Place {
    /// The rule of where things live, whole.
    pub(super) fn step(self, key: Key, kind: Kind) -> Step {
        use Step::{Enter, Pass, Want};
        match (self, key, kind) {
            (Place::Document, _, Kind::Object) => Enter(Place::Top),
            (Place::Document, _, Kind::Array) => Enter(Place::List),
            (Place::List, _, Kind::Object) => Enter(Place::Listed),

            (Place::Top, Key::Usage, _) => Want(Slot::Usage(UsageAt::Top)),
            (Place::Response, Key::Usage, _) => Want(Slot::Usage(UsageAt::Response)),
            (Place::Message, Key::Usage, _) => Want(Slot::Usage(UsageAt::Message)),
            (Place::Choice, Key::Usage, _) => Want(Slot::Usage(UsageAt::Choice)),
            (Place::XGroq, Key::Usage, _) => Want(Slot::Usage(UsageAt::XGroq)),

            (Place::Top, Key::Model, _) => Want(Slot::Model(ModelAt::Top)),
            (Place::Response, Key::Model, _) => Want(Slot::Model(ModelAt::Response)),
            (Place::Message, Key::Model, _) => Want(Slot::Model(ModelAt::Message)),

            (Place::Top, Key::Type, _) => Want(Slot::Type),
            (Place::Top, Key::Object, _) => Want(Slot::Object),
            (Place::Top, Key::Message, Kind::Scalar) => Want(Slot::Message),
            (Place::Top | Place::Listed, Key::Error, Kind::Object) => Enter(Place::Error),
            (Place::Top | Place::Listed, Key::Error, _) => Want(Slot::Error(ErrorAt::Text)),
            (Place::Error, Key::Message, _) => Want(Slot::Error(ErrorAt::Message)),
            (Place::Error, Key::Code, _) => Want(Slot::Error(ErrorAt::Code)),
            (Place::Error, Key::Type, _) => Want(Slot::Error(ErrorAt::Type)),
            (Place::Response, Key::Error, Kind::Object) => Enter(Place::ResponseError),
            (Place::Response, Key::Error, _) => Want(Slot::Error(ErrorAt::ResponseText)),
            (Place::ResponseError, Key::Message, _) => Want(Slot::Error(ErrorAt::ResponseMessage)),
            (Place::ResponseError, Key::Code, _) => Want(Slot::Error(ErrorAt::ResponseCode)),

            (Place::Top, Key::Response, Kind::Object) => Enter(Place::Response),
            (Place::Top, Key::Message, Kind::Object) => Enter(Place::Message),
            (Place::Top, Key::XGroq, Kind::Object) => Enter(Place::XGroq),
            (Place::Top, Key::Choices, Kind::Array) => Enter(Place::Choices),
            (Place::Choices, _, Kind::Object) => Enter(Place::Choice),

            (Place::Top | Place::Choice, Key::Delta, Kind::Object) => Enter(Place::Delta),
            (Place::Top, Key::Delta | Key::EventContent, Kind::Scalar) => Want(Slot::Content),
            (Place::Top | Place::Choice, Key::Text, Kind::Scalar) => Want(Slot::Content),
            (Place::Delta, Key::DeltaContent | Key::Text | Key::EventContent, _) => Want(Slot::Content),
            _ => Pass,
        }
    }
}

//! The wanted values of a JSON text.

/// The largest usage object that is read. Real ones have 100 to 1,000 bytes.
const USAGE_LIMIT: usize = 16 << 10;

/// The longest model name that is accepted.
const MODEL_LIMIT: usize = 256;

/// The longest id that is accepted. Real ones have up to 70 bytes.
const ID_LIMIT: usize = 256;

/// Bytes of an error message that are kept.
pub(super) const ERROR_LIMIT: usize = 1024;

/// Bytes of its JSON that are read: each byte may be written as `\u0000`, and there is a quote.
const ERROR_JSON_LIMIT: usize = 6 * ERROR_LIMIT + 1;

/// The longest known word, such as a type.
const WORD_LIMIT: usize = 64;

/// Bytes of a content value that are needed to see whether it is empty.
const CONTENT_LIMIT: usize = 16;

/// Places of usage, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageAt {
    Top,
    Response,
    Message,
    Choice,
    XGroq,
    /// Gemini's interactions.
    Interaction,
    /// Cohere's events.
    Delta,
    /// Gemini's `usageMetadata`.
    Metadata,
    /// `usageMetadata` in a streamed list; the last one counts.
    ListedMetadata,
    /// Completions in a list, one per prompt, as llama.cpp responds to several prompts; their sum
    /// counts.
    Listed,
    /// Cohere's version 1: in bodies, and in the response that ends a stream.
    Meta,
    ResponseMeta,
}

/// Places of a model's name, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelAt {
    Top,
    Response,
    Message,
    Session,
    Interaction,
    Version,
    Listed,
}

/// Places of a stored result, best first: below `response` in a stream's event, else the text
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResultAt {
    Response,
    Top,
}

/// Places of the values beside the usage, best first: the service tier and the service's own
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Top,
    Response,
}

/// Places of an item of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemAt {
    /// The item is in a body's output.
    Body,
    /// The item is in the output of a response in an event.
    Response,
    /// The item is in an event of its own.
    Event,
}

/// Places of an error's texts, best first: those of the top-level error, that of Groq's own field,
/// then those of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorAt {
    Text,
    Message,
    Code,
    Type,
    Groq,
    ResponseText,
    ResponseMessage,
    ResponseCode,
}

/// A wanted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Usage(UsageAt),
    Model(ModelAt),
    Error(ErrorAt),
    Message,
    Code,
    /// The `detail` or `errors` of a failure without an error.
    Detail,
    Type,
    /// The type of an event of Cohere's version 1.
    EventType,
    Object,
    /// The `object` of a list's item.
    ListedObject,
    Index,
    /// A choice's finish reason, null while it continues.
    FinishReason,
    Status,
    /// The `status` of a response in an event.
    ResponseStatus,
    /// The id of a result that may be stored.
    Id(ResultAt),
    /// The client's id of the message that an error is about.
    RefusedId,
    /// A boolean: the result is made in the background.
    Background(ResultAt),
    Tier(Beside),
    /// The type of an output item.
    ItemType,
    ItemStatus,
    /// The type of such an item's action.
    ActionType,
    /// Web searches that the service counted.
    WebSearches(Beside),
    /// llama.cpp's counts.
    Timings,
    /// The service's build (`system_fingerprint`).
    Fingerprint,
    /// Output of which only the presence matters.
    Content,
}

impl Slot {
    /// Bytes of the value that are read.
    pub(super) fn limit(self) -> usize {
        match self {
            Slot::Usage(_) | Slot::Timings => USAGE_LIMIT,
            Slot::Model(_) => MODEL_LIMIT,
            Slot::Error(_) | Slot::Message | Slot::Code | Slot::Detail => ERROR_JSON_LIMIT,
            Slot::Id(_) | Slot::RefusedId => ID_LIMIT,
            Slot::Background(_)
            | Slot::Type
            | Slot::EventType
            | Slot::Object
            | Slot::ListedObject
            | Slot::Index
            | Slot::FinishReason
            | Slot::Status
            | Slot::ResponseStatus
            | Slot::Fingerprint
            | Slot::Tier(_)
            | Slot::ItemType
            | Slot::ItemStatus
            | Slot::ActionType
            | Slot::WebSearches(_) => WORD_LIMIT,
            Slot::Content => CONTENT_LIMIT,
        }
    }
}

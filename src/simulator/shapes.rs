//! The responses of each endpoint, byte for byte as the services send them, apart from the
//! values.
//!
//! Only text is here: which event comes when is `script`'s business. Sources: recorded answers of
//! OpenAI and Azure OpenAI, of Anthropic, and OpenAI's published API description.

mod azure;
mod chat;
mod completions;
mod messages;
mod responses;

use std::sync::LazyLock;

use super::place::Dialect;
use super::template::Template;

/// One endpoint's answers, streamed and not.
#[derive(Debug)]
pub(super) struct Shape {
    /// The events before the text.
    pub(super) opening: Vec<Template>,
    /// An event of text.
    pub(super) text: Template,
    /// The events after the text. The first of them says why the response ended.
    pub(super) closing: Vec<Template>,
    /// The event that has the usage and nothing else, where there is such a thing.
    pub(super) usage_event: Option<Template>,
    /// The last event, where it is none of the response's own.
    pub(super) end: Option<Template>,
    /// An error in the middle of the stream.
    pub(super) error: Vec<Template>,
    /// The response unstreamed.
    pub(super) whole: Template,
    /// The usage object.
    pub(super) usage: Template,
    /// The same in the first event and in the response unstreamed, where that is another.
    pub(super) full_usage: Option<Template>,
}

/// The responses in events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Chat,
    Completions,
    Responses,
    Messages,
}

impl Kind {
    /// The endpoint of that path, if it is one.
    pub(super) fn of(endpoint: &str) -> Option<Self> {
        match endpoint {
            "chat/completions" => Some(Self::Chat),
            "completions" => Some(Self::Completions),
            "responses" => Some(Self::Responses),
            "messages" => Some(Self::Messages),
            _ => None,
        }
    }

    /// How that service answers.
    pub(super) fn shape(self, dialect: Dialect) -> &'static Shape {
        static CHAT: LazyLock<Shape> = LazyLock::new(chat::shape);
        static AZURE_CHAT: LazyLock<Shape> = LazyLock::new(azure::shape);
        static COMPLETIONS: LazyLock<Shape> = LazyLock::new(completions::shape);
        static RESPONSES: LazyLock<Shape> = LazyLock::new(responses::shape);
        static MESSAGES: LazyLock<Shape> = LazyLock::new(messages::shape);
        match (self, dialect) {
            (Self::Chat, Dialect::Azure) => &AZURE_CHAT,
            (Self::Chat, _) => &CHAT,
            (Self::Completions, _) => &COMPLETIONS,
            (Self::Responses, _) => &RESPONSES,
            (Self::Messages, _) => &MESSAGES,
        }
    }
}

pub(super) use messages::ERROR as MESSAGES_ERROR;

/// The end of every stream but those of `responses` and `messages`.
const DONE: &str = "data: [DONE]\n\n";

/// An error in place of a chunk.
pub(super) const ERROR: &str = concat!(
    r#"data: {"error":{"message":"The server had an error while processing your request. Sorry about that!","#,
    r#""type":"server_error","param":null,"code":null}}"#,
    "\n\n"
);

/// The usage of `chat/completions` and `completions`.
const USAGE: &str = concat!(
    r#"{"prompt_tokens":<input>,"completion_tokens":<output>,"total_tokens":<total>,"#,
    r#""prompt_tokens_details":{"cached_tokens":<cached>,"audio_tokens":0},"#,
    r#""completion_tokens_details":{"reasoning_tokens":<reasoning>,"audio_tokens":0,"#,
    r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#
);

fn templates<const N: usize>(texts: [&'static str; N]) -> Vec<Template> {
    texts.map(Template::new).into()
}

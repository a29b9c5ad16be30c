//! The responses of each endpoint, equal to the services' byte for byte except for the values.
//!
//! This module contains only text; `script` decides the order of events. Sources: recorded
//! responses of OpenAI and Azure OpenAI, of Anthropic, and OpenAI's published API description.

mod azure;
mod chat;
mod completions;
mod messages;
mod responses;

use std::sync::LazyLock;

use super::place::Dialect;
use super::template::Template;

/// One endpoint's responses, streamed and not.
#[derive(Debug)]
pub(super) struct Shape {
    /// The events before the text.
    pub(super) opening: Vec<Template>,
    /// An event of text.
    pub(super) text: Template,
    /// The events after the text. The first of them has the finish reason.
    pub(super) closing: Vec<Template>,
    /// The event with nothing but usage, if the endpoint has one.
    pub(super) usage_event: Option<Template>,
    /// The last event, if it is not part of the response itself.
    pub(super) end: Option<Template>,
    /// An error in the middle of the stream.
    pub(super) error: Vec<Template>,
    /// The response unstreamed.
    pub(super) whole: Template,
    /// The usage object.
    pub(super) usage: Template,
    /// The usage object in the first event and in the response unstreamed, if it differs.
    pub(super) full_usage: Option<Template>,
}

/// The responses that consist of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Chat,
    Completions,
    Responses,
    Messages,
}

impl Kind {
    /// The endpoint of that path, if it is one of these.
    pub(super) fn of(endpoint: &str) -> Option<Self> {
        match endpoint {
            "chat/completions" => Some(Self::Chat),
            "completions" => Some(Self::Completions),
            "responses" => Some(Self::Responses),
            "messages" => Some(Self::Messages),
            _ => None,
        }
    }

    /// The responses of that service.
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

/// The end of every stream except those of `responses` and `messages`.
const DONE: &str = "data: [DONE]\n\n";

/// An error instead of a chunk.
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

//! The task of a request, by its method and its endpoint.

use http::Method;

use super::shapes::Kind;

/// The task of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Task<'a> {
    Echo,
    Models,
    Model(&'a str),
    Embeddings,
    Moderations,
    Text(Kind),
    /// The number of tokens of a request; the form of the response.
    Count(Kind),
    Speech,
    /// A transcription, or a translation.
    Transcription {
        is_translation: bool,
    },
    /// A generation, or an edit.
    Image {
        is_edit: bool,
    },
    Files(FileTask<'a>),
    Response(ResponseTask, &'a str),
    NewConversation,
    Conversation(ConversationTask<'a>, &'a str),
    Session(Session),
}

/// The operation on files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FileTask<'a> {
    Upload,
    List,
    Get(&'a str),
    Content(&'a str),
    Delete(&'a str),
}

/// The operation on a stored response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ResponseTask {
    Get,
    Delete,
    Cancel,
    InputItems,
}

/// The operation on a conversation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ConversationTask<'a> {
    Get,
    Update,
    Delete,
    Items,
    Add,
    Item(&'a str),
    DeleteItem(&'a str),
}

/// The protocol over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Session {
    Realtime,
    Responses,
}

impl<'a> Task<'a> {
    /// `None` if the service has no such task.
    pub(super) fn of(method: &Method, endpoint: &'a str) -> Option<Self> {
        if endpoint == "simulator/echo" {
            return Some(Self::Echo);
        }
        match *method {
            Method::GET => Self::get(endpoint),
            Method::POST => Self::post(endpoint),
            Method::DELETE => match endpoint.split_once('/')? {
                ("files", id) => Some(Self::Files(FileTask::Delete(one(id)?))),
                ("responses", id) => Some(Self::Response(ResponseTask::Delete, one(id)?)),
                ("conversations", rest) => Some(match rest.split_once("/items/") {
                    Some((id, item)) => {
                        Self::Conversation(ConversationTask::DeleteItem(one(item)?), one(id)?)
                    }
                    None => Self::Conversation(ConversationTask::Delete, one(rest)?),
                }),
                _ => None,
            },
            _ => None,
        }
    }

    fn get(endpoint: &'a str) -> Option<Self> {
        let (first, rest) = endpoint.split_once('/').unwrap_or((endpoint, ""));
        Some(match (first, rest) {
            ("models", "") => Self::Models,
            ("models", id) => Self::Model(id),
            ("realtime", "") => Self::Session(Session::Realtime),
            ("responses", "") => Self::Session(Session::Responses),
            ("files", "") => Self::Files(FileTask::List),
            ("files", rest) => Self::Files(match rest.strip_suffix("/content") {
                Some(id) => FileTask::Content(one(id)?),
                None => FileTask::Get(one(rest)?),
            }),
            ("responses", rest) => match rest.strip_suffix("/input_items") {
                Some(id) => Self::Response(ResponseTask::InputItems, one(id)?),
                None => Self::Response(ResponseTask::Get, one(rest)?),
            },
            ("conversations", rest) => match rest.split_once('/') {
                Some((id, "items")) => Self::Conversation(ConversationTask::Items, one(id)?),
                Some((id, rest)) => {
                    Self::Conversation(ConversationTask::Item(one(rest.strip_prefix("items/")?)?), one(id)?)
                }
                None => Self::Conversation(ConversationTask::Get, one(rest)?),
            },
            _ => return None,
        })
    }

    fn post(endpoint: &'a str) -> Option<Self> {
        Some(match endpoint {
            "embeddings" => Self::Embeddings,
            "moderations" => Self::Moderations,
            "responses/input_tokens" => Self::Count(Kind::Responses),
            "messages/count_tokens" => Self::Count(Kind::Messages),
            "audio/speech" => Self::Speech,
            "audio/transcriptions" => Self::Transcription { is_translation: false },
            "audio/translations" => Self::Transcription { is_translation: true },
            "images/generations" => Self::Image { is_edit: false },
            "images/edits" => Self::Image { is_edit: true },
            "files" => Self::Files(FileTask::Upload),
            "conversations" => Self::NewConversation,
            _ if endpoint.starts_with("conversations/") => {
                let rest = endpoint.strip_prefix("conversations/")?;
                match rest.strip_suffix("/items") {
                    Some(id) => Self::Conversation(ConversationTask::Add, one(id)?),
                    None => Self::Conversation(ConversationTask::Update, one(rest)?),
                }
            }
            _ => match endpoint.strip_prefix("responses/").and_then(|rest| rest.strip_suffix("/cancel")) {
                Some(id) => Self::Response(ResponseTask::Cancel, one(id)?),
                None => return Kind::of(endpoint).map(Self::Text),
            },
        })
    }
}

/// One segment of a path.
fn one(id: &str) -> Option<&str> {
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_its_tasks() {
        for (method, endpoint, task) in [
            (Method::PUT, "simulator/echo", Some(Task::Echo)),
            (Method::GET, "models/a/b", Some(Task::Model("a/b"))),
            (Method::POST, "models", None),
            (Method::POST, "responses", Some(Task::Text(Kind::Responses))),
            (Method::GET, "responses", Some(Task::Session(Session::Responses))),
            (Method::GET, "responses/r", Some(Task::Response(ResponseTask::Get, "r"))),
            (Method::DELETE, "responses/r", Some(Task::Response(ResponseTask::Delete, "r"))),
            (Method::POST, "responses/r/cancel", Some(Task::Response(ResponseTask::Cancel, "r"))),
            (Method::GET, "responses/r/input_items", Some(Task::Response(ResponseTask::InputItems, "r"))),
            (Method::POST, "responses//cancel", None),
            (Method::GET, "responses/r/s", None),
            (Method::GET, "files/f/content", Some(Task::Files(FileTask::Content("f")))),
            (Method::GET, "files/f", Some(Task::Files(FileTask::Get("f")))),
            (Method::DELETE, "files/f", Some(Task::Files(FileTask::Delete("f")))),
            (Method::DELETE, "files", None),
            (Method::GET, "chat/completions", None),
            (Method::POST, "conversations", Some(Task::NewConversation)),
            (Method::GET, "conversations", None),
            (Method::POST, "conversations/c", Some(Task::Conversation(ConversationTask::Update, "c"))),
            (Method::POST, "conversations/c/items", Some(Task::Conversation(ConversationTask::Add, "c"))),
            (Method::GET, "conversations/c/items", Some(Task::Conversation(ConversationTask::Items, "c"))),
            (
                Method::GET,
                "conversations/c/items/i",
                Some(Task::Conversation(ConversationTask::Item("i"), "c")),
            ),
            (Method::DELETE, "conversations/c", Some(Task::Conversation(ConversationTask::Delete, "c"))),
            (
                Method::DELETE,
                "conversations/c/items/i",
                Some(Task::Conversation(ConversationTask::DeleteItem("i"), "c")),
            ),
            (Method::GET, "conversations/c/other", None),
        ] {
            assert_eq!(Task::of(&method, endpoint), task, "{method} {endpoint}");
        }
    }
}

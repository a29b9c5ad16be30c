//! The response to a live check, and its classification.

use http::header;
use serde_json::Value;

use crate::record::error::ERROR_TYPE;

/// A response, read to its end.
#[derive(Debug, Default)]
pub(super) struct CheckResponse {
    pub(super) status: u16,
    /// The `Location` of a redirect.
    pub(super) location: Option<String>,
    pub(super) reply: Reply,
}

/// The source of a response's content.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Reply {
    /// A result of the service.
    #[default]
    Result,
    /// An error of streamgauge: code and message.
    Ours(String, String),
    /// An error of the service: its message.
    Theirs(String),
    /// A body that is not JSON: media type and text.
    Foreign(String, String),
}

impl CheckResponse {
    pub(super) fn new(head: &http::response::Parts, body: Vec<u8>) -> Self {
        let text =
            |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
        Self {
            status: head.status.as_u16(),
            location: text(header::LOCATION).filter(|_| head.status.is_redirection()),
            reply: reply(head.status.is_success(), &media_type, &body),
        }
    }
}

fn reply(is_success: bool, media_type: &str, body: &[u8]) -> Reply {
    let is_stream = media_type.starts_with("text/event-stream");
    if is_success && is_stream {
        return Reply::Result;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(body).into_owned();
        return Reply::Foreign(media_type.to_owned(), text);
    };
    let error = &value["error"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if error["type"] == ERROR_TYPE {
        return Reply::Ours(
            text(&error["code"]).unwrap_or_default(),
            text(&error["message"]).unwrap_or_default(),
        );
    }
    if is_success && error.is_null() {
        return Reply::Result;
    }
    // `error` is an object with a message, or the message itself; some services have a top-level
    // message.
    let message = text(&error["message"]).or_else(|| text(error)).or_else(|| text(&value["message"]));
    Reply::Theirs(message.unwrap_or_else(|| value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_is_classified_by_status_type_and_body() {
        for (is_success, media_type, body, expected) in [
            (true, "application/json", "\n {\"id\":1}", Reply::Result),
            (true, "application/json", "{\"id\":1,\"error\":null}", Reply::Result),
            (true, "text/event-stream; charset=utf-8", "data: x", Reply::Result),
            (true, "application/json", "{\"error\":{\"message\":\"no\"}}", Reply::Theirs("no".to_owned())),
            (false, "text/plain", "{\"error\":\"no\"}", Reply::Theirs("no".to_owned())),
            (false, "application/json", "{\"message\":\"no\"}", Reply::Theirs("no".to_owned())),
            (false, "application/json", "[1]", Reply::Theirs("[1]".to_owned())),
            (true, "text/html", "<html>", Reply::Foreign("text/html".to_owned(), "<html>".to_owned())),
            (false, "", "", Reply::Foreign(String::new(), String::new())),
            (
                false,
                "application/json",
                "{\"error\":{\"type\":\"streamgauge_error\",\"code\":\"c\",\"message\":\"m\"}}",
                Reply::Ours("c".to_owned(), "m".to_owned()),
            ),
        ] {
            assert_eq!(reply(is_success, media_type, body.as_bytes()), expected, "{media_type} {body}");
        }
    }
}

//! What came back, and whether that is what a service should say.

use http::header;
use serde_json::Value;

use crate::error::ERROR_TYPE;

/// An answer, read to its end.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where it leads, if it is a redirect.
    pub(super) location: Option<String>,
    pub(super) said: Said,
}

/// What an answer says.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Said {
    /// A result.
    #[default]
    Result,
    /// An error of this proxy: its code, and its message.
    Ours(String, String),
    /// An error of the service, in its words.
    Theirs(String),
    /// Something that is not JSON: its media type and its beginning.
    Foreign(String, String),
}

impl Answer {
    pub(super) fn new(head: &http::response::Parts, body: Vec<u8>) -> Self {
        let text =
            |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
        Self {
            status: head.status.as_u16(),
            location: text(header::LOCATION).filter(|_| head.status.is_redirection()),
            said: said(head.status.is_success(), &media_type, &body),
        }
    }
}

fn said(is_success: bool, media_type: &str, body: &[u8]) -> Said {
    let is_stream = media_type.starts_with("text/event-stream");
    if is_success && is_stream {
        return Said::Result;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(body).into_owned();
        return Said::Foreign(media_type.to_owned(), text);
    };
    let error = &value["error"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if error["type"] == ERROR_TYPE {
        return Said::Ours(
            text(&error["code"]).unwrap_or_default(),
            text(&error["message"]).unwrap_or_default(),
        );
    }
    if is_success && error.is_null() {
        return Said::Result;
    }
    // `error` is an object with a message, or the message itself; some services have the message on
    // top.
    let message = text(&error["message"]).or_else(|| text(error)).or_else(|| text(&value["message"]));
    Said::Theirs(message.unwrap_or_else(|| value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_word_it_is_depends_on_status_type_and_body() {
        for (is_success, media_type, body, expected) in [
            (true, "application/json", "\n {\"id\":1}", Said::Result),
            (true, "application/json", "{\"id\":1,\"error\":null}", Said::Result),
            (true, "text/event-stream; charset=utf-8", "data: x", Said::Result),
            (true, "application/json", "{\"error\":{\"message\":\"no\"}}", Said::Theirs("no".to_owned())),
            (false, "text/plain", "{\"error\":\"no\"}", Said::Theirs("no".to_owned())),
            (false, "application/json", "{\"message\":\"no\"}", Said::Theirs("no".to_owned())),
            (false, "application/json", "[1]", Said::Theirs("[1]".to_owned())),
            (true, "text/html", "<html>", Said::Foreign("text/html".to_owned(), "<html>".to_owned())),
            (false, "", "", Said::Foreign(String::new(), String::new())),
            (
                false,
                "application/json",
                "{\"error\":{\"type\":\"streamgauge_error\",\"code\":\"c\",\"message\":\"m\"}}",
                Said::Ours("c".to_owned(), "m".to_owned()),
            ),
        ] {
            assert_eq!(said(is_success, media_type, body.as_bytes()), expected, "{media_type} {body}");
        }
    }
}

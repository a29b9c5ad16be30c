//! An error as an event, for a stream whose head was already sent.
//!
//! Each endpoint has its own form, which its SDKs raise. `openai` raises on a top-level `error` in
//! the data of any event. `anthropic` raises only on `event: error` and skips events without a
//! name. The Vercel AI SDK and Codex read `response.failed` of `/v1/responses`; that event has both
//! `response.error` and `error`.

use serde_json::{Value, json};

use super::{ERROR_TYPE, Error};
use crate::record::Entry;

/// The form of an error inside an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventForm {
    /// `data: {"error":{…}}`: chat completions, completions, and all other endpoints.
    Plain,
    /// OpenAI's error with `event: error` and `"type":"error"`: images, audio, and Assistants.
    Named,
    /// Anthropic's Messages: `event: error` with `{"type":"error","error":{"type":"api_error",…}}`.
    Messages,
    /// Responses: `event: response.failed`.
    Responses,
    /// Gemini's own API: `data: {"error":{"code":502,"message":…,"status":"UNAVAILABLE"}}`, the
    /// status as in google.rpc.Code. Its SDKs raise on a `code` that is a number.
    Gemini,
}

/// The values of an error event that come from its stream.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// The form of the endpoint.
    pub form: EventForm,
    /// The record's id.
    pub id: String,
    /// The model, if it is known.
    pub model: Option<String>,
    /// The events that were passed on, which is the next `sequence_number`.
    pub events: u64,
    /// The time when the request arrived, in seconds since 1970.
    pub created_at: i64,
}

impl EventStream {
    /// The stream of this open record, before its first event.
    pub fn of(entry: &mut Entry) -> Self {
        let id = entry.id();
        let row = entry.row();
        Self {
            form: EventForm::of(row.endpoint.as_deref()),
            id: id.to_str().unwrap_or_default().to_owned(),
            model: row.model_requested.as_deref().map(str::to_owned),
            events: 0,
            created_at: row.started_at.as_second(),
        }
    }
}

impl EventForm {
    /// The form of the endpoint with this name, as records have it.
    pub fn of(endpoint: Option<&str>) -> Self {
        let endpoint = endpoint.unwrap_or_default();
        let family = endpoint.split('/').next().unwrap_or_default();
        match (endpoint, family) {
            ("messages", _) => Self::Messages,
            ("responses", _) => Self::Responses,
            ("streamGenerateContent", _) => Self::Gemini,
            (_, "images" | "audio" | "threads") => Self::Named,
            _ => Self::Plain,
        }
    }
}

impl Error {
    /// The error as one whole event of `stream`.
    pub fn to_event(&self, stream: &EventStream) -> Vec<u8> {
        let message = self.to_string();
        let error =
            json!({ "message": message, "type": ERROR_TYPE, "param": Value::Null, "code": self.code() });
        let error = match stream.form {
            EventForm::Gemini => self.to_google(),
            _ => error,
        };
        event(&json!({ "error": error }), stream)
    }

    /// The error as a `google.rpc.Status` in JSON, with the code in a `google.rpc.ErrorInfo`.
    fn to_google(&self) -> Value {
        let status = self.status().as_u16();
        let reason = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "domain": "streamgauge",
            "reason": self.code(),
        });
        json!({
            "code": status,
            "message": self.to_string(),
            "status": google_status(status),
            "details": [reason],
        })
    }
}

/// The name in `google.rpc.Code` for a status of HTTP.
fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

impl Error {
    /// The error as a message of a WebSocket session, about the client's message `event_id`. `id` is
    /// that of the record.
    pub fn to_message(&self, endpoint: Option<&str>, id: &str, event_id: Option<&str>) -> String {
        let mut error =
            json!({ "message": self.to_string(), "type": ERROR_TYPE, "param": null, "code": self.code() });
        let message = if endpoint == Some("responses") {
            json!({ "type": "error", "status": self.status().as_u16(), "error": error })
        } else {
            error["event_id"] = event_id.into();
            json!({ "type": "error", "event_id": format!("event_{id}"), "error": error })
        };
        message.to_string()
    }
}

/// An upstream's error body as one whole event of `stream`. `None` if clients do not know its form.
pub fn upstream_error_event(body: &[u8], stream: &EventStream) -> Option<Vec<u8>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("error").filter(|error| !error.is_null())?;
    Some(event(&body, stream))
}

/// `body` must have an `error`, which is an object or a text.
fn event(body: &Value, stream: &EventStream) -> Vec<u8> {
    let error = &body["error"];
    let message = error.get("message").unwrap_or(error);
    let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    let code = || error.get("code").or_else(|| error.get("type")).filter(|code| code.is_string());
    let (name, data) = match stream.form {
        EventForm::Plain | EventForm::Gemini => (None, body.clone()),
        EventForm::Named => (Some("error"), with_type(body, "error")),
        EventForm::Messages if body["type"] == "error" => (Some("error"), body.clone()),
        EventForm::Messages => {
            let error = json!({ "type": "api_error", "message": text, "code": code() });
            (Some("error"), json!({ "type": "error", "error": error }))
        }
        EventForm::Responses => {
            let code = code().cloned().unwrap_or_else(|| "server_error".into());
            let data = json!({
                "type": "response.failed",
                "sequence_number": stream.events,
                "response": {
                    "id": stream.id,
                    "object": "response",
                    "created_at": stream.created_at,
                    "status": "failed",
                    "error": { "code": code, "message": text },
                    "incomplete_details": null,
                    "instructions": null,
                    "metadata": {},
                    "model": stream.model,
                    "output": [],
                    "parallel_tool_calls": true,
                    "temperature": null,
                    "tool_choice": "auto",
                    "tools": [],
                    "top_p": null,
                    "usage": null,
                },
                "error": error,
            });
            (Some("response.failed"), data)
        }
    };
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    // Compact JSON has no line break.
    format!("{name}data: {data}\n\n").into_bytes()
}

fn with_type(body: &Value, kind: &str) -> Value {
    let mut body = body.clone();
    body["type"] = kind.into();
    body
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn stream(endpoint: &str) -> EventStream {
        let form = EventForm::of(Some(endpoint));
        EventStream { form, id: "the-id".into(), model: Some("m".into()), events: 7, created_at: 1 }
    }

    fn truncated(endpoint: &str) -> (Option<String>, Value) {
        let error = Kind::Truncated.at("u").because("line\nbreak");
        parts(&error.to_event(&stream(endpoint)))
    }

    /// The name and the data of `event`, which must be one whole event.
    fn parts(event: &[u8]) -> (Option<String>, Value) {
        let text = std::str::from_utf8(event).unwrap();
        let lines: Vec<_> = text.strip_suffix("\n\n").unwrap().lines().collect();
        let (name, data) = match lines[..] {
            [data] => (None, data),
            [name, data] => (Some(name.strip_prefix("event: ").unwrap().to_owned()), data),
            _ => panic!("{text:?}"),
        };
        (name, serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
    }

    #[test]
    fn chat_and_unknown_endpoints_get_openai_error_without_name() {
        for endpoint in ["chat/completions", "completions", "other", "messages/batches"] {
            let (name, data) = truncated(endpoint);
            assert_eq!(name, None, "{endpoint}");
            assert_eq!(data["error"]["type"], ERROR_TYPE);
            assert_eq!(data["error"]["code"], "upstream_truncated");
        }
    }

    #[test]
    fn messages_get_anthropic_error_event() {
        let (name, data) = truncated("messages");
        assert_eq!(name.as_deref(), Some("error"));
        assert_eq!((&data["type"], &data["error"]["type"]), (&"error".into(), &"api_error".into()));
        assert!(data["error"]["message"].as_str().unwrap().contains("line\nbreak"));
    }

    #[test]
    fn responses_get_failed_response_that_sdks_raise() {
        let (name, data) = truncated("responses");
        assert_eq!(name.as_deref(), Some("response.failed"));
        assert_eq!(data["type"], "response.failed");
        assert_eq!(data["sequence_number"], 7);
        assert_eq!(data["response"]["status"], "failed");
        assert_eq!(data["response"]["error"]["code"], "upstream_truncated");
        assert_eq!(data["error"]["message"], data["response"]["error"]["message"]);
    }

    #[test]
    fn gemini_gets_error_with_a_number_as_code() {
        let (name, data) = truncated("streamGenerateContent");
        assert_eq!(name, None);
        assert_eq!((&data["error"]["code"], &data["error"]["status"]), (&502.into(), &"UNAVAILABLE".into()));
        assert_eq!(data["error"]["details"][0]["reason"], "upstream_truncated");
        assert!(data["error"]["message"].as_str().unwrap().contains("line\nbreak"));
    }

    #[test]
    fn images_and_audio_get_named_event() {
        for endpoint in ["images/generations", "images/edits", "audio/speech", "audio/transcriptions"] {
            let (name, data) = truncated(endpoint);
            assert_eq!(name.as_deref(), Some("error"), "{endpoint}");
            assert_eq!(
                (&data["type"], &data["error"]["code"]),
                (&"error".into(), &"upstream_truncated".into())
            );
        }
    }

    #[test]
    fn upstream_errors_keep_their_words_in_every_form() {
        let openai = br#"{"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}}"#;
        let anthropic = br#"{"type": "error", "error": {"type": "overloaded_error", "message": "slow"}, "request_id": "r"}"#;
        let text = br#"{"error": "slow"}"#;
        for body in [&openai[..], anthropic, text] {
            for endpoint in ["chat/completions", "messages", "responses", "audio/speech"] {
                let event = upstream_error_event(body, &stream(endpoint)).unwrap();
                let (name, data) = parts(&event);
                assert_eq!(name.is_none(), endpoint == "chat/completions");
                assert!(data["error"] == "slow" || data["error"]["message"] == "slow", "{endpoint}: {data}");
            }
        }
        let (_, data) = parts(&upstream_error_event(anthropic, &stream("messages")).unwrap());
        assert_eq!(data, serde_json::from_slice::<Value>(anthropic).unwrap());
        let (_, data) = parts(&upstream_error_event(openai, &stream("responses")).unwrap());
        assert_eq!(data["response"]["error"]["code"], "rate_limit_exceeded");
    }

    #[test]
    fn body_without_error_is_no_error_event() {
        for body in [&b"overloaded"[..], b"{}", b"{\"error\":null}", b"[1]", b"\"error\""] {
            assert_eq!(upstream_error_event(body, &stream("responses")), None);
        }
    }
}

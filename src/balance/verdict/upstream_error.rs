//! The words of a service's error, from its body or from an event.

use std::time::Duration;

use serde_json::Value;

use crate::balance::rate_limit::parse_span;

/// The longest code or type that is kept, in bytes; real ones have up to 40.
const MAX_WORD: usize = 64;
/// The longest beginning of a message that is kept, in bytes: it may name a time to wait.
const MAX_MESSAGE: usize = 512;

/// A service's error, as far as verdicts need it. Empty if the body is not an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// `code`, as a text; for Google also `status`.
    pub code: String,
    /// `type`.
    pub kind: String,
    pub message: String,
    /// `retryDelay` of Google's `RetryInfo`.
    pub retry_delay: Option<Duration>,
}

/// The meaning of an error's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// The words stand for this status.
    Status(u16),
    /// The account has no quota left.
    Quota,
    UnknownModel,
    /// Only the account that created the state in the request can read it.
    OtherAccount,
    Other,
}

/// Refusals of state that another account has stored.
const OTHER_ACCOUNT: &[&str] = &[
    "previous_response_not_found",
    "invalid_encrypted_content",
    "conversation_not_found",
    "response_not_found",
    "item_not_found",
    "file_not_found",
    "container_not_found",
];
/// Words for a model that the service does not have.
const UNKNOWN_MODEL: &[&str] = &["model_not_found", "deploymentnotfound", "model_not_available"];
/// Beginnings of words for an error that the request has caused.
const REQUEST: &[&str] = &["invalid", "context_length", "content_", "bad_request", "unsupported"];
/// Beginnings of words that stand for a status, of the APIs of OpenAI, Azure, Anthropic and Google.
const STATUSES: &[(&str, u16)] = &[
    ("rate_limit", 429),
    ("ratelimit", 429),
    ("too_many_requests", 429),
    ("toomanyrequests", 429),
    ("resource_exhausted", 429),
    ("throttl", 429),
    ("overloaded", 529),
    ("server_is_overloaded", 529),
    ("service_unavailable", 503),
    ("serviceunavailable", 503),
    ("unavailable", 503),
    ("server_error", 500),
    ("internal", 500),
    ("api_error", 500),
    ("timeout", 504),
    ("deadline_exceeded", 504),
];

impl UpstreamError {
    /// Reads the error of a body or of an event's data, in the form of any provider.
    pub fn parse(json: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(json) else { return Self::default() };
        // Google streams lists.
        let value = value.get(0).unwrap_or(&value);
        let inner = [&value["error"], &value["response"]["error"]].into_iter().find(|error| !error.is_null());
        let error = inner.unwrap_or(value);
        let text = |key: &str| word(&error[key]);
        let code = ["code", "status", "statusCode"].map(text).into_iter().find(|word| !word.is_empty());
        // Google's code is a status, which its word expresses better.
        let code = Some(word(&error["status"])).filter(|word| word.contains('_')).or(code);
        let message = ["message", "detail"].into_iter().find_map(|key| error[key].as_str());
        let message = error.as_str().or(message).unwrap_or_default();
        Self {
            code: code.unwrap_or_default(),
            kind: word(&error["type"]),
            message: message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned(),
            retry_delay: retry_delay(error),
        }
    }

    /// Returns true if there are no words.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn words(&self) -> Words {
        let words = [&self.code, &self.kind].map(|word| word.to_ascii_lowercase());
        let has = |list: &[&str]| words.iter().any(|word| list.contains(&&**word));
        if has(&["insufficient_quota"]) {
            return Words::Quota;
        }
        if has(OTHER_ACCOUNT) {
            return Words::OtherAccount;
        }
        let names_model = has(&["not_found_error", "notfounderror"]) && self.message.contains("model");
        if has(UNKNOWN_MODEL) || names_model {
            return Words::UnknownModel;
        }
        for word in words.iter().filter(|word| !word.is_empty()) {
            if let Ok(status) = word.parse() {
                return Words::Status(status);
            }
            if REQUEST.iter().any(|start| word.starts_with(start)) {
                return Words::Other;
            }
            if let Some((_, status)) = STATUSES.iter().find(|(start, _)| word.starts_with(start)) {
                return Words::Status(*status);
            }
        }
        Words::Other
    }
}

/// A text or a number.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text[..text.floor_char_boundary(MAX_WORD)].to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error["details"].as_array()?;
    details.iter().find_map(|detail| parse_span(detail["retryDelay"].as_str()?))
}

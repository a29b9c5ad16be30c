//! Errors in the words of the services.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::limit::LimitStyle;
use super::place::Dialect;

/// An error response.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
    /// The form of a 429's limit, and its end.
    limit: (LimitStyle, Duration),
}

impl Failure {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        let limit = (LimitStyle::default(), Duration::from_secs(1));
        Self { status, message: message.into(), kind, param: None, code, limit }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
    }

    /// A wrong member of the body.
    pub(super) fn parameter(
        param: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { param: Some(param), code, ..Self::invalid(message) }
    }

    /// Directions that cannot be followed.
    pub(super) fn directions(message: &str) -> Self {
        Self::parameter("x-simulate", Some("invalid_directions"), format!("Simulator directions: {message}"))
    }

    pub(super) fn not_found(method: &http::Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", None, message)
    }

    pub(super) fn no_such_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        let failure =
            Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), message);
        Self { param: Some("model"), ..failure }
    }

    pub(super) fn no_such_object(param: &'static str, message: String) -> Self {
        let failure = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", None, message);
        Self { param: Some(param), ..failure }
    }

    /// `given` is true if the request had a key. It is not repeated.
    pub(super) fn wrong_key(given: bool) -> Self {
        let (code, message) = if given {
            (
                Some("invalid_api_key"),
                "Incorrect API key provided. The simulator was started with another --api-key.",
            )
        } else {
            (None, "You didn't provide an API key. Send it as `Authorization: Bearer KEY` or `api-key: KEY`.")
        };
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", code, message)
    }

    /// The error of a service that does not know `stream_options`.
    pub(super) fn rejected_stream_options(status: u16) -> Self {
        let message = "Unrecognized request argument supplied: stream_options";
        Self {
            status: checked(status),
            ..Self::parameter("stream_options", Some("unrecognized_argument"), message)
        }
    }

    /// The error in the directions.
    pub(super) fn with_status(status: u16, model: &str) -> Self {
        let number = status;
        let status = checked(status);
        match number {
            401 => Self::wrong_key(true),
            404 => Self::no_such_model(model),
            429 => {
                let message = format!(
                    "Rate limit reached for {model} in organization org-simulator on requests per min (RPM): \
                     Limit 500, Used 500, Requested 1. Please try again in 1s."
                );
                Self::new(status, "requests", Some("rate_limit_exceeded"), message)
            }
            500.. => {
                let message = "The server had an error while processing your request. Sorry about that!";
                Self::new(status, "server_error", None, message)
            }
            _ => Self::new(
                status,
                "invalid_request_error",
                None,
                format!("The simulator was asked for {status}."),
            ),
        }
    }

    /// Adds a rate limit that ends after this time.
    pub(super) fn limited(self, style: LimitStyle, after: Duration) -> Self {
        Self { limit: (style, after), ..self }
    }

    /// The body.
    pub(super) fn as_json(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::OpenAi => {
                let mut body = json!({"error": {
                    "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
                }});
                let (style, after) = self.limit;
                if let Some(details) = style.details(after).filter(|_| self.is_limit()) {
                    body["error"]["details"] = details;
                }
                body
            }
            Dialect::Azure => {
                let code = self.code.map_or_else(|| self.status.as_u16().to_string(), str::to_owned);
                json!({"error": {"code": code, "message": self.message}})
            }
            Dialect::Anthropic => {
                json!({"type": "error", "error": {"type": anthropic_type(self.status), "message": self.message}})
            }
        }
    }

    /// The headers that belong to the status.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if self.is_limit() {
            let (style, after) = self.limit;
            style.add_headers(after, headers);
        }
    }

    fn is_limit(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }
}

/// Anthropic's type of an error, which follows from its status.
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn checked(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("directions have only statuses that exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_words_errors_its_own_way() {
        let failure = Failure::with_status(429, "m");
        let openai = failure.as_json(Dialect::OpenAi);
        assert_eq!(openai["error"]["code"], "rate_limit_exceeded");
        assert!(openai["error"].as_object().unwrap().contains_key("param"));
        let azure = Failure::wrong_key(false).as_json(Dialect::Azure);
        assert_eq!(azure["error"]["code"], "401");
        assert_eq!(azure["error"].as_object().unwrap().len(), 2);
        let anthropic = Failure::with_status(529, "m").as_json(Dialect::Anthropic);
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["type"]),
            (&"error".into(), &"overloaded_error".into())
        );
    }

    #[test]
    fn too_many_requests_say_when_to_come_back() {
        let mut headers = HeaderMap::new();
        Failure::with_status(500, "m").add_headers(&mut headers);
        assert!(headers.is_empty());
        Failure::with_status(429, "m").add_headers(&mut headers);
        assert_eq!((headers["retry-after"].as_bytes(), headers.len()), (b"1".as_slice(), 8));
    }
}

//! An error as JSON and as a whole response.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use serde::Serialize;

use super::{Error, Kind, LimitReached};
use crate::record::ID_HEADER;

/// The `type` of all errors that streamgauge makes.
pub const ERROR_TYPE: &str = "streamgauge_error";

/// The longest pause in a `Retry-After` that streamgauge makes.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

impl Error {
    /// The field of the request that is at fault, if it is a single field.
    fn param(&self) -> Option<&'static str> {
        match self.kind() {
            Kind::ModelRequired
            | Kind::ModelAmbiguous
            | Kind::ModelTooLate { .. }
            | Kind::ModelNotAllowed { .. }
            | Kind::ModelUnknown { .. }
            | Kind::NoPrice { .. } => Some("model"),
            Kind::OutputTooLarge { field, .. } => Some(field),
            _ => None,
        }
    }

    /// `{"error":{"message","type","param","code"}}`, as the SDKs read it. A limit that refuses a
    /// request to Anthropic's Messages has their form.
    fn to_json(&self, id: &HeaderValue, endpoint: Option<&str>) -> Vec<u8> {
        if is_of_messages(endpoint) && matches!(self.kind(), Kind::LimitReached(_) | Kind::QuotaReached(_)) {
            return self.to_messages_json(id);
        }
        #[derive(Serialize)]
        struct Body {
            error: Inner,
        }
        #[derive(Serialize)]
        struct Inner {
            message: String,
            r#type: &'static str,
            param: Option<&'static str>,
            code: &'static str,
        }
        let (param, code) = (self.param(), self.code());
        let error = Inner { message: self.to_string(), r#type: ERROR_TYPE, param, code };
        serde_json::to_vec(&Body { error }).expect("strings have a JSON form")
    }

    /// `{"type":"error","error":{"type","message","code"},"request_id"}`, as Anthropic's API refuses
    /// with status 429. `code` is our own.
    fn to_messages_json(&self, id: &HeaderValue) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            error: Inner,
            request_id: &'a str,
        }
        #[derive(Serialize)]
        struct Inner {
            r#type: &'static str,
            message: String,
            code: &'static str,
        }
        let error = Inner { r#type: "rate_limit_error", message: self.to_string(), code: self.code() };
        let body = Body { r#type: "error", error, request_id: id.to_str().unwrap_or_default() };
        serde_json::to_vec(&body).expect("strings have a JSON form")
    }

    /// The whole response. `id` is the record's, so that a user can quote it. `endpoint` has its name
    /// in records, if it is known.
    pub fn to_response(&self, id: HeaderValue, endpoint: Option<&str>) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.to_json(&id, endpoint)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ID_HEADER, id);
        match self.kind() {
            Kind::KeyMissing | Kind::KeyUnknown { .. } | Kind::KeyMistyped { .. } | Kind::KeyExpired => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::MethodNotAllowed(_) => {
                headers.insert(
                    header::ALLOW,
                    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                );
            }
            Kind::LimitReached(reached) if reached.is_rate => reached.add_headers(headers),
            _ => {}
        }
        if let Some(pause) = self.retry_after() {
            add_retry_after(headers, pause);
        }
        response
    }

    /// The response as HTTP/1.1 bytes, for a request that cannot be parsed; the connection must be
    /// closed after it.
    pub fn to_http1(&self, id: HeaderValue) -> Vec<u8> {
        let response = self.to_response(id, None);
        let status = response.status();
        let mut out =
            format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("Error"))
                .into_bytes();
        for (name, value) in response.headers() {
            out.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        out.extend_from_slice(
            format!("connection: close\r\ncontent-length: {}\r\n\r\n", response.body().len()).as_bytes(),
        );
        out.extend_from_slice(response.body());
        out
    }
}

/// Returns true for the Messages endpoint and those below it.
fn is_of_messages(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.split('/').next() == Some("messages"))
}

/// The milliseconds after which the pause is over.
fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// SDKs obey long pauses: openai-node waits for days, openai-python gives up beyond two minutes. A
/// longer pause therefore becomes `x-should-retry: false`.
fn add_retry_after(headers: &mut HeaderMap, pause: Duration) {
    if pause > MAX_RETRY_AFTER {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
        return;
    }
    let millis = millis(pause);
    headers.insert(header::RETRY_AFTER, millis.div_ceil(1000).into());
    headers.insert("retry-after-ms", millis.into());
}

impl LimitReached {
    /// Adds the headers that OpenAI's responses have, from which clients pace themselves.
    fn add_headers(&self, headers: &mut HeaderMap) {
        // OpenAI has no such headers for cost.
        if !matches!(&*self.unit, "requests" | "tokens") {
            return;
        }
        let reset = millis(self.retry_after.unwrap_or_default());
        for (name, value) in [
            ("limit", self.most.clone()),
            ("remaining", self.remaining.clone()),
            ("reset", format!("{reset}ms")),
        ] {
            let name = HeaderName::try_from(format!("x-ratelimit-{name}-{}", self.unit));
            let value = HeaderValue::try_from(value);
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn id() -> HeaderValue {
        HeaderValue::from_static("the-id")
    }

    #[test]
    fn response_is_openai_style_json_of_our_own_type() {
        let error = Kind::Unreachable.at("azure").because("connection refused");
        let response = error.to_response(id(), None);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()[ID_HEADER], "the-id");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["type"], ERROR_TYPE);
        assert_eq!(body["error"]["code"], "upstream_unreachable");
        assert!(body["error"]["param"].is_null());
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("azure") && message.contains("connection refused"), "{message}");
    }

    #[test]
    fn pauses_are_rounded_up() {
        for (nanos, seconds, millis) in [(1, "1", "1"), (1_500_000, "1", "2"), (1_000_400_000, "2", "1001")] {
            let mut headers = HeaderMap::new();
            add_retry_after(&mut headers, Duration::from_nanos(nanos));
            assert_eq!([&headers["retry-after"], &headers["retry-after-ms"]], [seconds, millis], "{nanos}");
        }
    }

    #[test]
    fn overloaded_response_has_retry_after() {
        let response = Error::from(Kind::Overloaded).to_response(id(), None);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()["retry-after-ms"], "1000");
    }

    #[test]
    fn pause_that_sdks_would_not_wait_for_is_no_retry() {
        let limited = |retry_after| Kind::UpstreamsRateLimited { retry_after, holder: None };
        let response =
            |seconds| Error::from(limited(Some(Duration::from_secs(seconds)))).to_response(id(), None);
        assert_eq!(response(120).headers()[header::RETRY_AFTER], "120");
        assert!(!response(120).headers().contains_key("x-should-retry"));
        assert_eq!(response(121).headers()["x-should-retry"], "false");
        assert!(!response(121).headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn limit_refuses_messages_in_anthropics_form() {
        for kind in [Kind::LimitReached(Box::default()), Kind::QuotaReached(Box::default())] {
            let error = Error::from(kind);
            let body = |endpoint| {
                let response = error.to_response(id(), endpoint);
                serde_json::from_slice::<serde_json::Value>(response.body()).unwrap()
            };
            for endpoint in ["messages", "messages/count_tokens"] {
                let body = body(Some(endpoint));
                assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &"the-id".into()));
                assert_eq!(body["error"]["type"], "rate_limit_error");
                assert_eq!(body["error"]["code"], error.code());
                assert!(body["error"]["message"].is_string());
            }
            for endpoint in [None, Some("chat/completions"), Some("threads/messages")] {
                assert_eq!(body(endpoint)["error"]["type"], ERROR_TYPE, "{endpoint:?}");
            }
        }
        let other = Error::from(Kind::NoPlace).to_response(id(), Some("messages"));
        assert!(other.body().starts_with(b"{\"error\""));
    }

    #[test]
    fn http1_bytes_close_the_connection_and_have_a_length() {
        let bytes = Error::from(Kind::HeadTooLarge).to_http1(id());
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains("connection: close"));
        assert!(head.contains(&format!("content-length: {}", body.len())));
    }
}

//! What can go wrong with a request, whose fault it is, and what the client is told.
//!
//! This is the only place that makes an HTTP error. Every one is OpenAI-style JSON with
//! `type: "streamgauge_error"`, so that it cannot be taken for the upstream's own, and a message that
//! says what to do. No message bears a secret: upstreams are named by their name in the configuration.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::record::Outcome;

/// The `type` of every error that this proxy makes.
pub const ERROR_TYPE: &str = "streamgauge_error";

/// How long a client is asked to wait before it tries again when the proxy is full.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Who has to act for the request to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request must change.
    Client,
    /// The upstream, or the way to it, must change.
    Upstream,
    /// This proxy is full or stopping.
    Proxy,
}

/// An ending that the client learns of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request head is not HTTP.
    MalformedHead,
    /// The request line is longer than the limit.
    UriTooLong,
    /// The header block is larger than the limit.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTimeout(Duration),
    /// The body did not arrive in time.
    BodyTimeout(Duration),
    /// The body ended before it was complete.
    BodyIncomplete,
    /// The body is larger than `max_request_bytes`.
    BodyTooLarge {
        /// The configured limit in bytes.
        limit: usize,
    },
    /// `CONNECT` and `TRACE` are not for an API.
    MethodNotAllowed(String),
    /// The path does not begin as the API's paths do.
    UnknownPath(String),
    /// The path has segments that could leave the upstream's own path.
    UnsafePath,
    /// No route takes this request.
    NoRoute {
        /// The inbound path.
        path: String,
        /// The model the body asked for, when the routes look at it.
        model: Option<String>,
    },
    /// Clients are configured and the request bears no key.
    KeyMissing,
    /// Clients are configured and the request's key is none of theirs.
    KeyUnknown,
    /// The model decides where the request goes, and there is none.
    ModelRequired {
        /// The upstream that needs it.
        upstream: String,
    },
    /// Two `model` keys, of which the first would decide.
    ModelAmbiguous,
    /// A header of this proxy's own has a value that it does not know.
    HeaderValue {
        /// The header.
        name: &'static str,
        /// What it may be.
        values: &'static str,
    },
    /// No connection to the upstream.
    Unreachable {
        /// The upstream's name.
        upstream: String,
        /// What the system said.
        reason: String,
    },
    /// No TLS session with the upstream.
    Tls {
        /// The upstream's name.
        upstream: String,
        /// What was wrong.
        reason: String,
    },
    /// The upstream sends the client to a host that is not allowed.
    Redirect {
        /// The upstream's name.
        upstream: String,
        /// Where it leads; empty where that cannot be told.
        host: String,
    },
    /// The outbound proxy answered, and did not open a tunnel.
    ProxyRefused {
        /// The upstream's name.
        upstream: String,
        /// The proxy's URL, without credentials.
        proxy: String,
        /// The status of its answer.
        status: u16,
    },
    /// The outbound proxy cannot be reached or understood.
    ProxyFailed {
        /// The upstream's name.
        upstream: String,
        /// The proxy's URL, without credentials.
        proxy: String,
        /// What went wrong.
        reason: String,
    },
    /// The outbound proxy opened no tunnel within `timeouts.connect`.
    ProxySilent {
        /// The upstream's name.
        upstream: String,
        /// The proxy's URL, without credentials.
        proxy: String,
        /// The configured limit.
        limit: Duration,
    },
    /// The upstream's answer is not HTTP as it should be.
    Protocol {
        /// The upstream's name.
        upstream: String,
        /// What was wrong.
        reason: String,
    },
    /// Connecting took longer than `timeouts.connect`.
    ConnectTimeout {
        /// The upstream's name.
        upstream: String,
        /// The configured limit.
        limit: Duration,
    },
    /// The answer's head took longer than `timeouts.first_byte`.
    FirstByteTimeout {
        /// The upstream's name.
        upstream: String,
        /// The configured limit.
        limit: Duration,
    },
    /// A silence inside the answer's body was longer than `timeouts.idle`.
    IdleTimeout {
        /// The upstream's name.
        upstream: String,
        /// The configured limit.
        limit: Duration,
    },
    /// The exchange took longer than `timeouts.total`.
    TotalTimeout {
        /// The upstream's name.
        upstream: String,
        /// The configured limit.
        limit: Duration,
    },
    /// The upstream closed the connection inside the answer's body.
    Truncated {
        /// The upstream's name.
        upstream: String,
        /// What the connection said last.
        reason: String,
    },
    /// The stream's content coding had to be undone, and cannot be.
    Undecodable {
        /// The upstream's name.
        upstream: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The upstream answered with an error when its client had already been told that a stream begins.
    Refused {
        /// The upstream's name.
        upstream: String,
        /// Its status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// The bodies held at this moment use up the process's budget.
    Overloaded,
}

/// A request's way ends here or goes on.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Redirect { .. }
            | Self::ProxyRefused { .. }
            | Self::ProxyFailed { .. }
            | Self::ProxySilent { .. }
            | Self::Protocol { .. }
            | Self::ConnectTimeout { .. }
            | Self::FirstByteTimeout { .. }
            | Self::IdleTimeout { .. }
            | Self::TotalTimeout { .. }
            | Self::Truncated { .. }
            | Self::Undecodable { .. }
            | Self::Refused { .. } => Fault::Upstream,
            Self::Overloaded => Fault::Proxy,
            _ => Fault::Client,
        }
    }

    /// The status and the machine-readable `code`.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MalformedHead => (StatusCode::BAD_REQUEST, "malformed_request"),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri_too_long"),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"),
            Self::HeadTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "header_timeout"),
            Self::BodyTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::BodyIncomplete => (StatusCode::BAD_REQUEST, "body_incomplete"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::UnknownPath(_) => (StatusCode::NOT_FOUND, "unknown_path"),
            Self::UnsafePath => (StatusCode::BAD_REQUEST, "unsafe_path"),
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "no_route"),
            Self::KeyMissing => (StatusCode::UNAUTHORIZED, "missing_api_key"),
            Self::KeyUnknown => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
            Self::ModelRequired { .. } => (StatusCode::BAD_REQUEST, "model_required"),
            Self::ModelAmbiguous => (StatusCode::BAD_REQUEST, "model_ambiguous"),
            Self::HeaderValue { .. } => (StatusCode::BAD_REQUEST, "invalid_header"),
            Self::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
            Self::Tls { .. } => (StatusCode::BAD_GATEWAY, "upstream_tls"),
            Self::Redirect { .. } => (StatusCode::BAD_GATEWAY, "upstream_redirect"),
            Self::ProxyRefused { .. } => (StatusCode::BAD_GATEWAY, "proxy_refused"),
            Self::ProxyFailed { .. } => (StatusCode::BAD_GATEWAY, "proxy_failed"),
            Self::ProxySilent { .. } => (StatusCode::BAD_GATEWAY, "proxy_timeout"),
            Self::Protocol { .. } => (StatusCode::BAD_GATEWAY, "upstream_protocol"),
            Self::Truncated { .. } => (StatusCode::BAD_GATEWAY, "upstream_truncated"),
            Self::Undecodable { .. } => (StatusCode::BAD_GATEWAY, "upstream_undecodable"),
            Self::Refused { .. } => (StatusCode::BAD_GATEWAY, "upstream_refused"),
            Self::ConnectTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "connect_timeout"),
            Self::FirstByteTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "first_byte_timeout"),
            Self::IdleTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "idle_timeout"),
            Self::TotalTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "total_timeout"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        }
    }

    /// The outcome that the usage record bears.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::ConnectTimeout { .. }
            | Self::ProxySilent { .. }
            | Self::FirstByteTimeout { .. }
            | Self::IdleTimeout { .. }
            | Self::TotalTimeout { .. } => Outcome::TimedOut,
            Self::Truncated { .. } => Outcome::Truncated,
            Self::BodyIncomplete => Outcome::ClientDisconnected,
            _ if self.fault() == Fault::Upstream => Outcome::UpstreamError,
            _ => Outcome::Rejected,
        }
    }

    /// The request's field that is at fault, if it is one field.
    fn param(&self) -> Option<&'static str> {
        match self {
            Self::ModelRequired { .. } | Self::ModelAmbiguous => Some("model"),
            _ => None,
        }
    }

    /// `{"error":{"message","type","param","code"}}`, as the SDKs read it.
    pub fn to_json(&self) -> Vec<u8> {
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
        let (_, code) = self.status_and_code();
        let error = Inner { message: self.to_string(), r#type: ERROR_TYPE, param: self.param(), code };
        serde_json::to_vec(&Body { error }).expect("strings have a JSON form")
    }

    /// The error as an event, for a stream whose head has already gone out.
    pub fn to_event(&self) -> Vec<u8> {
        [b"data: ".as_slice(), &self.to_json(), b"\n\n"].concat()
    }

    /// The whole answer. `id` is the record's, so that a user can quote it.
    pub fn to_response(&self, id: &HeaderValue) -> Response<Bytes> {
        let (status, _) = self.status_and_code();
        let mut response = Response::new(Bytes::from(self.to_json()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(crate::record::ID_HEADER, id.clone());
        match self {
            Self::Overloaded => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            Self::KeyMissing | Self::KeyUnknown => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MethodNotAllowed(_) => {
                headers.insert(
                    header::ALLOW,
                    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                );
            }
            _ => {}
        }
        response
    }

    /// The same as HTTP/1.1 bytes, for a connection whose request could not be read; it is closed afterwards.
    pub fn to_http1(&self, id: &HeaderValue) -> Vec<u8> {
        let response = self.to_response(id);
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MalformedHead => {
                f.write_str("The request is not valid HTTP/1.1. Check that the client speaks HTTP to this port.")
            }
            Self::UriTooLong => f.write_str("The request's path and query are too long. Shorten them."),
            Self::HeadTooLarge => {
                f.write_str("The request's headers are larger than this proxy takes (64 KiB, 100 headers). Send fewer or smaller ones.")
            }
            Self::HeadTimeout(limit) => {
                write!(f, "The request's headers did not arrive within {limit:?} (server.header_timeout).")
            }
            Self::BodyTimeout(limit) => {
                write!(f, "The request's body stopped arriving for {limit:?}. Send it without pauses.")
            }
            Self::BodyIncomplete => f.write_str("The request's body ended before it was complete."),
            Self::BodyTooLarge { limit } => write!(
                f,
                "The request's body is larger than {limit} bytes. Send less, or raise server.max_request_bytes."
            ),
            Self::MethodNotAllowed(method) => write!(f, "The method {method} is not one that this proxy forwards."),
            Self::UnknownPath(path) => write!(
                f,
                "Nothing is served at {path}. Paths begin with /v1 (or /openai for an Azure upstream): \
                 set the SDK's base URL to http://<this address>/v1."
            ),
            Self::UnsafePath => f.write_str(
                "The path has `.`, `..`, empty or backslash segments. Send it in its plain form.",
            ),
            Self::NoRoute { path, model: Some(model) } => write!(
                f,
                "No route takes {path} with the model {model:?}. Ask for another model, or add a [[routes]] entry."
            ),
            Self::NoRoute { path, model: None } => {
                write!(f, "No route takes {path}. Ask for another path, or add a [[routes]] entry.")
            }
            Self::KeyMissing => f.write_str(
                "No API key. Send one of the keys configured under [clients] as `Authorization: Bearer <key>`.",
            ),
            Self::KeyUnknown => {
                f.write_str("The API key is none of those configured under [clients] of this proxy.")
            }
            Self::ModelRequired { upstream } => write!(
                f,
                "The upstream `{upstream}` chooses the deployment by the model, and the request names none. \
                 Set `model` in the JSON body, or default_model in the configuration."
            ),
            Self::ModelAmbiguous => {
                f.write_str("The body has the key `model` twice, and it decides where the request goes. Send it once.")
            }
            Self::HeaderValue { name, values } => {
                write!(f, "The header `{name}` has a value that this proxy does not know. Send {values}, or leave it out.")
            }
            Self::Unreachable { upstream, reason } => write!(
                f,
                "The upstream `{upstream}` cannot be reached: {reason}. Check its url in the configuration and that it runs."
            ),
            Self::Tls { upstream, reason } => write!(
                f,
                "No TLS session with the upstream `{upstream}`: {reason}. Check its url and its certificate."
            ),
            Self::Redirect { upstream, host } => write!(
                f,
                "The upstream `{upstream}` redirects to {}, which is not among network.allowed_hosts. Set its url to where it is, \
                 or add that host.",
                if host.is_empty() { "something without a host" } else { host }
            ),
            Self::ProxyRefused { upstream, proxy, status } => write!(
                f,
                "The proxy {proxy} answered {status} and opens no way to the upstream `{upstream}`. {}",
                match status {
                    // Some proxies mean 407 and say 401.
                    401 | 407 => "Check the username and the password of the proxy in the configuration.",
                    _ => "Check the proxy's rules, or set proxy = \"none\" if the upstream can be reached without it.",
                }
            ),
            Self::ProxyFailed { upstream, proxy, reason } => write!(
                f,
                "No way to the upstream `{upstream}` through the proxy {proxy}: {reason}. Check the proxy's url in the \
                 configuration and that it runs."
            ),
            Self::ProxySilent { upstream, proxy, limit } => write!(
                f,
                "The proxy {proxy} opened no way to the upstream `{upstream}` within {limit:?} (timeouts.connect). Check \
                 that the proxy runs and that it can reach the upstream."
            ),
            Self::Protocol { upstream, reason } => {
                write!(f, "The upstream `{upstream}` broke HTTP: {reason}. Check what listens at its url.")
            }
            Self::ConnectTimeout { upstream, limit } => write!(
                f,
                "Connecting to the upstream `{upstream}` took longer than {limit:?} (timeouts.connect)."
            ),
            Self::FirstByteTimeout { upstream, limit } => write!(
                f,
                "The upstream `{upstream}` sent no answer within {limit:?} (timeouts.first_byte)."
            ),
            Self::IdleTimeout { upstream, limit } => write!(
                f,
                "The upstream `{upstream}` fell silent inside its answer for {limit:?} (timeouts.idle)."
            ),
            Self::TotalTimeout { upstream, limit } => {
                write!(f, "The exchange with the upstream `{upstream}` took longer than {limit:?} (timeouts.total).")
            }
            Self::Truncated { upstream, reason } => {
                write!(f, "The upstream `{upstream}` closed the connection inside its answer: {reason}.")
            }
            Self::Undecodable { upstream, reason } => {
                write!(f, "The stream of the upstream `{upstream}` cannot be decoded: {reason}.")
            }
            Self::Refused { upstream, status, body } => {
                write!(f, "The upstream `{upstream}` answered with status {status}: {body}")
            }
            Self::Overloaded => f.write_str(
                "This proxy holds as many request bodies as it may (server.max_buffered_bytes). Try again shortly.",
            ),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> HeaderValue {
        HeaderValue::from_static("the-id")
    }

    #[test]
    fn an_error_is_openai_style_json_of_our_own_type() {
        let error = Error::Unreachable { upstream: "azure".into(), reason: "connection refused".into() };
        let response = error.to_response(&id());
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()[crate::record::ID_HEADER], "the-id");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["type"], ERROR_TYPE);
        assert_eq!(body["error"]["code"], "upstream_unreachable");
        assert!(body["error"]["param"].is_null());
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("azure") && message.contains("connection refused"), "{message}");
    }

    #[test]
    fn a_full_proxy_says_when_to_come_back() {
        let response = Error::Overloaded.to_response(&id());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn the_bytes_for_an_unreadable_request_close_the_connection_and_state_their_length() {
        let bytes = Error::HeadTooLarge.to_http1(&id());
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains("connection: close"));
        assert!(head.contains(&format!("content-length: {}", body.len())));
    }

    #[test]
    fn the_event_for_a_broken_stream_is_one_whole_event() {
        let event = Error::Truncated { upstream: "u".into(), reason: "line\nbreak".into() }.to_event();
        let text = String::from_utf8(event).unwrap();
        assert!(text.starts_with("data: {\"error\":{") && text.ends_with("}}\n\n"));
        assert_eq!(text.matches('\n').count(), 2, "a line break inside would end the event early");
    }

    #[test]
    fn an_ending_is_blamed_on_the_one_who_can_mend_it() {
        assert_eq!(Error::KeyMissing.outcome(), Outcome::Rejected);
        assert_eq!(Error::Overloaded.outcome(), Outcome::Rejected);
        assert_eq!(Error::BodyIncomplete.outcome(), Outcome::ClientDisconnected);
        let limit = Duration::from_secs(1);
        assert_eq!(Error::IdleTimeout { upstream: "u".into(), limit }.outcome(), Outcome::TimedOut);
        let reason = || "r".to_owned();
        assert_eq!(Error::Truncated { upstream: "u".into(), reason: reason() }.outcome(), Outcome::Truncated);
        assert_eq!(
            Error::Protocol { upstream: "u".into(), reason: reason() }.outcome(),
            Outcome::UpstreamError
        );
    }
}

//! What can go wrong with a request, whose fault it is, and what the client is told.
//!
//! This is the only place that makes an HTTP error. Every one is OpenAI-style JSON with `type:
//! "streamgauge_error"`, so that it cannot be taken for the upstream's own, and a message that says
//! what to do. No message bears a secret: upstreams are named by their name in the configuration.

mod event;
mod message;
mod response;

use std::time::Duration;

use http::StatusCode;

use crate::browser::{HostFault, Refusal};
use crate::coding::DecodeError;
use crate::record::Outcome;

pub use event::{EventForm, EventStream, upstream_error_event};
pub use response::ERROR_TYPE;

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
    /// The body came more slowly than it may.
    BodyTooSlow {
        /// The configured rate in bytes per second.
        rate: u32,
    },
    /// The body came slowly while others needed its memory.
    BodyEvicted,
    /// The body ended before it was complete.
    BodyIncomplete,
    /// The body is larger than it may be.
    BodyTooLarge {
        /// The configured limit in bytes.
        limit: u64,
        /// The key that says so.
        key: &'static str,
    },
    /// It does not say which host it is for.
    HostInvalid(HostFault),
    /// It is for a host that is not known to be this proxy.
    HostNotAllowed(String),
    /// A web page of this origin sent it, which is not listed.
    OriginNotAllowed(String),
    /// A web page sent it that does not say which it is; the value of `Sec-Fetch-Site`.
    CrossSite(String),
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
    /// A form names its model behind more bytes than may be held.
    ModelTooLate {
        /// The configured limit in bytes.
        limit: u64,
    },
    /// The body is in a content coding that is not known, and something in it decides.
    CodingUnknown(String),
    /// The body is not in the content coding that it is said to be in, or expands beyond reason.
    BodyUndecodable(DecodeError),
    /// The JSON body is in UTF-16 or UTF-32, as some servers read it.
    BodyNotUtf8,
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
    /// The upstream was sent the request, and gave no answer that could be read. It may have
    /// executed it.
    Unanswered {
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
    /// The answer's head took longer than `timeouts.first_byte` or `first_byte_unstreamed`.
    FirstByteTimeout {
        /// The upstream's name.
        upstream: String,
        /// The configured limit.
        limit: Duration,
        /// The key that has the limit.
        key: &'static str,
        /// The upstream was sent all of the request.
        was_sent: bool,
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
        /// The upstream was sent all of the request.
        was_sent: bool,
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
    /// The upstream answered with an error when its client had already been told that a stream
    /// begins.
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
    /// The bodies that this client's requests hold use up its share of the budget.
    ClientOverloaded,
    /// No place is left for an HTTP/2 stream.
    NoPlace,
    /// The drain's time was over before the answer ended.
    Stopped,
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
            | Self::Unanswered { .. }
            | Self::ConnectTimeout { .. }
            | Self::FirstByteTimeout { .. }
            | Self::IdleTimeout { .. }
            | Self::TotalTimeout { .. }
            | Self::Truncated { .. }
            | Self::Undecodable { .. }
            | Self::Refused { .. } => Fault::Upstream,
            Self::Overloaded | Self::NoPlace | Self::Stopped => Fault::Proxy,
            _ => Fault::Client,
        }
    }

    /// Whether the upstream may have executed the request, so that a repetition may execute it
    /// twice. An incomplete request is not executed.
    pub fn may_be_executed(&self) -> bool {
        matches!(
            self,
            Self::Unanswered { .. }
                | Self::FirstByteTimeout { was_sent: true, .. }
                | Self::TotalTimeout { was_sent: true, .. }
                | Self::Truncated { .. }
        )
    }

    /// The status and the machine-readable `code`.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MalformedHead => (StatusCode::BAD_REQUEST, "malformed_request"),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri_too_long"),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"),
            Self::HeadTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "header_timeout"),
            Self::BodyTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::BodyTooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Self::BodyEvicted => (StatusCode::REQUEST_TIMEOUT, "body_evicted"),
            Self::BodyIncomplete => (StatusCode::BAD_REQUEST, "body_incomplete"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::HostInvalid(_) => (StatusCode::BAD_REQUEST, "invalid_host"),
            Self::HostNotAllowed(_) => (StatusCode::FORBIDDEN, "host_not_allowed"),
            Self::OriginNotAllowed(_) => (StatusCode::FORBIDDEN, "origin_not_allowed"),
            Self::CrossSite(_) => (StatusCode::FORBIDDEN, "cross_site"),
            Self::UnknownPath(_) => (StatusCode::NOT_FOUND, "unknown_path"),
            Self::UnsafePath => (StatusCode::BAD_REQUEST, "unsafe_path"),
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "no_route"),
            Self::KeyMissing => (StatusCode::UNAUTHORIZED, "missing_api_key"),
            Self::KeyUnknown => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
            Self::ModelRequired { .. } => (StatusCode::BAD_REQUEST, "model_required"),
            Self::ModelAmbiguous => (StatusCode::BAD_REQUEST, "model_ambiguous"),
            Self::ModelTooLate { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "model_too_late"),
            Self::CodingUnknown(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding"),
            Self::BodyUndecodable(DecodeError::Corrupt) => (StatusCode::BAD_REQUEST, "body_undecodable"),
            Self::BodyUndecodable(DecodeError::TooLarge) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large")
            }
            Self::BodyNotUtf8 => (StatusCode::BAD_REQUEST, "body_not_utf8"),
            Self::HeaderValue { .. } => (StatusCode::BAD_REQUEST, "invalid_header"),
            Self::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
            Self::Tls { .. } => (StatusCode::BAD_GATEWAY, "upstream_tls"),
            Self::Redirect { .. } => (StatusCode::BAD_GATEWAY, "upstream_redirect"),
            Self::ProxyRefused { .. } => (StatusCode::BAD_GATEWAY, "proxy_refused"),
            Self::ProxyFailed { .. } => (StatusCode::BAD_GATEWAY, "proxy_failed"),
            Self::ProxySilent { .. } => (StatusCode::BAD_GATEWAY, "proxy_timeout"),
            Self::Protocol { .. } | Self::Unanswered { .. } => (StatusCode::BAD_GATEWAY, "upstream_protocol"),
            Self::Truncated { .. } => (StatusCode::BAD_GATEWAY, "upstream_truncated"),
            Self::Undecodable { .. } => (StatusCode::BAD_GATEWAY, "upstream_undecodable"),
            Self::Refused { .. } => (StatusCode::BAD_GATEWAY, "upstream_refused"),
            Self::ConnectTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "connect_timeout"),
            Self::FirstByteTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "first_byte_timeout"),
            Self::IdleTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "idle_timeout"),
            Self::TotalTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "total_timeout"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::ClientOverloaded => (StatusCode::SERVICE_UNAVAILABLE, "client_overloaded"),
            Self::NoPlace => (StatusCode::SERVICE_UNAVAILABLE, "no_place"),
            Self::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
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
            Self::Truncated { .. } | Self::Stopped => Outcome::Truncated,
            Self::BodyIncomplete => Outcome::ClientDisconnected,
            _ if self.fault() == Fault::Upstream => Outcome::UpstreamError,
            _ => Outcome::Rejected,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Host(fault) => Self::HostInvalid(fault),
            Refusal::ForeignHost(host) => Self::HostNotAllowed(host),
            Refusal::ForeignOrigin(origin) => Self::OriginNotAllowed(origin),
            Refusal::CrossSite(site) => Self::CrossSite(site),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

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

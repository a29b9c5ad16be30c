//! One request to a place that issues tokens, by the connections of upstreams.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::timeout;

use super::super::connect_spec::ConnectSpec;
use super::super::{OutboundRequest, Payload, Scratch, UpstreamClient};
use crate::codec::h1::BodyFraming;
use crate::codec::head::{Headers, KnownName, visible};
use crate::config::{PoolLimits, TokenEndpoint};
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::support::secret::{Masks, Secret};

/// The largest response that is read, in bytes. Real ones have a few kilobytes.
const MAX_RESPONSE: usize = 64 << 10;

/// The part of a refusal that is shown, in characters.
const MAX_SHOWN: usize = 300;

/// The longest pause that an authority may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The reason why there is no token. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// The reason without the words that differ from one response to the next, such as the id of a
    /// trace: the same kind is no news.
    pub(super) kind: String,
    /// The pause that the authority asks for.
    pub(super) pause: Option<Duration>,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind: reason.clone(), reason, pause: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A request for a token.
#[derive(Clone, Debug)]
pub(super) struct TokenRequest {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// A form.
    pub(super) form: Option<String>,
    /// The form of the response.
    pub(super) accept: HeaderValue,
}

impl TokenRequest {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), headers: Vec::new(), form: None, accept: JSON }
    }

    /// A form with these fields.
    pub(super) fn form<'a>(
        target: impl Into<String>,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Self {
            method: Method::POST,
            target: target.into(),
            headers: Vec::new(),
            form: Some(form),
            accept: JSON,
        }
    }

    /// Asks for XML, for places that have both forms.
    pub(super) fn for_xml(self) -> Self {
        Self { accept: HeaderValue::from_static("application/xml"), ..self }
    }

    pub(super) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// Adds a header with a secret.
    pub(super) fn with_secret(self, name: &'static str, value: &Secret) -> Result<Self, Failure> {
        let value = HeaderValue::from_str(value.expose());
        let mut value = value
            .map_err(|_| Failure::new(format!("{name} cannot be sent: it has a line break, or the like")))?;
        value.set_sensitive(true);
        Ok(self.with(name, value))
    }
}

/// The place that issues tokens, and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Exchange<'a> {
    pub(super) endpoint: &'a TokenEndpoint,
    pub(super) origin: &'a Arc<ConnectSpec>,
}

impl Exchange<'_> {
    /// Sends the request on a connection of its own. `secrets` are removed from a refusal.
    ///
    /// # Errors
    /// Fails without a complete response of at most [`MAX_RESPONSE`] within the limits of the
    /// connection, and for any status but 2xx.
    pub(super) async fn send(&self, request: TokenRequest, secrets: &[&str]) -> Result<Vec<u8>, Failure> {
        let authority = self.endpoint.url.authority();
        let host = HeaderValue::from_str(authority).expect("the authority of a valid URL");
        let mut own = HeaderMap::from_iter([(USER_AGENT, AGENT), (ACCEPT, request.accept)]);
        let body = request.form.unwrap_or_default();
        let framing = match request.method {
            Method::GET => BodyFraming::None,
            _ => BodyFraming::Length(body.len() as u64),
        };
        if framing != BodyFraming::None && !body.is_empty() {
            own.insert(CONTENT_TYPE, FORM);
        }
        let limits = PoolLimits { idle_timeout: Duration::ZERO, max_idle: 0 };
        let client = UpstreamClient::new(Arc::clone(self.origin), limits, Scratch::default());
        let outbound = OutboundRequest {
            method: &request.method,
            target: request.target,
            headers: &OutboundHeaders::new(host, Vec::new(), request.headers),
            client: &Headers::from(&own),
            upgrade: None,
            framing,
            payload: if body.is_empty() {
                Payload::default()
            } else {
                Payload::Held(bytes::Bytes::from(body).into())
            },
            is_streamed: false,
            started: Instant::now(),
            is_new: true,
        };
        let response = client.send(outbound).await;
        let response = response.map_err(|error| Failure::new(format!("{authority}: {error}")))?;
        let (status, pause) = (response.head.status, pause(&response.head.headers));
        let limit = self.origin.timeouts.idle;
        let body = timeout(limit, Limited::new(response.body, MAX_RESPONSE).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let most = MAX_RESPONSE >> 10;
                let reason =
                    format!("{authority}: its response ({status}) breaks off, or is larger than {most} KiB");
                return Err(Failure { pause, ..Failure::new(reason) });
            }
            Err(_) => {
                let reason = format!("{authority}: its response ({status}) does not end");
                return Err(Failure { pause, ..Failure::new(reason) });
            }
        };
        if status.is_success() {
            return Ok(body.into());
        }
        let mut reason = format!("{authority} refuses ({status})");
        let mut kind = reason.clone();
        if let Some(Refusal { code, text }) = refusal(&body) {
            kind.push_str(&code);
            let text = Masks::new(secrets.iter().copied()).mask(&text).unwrap_or(text);
            reason.push_str(": ");
            reason
                .extend(text.chars().take(MAX_SHOWN).map(|char| if char.is_control() { ' ' } else { char }));
        }
        let may_ask = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        Err(Failure { reason, kind, pause: pause.filter(|_| may_ask) })
    }
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("streamgauge/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// The seconds of `Retry-After`.
fn pause(headers: &Headers) -> Option<Duration> {
    let seconds = visible(headers.get(KnownName::RetryAfter)?)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

/// The words of a refusal.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    /// Those that are the same each time.
    code: String,
    text: String,
}

/// The words of a refusal: `error` and `error_description` (RFC 6749 section 5.2), or `message`.
fn refusal(body: &[u8]) -> Option<Refusal> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let words = |keys: &[&str]| -> Vec<_> {
        keys.iter().filter_map(|key| json.get(key)?.as_str()).map(lasting).collect()
    };
    let text = words(&["error", "error_description", "message", "Message", "code", "Code"]);
    let code = words(&["error", "code", "Code"]).join(": ");
    (!text.is_empty()).then(|| Refusal { code, text: text.join(": ") })
}

/// A text of Entra ID without its last part, which names the trace and the time.
fn lasting(text: &str) -> &str {
    text.split_once("Trace ID:").map_or(text, |(lasting, _)| lasting).trim_end()
}

/// Base64url without padding (RFC 7515 section 2).
pub(super) fn base64url(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_one_reason_are_of_one_kind() {
        let of = |trace: &str| {
            let body = format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret. Trace ID: {trace} Correlation ID: c Timestamp: 2026-12-01 01:02:03Z"}}"#
            );
            refusal(body.as_bytes()).unwrap()
        };
        assert_eq!(of("1"), of("2"));
        assert_eq!(of("1").text, "invalid_client: AADSTS7000215: Invalid client secret.");
        let varied =
            |id: u32| refusal(format!(r#"{{"code":"Busy","message":"request {id}"}}"#).as_bytes()).unwrap();
        assert_eq!(varied(1).code, varied(2).code);
        assert_ne!(varied(1).text, varied(2).text);
        assert_eq!(refusal(b"{}"), None);
    }
}

//! Sends notices to one webhook, in their order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Webhook;
use super::watched::Notice;
use crate::codec::h1::BodyFraming;
use crate::codec::head::Headers;
use crate::config::{self, AlertField};
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::record::AlertCounts;
use crate::support::secret::Secret;
use crate::support::{Backoff, hex};
use crate::upstream::{OutboundRequest, Payload, Scratch, UpstreamClient};

/// The number of attempts at one notice.
const ATTEMPTS: usize = 5;

/// The first and the longest pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The time for which a connection is kept for the next notice.
const IDLE: Duration = Duration::from_secs(60);

/// The longest response that is read, in bytes. Nothing in it is used.
const MAX_RESPONSE: usize = 64 << 10;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("streamgauge/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The seconds since 1970 at which the notice was signed, which the signature covers.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-streamgauge-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-streamgauge-signature");

/// Sends notices until their queue is closed and empty.
pub(super) async fn send_all(
    webhook: Arc<Webhook>,
    mut notices: mpsc::Receiver<Notice>,
    counts: Arc<AlertCounts>,
) {
    let sender = Sender::new(&webhook);
    while let Some(notice) = notices.recv().await {
        let body = webhook.settings.template.render(|field: AlertField| notice.field(field));
        sender.deliver(Bytes::from(body), &counts).await;
    }
}

struct Sender<'a> {
    webhook: &'a Webhook,
    upstream: UpstreamClient,
    host: HeaderValue,
}

impl<'a> Sender<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let limits = config::PoolLimits { idle_timeout: IDLE, max_idle: 1 };
        let authority = webhook.settings.url.base.authority();
        let host = HeaderValue::from_str(authority).expect("the authority of a valid URL");
        Self {
            webhook,
            upstream: UpstreamClient::new(Arc::clone(&webhook.origin), limits, Scratch::default()),
            host,
        }
    }

    /// Sends a notice, at most [`ATTEMPTS`] times.
    async fn deliver(&self, body: Bytes, counts: &AlertCounts) {
        let host = self.webhook.settings.url.base.host();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for attempt in 1..=ATTEMPTS {
            let failure = match self.post(body.clone()).await {
                Ok(status) if status.is_success() => return counts.count_sent(),
                Ok(status) => Failure { reason: status.to_string(), may_pass: may_pass(status) },
                Err(reason) => Failure { reason, may_pass: true },
            };
            counts.count_failure();
            if attempt == ATTEMPTS || !failure.may_pass {
                tracing::error!(host, attempt, "an alert is lost: the webhook failed: {}", failure.reason);
                return counts.count_lost();
            }
            if attempt == 1 {
                tracing::warn!(host, "an alert is sent again: the webhook failed: {}", failure.reason);
            }
            sleep(backoff.take_jittered()).await;
        }
    }

    /// The status of one attempt. The errors name the host, and no other part of the URL.
    async fn post(&self, body: Bytes) -> Result<StatusCode, String> {
        let settings = &self.webhook.settings;
        let own = HeaderMap::from_iter([(CONTENT_TYPE, JSON), (USER_AGENT, AGENT)]);
        let mut signed = Vec::new();
        if let Some(key) = &settings.signing_key {
            let timestamp = Timestamp::now().as_second();
            let signature = signature(key, timestamp, &body);
            signed.push((TIMESTAMP, HeaderValue::from(timestamp)));
            signed.push((SIGNATURE, HeaderValue::try_from(signature).map_err(|error| error.to_string())?));
        }
        let request = OutboundRequest {
            method: &Method::POST,
            target: settings.url.target(),
            headers: &OutboundHeaders::new(self.host.clone(), Vec::new(), signed),
            client: &Headers::from(&own),
            upgrade: None,
            framing: BodyFraming::Length(body.len() as u64),
            payload: Payload::Held(body.into()),
            is_streamed: false,
            started: Instant::now(),
            is_new: true,
        };
        let response = self.upstream.send(request).await.map_err(|error| error.code().to_owned())?;
        // Read to its end, so that the connection can be used again.
        let limit = self.upstream.spec().timeouts.idle;
        let _ = timeout(limit, Limited::new(response.body, MAX_RESPONSE).collect()).await;
        Ok(response.head.status)
    }
}

struct Failure {
    reason: String,
    /// The same notice may be accepted later.
    may_pass: bool,
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// `v1=` and the hexadecimal HMAC-SHA256 of the timestamp, a dot, and the body.
fn signature(key: &Secret, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut signature = "v1=".to_owned();
    hex::push(&mut signature, context.sign().as_ref());
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is that of Python's `hmac.new(b"key", b'1700000000.{"text":"x"}', "sha256")`.
    #[test]
    fn signature_is_that_of_another_program() {
        let found = signature(&Secret::new("key".to_owned()), 1_700_000_000, br#"{"text":"x"}"#);
        assert_eq!(found, "v1=4536e1d99657625a6450cffaf320abafeb2707f9f4aa50853fc14b45e64c9dd6");
    }

    #[test]
    fn only_passing_failures_are_tried_again() {
        for (status, passes) in
            [(500, true), (503, true), (429, true), (400, false), (404, false), (301, false)]
        {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), passes, "{status}");
        }
    }
}

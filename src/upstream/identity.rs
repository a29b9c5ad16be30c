//! Tokens of clouds in place of keys: requested, kept and renewed here, and put on each request.
//!
//! A thread of its own requests them, one request at a time for each identity, over the connections
//! of upstreams (forward proxies, TLS, limits). Workers read the present token without a lock. A
//! request waits only while there is no usable token, for at most `timeouts.connect`. Upstreams
//! with the same identity share its tokens.
//!
//! | file | what it holds |
//! |---|---|
//! | `keeper` | the thread, and the pace of renewals |
//! | `token` | a token with the times of its life |
//! | `exchange`, `reply` | a request for a token; its response |
//! | `entra`, `google`, `aws` | the requests of the three clouds |
//! | `jwt` | assertions |

mod aws;
mod entra;
mod exchange;
mod google;
mod jwt;
mod keeper;
mod reply;
mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderValue, StatusCode};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::response::UpstreamResponse;
use super::{ConnectSpec, OutboundRequest, Result, UpstreamClient};
use crate::config::CloudIdentity;
use crate::llm::provider::ANTHROPIC_VERSION;
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::record::error::Kind;
pub use keeper::{Identities, IdentityStates};
use token::{AccessToken, Moment};

/// The age from which a token that an upstream refuses is renewed at once: it may have been
/// revoked. A newer one is refused for another reason.
const MIN_REFUSED_AGE: Duration = Duration::from_secs(60);

/// The header of AWS with the kind of an error, which may be followed by a colon and a URL.
const AWS_ERROR: &[u8] = b"x-amzn-errortype";

/// The kinds of errors of AWS that are about a token: it has expired, or is not known any more.
const AWS_TOKEN_ERRORS: [&str; 8] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
];

fn is_of_token(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
    AWS_TOKEN_ERRORS.iter().any(|known| known.as_bytes() == kind)
}

/// An identity with its present token.
pub struct TokenSource {
    settings: CloudIdentity,
    /// The way to the endpoint. `None`: it has none.
    origin: Option<Arc<ConnectSpec>>,
    present: ArcSwapOption<AccessToken>,
    /// The token before the present one, which requests may still have.
    earlier: ArcSwapOption<AccessToken>,
    /// Counts the tokens so far.
    issued: watch::Sender<u64>,
    /// The first request has ended, with a token or without.
    is_settled: AtomicBool,
    /// The number of the token that an upstream refused.
    refused: AtomicU64,
    /// Notified when a token is refused, or has ended before its renewal.
    wanted: Notify,
    /// The latest failure, if there is no newer token.
    failure: ArcSwapOption<String>,
}

impl TokenSource {
    fn new(settings: CloudIdentity, origin: Option<Arc<ConnectSpec>>) -> Self {
        Self {
            settings,
            origin,
            present: ArcSwapOption::empty(),
            earlier: ArcSwapOption::empty(),
            issued: watch::Sender::new(0),
            is_settled: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            wanted: Notify::new(),
            failure: ArcSwapOption::empty(),
        }
    }

    fn usable(&self) -> Option<Arc<AccessToken>> {
        self.present.load_full().filter(|token| token.is_usable(Moment::now()))
    }

    /// The present token, or the first usable one within `limit`.
    async fn token(&self, limit: Duration) -> Option<Arc<AccessToken>> {
        if let Some(token) = self.usable() {
            return Some(token);
        }
        self.wanted.notify_one();
        let mut issued = self.issued.subscribe();
        let next = async {
            loop {
                issued.borrow_and_update();
                if let Some(token) = self.usable() {
                    return Some(token);
                }
                issued.changed().await.ok()?;
            }
        };
        timeout(limit, next).await.ok()?
    }

    /// A token that replaces `refused`, if it comes within `limit`. The same text is no other token.
    async fn instead_of(&self, refused: &AccessToken, limit: Duration) -> Option<Arc<AccessToken>> {
        let mut issued = self.issued.subscribe();
        issued.borrow_and_update();
        let is_other = |token: &Arc<AccessToken>| token.text != refused.text;
        if let Some(token) = self.usable().filter(is_other) {
            return Some(token);
        }
        if self.failure.load().is_some() {
            return None;
        }
        self.refuse();
        timeout(limit, issued.changed()).await.ok()?.ok()?;
        self.usable().filter(is_other)
    }

    /// Has the present token renewed.
    fn refuse(&self) {
        self.refused.store(*self.issued.borrow(), Ordering::Release);
        self.wanted.notify_one();
    }

    /// Returns true if the response refuses the token itself, and not what the identity may do.
    fn is_refusal(&self, response: &UpstreamResponse) -> bool {
        match response.head.status {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN if matches!(self.settings, CloudIdentity::Aws(_)) => {
                let kind =
                    response.head.headers.iter().find(|field| field.name().eq_ignore_ascii_case(AWS_ERROR));
                kind.is_some_and(|field| is_of_token(field.value()))
            }
            _ => false,
        }
    }

    /// The reason why there is no token.
    fn reason(&self) -> String {
        match self.failure.load_full() {
            Some(reason) => String::clone(&reason),
            None => "the response to the request for a token is awaited".to_owned(),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenSource").field(&self.settings).finish()
    }
}

/// The tokens of one upstream, and its headers with them.
#[derive(Debug)]
pub struct UpstreamTokens {
    source: Arc<TokenSource>,
    /// The headers without a token.
    headers: OutboundHeaders,
    /// Those with the version of Anthropic's API, for requests that name none.
    versioned: Option<OutboundHeaders>,
    /// Those with the token that was used last.
    present: ArcSwapOption<Credentials>,
}

#[derive(Debug)]
struct Credentials {
    token: Arc<AccessToken>,
    headers: OutboundHeaders,
    versioned: Option<OutboundHeaders>,
}

impl Credentials {
    fn headers(&self, is_versioned: bool) -> &OutboundHeaders {
        self.versioned.as_ref().filter(|_| is_versioned).unwrap_or(&self.headers)
    }
}

impl UpstreamTokens {
    /// `versioned`: the headers of requests that have to get the version of Anthropic's API.
    pub fn new(
        source: Arc<TokenSource>,
        headers: OutboundHeaders,
        versioned: Option<OutboundHeaders>,
    ) -> Self {
        Self { source, headers, versioned, present: ArcSwapOption::empty() }
    }

    pub fn source(&self) -> &Arc<TokenSource> {
        &self.source
    }

    /// Sends a request with a token. If the upstream refuses one that is not new (401; of AWS also
    /// 403), it is renewed once, and the request is sent once more, if its body is still there.
    /// Cancel safe as [`UpstreamClient::send`].
    ///
    /// # Errors
    /// Fails with [`Kind::IdentityUnavailable`] if there is no token within `timeouts.connect`, and
    /// otherwise as [`UpstreamClient::send`].
    pub async fn send(
        &self,
        client: &UpstreamClient,
        request: OutboundRequest<'_>,
    ) -> Result<UpstreamResponse> {
        let limit = client.spec.timeouts.connect;
        let Some(token) = self.source.token(limit).await else {
            let error = Kind::IdentityUnavailable.at(Arc::clone(&client.spec.name));
            let error = error.because(self.source.reason());
            if let Some(observer) = &client.spec.observer {
                observer.on_error(&error);
            }
            return Err(error);
        };
        let credentials = self.with(token);
        let again = request.payload.replay().map(|payload| (request.target.clone(), payload));
        let OutboundRequest { method, client: clients, upgrade, framing, is_streamed, started, .. } = request;
        let is_versioned = self.versioned.is_some() && request.headers.adds(ANTHROPIC_VERSION.0);
        let request = OutboundRequest { headers: credentials.headers(is_versioned), ..request };
        let response = client.send(request).await?;
        let is_refused = self.source.is_refusal(&response);
        if !is_refused || credentials.token.age(Moment::now()) < MIN_REFUSED_AGE {
            return Ok(response);
        }
        let Some((target, payload)) = again else {
            // The body is gone, but the next request needs another token.
            if self.source.usable().is_some_and(|token| token.text == credentials.token.text) {
                self.source.refuse();
            }
            return Ok(response);
        };
        let Some(token) = self.source.instead_of(&credentials.token, limit).await else {
            return Ok(response);
        };
        drop(response);
        tracing::debug!(upstream = %client.spec.name, "the upstream refused a token; sending once more with a new one");
        let credentials = self.with(token);
        let headers = credentials.headers(is_versioned);
        let request = OutboundRequest {
            method,
            target,
            headers,
            client: clients,
            upgrade,
            framing,
            payload,
            is_streamed,
            started,
            is_new: false,
        };
        client.send(request).await
    }

    fn with(&self, token: Arc<AccessToken>) -> Arc<Credentials> {
        let present = self.present.load_full().filter(|present| Arc::ptr_eq(&present.token, &token));
        present.unwrap_or_else(|| {
            let value = HeaderValue::try_from(format!("Bearer {}", token.text.expose()));
            let mut value = value.expect("a token was checked when it was read");
            value.set_sensitive(true);
            let versioned = self.versioned.as_ref().map(|headers| headers.authorized(value.clone()));
            let headers = self.headers.authorized(value);
            let credentials = Arc::new(Credentials { token, headers, versioned });
            self.present.store(Some(Arc::clone(&credentials)));
            credentials
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_aws_is_about_a_token_or_about_a_permission() {
        for kind in [
            "ExpiredTokenException",
            "ExpiredToken:http://internal.amazon.com/coral/",
            "UnrecognizedClientException",
        ] {
            assert!(is_of_token(kind.as_bytes()), "{kind}");
        }
        for kind in ["AccessDeniedException", "", "Expired", ":ExpiredToken"] {
            assert!(!is_of_token(kind.as_bytes()), "{kind}");
        }
    }
}

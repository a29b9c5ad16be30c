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
use tokio::time::{Instant, timeout};

use super::response::UpstreamResponse;
use super::{ConnectSpec, OutboundRequest, Result, UpstreamClient};
use crate::config::CloudIdentity;
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::record::error::Kind;
pub use keeper::{Identities, IdentityStates};
use token::AccessToken;

/// The age from which a token that an upstream refuses is renewed at once: it may have been
/// revoked. A newer one is refused for another reason.
const MIN_REFUSED_AGE: Duration = Duration::from_secs(60);

/// An identity with its present token.
pub struct TokenSource {
    settings: CloudIdentity,
    /// The way to the endpoint. `None`: it has none.
    origin: Option<Arc<ConnectSpec>>,
    present: ArcSwapOption<AccessToken>,
    /// Counts the tokens so far.
    issued: watch::Sender<u64>,
    /// The first request has ended, with a token or without.
    is_settled: AtomicBool,
    /// The number of the token that an upstream refused.
    refused: AtomicU64,
    /// Notified when a token is refused.
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
            issued: watch::Sender::new(0),
            is_settled: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            wanted: Notify::new(),
            failure: ArcSwapOption::empty(),
        }
    }

    fn usable(&self) -> Option<Arc<AccessToken>> {
        self.present.load_full().filter(|token| token.is_usable(Instant::now()))
    }

    /// The present token, or the first usable one within `limit`.
    async fn token(&self, limit: Duration) -> Option<Arc<AccessToken>> {
        if let Some(token) = self.usable() {
            return Some(token);
        }
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

    /// A token that replaces `refused`, if it comes within `limit`.
    async fn instead_of(&self, refused: &Arc<AccessToken>, limit: Duration) -> Option<Arc<AccessToken>> {
        let mut issued = self.issued.subscribe();
        let number = *issued.borrow_and_update();
        let is_other = |token: &Arc<AccessToken>| !Arc::ptr_eq(token, refused);
        if let Some(token) = self.usable().filter(is_other) {
            return Some(token);
        }
        if self.failure.load().is_some() {
            return None;
        }
        self.refused.store(number, Ordering::Release);
        self.wanted.notify_one();
        timeout(limit, issued.changed()).await.ok()?.ok()?;
        self.usable().filter(is_other)
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
    /// Those with the token that was used last.
    present: ArcSwapOption<Credentials>,
}

#[derive(Debug)]
struct Credentials {
    token: Arc<AccessToken>,
    headers: OutboundHeaders,
}

impl UpstreamTokens {
    pub fn new(source: Arc<TokenSource>, headers: OutboundHeaders) -> Self {
        Self { source, headers, present: ArcSwapOption::empty() }
    }

    pub fn source(&self) -> &Arc<TokenSource> {
        &self.source
    }

    /// Sends a request with a token. If the upstream refuses one that is not new (401), it is
    /// renewed once, and the request is sent once more, if its body is still there. Cancel safe as
    /// [`UpstreamClient::send`].
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
        let response = client.send(OutboundRequest { headers: &credentials.headers, ..request }).await?;
        let is_refused = response.head.status == StatusCode::UNAUTHORIZED;
        let Some((target, payload)) = again.filter(|_| is_refused) else { return Ok(response) };
        if credentials.token.age(Instant::now()) < MIN_REFUSED_AGE {
            return Ok(response);
        }
        let Some(token) = self.source.instead_of(&credentials.token, limit).await else {
            return Ok(response);
        };
        drop(response);
        tracing::debug!(upstream = %client.spec.name, "the upstream refused a token; sending once more with a new one");
        let credentials = self.with(token);
        let headers = &credentials.headers;
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
            let headers = self.headers.authorized(value);
            let credentials = Arc::new(Credentials { token, headers });
            self.present.store(Some(Arc::clone(&credentials)));
            credentials
        })
    }
}

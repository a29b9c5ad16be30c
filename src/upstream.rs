//! Sends requests to upstreams: connects, pools connections, and returns responses as bodies.
//!
//! All work except the frames of HTTP/2 connections runs in the task that serves the client.
//! Dropping a response closes its connection or resets its stream, and a response that is not
//! polled is not read, so that cancellation and backpressure reach the upstream.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 0 | `identity` | tokens in place of keys, by exchanges of their own |
//! | 1 | `connect`, `connect_spec`, `error`, `forward_proxy`, `http2`, `resend`, `response`, `send`, `upgraded` | one exchange; they use each other |
//! | 2 | `pool`, `upload` | kept connections, request bodies |
//! | 3 | `scratch` | buffers and timers that exchanges share |
//! | 4 | `observer`, `race`, `resolver`, `stream`, `watchdog` | parts |

mod connect;
mod connect_spec;
mod error;
mod forward_proxy;
mod http2;
mod identity;
mod observer;
mod pool;
mod race;
mod resend;
pub mod resolver;
mod response;
mod scratch;
mod send;
mod stream;
mod upgraded;
mod upload;
mod watchdog;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request};
use tokio::time::timeout_at;

pub use connect_spec::ConnectSpec;
pub use error::{SendCause, SendError, SendPhase, Violation};
pub use forward_proxy::{Connect, ForwardProxyConnector, ProxyProtocol, Socks5, TunnelError};
pub use http2::{Ending, Http2Error};
pub use identity::{Identities, IdentityStates, TokenSource, UpstreamTokens};
pub use observer::{ConnectObserver, ConnectTrace, TlsSession};
pub use race::Winner;
pub use response::{UpstreamBody, UpstreamResponse};
pub use scratch::Scratch;
pub use upgraded::UpgradedUpstream;
pub use upload::{ClientBody, Payload};

use crate::codec::h1;
use crate::codec::head::Headers;
use crate::config::PoolLimits;
use crate::llm::rewrite::headers::OutboundHeaders;
use crate::llm::rewrite::upgrade::WebSocketUpgrade;
use crate::record::error::Kind;
use http2::{Connections, Transport};
use pool::Pool;
use resend::{FirstSending, Tried, Unsent};
use send::{Kept, SendRequest};

/// The result of [`UpstreamClient::send`]; inside this module the error is a [`SendError`].
type Result<T, E = crate::record::error::Error> = std::result::Result<T, E>;

/// One worker's connections to one upstream. Clones share them.
#[derive(Clone, Debug)]
pub struct UpstreamClient {
    spec: Arc<ConnectSpec>,
    pool: Rc<Pool>,
    http2: Rc<Connections>,
    scratch: Scratch,
}

/// A request whose head is written when its HTTP version is known.
pub struct OutboundRequest<'a> {
    pub method: &'a Method,
    /// The upstream's path and query.
    pub target: String,
    /// The upstream's own headers, and the filter for the client's.
    pub headers: &'a OutboundHeaders,
    pub client: &'a Headers,
    /// Set for a WebSocket upgrade.
    pub upgrade: Option<WebSocketUpgrade>,
    pub framing: h1::BodyFraming,
    pub payload: Payload,
    /// The request asks for a stream, whose response begins sooner than a whole one.
    pub is_streamed: bool,
    /// The time when the request arrived; `timeouts.total` counts from here.
    pub started: Instant,
    /// The request arrived just now, so that the clock need not be read again.
    pub is_new: bool,
}

impl OutboundRequest<'_> {
    /// The bytes from the request line to the blank line.
    fn http1_head(&self, scratch: &Scratch) -> Vec<u8> {
        let mut head = scratch.take_head();
        let write_headers = |out: &mut Vec<u8>| {
            self.headers.write(self.client, out);
            out.extend_from_slice(self.upgrade.as_ref().map_or(b"", WebSocketUpgrade::lines));
        };
        h1::write_request_head(&mut head, self.method, &self.target, write_headers, self.framing);
        head
    }

    fn http2_head(&self, is_https: bool) -> Result<Request<()>, SendError> {
        let headers = self.headers.pairs(self.client);
        http2::request(self.method, &self.target, headers, self.framing, is_https).map_err(|error| {
            tracing::debug!(%error, "a request's target cannot be written in HTTP/2");
            SendError::new(SendPhase::Unprocessed, SendCause::Client(Kind::UnsafePath.into()))
        })
    }
}

impl UpstreamClient {
    pub fn new(spec: Arc<ConnectSpec>, limits: PoolLimits, scratch: Scratch) -> Self {
        let pool = Pool::new(limits);
        let http2 = Connections::new(Arc::clone(&spec), limits, Rc::clone(&pool), scratch.memory().clone());
        Self { spec, pool, http2, scratch }
    }

    pub fn spec(&self) -> &ConnectSpec {
        &self.spec
    }

    /// Memory for the target of a request, which `send` takes back.
    pub fn take_target(&self) -> String {
        self.scratch.take_target()
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// This loop is the only place that sends a request again: once, on another connection, if the
    /// upstream cannot have worked on it (`resend`); and if a new connection turns out to speak the
    /// other HTTP version, on which nothing was sent. Dropping the future closes the connection or
    /// resets the stream.
    ///
    /// # Errors
    /// Fails without a connection, a TLS session, a response in time or a valid response, and for a
    /// redirect to a host that is not allowed. The source is a [`SendError`].
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub fn send<'a>(
        &'a self,
        mut request: OutboundRequest<'a>,
    ) -> impl Future<Output = Result<UpstreamResponse>> + 'a {
        async move {
            if let Some(observer) = &self.spec.observer {
                observer.on_request(&request.target);
            }
            let total = self.spec.timeouts.total.map(|total| request.started + total);
            let mut payload = std::mem::take(&mut request.payload);
            if request.upgrade.is_some() {
                return self.checked(Box::pin(self.send_upgrade(&request, payload, total)).await);
            }
            let mut first: Option<Box<FirstSending>> = None;
            loop {
                let tried = first.as_ref().map(|first| &first.tried);
                let transport = match self.http2.ready(tried, request.started) {
                    Some(ready) => Ok(ready),
                    // Boxed, as is the other version's exchange: the future is that of each request.
                    None => {
                        let transport = self.http2.transport(tried, request.started);
                        Box::pin(self.before(total, transport)).await
                    }
                };
                let sent = match transport {
                    Ok(Transport::Http2(slot)) => match request.http2_head(self.spec.tls.is_some()) {
                        Ok(head) => {
                            let is_streamed = request.is_streamed;
                            Box::pin(http2::send(&self.spec, slot, head, payload, is_streamed, total)).await
                        }
                        Err(error) => Err(error.into()),
                    },
                    Ok(Transport::Http1) => self.send_http1(&request, payload, total, tried).await,
                    Err(error) => Err(error.into()),
                };
                request.is_new = false;
                match sent {
                    Ok(response) => {
                        self.scratch.give_back_target(std::mem::take(&mut request.target));
                        return self.checked(Ok(response));
                    }
                    Err(Unsent::Switched(unsent)) => payload = unsent,
                    Err(Unsent::Unprocessed { error, payload: Some(again), tried }) if first.is_none() => {
                        tracing::debug!(upstream = %self.spec.name, %error, "the upstream cannot have worked on a request; sending it once more");
                        payload = again;
                        first = Some(FirstSending::new(tried, error));
                    }
                    Err(Unsent::Unprocessed { error, .. } | Unsent::Final(error)) => {
                        return Err(self.spec.fail(match first {
                            Some(first) => first.or(error),
                            None => error,
                        }));
                    }
                }
            }
        }
    }

    fn checked(&self, sent: Result<UpstreamResponse, SendError>) -> Result<UpstreamResponse> {
        let checked = sent.and_then(|response| {
            self.spec.check_redirect(&response.head)?;
            Ok(response)
        });
        checked.map_err(|error| self.spec.fail(error))
    }

    /// Waits for a connection within `timeouts.total`; the connection itself is bound to
    /// `timeouts.connect`.
    async fn before<T>(
        &self,
        total: Option<Instant>,
        connecting: impl Future<Output = Result<T, SendError>>,
    ) -> Result<T, SendError> {
        let Some(total) = total else { return connecting.await };
        let expired = |_| Err(SendError::new(SendPhase::Connect, self.spec.total_timeout(false)));
        timeout_at(total.into(), connecting).await.unwrap_or_else(expired)
    }

    /// Sends on a connection of the pool, if there is one and the pool did not fail before;
    /// otherwise on a new one.
    async fn send_http1(
        &self,
        request: &OutboundRequest<'_>,
        payload: Payload,
        total: Option<Instant>,
        tried: Option<&Tried>,
    ) -> Result<UpstreamResponse, Unsent> {
        let kept = match tried {
            Some(Tried::Pooled) => None,
            _ => self.pool.take(self.spec.generation(), request.started, &self.scratch),
        };
        if let Some(stream) = kept {
            let again = payload.replay();
            let kept = Kept { is_repeatable: again.is_some() };
            let head = request.http1_head(&self.scratch);
            let sending = SendRequest::new(self, request, head, payload, stream, total, Some(kept));
            return sending.await.map_err(|error| match error.phase {
                SendPhase::Unprocessed | SendPhase::Crossed => {
                    Unsent::Unprocessed { error, payload: again, tried: Tried::Pooled }
                }
                _ => Unsent::Final(error),
            });
        }
        // Boxed, because it happens once per connection: each request's future would be 8 KB
        // larger.
        let stream = Box::pin(connect::connect(&self.spec, total, self.spec.http)).await?;
        if stream.is_http2() {
            Box::pin(self.before(total, self.http2.adopt(stream))).await?;
            return Err(Unsent::Switched(payload));
        }
        let head = request.http1_head(&self.scratch);
        Ok(SendRequest::new(self, request, head, payload, stream, total, None).await?)
    }
}

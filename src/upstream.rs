//! The way to the services: connects, keeps connections, sends a request, and hands its answer on
//! as a body.
//!
//! Everything here but the frames of an HTTP/2 connection runs in the task that serves the client:
//! dropping an answer closes its connection or resets its stream, and an answer that is not polled
//! is not read, which is how cancelling and slowing down reach the upstream.

mod connect;
mod forward_proxy;
mod http2;
mod observer;
mod origin;
mod pool;
mod race;
mod resend;
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

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use tokio::time::timeout_at;

pub use forward_proxy::{Connect, ForwardProxyConnector, ProxyProtocol, Socks5};
pub use observer::{ConnectObserver, ConnectTrace, TlsSession};
pub use origin::Origin;
pub use pool::PoolLimits;
pub use race::Winner;
pub use response::{UpstreamBody, UpstreamHead, UpstreamResponse};
pub use scratch::Scratch;
pub use upgraded::UpgradedUpstream;
pub use upload::{ClientBody, Payload};

use crate::error::{Error, Result};
use crate::h1;
use crate::rewrite::headers::OutboundHeaders;
use crate::rewrite::upgrade::WebSocketUpgrade;
use http2::{Connections, Lost, Transport};
use pool::Pool;
use send::{Failure, Kept, SendRequest};

/// One worker's connections to one upstream. Clones share them.
#[derive(Clone, Debug)]
pub struct Upstream {
    origin: Arc<Origin>,
    pool: Rc<Pool>,
    http2: Rc<Connections>,
    scratch: Scratch,
}

/// A request that is ready to go: what its head is made of, once it is known which HTTP carries it,
/// and its body.
pub struct OutboundRequest<'a> {
    /// The method, which also says whether the answer has a body.
    pub method: &'a Method,
    /// Path and query as the upstream is to see them.
    pub target: String,
    /// The upstream's own headers, and what passes of the client's.
    pub headers: &'a OutboundHeaders,
    /// The client's headers.
    pub client: &'a HeaderMap,
    /// A WebSocket is wished for.
    pub upgrade: Option<WebSocketUpgrade>,
    /// How long the body is.
    pub framing: h1::BodyFraming,
    /// What follows the head.
    pub payload: Payload,
    /// The request asks for a stream, whose head comes sooner than that of a whole answer.
    pub is_streamed: bool,
    /// When the request arrived: `timeouts.total` counts from here.
    pub started: Instant,
}

/// Room for a usual request's head.
const HEAD_ROOM: usize = 1024;

impl OutboundRequest<'_> {
    /// From the request line to the blank line.
    fn http1_head(&self) -> Bytes {
        let mut head = Vec::with_capacity(HEAD_ROOM);
        let headers = self.headers.iter(self.client);
        let headers = headers.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let headers = headers.chain(self.upgrade.iter().flat_map(WebSocketUpgrade::fields));
        h1::write_request_head(&mut head, self.method, &self.target, headers, self.framing);
        head.into()
    }

    fn http2_head(&self, is_https: bool) -> Result<Request<()>> {
        let headers = self.headers.iter(self.client);
        http2::request(self.method, &self.target, headers, self.framing, is_https).map_err(|error| {
            tracing::debug!(%error, "a request's target cannot be written in HTTP/2");
            Error::UnsafePath
        })
    }
}

impl Upstream {
    /// A way with no connection yet.
    pub fn new(origin: Arc<Origin>, limits: PoolLimits, scratch: Scratch) -> Self {
        let pool = Pool::new(limits);
        let http2 = Connections::new(Arc::clone(&origin), limits, Rc::clone(&pool));
        Self { origin, pool, http2, scratch }
    }

    /// This worker's read buffer.
    pub fn scratch(&self) -> Scratch {
        self.scratch.clone()
    }

    /// Where it leads.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A request is sent again, once, on another connection, where the upstream cannot have worked
    /// on it (`resend`), or said so over HTTP/2. Dropping the future closes the connection or
    /// resets the stream.
    ///
    /// # Errors
    /// No connection, no TLS session, no answer in time, an answer that is not HTTP, or a redirect
    /// to a host that is not allowed.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub fn send<'a>(
        &'a self,
        mut call: OutboundRequest<'a>,
    ) -> impl Future<Output = Result<UpstreamResponse>> + 'a {
        async move {
            if let Some(observer) = &self.origin.observer {
                observer.on_request(&call.target);
            }
            let total = self.origin.timeouts.total.map(|total| call.started + total);
            let mut payload = std::mem::replace(&mut call.payload, Payload::Held(Vec::new()));
            if call.upgrade.is_some() {
                return Box::pin(self.send_upgrade(&call, payload)).await;
            }
            let mut tried = None;
            loop {
                let transport = self.http2.transport(tried.as_ref(), call.started);
                let slot = match self.before(total, transport).await? {
                    Transport::Http2(slot) => slot,
                    Transport::Http1 => match self.send_http1(&call, payload, total).await? {
                        Ok(answer) => return self.checked(answer),
                        Err(unsent) => {
                            payload = unsent;
                            continue;
                        }
                    },
                };
                let head = call.http2_head(self.origin.tls.is_some())?;
                match http2::send(&self.origin, slot, head, payload, call.is_streamed, total).await {
                    Ok(answer) => return self.checked(answer),
                    Err(Lost::Unprocessed { reason, payload: Some(again), tried: connection })
                        if tried.is_none() =>
                    {
                        tracing::debug!(upstream = %self.origin.name, %reason, "the upstream has not looked at a request; sending once more");
                        payload = again;
                        tried = Some(connection);
                    }
                    Err(Lost::Unprocessed { reason, .. }) => return Err(self.origin.unreachable(reason)),
                    Err(Lost::Final(error)) => return Err(error),
                }
            }
        }
    }

    fn checked(&self, answer: UpstreamResponse) -> Result<UpstreamResponse> {
        self.origin.check_redirect(&answer.head)?;
        Ok(answer)
    }

    /// Waits for a connection within `timeouts.total`; the connection holds itself to
    /// `timeouts.connect`.
    async fn before<T>(&self, total: Option<Instant>, way: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(total) = total else { return way.await };
        timeout_at(total.into(), way).await.unwrap_or_else(|_| Err(self.origin.total_timeout(false)))
    }

    /// The answer; or the body back, where the new connection turned out to speak HTTP/2.
    async fn send_http1(
        &self,
        call: &OutboundRequest<'_>,
        mut payload: Payload,
        total: Option<Instant>,
    ) -> Result<std::result::Result<UpstreamResponse, Payload>> {
        let head = call.http1_head();
        if let Some(stream) = self.pool.take(self.origin.generation(), call.started, &self.scratch) {
            let again = payload.replay();
            let kept = Kept { is_repeatable: again.is_some() };
            match SendRequest::new(self, call, head.clone(), payload, stream, total).on_kept(kept).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(Failure::Unprocessed(reason)) => {
                    let Some(again) = again else { return Err(self.origin.unreachable(reason)) };
                    tracing::debug!(upstream = %self.origin.name, %reason, "a kept connection was of no use; sending once more");
                    payload = again;
                }
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        // Boxed, as what happens once in a connection's life: the future of every request would
        // have 8 KB of room for it.
        let stream = Box::pin(connect::connect(&self.origin, total, self.origin.http)).await?;
        if stream.is_http2() {
            Box::pin(self.before(total, self.http2.adopt(stream))).await?;
            return Ok(Err(payload));
        }
        let answer = SendRequest::new(self, call, head, payload, stream, total).await;
        answer.map(Ok).map_err(|failure| match failure {
            Failure::Unprocessed(reason) => self.origin.unreachable(reason),
            Failure::Final(error) => error,
        })
    }
}

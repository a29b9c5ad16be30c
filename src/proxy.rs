//! The life of a request: read [`Proxy::prepare`] first, then `answer`.
//!
//! Each station takes what the station before it made, and makes the next type, so that none can be
//! left out: [`Received`] → [`Authenticated`](request::Authenticated) → [`Buffered`](request::Buffered) →
//! [`Routed`](request::Routed) → [`Prepared`](request::Prepared) → [`UpstreamResponse`](crate::upstream::UpstreamResponse).
//! The usage record goes along and notes what each station learns. The client is authenticated
//! before its body is read: what a stranger sends is never held.

mod budget;
mod client_body;
mod decoding;
mod include_usage;
mod keep_alive;
mod pace;
mod passing;
mod pending_response;
mod probe;
mod request;
mod respond;
mod snapshot;
mod stream_options;
mod upgrade;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use tokio::time::timeout;

pub use budget::Budget;
pub use client_body::BodyLimits;
pub use respond::ProxyBody;
pub use snapshot::{Snapshot, UpstreamSpec};
pub use stream_options::StreamOptionsSupport;

use crate::config::OnDisconnect;
use crate::error::{Error, Result};
use crate::flow::{StreamMetrics, StreamMetricsRegistry, StreamTiming};
use crate::listener::{Handler, RequestBody, Upgrade};
use crate::meter::{ActiveDrains, Drains, ResponsePolicy};
use crate::record::{Board, Entry, Journal, Seen};
use crate::rewrite::headers::end_hop;
use crate::traceparent::SpanContext;
use crate::upstream::Upstream;
use pending_response::PendingResponse;
use probe::Handled;
use request::{Accepted, Buffered, Prepared, Received};
use upgrade::UpgradedConnections;

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    snapshot: Arc<Snapshot>,
    /// This worker's way to each of the snapshot's services, in their order.
    upstreams: Rc<[Upstream]>,
    /// Where answers of each of them are read on when their clients leave.
    drains: Vec<Drains>,
    /// All of those on this worker.
    draining: ActiveDrains,
    /// What this worker measures of each of them.
    flows: Vec<Arc<StreamMetrics>>,
    /// The sessions on this worker.
    upgraded: UpgradedConnections,
    journal: Journal,
    board: Board,
}

impl Proxy {
    /// The worker of this number, which follows `snapshot`; `upstreams` and `flows` are in the order of
    /// its services. Running streams are shown on `board`.
    pub fn new(
        worker: usize,
        snapshot: Arc<Snapshot>,
        upstreams: Vec<Upstream>,
        flows: &StreamMetricsRegistry,
        journal: Journal,
        board: Board,
    ) -> Self {
        let upgraded = UpgradedConnections::new(upstreams.first().map(Upstream::scratch).unwrap_or_default());
        let draining = ActiveDrains::default();
        let specs = snapshot.upstreams.iter().enumerate();
        let drains = specs.map(|(upstream, spec)| {
            Drains::new(spec.drain_limits, Arc::clone(flows.draining(upstream)), draining.clone())
        });
        let drains = drains.collect();
        let flows = (0..snapshot.upstreams.len()).map(|upstream| flows.of(worker, upstream)).collect();
        Self { drains, draining, flows, snapshot, upgraded, upstreams: upstreams.into(), journal, board }
    }

    /// What the answer to a request goes by.
    fn policy(&self, prepared: &Prepared) -> ResponsePolicy {
        let drains = match prepared.on_disconnect {
            OnDisconnect::Cancel => None,
            OnDisconnect::Drain => Some(self.drains[prepared.upstream].clone()),
        };
        ResponsePolicy { timing: StreamTiming::new(Arc::clone(&self.flows[prepared.upstream])), drains }
    }

    /// Notes what the access log says of a request, where there is one.
    fn see(&self, request: &Request<RequestBody>, from: Option<SocketAddr>, entry: &mut Entry) {
        if self.snapshot.logs_requests {
            entry.row().seen = Seen::of(request, from);
        }
    }

    /// Makes a request with these headers a span, where traces are exported. It stands in what goes
    /// upstream, also when that is sent once more. A trace that begins here has the record's id.
    fn trace(&self, headers: &mut HeaderMap, entry: &mut Entry) {
        let Some(sampling) = self.snapshot.tracing else { return };
        let span_id = fastrand::u64(1..).to_be_bytes();
        let span = SpanContext::of(headers, entry.row().id.into_bytes(), span_id, sampling);
        span.put_on(headers);
        entry.row().span = Some(Box::new(span));
    }

    /// Takes from whoever was not let in the say whether the request's span is recorded.
    fn sample(&self, entry: &mut Entry) {
        let row = entry.row();
        if let (Some(sampling), Some(span)) = (self.snapshot.tracing, &mut row.span) {
            span.sample(row.id.as_bytes(), sampling);
        }
    }

    /// The way of a request up to the point where it is sent.
    async fn prepare(&self, received: Received, entry: &mut Entry) -> Result<(Prepared, Buffered)> {
        let authenticated = received
            .check_head(&self.snapshot.admission)
            .and_then(|received| received.authenticate(&self.snapshot.clients, entry));
        let authenticated = authenticated.inspect_err(|_| self.sample(entry))?;
        let (buffered, body) = authenticated.buffer(&self.snapshot, entry).await?;
        let prepared = buffered.route(&self.snapshot, entry)?.rewrite(body, entry)?;
        Ok((prepared, buffered))
    }

    fn relay(&self, response: Accepted, entry: Entry, policy: ResponsePolicy) -> Response<ProxyBody> {
        self.announced(respond::relay(response, entry, policy))
    }

    /// The response as those in front of this proxy should see it.
    fn announced(&self, response: Response<ProxyBody>) -> Response<ProxyBody> {
        if self.snapshot.accel_buffering_header { respond::unbuffered(response) } else { response }
    }

    /// The whole way, up to the answer's body.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    fn serve(
        self: Rc<Self>,
        received: Received,
        mut entry: Entry,
    ) -> impl Future<Output = Response<ProxyBody>> {
        async move {
            let (prepared, buffered) = match self.prepare(received, &mut entry).await {
                Ok(prepared) => prepared,
                Err(error) => return respond::refuse(&error, entry),
            };
            entry.show();
            let keep_alive = prepared.keep_alive;
            let policy = self.policy(&prepared);
            let send = prepared.send(Arc::clone(&self.snapshot), Rc::clone(&self.upstreams), buffered);
            if keep_alive.is_none() && policy.drains.is_none() {
                return match send.await {
                    Ok(Accepted { response, .. }) if response.body.is_upgraded() => {
                        self.upgraded.begin(response, entry, &policy)
                    }
                    Ok(response) => self.relay(response, entry, policy),
                    Err(error) => respond::refuse(&error, entry),
                };
            }
            let mut pending = PendingResponse::new(Box::pin(send), entry, policy.clone());
            let accepted = match keep_alive {
                None => Ok((&mut pending).await),
                Some(interval) => timeout(interval, &mut pending).await.map_err(|_| interval),
            };
            match accepted {
                Ok((Ok(response), entry)) => {
                    let response = self.relay(response, entry, policy);
                    respond::keep_alive(response, keep_alive)
                }
                Ok((Err(error), entry)) => respond::refuse(&error, entry),
                Err(interval) => self.announced(respond::begin_stream(pending, interval)),
            }
        }
    }
}

impl Handler for Proxy {
    type Body = ProxyBody;

    /// Unless it is a probe's, the record is opened at once, so that also a request whose client
    /// has left by now has one.
    fn handle(
        self: Rc<Self>,
        mut request: Request<RequestBody>,
        from: Option<SocketAddr>,
    ) -> impl Future<Output = Response<ProxyBody>> {
        if let Some(response) = probe::respond(&request, &self.snapshot.admission) {
            return Handled::Probe { response: Some(response) };
        }
        let mut entry = Entry::open(&self.journal, &self.snapshot.anonymous);
        entry.row().method = Some(request.method().clone());
        self.see(&request, from, &mut entry);
        end_hop(request.headers_mut());
        self.trace(request.headers_mut(), &mut entry);
        entry.shown_on(&self.board);
        Handled::Request { response: self.serve(Received::new(request), entry) }
    }

    fn timing(body: &ProxyBody) -> Option<&Rc<StreamTiming>> {
        body.timing()
    }

    fn abort(body: &mut ProxyBody, reason: String) {
        body.abort(reason);
    }

    fn defer(body: &mut ProxyBody) {
        body.defer();
    }

    fn sent(body: &mut ProxyBody) {
        body.sent();
    }

    fn stop(body: &mut ProxyBody) {
        body.stop();
    }

    fn upgrade(body: &mut ProxyBody) -> Option<Upgrade> {
        body.upgrade()
    }

    async fn shutdown(&self) {
        // What ends from here on was stopped: no record may say that its client left.
        self.journal.cut();
        self.upgraded.shutdown().await;
    }

    async fn idle(&self) {
        self.draining.none().await;
    }

    fn refuse(&self, error: Error, from: Option<SocketAddr>) -> Vec<u8> {
        let mut entry = Entry::open(&self.journal, &self.snapshot.anonymous);
        if self.snapshot.logs_requests {
            entry.row().seen = Seen::at(from);
        }
        self.trace(&mut HeaderMap::new(), &mut entry);
        error.to_http1(respond::close(&error, entry))
    }

    fn turn_away(
        &self,
        mut request: Request<RequestBody>,
        error: Error,
        from: Option<SocketAddr>,
    ) -> Response<ProxyBody> {
        let mut entry = Entry::open(&self.journal, &self.snapshot.anonymous);
        entry.row().method = Some(request.method().clone());
        self.see(&request, from, &mut entry);
        self.trace(request.headers_mut(), &mut entry);
        respond::refuse(&error, entry)
    }
}

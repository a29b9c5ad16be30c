//! The life of a request: read [`Proxy::prepare`] first, then `serve`.
//!
//! Each stage consumes the type of the stage before and returns the next, so that no stage can be
//! skipped: [`Received`] → [`Authenticated`] → [`Buffered`] →
//! [`Routed`](request::Routed) → [`Prepared`] → [`Accepted`]. Each stage adds to the usage record.
//! The client is authenticated before its body is read, so that no body of an unknown client is
//! buffered.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 1 | `probe` | responses to probes |
//! | 2 | `attempt`, `cost_telling`, `cuttable`, `keep_alive`, `model_list`, `pending_response`, `prober`, `proxy_body`, `request`, `respond`, `stored_ids`, `upgrade`, `worker` | the path of a request; they use each other |
//! | 3 | `shared` | what survives a reload |
//! | 4 | `include_usage`, `stream_options` | usage asked for in the client's place; they use each other |
//! | 5 | `decoding`, `passing`, `snapshot` | bodies, the configuration in use |
//! | 6 | `client_body` | bodies of clients |
//! | 7 | `body_buffer`, `budget`, `meter`, `pace` | memory, metering, rates |

mod attempt;
mod body_buffer;
mod budget;
mod client_body;
mod cost_telling;
mod cuttable;
mod decoding;
mod include_usage;
mod keep_alive;
pub mod meter;
mod model_list;
mod pace;
mod passing;
mod pending_response;
mod probe;
mod prober;
mod proxy_body;
mod request;
mod respond;
mod shared;
mod snapshot;
mod stored_ids;
mod stream_options;
mod upgrade;
mod worker;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::Full;
use tokio::time::timeout;

pub use budget::Budget;
pub use client_body::BodyLimits;
pub use proxy_body::ProxyBody;
pub use request::{limit_time, request_use, token_use};
pub use shared::Shared;
pub use snapshot::{IdBinding, NativeHeaders, Snapshot, UpstreamSpec};
pub use stream_options::StreamOptionsSupport;

use crate::codec::head::{Headers, RequestHead};
use crate::codec::traceparent::SpanContext;
use crate::config::OnDisconnect;
use crate::gate::browser::Sharing;
use crate::llm::rewrite::headers::end_hop;
use crate::proxy::meter::ResponsePolicy;
use crate::record::error::{Error, Kind, Result};
use crate::record::{Entry, Journal, Seen, WorkerRequests};
use crate::server::{ClientRequest, ClientResponse, Handler};
use crate::support::flow::Limit;
use attempt::Accepted;
use cost_telling::CostTelling;
use model_list::Listing;
use pending_response::{PendingResponse, SendState, Sending, unless_cut, until_cut};
use probe::{Handled, Rare};
use request::{Authenticated, Buffered, Prepared, Received};
use worker::{Worker, WorkerSnapshot, WorkerUpstream};

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    worker: Worker,
    journal: Journal,
    requests: WorkerRequests,
}

impl Proxy {
    /// Creates the proxy of the worker with this number, which uses `snapshot` until it adopts
    /// another. `requests` lists the running streams.
    pub fn new(
        worker: usize,
        snapshot: Arc<Snapshot>,
        shared: Arc<Shared>,
        journal: Journal,
        requests: WorkerRequests,
    ) -> Self {
        Self { worker: Worker::new(worker, snapshot, shared), journal, requests }
    }

    /// Uses `snapshot` for further requests; running requests keep the one with which they began.
    pub fn adopt(&self, snapshot: Arc<Snapshot>) {
        self.worker.adopt(snapshot);
        self.worker.shared().health.note_change();
    }

    /// Asks members of groups that are left out whether they are well, until it is dropped. One
    /// worker does it for all.
    pub async fn probe_members(self: Rc<Self>) {
        prober::run(&self.worker).await;
    }

    fn policy(upstream: &WorkerUpstream, on_disconnect: OnDisconnect) -> ResponsePolicy {
        let WorkerUpstream { drains, stream_metrics, .. } = upstream;
        let drains = match on_disconnect {
            OnDisconnect::Cancel => None,
            OnDisconnect::Drain => Some(drains.clone()),
        };
        ResponsePolicy::new(Arc::clone(stream_metrics), drains)
    }

    fn relay(
        snapshot: &Snapshot,
        accepted: Accepted,
        entry: Entry,
        policy: ResponsePolicy,
    ) -> ClientResponse<ProxyBody> {
        snapshot.announced(respond::relay(accepted, entry, policy))
    }

    /// Opens the record at once, except for a probe, so that a request whose client has already left
    /// has one.
    #[inline]
    fn handle_request(
        self: Rc<Self>,
        snapshot: Rc<WorkerSnapshot>,
        mut request: ClientRequest,
        from: Option<SocketAddr>,
    ) -> Handled<impl Future<Output = ClientResponse<ProxyBody>>> {
        if let Some(response) = probe::respond(&request.head, &snapshot.admission) {
            return Handled::Probe { response: Some(response) };
        }
        let mut entry = Entry::open(&self.journal, &snapshot.anonymous);
        entry.keep(snapshot.shared());
        entry.row().method = Some(request.head.method.clone());
        let from = snapshot.client_address(from, &request.head);
        snapshot.see(&request.head, from, &mut entry);
        end_hop(&mut request.head.headers);
        snapshot.trace(&mut request.head.headers, &mut entry);
        entry.list_in(&self.requests);
        let budget = &self.worker.shared().budget;
        if budget.memory().is_full() && !budget.make_room() {
            return Handled::Rare { response: self.refuse_for_memory(entry) };
        }
        let listing = model_list::listing(&request.head, &snapshot);
        let received = Received::new(request, from);
        let is_united = match listing {
            Listing::None => false,
            Listing::OfOne => received.is_of_limited_models(&snapshot.clients, entry.row().started_at),
            Listing::United => true,
        };
        if is_united {
            return Handled::Rare { response: Box::pin(model_list::respond(snapshot, received, entry)) };
        }
        Handled::Request { response: self.serve(snapshot, received, entry) }
    }

    /// Refuses a request while memory is full.
    #[cold]
    fn refuse_for_memory(&self, entry: Entry) -> Rare {
        self.worker.shared().budget.count(Limit::Memory);
        Box::pin(std::future::ready(respond::refuse(&Kind::MemoryFull.into(), entry)))
    }

    /// Responds where pages or caches may get the response. A preflight has no record, like a
    /// probe: it reaches no upstream, and anyone can send it.
    #[cold]
    fn handle_shared(
        self: Rc<Self>,
        snapshot: Rc<WorkerSnapshot>,
        request: ClientRequest,
        from: Option<SocketAddr>,
        sharing: Sharing,
    ) -> Rare {
        if let Some(head) = snapshot.admission.preflight(&sharing, &request.head) {
            let body = ProxyBody::Whole(Full::default());
            return Box::pin(std::future::ready(ClientResponse { head, body }));
        }
        let handled = self.handle_request(snapshot, request, from);
        Box::pin(async move {
            let mut response = handled.await;
            sharing.apply(&mut response.head);
            response
        })
    }

    /// The stage that needs only the head.
    fn authenticate(
        snapshot: &WorkerSnapshot,
        received: Received,
        entry: &mut Entry,
    ) -> Result<Authenticated> {
        let authenticated = received.check_head(&snapshot.admission).and_then(|received| {
            received.authenticate(&snapshot.clients, snapshot.requires_certificates, entry)
        });
        let authenticated = authenticated.inspect_err(|_| snapshot.sample(entry))?;
        if let Some(rules) = &snapshot.tags {
            authenticated.read_tags(rules, entry);
        }
        Ok(authenticated)
    }

    /// All further stages before the first attempt.
    async fn prepare(
        snapshot: &WorkerSnapshot,
        authenticated: Authenticated,
        entry: &mut Entry,
    ) -> Result<(Prepared, Box<Buffered>)> {
        let (mut buffered, body) = authenticated.buffer(snapshot, entry).await?;
        if snapshot.stored_ids.is_some()
            && let Some(ask) = buffered.find_state(snapshot, entry)?
        {
            Box::pin(buffered.find_state_in_fleet(ask, snapshot, entry)).await?;
        }
        let routed = match buffered.route(snapshot, entry) {
            Err(error) if buffered.lacks_grant(&error) => {
                Box::pin(buffered.route_with_grants(snapshot, entry)).await?
            }
            routed => routed?,
        };
        let mut prepared = match routed.has_to_wait() {
            false => routed.prepare(body, entry)?,
            true => Box::pin(routed.prepare_after_wait(body, entry)).await?,
        };
        if let Some(stored) = &snapshot.stored_ids {
            prepared.ids = stored.watching(&buffered, &entry.row().client);
        }
        Ok((prepared, buffered))
    }

    /// All stages, up to the response's body.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    fn serve(
        self: Rc<Self>,
        snapshot: Rc<WorkerSnapshot>,
        received: Received,
        mut entry: Entry,
    ) -> impl Future<Output = ClientResponse<ProxyBody>> {
        async move {
            let mut authenticated = match Self::authenticate(&snapshot, received, &mut entry) {
                Ok(authenticated) => authenticated,
                Err(error) if error.is_slowed() => {
                    return Box::pin(respond::refuse_slowly(error, entry)).await;
                }
                Err(error) => return respond::refuse(&error, entry),
            };
            let cut = authenticated.take_cut();
            let prepared = match &cut {
                None => Self::prepare(&snapshot, authenticated, &mut entry).await,
                Some(cut) => {
                    let preparing = Self::prepare(&snapshot, authenticated, &mut entry);
                    Box::pin(unless_cut(preparing, cut)).await
                }
            };
            let (mut prepared, buffered) = match prepared {
                Ok(prepared) => prepared,
                Err(error) => return respond::refuse(&error, entry),
            };
            entry.show();
            let (keep_alive, on_disconnect) = (prepared.keep_alive(), prepared.on_disconnect);
            let telling = CostTelling::of(&buffered, &snapshot, &mut entry);
            let is_plain = on_disconnect == OnDisconnect::Cancel && cut.is_none() && telling.is_none();
            if keep_alive.is_none() && is_plain {
                return match prepared.send(buffered, Rc::clone(&snapshot)).await {
                    Ok(accepted) if accepted.response.body.is_upgraded() => {
                        self.worker.upgraded.begin(accepted, entry, None)
                    }
                    Ok(accepted) => {
                        let policy = Self::policy(&accepted.upstream, on_disconnect);
                        Self::relay(&snapshot, accepted, entry, policy)
                    }
                    Err(error) => respond::refuse(&error, entry),
                };
            }
            let policy = Self::policy(&prepared.upstream, on_disconnect);
            let state = Rc::<Cell<SendState>>::default();
            prepared.state = Some(Rc::clone(&state));
            prepared.set_waiting(prepared.has_to_wait());
            let may_hold = !prepared.is_streamed;
            let mut send: Sending = Box::pin(prepared.send(buffered, Rc::clone(&snapshot)));
            if let Some(telling) = telling {
                send = Box::pin(telling.hold(send, may_hold));
            }
            let mut pending = PendingResponse::new(send, state, entry, policy.clone());
            let accepted = match (keep_alive, &cut) {
                (None, None) => Ok((&mut pending).await),
                (None, Some(cut)) => Ok(Box::pin(until_cut(&mut pending, cut)).await),
                (Some(interval), None) => timeout(interval, &mut pending).await.map_err(|_| interval),
                (Some(interval), Some(cut)) => {
                    let response = Box::pin(until_cut(&mut pending, cut));
                    timeout(interval, response).await.map_err(|_| interval)
                }
            };
            match accepted {
                Ok((Ok(accepted), entry)) if accepted.response.body.is_upgraded() => {
                    self.worker.upgraded.begin(accepted, entry, cut)
                }
                Ok((Ok(accepted), entry)) => {
                    let policy = accepted.policy(policy);
                    let response = Self::relay(&snapshot, accepted, entry, policy);
                    respond::keep_alive(response, keep_alive).map(|body| body.cut_by(cut))
                }
                Ok((Err(error), entry)) => respond::refuse(&error, entry),
                Err(interval) => {
                    let response = respond::begin_stream(pending, interval);
                    snapshot.announced(response.map(|body| body.cut_by(cut)))
                }
            }
        }
    }
}

impl Snapshot {
    /// The address of a request's client, of which trusted proxies are believed.
    fn client_address(&self, from: Option<SocketAddr>, request: &RequestHead) -> Option<SocketAddr> {
        match &self.trusted_proxies {
            None => from,
            Some(trusted) => from.map(|peer| trusted.client(peer, &request.headers)),
        }
    }

    /// Keeps the access log's data about a request, if there is such a log.
    fn see(&self, request: &RequestHead, from: Option<SocketAddr>, entry: &mut Entry) {
        if self.logs_requests {
            entry.row().seen = Seen::of(request, from);
        }
    }

    /// Opens a span and puts it into the request's headers, if traces are exported. All attempts
    /// send the same span. A trace that begins here has the record's id.
    fn trace(&self, headers: &mut Headers, entry: &mut Entry) {
        let Some(sampling) = self.tracing else { return };
        let span_id = fastrand::u64(1..).to_be_bytes();
        let span = SpanContext::of(headers, entry.row().id.into_bytes(), span_id, sampling);
        span.put_on(headers);
        entry.row().span = Some(Box::new(span));
    }

    /// Decides the sampling of a refused request: an unauthenticated client cannot force it.
    fn sample(&self, entry: &mut Entry) {
        let row = entry.row();
        if let (Some(sampling), Some(span)) = (self.tracing, &mut row.span) {
            span.sample(row.id.as_bytes(), sampling);
        }
    }

    /// Adds the header for a proxy in front, if it is configured.
    fn announced(&self, response: ClientResponse<ProxyBody>) -> ClientResponse<ProxyBody> {
        if self.accel_buffering_header { respond::unbuffered(response) } else { response }
    }
}

impl Handler for Proxy {
    type Body = ProxyBody;

    fn expects_proxy_header(&self, peer: SocketAddr) -> bool {
        let snapshot = self.worker.snapshot();
        snapshot.trusted_proxies.as_ref().is_some_and(|trusted| trusted.expects_proxy_header(peer.ip()))
    }

    fn limits_address(&self, peer: SocketAddr) -> bool {
        let snapshot = self.worker.snapshot();
        snapshot.trusted_proxies.as_ref().is_none_or(|trusted| !trusted.contains(peer.ip()))
    }

    fn handle(
        self: Rc<Self>,
        request: ClientRequest,
        from: Option<SocketAddr>,
    ) -> impl Future<Output = ClientResponse<ProxyBody>> {
        let snapshot = self.worker.snapshot();
        match snapshot.admission.sharing(&request.head) {
            None => self.handle_request(snapshot, request, from),
            Some(sharing) => Handled::Rare { response: self.handle_shared(snapshot, request, from, sharing) },
        }
    }

    async fn shutdown(&self) {
        // Requests that end from here on were stopped: their records must not say that the client
        // left.
        self.journal.cut();
        self.worker.upgraded.shutdown().await;
    }

    async fn drained(&self) {
        self.worker.draining.wait_empty().await;
    }

    fn reject_head(&self, error: Error, from: Option<SocketAddr>) -> Vec<u8> {
        let snapshot = self.worker.snapshot();
        let mut entry = Entry::open(&self.journal, &snapshot.anonymous);
        if snapshot.logs_requests {
            entry.row().seen = Seen::at(from);
        }
        snapshot.trace(&mut Headers::default(), &mut entry);
        error.to_http1(respond::close(&error, entry))
    }

    fn reject(
        &self,
        mut request: ClientRequest,
        error: Error,
        from: Option<SocketAddr>,
    ) -> ClientResponse<ProxyBody> {
        let snapshot = self.worker.snapshot();
        let from = snapshot.client_address(from, &request.head);
        let sharing = snapshot.admission.sharing(&request.head);
        let mut entry = Entry::open(&self.journal, &snapshot.anonymous);
        entry.row().method = Some(request.head.method.clone());
        snapshot.see(&request.head, from, &mut entry);
        snapshot.trace(&mut request.head.headers, &mut entry);
        let mut response = respond::refuse(&error, entry);
        sharing.iter().for_each(|sharing| sharing.apply(&mut response.head));
        response
    }
}

#[cfg(test)]
mod tests;

//! The life of a request: read [`Proxy::prepare`] first, then `answer`.
//!
//! Each station takes what the station before it made, and makes the next type, so that none can be
//! left out: [`Arrived`] → [`Known`](stations::Known) → [`Held`](stations::Held) →
//! [`Routed`](stations::Routed) → [`Ready`](stations::Ready) → [`Answer`](crate::upstream::Answer).
//! The usage record goes along and notes what each station learns. The client is authenticated
//! before its body is read: what a stranger sends is never held.

mod asking;
mod budget;
mod client_body;
mod decoding;
mod keep_alive;
mod pace;
mod passing;
mod probe;
mod refusals;
mod respond;
mod snapshot;
mod stations;
mod tunnel;
mod waiting;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use tokio::time::timeout;

pub use budget::Budget;
pub use client_body::BodyLimits;
pub use refusals::Refusals;
pub use respond::ProxyBody;
pub use snapshot::{Snapshot, UpstreamSpec};

use crate::config::OnDisconnect;
use crate::error::{Error, Result};
use crate::flow::{Delivery, Flow, Flows};
use crate::listener::{Handler, RequestBody, Takeover};
use crate::meter::{Drains, Terms, Underway};
use crate::record::{Board, Entry, Journal, Seen};
use crate::rewrite::headers::end_hop;
use crate::traceparent::SpanContext;
use crate::upstream::Upstream;
use probe::Handled;
use stations::{Answered, Arrived, Held, Ready};
use tunnel::Tunnels;
use waiting::Waiting;

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    snapshot: Arc<Snapshot>,
    /// This worker's way to each of the snapshot's services, in their order.
    upstreams: Rc<[Upstream]>,
    /// Where answers of each of them are read on when their clients leave.
    drains: Vec<Drains>,
    /// All of those on this worker.
    draining: Underway,
    /// What this worker measures of each of them.
    flows: Vec<Arc<Flow>>,
    /// The sessions on this worker.
    tunnels: Tunnels,
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
        flows: &Flows,
        journal: Journal,
        board: Board,
    ) -> Self {
        let tunnels = Tunnels::new(upstreams.first().map(Upstream::scratch).unwrap_or_default());
        let draining = Underway::default();
        let specs = snapshot.upstreams.iter().enumerate();
        let drains = specs.map(|(upstream, spec)| {
            Drains::new(spec.drain_limits, Arc::clone(flows.draining(upstream)), draining.clone())
        });
        let drains = drains.collect();
        let flows = (0..snapshot.upstreams.len()).map(|upstream| flows.of(worker, upstream)).collect();
        Self { drains, draining, flows, snapshot, tunnels, upstreams: upstreams.into(), journal, board }
    }

    /// What the answer to a request goes by.
    fn terms(&self, ready: &Ready) -> Terms {
        let drains = match ready.on_disconnect {
            OnDisconnect::Cancel => None,
            OnDisconnect::Drain => Some(self.drains[ready.upstream].clone()),
        };
        Terms { delivery: Delivery::new(Arc::clone(&self.flows[ready.upstream])), drains }
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
    async fn prepare(&self, arrived: Arrived, entry: &mut Entry) -> Result<(Ready, Held)> {
        let known = arrived
            .check_head(&self.snapshot.admission)
            .and_then(|arrived| arrived.authenticate(&self.snapshot.clients, entry));
        let known = known.inspect_err(|_| self.sample(entry))?;
        let (held, body) = known.hold(&self.snapshot, entry).await?;
        let ready = held.route(&self.snapshot, entry)?.rewrite(body, entry)?;
        Ok((ready, held))
    }

    fn relay(&self, answer: Answered, entry: Entry, terms: Terms) -> Response<ProxyBody> {
        self.announced(respond::relay(answer, entry, terms))
    }

    /// The response as those in front of this proxy should see it.
    fn announced(&self, response: Response<ProxyBody>) -> Response<ProxyBody> {
        if self.snapshot.accel_buffering_header { respond::unbuffered(response) } else { response }
    }

    /// The whole way, up to the answer's body.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    fn answer(
        self: Rc<Self>,
        arrived: Arrived,
        mut entry: Entry,
    ) -> impl Future<Output = Response<ProxyBody>> {
        async move {
            let (ready, held) = match self.prepare(arrived, &mut entry).await {
                Ok(prepared) => prepared,
                Err(error) => return respond::refuse(&error, entry),
            };
            entry.show();
            let keep_alive = ready.keep_alive;
            let terms = self.terms(&ready);
            let send = ready.send(Arc::clone(&self.snapshot), Rc::clone(&self.upstreams), held);
            if keep_alive.is_none() && terms.drains.is_none() {
                return match send.await {
                    Ok(Answered { answer, .. }) if answer.body.is_switched() => {
                        self.tunnels.begin(answer, entry, &terms)
                    }
                    Ok(answer) => self.relay(answer, entry, terms),
                    Err(error) => respond::refuse(&error, entry),
                };
            }
            let mut waiting = Waiting::new(Box::pin(send), entry, terms.clone());
            let answered = match keep_alive {
                None => Ok((&mut waiting).await),
                Some(interval) => timeout(interval, &mut waiting).await.map_err(|_| interval),
            };
            match answered {
                Ok((Ok(answer), entry)) => {
                    let response = self.relay(answer, entry, terms);
                    respond::keep_alive(response, keep_alive)
                }
                Ok((Err(error), entry)) => respond::refuse(&error, entry),
                Err(interval) => self.announced(respond::begin_stream(waiting, interval)),
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
        if let Some(response) = probe::answer(&request, &self.snapshot.admission) {
            return Handled::Probe { response: Some(response) };
        }
        let mut entry = Entry::open(&self.journal, &self.snapshot.anonymous);
        entry.row().method = Some(request.method().clone());
        self.see(&request, from, &mut entry);
        end_hop(request.headers_mut());
        self.trace(request.headers_mut(), &mut entry);
        entry.shown_on(&self.board);
        Handled::Request { answer: self.answer(Arrived::new(request), entry) }
    }

    fn delivery(body: &ProxyBody) -> Option<&Rc<Delivery>> {
        body.delivery()
    }

    fn give_up(body: &mut ProxyBody, reason: String) {
        body.give_up(reason);
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

    fn takeover(body: &mut ProxyBody) -> Option<Takeover> {
        body.takeover()
    }

    async fn farewell(&self) {
        // What ends from here on was stopped: no record may say that its client left.
        self.journal.cut();
        self.tunnels.farewell().await;
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

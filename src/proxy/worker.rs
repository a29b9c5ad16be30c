//! One thread's part of the configuration: pools, drains and stream metrics, by upstream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::Method;

use super::model_list::ListCache;
use super::respond::served_by;
use super::shared::Shared;
use super::snapshot::{Snapshot, UpstreamSpec};
use super::stored_ids::StoredIds;
use super::stream_options::StreamOptionsSupport;
use super::upgrade::UpgradedConnections;
use crate::balance::{Target, UpstreamPlaces};
use crate::codec::h1::BodyFraming;
use crate::codec::head::Headers;
use crate::llm::provider::Provider;
use crate::llm::route::Table;
use crate::proxy::meter::Drains;
use crate::record::error::Result;
use crate::support::LocalCount;
use crate::support::UpstreamId;
use crate::support::flow::StreamMetrics;
use crate::upstream::{OutboundRequest, Payload, Scratch, UpstreamClient, UpstreamResponse};

/// One thread's lasting state, independent of the snapshot in use.
#[derive(Debug)]
pub(super) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    scratch: Scratch,
    /// The drains under way, of all upstreams.
    pub(super) draining: LocalCount,
    /// The upgraded connections.
    pub(super) upgraded: UpgradedConnections,
    current: RefCell<Rc<WorkerSnapshot>>,
}

impl Worker {
    pub(super) fn new(number: usize, snapshot: Arc<Snapshot>, shared: Arc<Shared>) -> Self {
        let scratch = Scratch::new(shared.budget.memory().clone());
        let draining = LocalCount::default();
        let upgraded = UpgradedConnections::new(scratch.clone());
        let current = RefCell::new(Rc::new(WorkerSnapshot::empty(&snapshot)));
        let worker = Self { number, shared, scratch, draining, upgraded, current };
        worker.adopt(snapshot);
        worker
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The snapshot in use. A request takes it at its beginning and keeps it.
    pub(super) fn snapshot(&self) -> Rc<WorkerSnapshot> {
        Rc::clone(&self.current.borrow())
    }

    /// Uses `snapshot` for further requests. An upstream with the same origin keeps its
    /// connections; the pool of any other is closed when the last request on it ends.
    pub(super) fn adopt(&self, snapshot: Arc<Snapshot>) {
        let previous = self.snapshot();
        let upstreams: HashMap<_, _> = snapshot
            .upstreams
            .iter()
            .map(|spec| (spec.id.clone(), self.upstream(spec, previous.upstreams.get(&spec.id))))
            .collect();
        let routes = snapshot.routes.map(|target| target.map(|id| Rc::clone(&upstreams[id])));
        let has_choice = routes.has_choice() || routes.targets().any(|target| target.len() > 1);
        let stored_ids = snapshot
            .stored_ids
            .map(|binding| Rc::new(StoredIds::new(&self.shared.health, binding, upstreams.values())));
        self.upgraded.adopt(Arc::clone(&snapshot));
        let has_native_paths = upstreams.values().any(|upstream| upstream.spec.provider == Provider::Gemini);
        let next = WorkerSnapshot { snapshot, routes, stored_ids, upstreams, has_choice, has_native_paths };
        *self.current.borrow_mut() = Rc::new(next);
    }

    fn upstream(
        &self,
        spec: &Arc<UpstreamSpec>,
        previous: Option<&Rc<WorkerUpstream>>,
    ) -> Rc<WorkerUpstream> {
        if let Some(previous) = previous.filter(|previous| Arc::ptr_eq(&previous.spec, spec)) {
            return Rc::clone(previous);
        }
        let same_origin = previous.filter(|previous| Arc::ptr_eq(&previous.spec.origin, &spec.origin));
        let connections = match same_origin {
            Some(previous) => previous.connections.clone(),
            None => UpstreamClient::new(Arc::clone(&spec.origin), spec.pool, self.scratch.clone()),
        };
        let draining = self.shared.stream_metrics.draining(&spec.id);
        Rc::new(WorkerUpstream {
            connections,
            drains: Drains::new(spec.drain_limits, draining, self.draining.clone()),
            stream_metrics: self.shared.stream_metrics.of(self.number, &spec.id),
            stream_options: self.shared.stream_options(spec),
            places: spec
                .is_limited
                .then(|| UpstreamPlaces::new(&self.shared.health, self.shared.health.upstream(&spec.id))),
            models: ListCache::default(),
            served_by: served_by(&spec.id, 1),
            spec: Arc::clone(spec),
        })
    }
}

/// A snapshot whose routes lead to one worker's upstreams.
#[derive(Debug)]
pub(super) struct WorkerSnapshot {
    snapshot: Arc<Snapshot>,
    pub(super) routes: Table<Target<Rc<WorkerUpstream>>>,
    /// There are several routes, a route by model, or a group.
    pub(super) has_choice: bool,
    /// An upstream has an API of its own whose paths name models.
    pub(super) has_native_paths: bool,
    /// `None`: all routes lead to one upstream, and clients are not distinguished.
    pub(super) stored_ids: Option<Rc<StoredIds>>,
    upstreams: HashMap<UpstreamId, Rc<WorkerUpstream>>,
}

impl WorkerSnapshot {
    /// The part that all workers share.
    pub(super) fn shared(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn empty(snapshot: &Arc<Snapshot>) -> Self {
        let (snapshot, routes) = (Arc::clone(snapshot), Table::new(Vec::new()));
        Self {
            snapshot,
            routes,
            stored_ids: None,
            has_choice: false,
            has_native_paths: false,
            upstreams: HashMap::new(),
        }
    }
}

impl Deref for WorkerSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// One worker's connections to one upstream, and its measurements there.
#[derive(Debug)]
pub(super) struct WorkerUpstream {
    pub(super) spec: Arc<UpstreamSpec>,
    pub(super) connections: UpstreamClient,
    /// Continues responses whose clients have left.
    pub(super) drains: Drains,
    pub(super) stream_metrics: Arc<StreamMetrics>,
    /// `None`: any number of requests may run.
    pub(super) places: Option<Arc<UpstreamPlaces>>,
    /// Shared by all workers.
    pub(super) stream_options: Arc<StreamOptionsSupport>,
    pub(super) models: ListCache,
    /// The headers of a response that it serves as the member of a group at the first attempt.
    pub(super) served_by: Headers,
}

/// The value of `User-Agent` in the proxy's own requests.
const USER_AGENT: &str = concat!("streamgauge/", env!("CARGO_PKG_VERSION"));

impl WorkerUpstream {
    /// Sends a request of the proxy's own: `GET` with the upstream's credentials and these headers.
    pub(super) async fn get(&self, target: String, headers: &[(&str, &str)]) -> Result<UpstreamResponse> {
        let mut client = Headers::default();
        let own = [("user-agent", USER_AGENT), ("accept", "application/json")];
        for (name, value) in own.iter().chain(headers) {
            client.append(name.as_bytes(), value.as_bytes());
        }
        let request = OutboundRequest {
            method: &Method::GET,
            headers: self.spec.headers_for(&target, &client),
            target,
            client: &client,
            upgrade: None,
            framing: BodyFraming::None,
            payload: Payload::default(),
            is_streamed: false,
            started: Instant::now(),
            is_new: true,
        };
        match &self.spec.tokens {
            None => self.connections.send(request).await,
            Some(tokens) => tokens.send(&self.connections, request).await,
        }
    }
}

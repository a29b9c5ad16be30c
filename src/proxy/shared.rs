//! State that all workers share and every snapshot continues.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Budget;
use super::snapshot::UpstreamSpec;
use super::stream_options::StreamOptionsSupport;
use crate::balance::HealthRegistry;
use crate::gate::limit::LimitRegistry;
use crate::llm::provider::BaseUrl;
use crate::support::UpstreamId;
use crate::support::flow::StreamMetricsRegistry;

/// One per process. It outlives every [`Snapshot`](super::Snapshot).
#[derive(Debug)]
pub struct Shared {
    /// Measurements of streams, by worker and upstream.
    pub stream_metrics: Arc<StreamMetricsRegistry>,
    /// The memory of request bodies.
    pub budget: Budget,
    /// The health of upstreams that are members of groups.
    pub health: Arc<HealthRegistry>,
    /// The limits of clients and teams.
    pub limits: Arc<LimitRegistry>,
    stream_options: Mutex<HashMap<UpstreamId, (BaseUrl, Arc<StreamOptionsSupport>)>>,
}

impl Shared {
    pub fn new(
        stream_metrics: Arc<StreamMetricsRegistry>,
        budget: Budget,
        health: Arc<HealthRegistry>,
        limits: Arc<LimitRegistry>,
    ) -> Self {
        Self { stream_metrics, budget, health, limits, stream_options: Mutex::default() }
    }

    /// The models of an upstream that refuse `stream_options`. An upstream with a changed URL is
    /// another service, so nothing is known of it.
    pub(super) fn stream_options(&self, spec: &UpstreamSpec) -> Arc<StreamOptionsSupport> {
        let mut known = self.stream_options.lock().unwrap_or_else(PoisonError::into_inner);
        let url = spec.dialect.base();
        let (known_url, support) =
            known.entry(spec.id.clone()).or_insert_with(|| (url.clone(), Arc::default()));
        if known_url != url {
            (*known_url, *support) = (url.clone(), Arc::default());
        }
        Arc::clone(support)
    }

    /// Forgets the upstreams that are not among `specs`.
    pub fn retain(&self, specs: &[Arc<UpstreamSpec>]) {
        let mut known = self.stream_options.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| specs.iter().any(|spec| spec.id == *id));
    }
}

//! The places of running requests at an upstream, for requests that no group serves.

use std::sync::Arc;

use super::{HealthRegistry, UpstreamHealth};

/// The places at an upstream whose number of running requests is limited.
#[derive(Debug)]
pub struct UpstreamPlaces {
    registry: Arc<HealthRegistry>,
    upstream: Arc<UpstreamHealth>,
}

/// A place at an upstream, free again on drop.
#[derive(Debug)]
pub struct UpstreamPlace(Arc<UpstreamPlaces>);

impl UpstreamPlaces {
    pub fn new(registry: &Arc<HealthRegistry>, upstream: Arc<UpstreamHealth>) -> Arc<Self> {
        Arc::new(Self { registry: Arc::clone(registry), upstream })
    }

    /// Takes a place. `None`: as many requests run as may.
    pub fn enter(self: &Arc<Self>) -> Option<UpstreamPlace> {
        self.upstream.try_enter().then(|| UpstreamPlace(Arc::clone(self)))
    }
}

impl Drop for UpstreamPlace {
    fn drop(&mut self) {
        self.0.upstream.leave();
        self.0.registry.notify();
    }
}

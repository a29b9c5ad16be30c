//! The measurement of a response, and its continuation without a client.

use std::rc::Rc;
use std::sync::Arc;

use super::Drains;
use crate::support::flow::{StreamMetrics, StreamTiming};

/// The measurement of one response, and its continuation without its client.
#[derive(Clone, Debug)]
pub struct ResponsePolicy {
    metrics: Arc<StreamMetrics>,
    /// `None`: the response is not known to be a stream.
    timing: Option<Rc<StreamTiming>>,
    /// Reads the rest if the client leaves. `None`: the upstream request is aborted.
    pub drains: Option<Drains>,
}

impl ResponsePolicy {
    pub fn new(metrics: Arc<StreamMetrics>, drains: Option<Drains>) -> Self {
        Self { metrics, timing: None, drains }
    }

    /// The same policy for a response of the upstream with these metrics and drains.
    pub fn at(self, metrics: &Arc<StreamMetrics>, drains: &Drains) -> Self {
        if Arc::ptr_eq(&self.metrics, metrics) {
            return self;
        }
        Self::new(Arc::clone(metrics), self.drains.map(|_| drains.clone()))
    }

    /// The times of the stream, which the response is.
    pub fn timing(&mut self) -> Rc<StreamTiming> {
        let timing = self.timing.get_or_insert_with(|| StreamTiming::new(Arc::clone(&self.metrics)));
        Rc::clone(timing)
    }
}

//! Chooses the upstream, model and client under which a request is counted, within bounds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::labels::TimeLabels;
use crate::record::{MAX_NAMES, Names, OTHER, UsageRecord};

/// The largest number of combinations of upstream, model and client with series of their own. Each
/// may have 69 lines of histograms, so a scrape has at most 69,000 of them.
pub(super) const MAX_NAMED: usize = 1_000;

/// The largest number of series of `requests` with a model and a client, since upstreams choose the
/// statuses.
const MAX_REQUESTS: usize = 10_000;

/// Names the series of requests. Beyond a bound, model and client are [`OTHER`].
#[derive(Debug, Default)]
pub(super) struct Naming {
    models: Names,
    /// The model that responded last, by requested model.
    responded: HashMap<Box<str>, Arc<str>>,
    named: HashSet<TimeLabels>,
    /// Series of `requests` so far.
    requests: usize,
}

impl Naming {
    /// The labels of the request.
    ///
    /// The model is the one that the response named. A request without a response is counted under
    /// the model that last responded to the same `model_requested`. Clients can request any name,
    /// so an unconfirmed one is [`OTHER`].
    pub(super) fn of(&mut self, row: &UsageRecord) -> TimeLabels {
        let upstream = row.upstream.clone().unwrap_or_default();
        let labels = TimeLabels { upstream, model: self.model(row), client: Arc::clone(&row.client) };
        if self.named.contains(&labels) {
            return labels;
        }
        if self.named.len() < MAX_NAMED {
            self.named.insert(labels.clone());
            return labels;
        }
        TimeLabels { model: OTHER.into(), client: OTHER.into(), ..labels }
    }

    /// Returns true if one more series of `requests` may have a model and a client of its own.
    pub(super) fn try_add_requests(&mut self) -> bool {
        self.requests += 1;
        self.requests <= MAX_REQUESTS
    }

    fn model(&mut self, row: &UsageRecord) -> Arc<str> {
        let asked = row.model_requested.as_deref();
        let Some(named) = row.model.as_deref() else {
            return asked
                .and_then(|asked| self.responded.get(asked))
                .map_or_else(|| OTHER.into(), Arc::clone);
        };
        let model = self.models.of(Some(named));
        if let Some(asked) = asked {
            let has_room = self.responded.len() < MAX_NAMES;
            match self.responded.get_mut(asked) {
                Some(known) if *known != model => *known = Arc::clone(&model),
                None if has_room => {
                    self.responded.insert(asked.into(), Arc::clone(&model));
                }
                _ => {}
            }
        }
        model
    }
}

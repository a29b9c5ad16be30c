//! What an answer teaches of its upstream: whether it reports counts unasked.

use std::fmt;
use std::sync::Arc;

use crate::usage::Tally;

/// Takes in what is learnt of one upstream.
pub trait UsageObserver: Send + Sync + fmt::Debug {
    /// Its answers have counts that it sends unasked.
    fn on_unrequested_usage(&self);

    /// An answer of this model had none, though it was not asked since the upstream was believed to
    /// count itself.
    fn on_missing_usage(&self, model: u64);
}

/// Learnt at the end of an answer.
#[derive(Debug)]
pub struct UsageFeedback {
    /// Who learns.
    pub observer: Arc<dyn UsageObserver>,
    /// The model, by whatever number the observer knows it.
    pub model: u64,
    /// Usage was asked for.
    pub asked: bool,
}

impl UsageFeedback {
    /// From what was found in a whole answer.
    pub(super) fn learn(self, tally: &Tally) {
        match (self.asked, tally.has_timings) {
            (true, true) => self.observer.on_unrequested_usage(),
            (false, false) if tally.usage.is_none() && tally.error.is_none() => {
                self.observer.on_missing_usage(self.model);
            }
            _ => {}
        }
    }
}

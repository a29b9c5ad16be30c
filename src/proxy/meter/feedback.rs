//! Feedback from the end of a response: whether its upstream reports usage without being asked.

use std::fmt;
use std::sync::Arc;

use crate::llm::usage::Tally;

/// Remembers the findings about one upstream.
pub trait UsageObserver: Send + Sync + fmt::Debug {
    /// A response has counts of a kind that the upstream sends without being asked.
    fn on_unrequested_usage(&self);

    /// A response of this model has no counts, and usage was not requested because the upstream was
    /// believed to report it anyway.
    fn on_missing_usage(&self, model: u64);
}

/// Reported at the end of a response.
#[derive(Debug)]
pub struct UsageFeedback {
    pub observer: Arc<dyn UsageObserver>,
    /// The observer's key of the model.
    pub model: u64,
    /// Usage was requested.
    pub asked: bool,
}

impl UsageFeedback {
    /// Reports the findings in a complete response.
    pub(super) fn report(self, tally: &Tally) {
        match (self.asked, tally.has_timings) {
            (true, true) => self.observer.on_unrequested_usage(),
            (false, false) if tally.usage.is_none() && tally.error.is_none() => {
                self.observer.on_missing_usage(self.model);
            }
            _ => {}
        }
    }
}

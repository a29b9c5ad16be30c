//! Feedback from the end of a response: whether its upstream reports usage without being asked, and
//! whether a group's member succeeded.

use std::fmt;
use std::sync::Arc;

use crate::balance::Permit;
use crate::llm::usage::Tally;

/// Remembers the findings about one upstream.
pub trait UsageObserver: Send + Sync + fmt::Debug {
    /// A response has counts of a kind that the upstream sends without being asked.
    fn on_unrequested_usage(&self);

    /// A response of this model has no counts, and usage was not requested because the upstream was
    /// believed to report it anyway.
    fn on_missing_usage(&self, model: u64);
}

/// The parties that the end of a response is reported to.
#[derive(Debug)]
pub(super) enum EndFeedback {
    Usage(UsageFeedback),
    /// For a request to a group. Boxed, since most requests have no group.
    Member(Box<(Permit, Option<UsageFeedback>)>),
}

impl EndFeedback {
    /// The member's permit, and the feedback about usage.
    pub(super) fn split(feedback: Option<Self>) -> (Option<Permit>, Option<UsageFeedback>) {
        match feedback {
            None => (None, None),
            Some(Self::Usage(usage)) => (None, Some(usage)),
            Some(Self::Member(member)) => (Some(member.0), member.1),
        }
    }
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

//! The order in which connections make room for new ones.

use std::time::{Duration, Instant};

use crate::support::flow::Limit;

/// Eviction order, the first to be evicted being the least: connections that never sent a complete
/// head come before those between two requests; in each group the longest wait comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    is_idle: bool,
    since: Instant,
}

impl Rank {
    /// A connection whose next head is expected, or has begun, since then. `None`: it has `grace`
    /// for that, so that a flood of connections does not close those that are about to send one.
    /// `has_asked`: it has sent a whole head before.
    pub fn in_head(has_asked: bool, since: Instant, now: Instant, grace: Duration) -> Option<Self> {
        (now.saturating_duration_since(since) >= grace).then_some(Self { is_idle: has_asked, since })
    }

    /// A connection whose last request ended then.
    pub fn idle(since: Instant) -> Self {
        Self { is_idle: true, since }
    }

    /// The limit in the metric of evictions.
    pub fn limit(self) -> Limit {
        if self.is_idle { Limit::EvictedIdle } else { Limit::EvictedSilent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_go_first_and_then_the_longest_wait() {
        let (start, grace) = (Instant::now(), Duration::from_secs(1));
        let later = start + grace;
        let silent = Rank::in_head(false, start, later, grace).unwrap();
        let in_next_head = Rank::in_head(true, start, later, grace).unwrap();
        assert_eq!(Rank::in_head(false, start, later - Duration::from_millis(1), grace), None);
        assert!(silent < Rank::idle(start) && in_next_head == Rank::idle(start));
        assert!(Rank::idle(start) < Rank::idle(later));
        assert_eq!((silent.limit(), in_next_head.limit()), (Limit::EvictedSilent, Limit::EvictedIdle));
    }
}

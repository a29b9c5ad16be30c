//! Counters of attempts at members of groups.

use std::borrow::Cow;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{GroupLabels, OpenedLabels, RetryLabels, StickyLabels};
use super::{durations, family};
use crate::record::{GroupUse, UsageRecord};

pub(super) struct RetryCounters {
    retries: Family<RetryLabels, Counter>,
    denied: Family<GroupLabels, Counter>,
    client_retries: Family<GroupLabels, Counter>,
    opened: Family<OpenedLabels, Counter>,
    sticky: Family<StickyLabels, Counter>,
    waiting: Family<GroupLabels, Histogram, fn() -> Histogram>,
}

impl RetryCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let waiting = Family::new_with_constructor(durations as fn() -> Histogram);
        let help = "The time that requests waited in the queue of their group, or for limits with an empty group, if they did";
        registry.register_with_unit("time_waiting", help, Unit::Seconds, waiting.clone());
        Self {
            waiting,
            retries: family(
                registry,
                "retries",
                "Attempts after which another member of the group was tried, by status or error code",
            ),
            denied: family(
                registry,
                "retries_denied",
                "Requests that were not tried again because retry.budget was used up",
            ),
            client_retries: family(
                registry,
                "client_retries",
                "Requests to a group that the SDK of their client sent again",
            ),
            sticky: family(
                registry,
                "sticky",
                "Requests to a group, by whether they went to the member of their conversation",
            ),
            opened: family(
                registry,
                "breaker_opened",
                "How often a member of a group was left out, by reason",
            ),
        }
    }

    /// Counts the time for which a request waited for limits.
    pub(super) fn count_wait(&self, row: &UsageRecord) {
        let Some(waited) = row.time_waiting_ms else { return };
        let at_group = row.group_use.as_ref().and_then(|group_use| group_use.time_waiting_ms());
        let for_limits = waited - at_group.unwrap_or_default();
        if for_limits > 0.0 {
            self.waiting.get_or_create(&GroupLabels { group: "".into() }).observe(for_limits / 1e3);
        }
    }

    pub(super) fn count(&self, group_use: &GroupUse) {
        if group_use.is_list {
            return;
        }
        let group = || GroupLabels { group: Arc::clone(&group_use.group) };
        if group_use.is_denied {
            self.denied.get_or_create(&group()).inc();
        }
        if group_use.is_client_retry {
            self.client_retries.get_or_create(&group()).inc();
        }
        if let Some(waited) = group_use.time_waiting_ms() {
            self.waiting.get_or_create(&group()).observe(waited / 1e3);
        }
        if let Some(result) = group_use.sticky {
            let labels = StickyLabels { group: Arc::clone(&group_use.group), result };
            self.sticky.get_or_create(&labels).inc();
        }
        for (upstream, reason) in group_use.opened() {
            let labels = OpenedLabels { upstream: Arc::clone(upstream), reason };
            self.opened.get_or_create(&labels).inc();
        }
        for attempt in group_use.attempts().earlier() {
            let status = || attempt.status.map(|status| status.to_string().into());
            let reason = attempt.code.map(Cow::Borrowed).or_else(status).unwrap_or_default();
            let labels = RetryLabels {
                group: Arc::clone(&group_use.group),
                upstream: Arc::clone(&attempt.upstream),
                reason,
            };
            self.retries.get_or_create(&labels).inc();
        }
    }
}

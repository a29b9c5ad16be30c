//! Records the parts of a response that the meter could not read, in its usage record and in
//! counters.

use std::sync::atomic::Ordering;

use super::journal::Health;
use super::{UsageRecord, UsageSource};
use crate::llm::usage::Tally;

/// Records the unread parts. Usage that was understood only in part is `partial`, not `reported`.
pub(super) fn note(row: &mut UsageRecord, tally: &Tally, health: &Health) {
    if let Some(name) = tally.not_understood() {
        health.not_understood.fetch_add(1, Ordering::Relaxed);
        if row.usage_source != UsageSource::None {
            row.usage_source = UsageSource::Partial;
        }
        let what = format!("the usage has counts under names that the meter does not know, such as {name:?}");
        row.error.get_or_insert_with(|| what.into());
    }
    if tally.skipped > 0 {
        health.unread.fetch_add(tally.skipped, Ordering::Relaxed);
        let what = format!("the meter could not read {} event(s) or bodies of this response", tally.skipped);
        row.error.get_or_insert_with(|| what.into());
    }
}

//! The time of limits, by two clocks.

use std::sync::LazyLock;
use std::time::Instant;

use jiff::Timestamp;

use crate::gate::limit::Now;
use crate::record::Entry;

/// The time of rates begins when the first limit is made.
pub(super) static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time now, by both clocks.
pub fn limit_time() -> Now {
    Now { nanos: nanos_at(Instant::now()), time: Timestamp::now() }
}

/// The time as in [`Now::nanos`].
pub(super) fn nanos_at(time: Instant) -> u64 {
    let since = time.saturating_duration_since(*EPOCH);
    since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos().into())
}

/// The time at which a request began.
pub(super) fn time_at(entry: &mut Entry) -> Now {
    Now { nanos: nanos_at(entry.started()), time: entry.row().started_at }
}

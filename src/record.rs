//! The usage record: one row for every request, whatever its outcome, and its path to the sinks.
//!
//! [`Entry`] is the open record of a running request: it closes itself exactly once, also when it
//! is dropped. Closed records pass through the [`Journal`], a bounded queue, to the `records`
//! thread, which shares each batch with the sinks. Every sink has a [`Lane`] with its own bounded
//! queue, thread and counters, so that a stuck sink delays only itself. Records without reported
//! usage pass through the [`Estimator`] first, which has a thread of its own. No stream ever waits
//! for this module.

mod alert_counts;
mod cost;
mod entry;
pub mod error;
mod estimate_input;
mod estimator;
mod exporting;
mod gaps;
mod grant_counts;
mod group_use;
mod id_counts;
mod journal;
mod lane;
mod looks;
mod names;
mod outcome;
mod refusals;
mod row;
mod running;
mod seen;
mod shipping;
mod use_observer;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderName;

pub use alert_counts::AlertCounts;
pub use cost::{cost, cost_so_far};
pub use entry::{Entry, FormNotes, GroupNotes, Note};
pub use estimator::Estimator;
pub use exporting::Exporting;
pub use grant_counts::GrantCounts;
pub use group_use::{AttemptList, AttemptRecord, Billed, GroupUse};
pub use id_counts::IdCounts;
pub use journal::{CAPACITY, Health, Journal};
pub use lane::{Lane, STUCK, SinkHealth, Turn, count};
pub use names::{MAX_NAMES, Names, OTHER};
pub use outcome::Outcome;
pub use refusals::RefusalCounter;
pub use row::{ModelName, RequestId, UsageRecord, UsageSource};
pub use running::{ActiveRequests, Stream, WorkerRequests};
pub use seen::Seen;
pub use shipping::Shipping;
pub use use_observer::{MessageRefusal, TurnObserver, UseObserver};
pub use writer::{Lanes, Writer};

use crate::support::Gathering;

/// The response header with the record's `id`.
pub const ID_HEADER: HeaderName = HeaderName::from_static("x-streamgauge-id");

/// Records that were closed within a few milliseconds of each other.
pub type Batch = Arc<Vec<UsageRecord>>;

/// A store for closed records.
///
/// The thread of its [`Lane`] alone calls a sink, in the order in which requests ended, and a call
/// may block.
pub trait Sink: Send {
    /// A name for messages, such as the file's path.
    fn name(&self) -> String;

    /// The label in metrics, and the name of the sink's thread.
    fn label(&self) -> &'static str {
        "other"
    }

    /// Writes a batch and hands it to the system. Records that cannot be written are lost, logged
    /// once and counted.
    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()>;

    /// The conditions under which the sink gets its waiting batches; by default each batch
    /// immediately.
    fn gathering(&self) -> Gathering {
        lane::AT_ONCE
    }

    /// Writes all waiting batches, and reports the result to `turn`. A sink that retries, or that
    /// writes several batches together, overrides it.
    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        lane::write_each(self, batches, turn);
    }

    /// Called at the start, and then at each time that it returned last: for periodic work.
    fn wake(&mut self) -> Option<Instant> {
        None
    }

    /// Called once, after the last batch.
    fn end(&mut self) {}

    /// Takes the number of records that disappeared after they were reported as written, for
    /// example because another program truncated the file.
    fn take_gone(&mut self) -> usize {
        0
    }

    /// Called after a panic of this sink, before its next batch.
    fn reopen(&mut self) {}
}

//! The usage record: one row for every request, whatever happened to it, and how it gets to where
//! it is kept.
//!
//! [`Entry`] is the open record of a running request: it closes itself exactly once, also when it
//! is dropped. Closed records go through the [`Journal`], a bounded queue, to the `records` thread,
//! which shares each batch with the sinks. Every sink has a [`Lane`]: a bounded queue, a thread and
//! counters of its own, so that a sink that is stuck holds itself alone. Where no usage was
//! reported, records go through the [`Estimator`] first, which has a thread of its own. Nothing
//! here ever makes a stream wait.

mod cost;
mod entry;
pub mod error;
mod estimator;
mod exporting;
mod gaps;
mod journal;
mod lane;
mod looks;
mod material;
mod names;
mod outcome;
mod refusals;
mod row;
mod running;
mod seen;
mod shipping;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderName;

pub use cost::cost;
pub use entry::{Entry, FormNotes};
pub use estimator::Estimator;
pub use exporting::Exporting;
pub use journal::{CAPACITY, Health, Journal};
pub use lane::{Lane, STUCK, SinkHealth, Turn, count};
pub use names::{MAX_NAMES, Names, OTHER};
pub use outcome::Outcome;
pub use refusals::RefusalCounter;
pub use row::{UsageRecord, UsageSource};
pub use running::{Board, Boards, Stream};
pub use seen::Seen;
pub use shipping::Shipping;
pub use writer::Writer;

use crate::support::Gathering;

/// The response's header that bears the record's `id`.
pub const ID_HEADER: HeaderName = HeaderName::from_static("x-streamgauge-id");

/// Records that were closed within the same moments.
pub type Batch = Arc<Vec<UsageRecord>>;

/// Where closed records are kept.
///
/// A sink is called by its [`Lane`]'s thread alone, in the order in which requests ended, and may
/// block there.
pub trait Sink: Send {
    /// A name for messages, such as the file's path.
    fn name(&self) -> String;

    /// The label in metrics, and the name of the sink's thread.
    fn label(&self) -> &'static str {
        "other"
    }

    /// Writes a batch and hands it to the system. What cannot be written is lost, said once and
    /// counted.
    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()>;

    /// When the sink is given what waits; a batch at once, if not said otherwise.
    fn gathering(&self) -> Gathering {
        lane::AT_ONCE
    }

    /// Writes all that waits, and tells `turn` what became of it. A sink that tries again, or that
    /// writes several batches together, has its own.
    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        lane::write_each(self, batches, turn);
    }

    /// Called at the start and whenever the moment that it returned last has come: for what is to
    /// be done now and then.
    fn wake(&mut self) -> Option<Instant> {
        None
    }

    /// Called once, after the last batch.
    fn end(&mut self) {}

    /// How many records are gone since the last call of which the sink had told that they were
    /// written, as when another program has cut its file.
    fn take_gone(&mut self) -> usize {
        0
    }

    /// Called after a panic of this sink, before it is given the next batch.
    fn reopen(&mut self) {}
}

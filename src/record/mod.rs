//! The usage record: one row for every request, whatever happened to it, and how it gets to where it is kept.
//!
//! [`Entry`] is the open record of a running request: it closes itself exactly once, also when it is
//! dropped. Closed records go through the [`Journal`], a bounded queue, to a thread of their own that
//! writes them to the sinks in batches. Where nobody reported usage, they go through the [`Estimator`] first, which has
//! a thread of its own. Nothing here ever makes a stream wait.

mod access;
mod entry;
mod estimator;
mod exporting;
mod journal;
mod jsonl;
mod material;
mod names;
mod refusals;
mod row;
mod running;
mod shipping;

use std::io;
use std::sync::Arc;

use http::HeaderName;

pub use access::AccessLog;
pub use entry::Entry;
pub use estimator::Estimator;
pub use exporting::Exporting;
pub use journal::{CAPACITY, Health, Journal, Writer};
pub use jsonl::{Jsonl, Reopener};
pub use names::{MAX_NAMES, Names, OTHER};
pub use refusals::RefusalCounter;
pub use row::{Outcome, UsageRecord, UsageSource};
pub use running::{Board, Boards, Stream};
pub use shipping::Shipping;

/// The answer's header that bears the record's `id`.
pub const ID_HEADER: HeaderName = HeaderName::from_static("x-streamgauge-id");

/// Where closed records are kept.
///
/// A sink is called by the writer's thread alone, a batch at a time, in the order in which requests ended.
/// What it cannot write is lost, said once and counted; it may be given the next batch nevertheless.
pub trait Sink: Send {
    /// A name for messages, such as the file's path.
    fn name(&self) -> String;

    /// Writes a batch and hands it to the system.
    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()>;

    /// The same for a sink that keeps the batch for later instead of copying it. The writer's thread calls this one.
    fn share(&mut self, batch: &Arc<Vec<UsageRecord>>) -> io::Result<()> {
        self.write(batch)
    }
}

//! The queue between the workers and the `records` thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use uuid::Uuid;

use super::estimate_input::{EstimateInput, ROOM};
use super::estimator::Waiting;
use super::looks::Looks;
use super::refusals::Refusals;
use super::{AlertCounts, Exporting, GrantCounts, IdCounts, Shipping, SinkHealth, UsageRecord, UseObserver};
use crate::llm::usage::Room;
use crate::support::memory::{Memory, MemoryPart};
use crate::support::secret::Masks;
use crate::support::threads::{Deadline, Threads};
use crate::support::{Gathering, Queue, QueueStep};

/// The largest number of records that wait to be written; further ones are lost and counted. This
/// bounds memory, and no stream waits for a disk. At some 800 bytes each, that is about 50 MB.
pub const CAPACITY: usize = 65_536;

/// The memory of a record, with its texts, in bytes.
const RECORD: usize = 1024;

/// Queues have one part in this many of the memory budget.
const QUEUES: usize = 8;

/// The time for which the writer gathers records after the first of a batch, so that one wake-up
/// and one write serve them all.
const GATHER: Duration = Duration::from_millis(20);

/// The workers' end of the queue. Cloning it is cheap; pushing takes an uncontended lock for a few
/// nanoseconds, and wakes the writer once per batch.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Queue<UsageRecord>,
    /// The capacity of the queue of each sink.
    of_sinks: usize,
    cutting: AtomicBool,
    health: Health,
    /// The memory budget for estimates.
    room: Room,
    /// Records that are estimated before they come into the queue.
    waiting: Waiting,
    /// Refusals that share a record.
    refusals: Refusals,
    /// Stored results, each marked as counted or pending.
    looks: Looks,
    /// The threads that handle records.
    threads: Threads,
    /// Secrets that errors must not show: configured ones, and tokens of identities.
    masks: ArcSwap<Masks>,
    token_masks: ArcSwap<Masks>,
}

/// Counters of records since the start.
#[derive(Debug, Default)]
pub struct Health {
    /// Records handed to the sinks' queues.
    pub written: AtomicU64,
    /// Records in the ledger's file.
    pub kept: AtomicU64,
    /// Records lost because the queue was full.
    pub dropped: AtomicU64,
    /// Records that a sink failed to write or had no room for, over all sinks.
    pub failed: AtomicU64,
    /// The health of each sink.
    sinks: Mutex<Vec<Arc<SinkHealth>>>,
    /// Events and bodies that the meter could not read. They passed unchanged.
    pub unread: AtomicU64,
    /// Responses whose usage lacks its input or output and has counts under unknown names.
    pub not_understood: AtomicU64,
    /// Counters of records shipped to a fleet's database, if one is configured.
    pub shipping: OnceLock<Shipping>,
    /// True while the stored keys can be read from the fleet's database, if they are there.
    pub key_store_up: OnceLock<AtomicBool>,
    /// Counters of grants of shared limits, if they are shared.
    pub grants: OnceLock<GrantCounts>,
    /// Counters of ids of stored state, if they are shared.
    pub ids: OnceLock<IdCounts>,
    /// Counters of alerts to webhooks.
    pub alerts: Arc<AlertCounts>,
    /// Counters of exports to an OpenTelemetry collector, if one is configured.
    pub exporting: OnceLock<Arc<Exporting>>,
    /// Records that lack their estimate: the queue or the memory budget was full, or the time was
    /// over.
    pub not_estimated: AtomicU64,
    /// Tags of requests that were left out: their names are not listed, or they are malformed.
    pub tags_dropped: AtomicU64,
}

impl Health {
    /// Counters of records, sink by sink.
    pub fn sinks(&self) -> Vec<Arc<SinkHealth>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a sink under its label. If another sink has the label, a number is added.
    pub(super) fn add_sink(&self, label: &str, make: impl FnOnce(String) -> SinkHealth) -> Arc<SinkHealth> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |label: &String| sinks.iter().all(|sink| sink.label != *label);
        let numbered = (2_usize..).map(|number| format!("{label}-{number}"));
        let label = std::iter::once(label.to_owned()).chain(numbered).find(is_free);
        let label = label.expect("there are fewer sinks than numbers");
        let sink = Arc::new(make(label));
        sinks.push(Arc::clone(&sink));
        sink
    }
}

impl Journal {
    /// A queue of at most `capacity` records, with its own threads.
    pub fn new(capacity: usize) -> Self {
        Self::with_threads(capacity, Threads::default())
    }

    /// A queue of at most `capacity` records, which are handled on `threads`.
    pub fn with_threads(capacity: usize, threads: Threads) -> Self {
        Self::with([capacity, CAPACITY], threads, Memory::default())
    }

    /// A queue of at most [`CAPACITY`] records, and of an eighth of `memory`.
    pub fn within(memory: Memory, threads: Threads) -> Self {
        let capacity = memory.at_most(CAPACITY * RECORD, QUEUES) / RECORD;
        Self::with([capacity; 2], threads, memory)
    }

    /// The capacities of this queue and of those of the sinks.
    fn with([capacity, of_sinks]: [usize; 2], threads: Threads, memory: Memory) -> Self {
        Self(Arc::new(Shared {
            of_sinks,
            queue: Queue::new(capacity, Gathering { time: GATHER, enough: capacity / 2 }),
            cutting: AtomicBool::new(false),
            health: Health::default(),
            room: Room::within(memory, ROOM),
            waiting: Waiting::default(),
            refusals: Refusals::default(),
            looks: Looks::default(),
            threads,
            masks: ArcSwap::default(),
            token_masks: ArcSwap::default(),
        }))
    }

    /// The memory budget of the process.
    pub fn memory(&self) -> &Memory {
        self.0.room.memory()
    }

    /// The largest number of records that wait for each sink.
    pub fn sink_capacity(&self) -> usize {
        self.0.of_sinks
    }

    /// Measures the memory of the waiting records, which all sinks share.
    pub(super) fn measure(&self) {
        let here = self.0.queue.waiting().0;
        let for_sinks = self.0.health.sinks().iter().map(|sink| sink.waiting()).max().unwrap_or(0);
        self.0.room.memory().set(MemoryPart::Records, (here + for_sinks) * RECORD);
    }

    /// Masks these secrets in the errors of records from now on, instead of the earlier ones.
    pub fn hide(&self, masks: Masks) {
        self.0.masks.store(Arc::new(masks));
    }

    /// Masks these tokens too, instead of the earlier ones.
    pub fn hide_tokens(&self, masks: Masks) {
        self.0.token_masks.store(Arc::new(masks));
    }

    /// The error with masked secrets. `None` if it contains none.
    pub(super) fn masked(&self, error: &str) -> Option<String> {
        let masked = self.0.masks.load().mask(error);
        self.0.token_masks.load().mask(masked.as_deref().unwrap_or(error)).or(masked)
    }

    /// Queues a record; never blocks on anything but the queue's own lock.
    pub fn push(&self, row: UsageRecord) {
        if !self.0.queue.push(row, 1) {
            self.0.health.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues a record after its tokens were estimated; without an estimate if that would take too
    /// long.
    pub(super) fn estimate(&self, row: UsageRecord, estimate_input: EstimateInput) {
        if let Err((row, estimate_input)) = self.0.waiting.push(Box::new(row), Box::new(estimate_input)) {
            self.not_estimated();
            self.push_observed(*row, estimate_input.observer);
        }
    }

    /// Queues a record after its observer has seen it.
    pub(super) fn push_observed(&self, row: UsageRecord, observer: Option<Box<dyn UseObserver>>) {
        if let Some(observer) = observer {
            observer.on_close(&row);
        }
        self.push(row);
    }

    /// Queues the record of a refusal, or adds it to a shared record. Returns the id of the record
    /// that counts it.
    pub(super) fn refuse(&self, reason: &'static str, row: UsageRecord) -> Uuid {
        let counted = self.0.refusals.add(reason, Box::new(row), Instant::now());
        counted.done.into_iter().flatten().for_each(|row| self.push(*row));
        counted.id
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// Takes over the stored results that an earlier process has counted, the latest last.
    pub fn remember_counted(&self, results: &[u64]) {
        self.0.looks.remember(results);
    }

    pub(super) fn looks(&self) -> &Looks {
        &self.0.looks
    }

    /// The memory budget for estimates.
    pub(super) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(super) fn waiting(&self) -> &Waiting {
        &self.0.waiting
    }

    pub(super) fn not_estimated(&self) {
        self.0.health.not_estimated.fetch_add(1, Ordering::Relaxed);
    }

    /// The threads on which records are handled.
    pub fn threads(&self) -> &Threads {
        &self.0.threads
    }

    /// The counters.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// Makes records that are dropped unclosed from now on count as aborted by this process, not by
    /// their clients.
    pub fn cut(&self) {
        self.0.cutting.store(true, Ordering::Relaxed);
    }

    /// Returns true after [`Journal::cut`].
    pub fn is_cutting(&self) -> bool {
        self.0.cutting.load(Ordering::Relaxed)
    }

    /// Takes all records.
    pub(crate) fn take(&self) -> Vec<UsageRecord> {
        self.0.queue.take()
    }

    /// Closes the queue for further records.
    pub(super) fn close(&self) {
        self.0.queue.close(&Deadline::after(Duration::ZERO));
    }

    /// Waits for a batch, and gathers it for [`GATHER`]. `None` if the queue is closed and empty.
    pub(super) fn next_batch(&self) -> Option<Vec<UsageRecord>> {
        let QueueStep::Items(batch) = self.0.queue.next(None) else { return None };
        self.0.queue.done(batch.len());
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Entry, Outcome};

    #[test]
    fn configured_secrets_and_tokens_are_masked_both() {
        let journal = Journal::new(1);
        journal.hide(Masks::new(["sk-1234567890"]));
        for (tokens, expected) in [("token-abcdefgh", "*** and ***"), ("token-2", "*** and token-abcdefgh")] {
            journal.hide_tokens(Masks::new([tokens]));
            assert_eq!(journal.masked("sk-1234567890 and token-abcdefgh").as_deref(), Some(expected));
        }
        assert_eq!(journal.masked("nothing"), None);
    }

    #[test]
    fn a_full_queue_loses_records_and_counts_them() {
        let journal = Journal::new(4);
        (0..10).for_each(|_| Entry::open(&journal, &"anonymous".into()).close(Outcome::Complete));
        assert_eq!(journal.take().len(), 4);
        assert_eq!(journal.health().dropped.load(Ordering::Relaxed), 6);
    }
}

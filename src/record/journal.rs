//! The queue between the workers and the thread that writes records.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::estimator::Waiting;
use super::material::{Material, ROOM};
use super::refusals::Refusals;
use super::{Exporting, Shipping, Sink, UsageRecord};
use crate::usage::Room;

/// Records that may wait to be written. Beyond it a record is lost and counted: memory is bounded, and no
/// stream waits for a disk. At some 600 bytes each this is about 40 MB.
pub const CAPACITY: usize = 65_536;

/// How long the writer gathers records after the first of a batch. One wake-up and one write serve them all.
const GATHER: Duration = Duration::from_millis(20);

/// The workers' end of the queue. Cloning it is cheap; pushing takes an uncontended lock for a few
/// nanoseconds, and wakes the writer once per batch.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when a batch begins, when the queue is half full, and at the end.
    ready: Condvar,
    capacity: usize,
    cutting: AtomicBool,
    health: Health,
    /// What may be kept for estimates.
    room: Room,
    /// Records that are estimated before they come into the queue.
    waiting: Waiting,
    /// Refusals that share a record.
    refusals: Refusals,
}

#[derive(Debug, Default)]
struct Queue {
    rows: Vec<UsageRecord>,
    closed: bool,
}

/// What became of records, counted since the start.
#[derive(Debug, Default)]
pub struct Health {
    /// Records handed to the sinks.
    pub written: AtomicU64,
    /// Records that are in the ledger's file.
    pub kept: AtomicU64,
    /// Records lost because the queue was full.
    pub dropped: AtomicU64,
    /// Records that a sink failed to write.
    pub failed: AtomicU64,
    /// Events and bodies that passed and that the meter could not read.
    pub unread: AtomicU64,
    /// On their way to a fleet's database, where there is one.
    pub shipping: OnceLock<Shipping>,
    /// On their way to an OpenTelemetry collector, where there is one.
    pub exporting: OnceLock<Arc<Exporting>>,
    /// Records that were to be estimated and were not: too many waited, or there was no room or time for it.
    pub not_estimated: AtomicU64,
}

impl Journal {
    /// A queue of at most `capacity` records.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::default(),
            ready: Condvar::new(),
            capacity,
            cutting: AtomicBool::new(false),
            health: Health::default(),
            room: Room::new(ROOM),
            waiting: Waiting::default(),
            refusals: Refusals::default(),
        }))
    }

    /// Queues a record; never blocks on anything but the queue's own lock.
    pub fn push(&self, row: UsageRecord) {
        let mut queue = self.lock();
        if queue.rows.len() >= self.0.capacity {
            drop(queue);
            self.0.health.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.rows.push(row);
        let waiting = queue.rows.len();
        drop(queue);
        if waiting == 1 || waiting == self.0.capacity / 2 {
            self.0.ready.notify_one();
        }
    }

    /// Queues a record once its tokens have been counted; as it is, if that would take too long.
    pub(super) fn estimate(&self, row: Box<UsageRecord>, material: Box<Material>) {
        if let Err(row) = self.0.waiting.push(row, material) {
            self.not_estimated();
            self.push(*row);
        }
    }

    /// Queues the record of a refusal, or adds it to one that is shared. Returns the id of the record that counts it.
    pub(super) fn refuse(&self, reason: &'static str, row: Box<UsageRecord>) -> Uuid {
        let counted = self.0.refusals.add(reason, row, Instant::now());
        counted.done.into_iter().flatten().for_each(|row| self.push(*row));
        counted.id
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// What may be kept for estimates.
    pub(super) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(super) fn waiting(&self) -> &Waiting {
        &self.0.waiting
    }

    pub(super) fn not_estimated(&self) {
        self.0.health.not_estimated.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of records so far.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// From now on a record that is dropped unclosed was cut by this process, not by its client.
    pub fn cut(&self) {
        self.0.cutting.store(true, Ordering::Relaxed);
    }

    /// Whether the process is cutting what is left.
    pub fn is_cutting(&self) -> bool {
        self.0.cutting.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<UsageRecord> {
        mem::take(&mut self.lock().rows)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code under the lock can panic with the queue half changed.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a batch, and lets it gather. `None`: closed, and everything was taken.
    fn next_batch(&self, batch: &mut Vec<UsageRecord>) -> Option<()> {
        let ready = &self.0.ready;
        let nothing = |queue: &mut Queue| queue.rows.is_empty() && !queue.closed;
        let queue = ready.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        let few = |queue: &mut Queue| queue.rows.len() < self.0.capacity / 2 && !queue.closed;
        let gathered = ready.wait_timeout_while(queue, GATHER, few);
        let mut queue = gathered.unwrap_or_else(PoisonError::into_inner).0;
        mem::swap(&mut queue.rows, batch);
        (!batch.is_empty() || !queue.closed).then_some(())
    }
}

/// The thread that writes. Dropping it closes the queue and waits until every record is with the system.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub fn spawn(journal: &Journal, sinks: Vec<Box<dyn Sink>>) -> std::io::Result<Self> {
        let queue = journal.clone();
        let thread =
            thread::Builder::new().name("records".to_owned()).spawn(move || write_all(&queue, sinks))?;
        Ok(Self { journal: journal.clone(), thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.journal.lock().closed = true;
        self.journal.0.ready.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes usage records panicked");
        }
    }
}

fn write_all(journal: &Journal, sinks: Vec<Box<dyn Sink>>) {
    let mut sinks: Vec<_> = sinks.into_iter().map(|sink| (sink, false)).collect();
    let mut batch = Vec::new();
    while journal.next_batch(&mut batch).is_some() {
        let shared = Arc::new(batch);
        for (sink, failing) in &mut sinks {
            match sink.share(&shared) {
                Ok(()) if *failing => {
                    tracing::info!(sink = sink.name(), "usage records are written again");
                    *failing = false;
                }
                Ok(()) => {}
                Err(error) => {
                    journal.0.health.failed.fetch_add(shared.len() as u64, Ordering::Relaxed);
                    if !*failing {
                        tracing::error!(sink = sink.name(), %error, "usage records cannot be written; they are lost until this ends");
                        *failing = true;
                    }
                }
            }
        }
        let written = shared.len();
        journal.0.health.written.fetch_add(written as u64, Ordering::Relaxed);
        // The next one is likely to be as large; where a sink keeps this one, its memory is not to be had again.
        batch = Arc::try_unwrap(shared).unwrap_or_else(|_| Vec::with_capacity(written));
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;
    use crate::record::{Entry, Outcome};

    struct Channel(mpsc::Sender<usize>);

    impl Sink for Channel {
        fn name(&self) -> String {
            "channel".to_owned()
        }
        fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
            self.0.send(batch.len()).map_err(io::Error::other)
        }
    }

    struct Full;

    impl Sink for Full {
        fn name(&self) -> String {
            "full".to_owned()
        }
        fn write(&mut self, _: &[UsageRecord]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn push(journal: &Journal, count: usize) {
        for _ in 0..count {
            Entry::open(journal, &"anonymous".into()).close(Outcome::Complete);
        }
    }

    #[test]
    fn every_record_is_written_before_the_writer_is_gone() {
        let journal = Journal::new(CAPACITY);
        let (sender, receiver) = mpsc::channel();
        let writer = Writer::spawn(&journal, vec![Box::new(Channel(sender))]).unwrap();
        push(&journal, 5_000);
        drop(writer);
        assert_eq!(receiver.iter().sum::<usize>(), 5_000);
        assert_eq!(journal.health().written.load(Ordering::Relaxed), 5_000);
    }

    #[test]
    fn a_full_queue_loses_records_and_counts_them() {
        let journal = Journal::new(4);
        push(&journal, 10);
        assert_eq!(journal.take().len(), 4);
        assert_eq!(journal.health().dropped.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_sink_that_fails_is_counted_and_does_not_stop_the_others() {
        let journal = Journal::new(CAPACITY);
        let (sender, receiver) = mpsc::channel();
        let writer = Writer::spawn(&journal, vec![Box::new(Full), Box::new(Channel(sender))]).unwrap();
        push(&journal, 3);
        drop(writer);
        assert_eq!(receiver.iter().sum::<usize>(), 3);
        assert_eq!(journal.health().failed.load(Ordering::Relaxed), 3);
    }
}

//! A lane: a sink with its queue, its thread and its counters.
//!
//! Two lanes share nothing but the batches: a sink that blocks, fails or panics delays and loses
//! its own records only.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Batch, Journal, Sink};
use crate::support::threads::{Deadline, Thread, enter_background, fault};
use crate::support::{Gathering, OutageNotice, Queue, QueueStep};

/// The time that dropping a lane waits for its thread.
const GRACE: Duration = Duration::from_secs(10);

/// The rest of the time at the end that a sink must leave when it gives up: for its last attempt,
/// and for reporting its losses.
const SPARE: Duration = Duration::from_secs(1);

/// A sink that finishes no record for this long, although it has some, is stuck.
pub const STUCK: Duration = Duration::from_secs(5);

/// The counters of one sink since the start.
#[derive(Debug)]
pub struct SinkHealth {
    /// The sink's label in metrics, also its thread's name.
    pub label: String,
    /// Records that the sink took.
    pub written: AtomicU64,
    /// Records lost because too many waited for the sink.
    pub dropped: AtomicU64,
    /// Records lost because the sink failed, panicked, or did not write them before the end; and
    /// records that disappeared after they were written.
    pub failed: AtomicU64,
    queue: Queue<Batch>,
}

impl SinkHealth {
    /// Records that wait for the sink or that it is writing.
    pub fn waiting(&self) -> usize {
        self.queue.waiting().0
    }

    /// The time for which the sink has finished no record although it holds some.
    pub fn busy_for(&self) -> Duration {
        self.queue.waiting().1
    }

    /// Records lost for any reason.
    pub fn lost(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }
}

/// The lane. Dropping it closes it, and waits for the last records for up to `GRACE`.
#[derive(Debug)]
pub struct Lane {
    name: String,
    health: Arc<SinkHealth>,
    journal: Journal,
    thread: Thread,
    /// The outage of a full queue.
    overflow: OutageNotice,
    /// `end` has waited for the thread.
    is_over: bool,
}

impl Lane {
    /// Starts the thread of a sink, among the journal's threads.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn(sink: Box<dyn Sink>, journal: &Journal) -> io::Result<Self> {
        let name = sink.name();
        let queue = Queue::new(journal.sink_capacity(), sink.gathering());
        let health = journal.health().add_sink(sink.label(), |label| SinkHealth {
            label,
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            queue,
        });
        let mut work = Work {
            sink,
            health: Arc::clone(&health),
            journal: journal.clone(),
            outage: OutageNotice::default(),
            was_broken_off: false,
        };
        let label = health.label.clone();
        let thread = journal.threads().spawn(&label, move || {
            enter_background();
            work.run();
            Ok(())
        })?;
        let overflow = OutageNotice::default();
        Ok(Self { name, health, journal: journal.clone(), thread, overflow, is_over: false })
    }

    /// The counters.
    pub fn health(&self) -> &SinkHealth {
        &self.health
    }

    /// Queues a batch without waiting. If the queue is full, the batch is lost and counted, and one
    /// log line reports it.
    pub fn push(&mut self, batch: &Batch) {
        if self.health.queue.push(Arc::clone(batch), batch.len()) {
            self.overflow.record_success();
            return;
        }
        self.health.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.journal.health().failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if self.overflow.record_failure(()) {
            tracing::error!(
                sink = self.name,
                "the sink is too slow or cannot be written, and no more usage records can wait for it; they are lost until this ends"
            );
        }
    }

    /// Closes the queue. The sink has until `deadline` to write the waiting batches.
    pub fn close(&self, deadline: &Deadline) {
        self.health.queue.close(deadline);
    }

    /// Waits for the thread of a closed lane until the deadline passes. Returns true if all records
    /// are finished; others are counted and logged. Also logs the sink's losses since the start,
    /// since no page shows them after the end.
    pub fn end(&mut self, deadline: &Deadline) -> bool {
        self.is_over = true;
        self.close(deadline);
        let mut late = 0;
        if !self.thread.wait(deadline) {
            late = self.health.queue.abandon();
            count_lost(&self.health, &self.journal, late);
            tracing::error!(
                sink = self.name,
                late,
                "the sink did not end in time: usage records were not written before the end"
            );
        }
        if self.health.lost() > 0 {
            let SinkHealth { label, written, dropped, failed, .. } = &*self.health;
            let [written, dropped, failed] =
                [written, dropped, failed].map(|count| count.load(Ordering::Relaxed));
            tracing::error!(
                sink = self.name,
                label,
                written,
                dropped,
                failed,
                "usage records were lost in this run"
            );
        }
        late == 0
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(&Deadline::after(GRACE));
        }
    }
}

fn count_lost(health: &SinkHealth, journal: &Journal, records: usize) {
    health.failed.fetch_add(records as u64, Ordering::Relaxed);
    journal.health().failed.fetch_add(records as u64, Ordering::Relaxed);
}

/// The state of the thread. It survives a panic of the sink.
struct Work {
    sink: Box<dyn Sink>,
    health: Arc<SinkHealth>,
    journal: Journal,
    outage: OutageNotice,
    /// The previous run ended by a panic.
    was_broken_off: bool,
}

impl Work {
    fn run(&mut self) {
        if std::mem::replace(&mut self.was_broken_off, true) {
            self.health.queue.idle();
            self.sink.reopen();
        }
        let mut wake = self.sink.wake();
        loop {
            match self.health.queue.next(wake) {
                QueueStep::Items(batches) => self.write(&batches),
                QueueStep::Wake => {}
                QueueStep::End => {
                    self.sink.end();
                    return self.count_gone();
                }
            }
            if wake.is_some_and(|at| at <= Instant::now()) {
                wake = self.sink.wake();
            }
            self.count_gone();
        }
    }

    fn count_gone(&mut self) {
        count_lost(&self.health, &self.journal, self.sink.take_gone());
    }

    fn write(&mut self, batches: &[Batch]) {
        let mut turn = Turn {
            health: &self.health,
            journal: &self.journal,
            outage: &mut self.outage,
            left: count(batches),
        };
        fault::strike(&self.health.label);
        self.sink.write_batches(batches, &mut turn);
        drop(turn);
        self.health.queue.idle();
        self.journal.measure();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Records remain only after a panic of the thread.
        let lost = self.health.queue.abandon();
        count_lost(&self.health, &self.journal, lost);
        if lost > 0 {
            tracing::error!(sink = self.sink.name(), lost, "usage records were not written");
        }
    }
}

/// The report of a sink on its batches. Records that are not reported when its call ends, for
/// example by a panic, count as lost.
#[derive(Debug)]
pub struct Turn<'a> {
    health: &'a SinkHealth,
    journal: &'a Journal,
    outage: &'a mut OutageNotice,
    /// Records not yet reported.
    left: usize,
}

impl Turn<'_> {
    /// Reports `count` more records as written.
    pub fn record_written(&mut self, records: usize) {
        self.health.written.fetch_add(records as u64, Ordering::Relaxed);
        self.finish(records);
    }

    /// Reports `count` more records as lost.
    pub fn record_lost(&mut self, records: usize) {
        count_lost(self.health, self.journal, records);
        self.finish(records);
    }

    /// Records that an attempt of the sink `name` succeeded, and logs it if the previous one had
    /// failed.
    pub fn note_success(&mut self, name: &str) {
        if self.outage.record_success() {
            tracing::info!(sink = name, "usage records are written again");
        }
    }

    /// Records that an attempt of the sink `name` failed, and logs it if the previous one had
    /// succeeded.
    pub fn note_failure(&mut self, name: &str, error: &io::Error) {
        if self.outage.record_failure(()) {
            tracing::error!(
                sink = name, %error,
                "usage records cannot be written; they are lost until this ends"
            );
        }
    }

    /// Waits for `pause` or for the close. Returns the deadline if the process is ending.
    pub fn pause(&self, pause: Duration) -> Option<Instant> {
        let deadline = self.health.queue.pause(pause)?;
        Some(deadline.checked_sub(SPARE).unwrap_or(deadline))
    }

    /// Records that wait for the sink, including those of this turn.
    pub fn waiting(&self) -> usize {
        self.health.waiting()
    }

    fn finish(&mut self, records: usize) {
        self.left = self.left.saturating_sub(records);
        self.health.queue.done(records);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.record_lost(self.left);
        }
    }
}

/// The number of records in the batches.
pub fn count(batches: &[Batch]) -> usize {
    batches.iter().map(|batch| batch.len()).sum()
}

/// Writes each batch separately. A batch that cannot be written is lost.
pub(super) fn write_each<S: Sink + ?Sized>(sink: &mut S, batches: &[Batch], turn: &mut Turn<'_>) {
    for batch in batches {
        match sink.write(batch) {
            Ok(()) => {
                turn.record_written(batch.len());
                turn.note_success(&sink.name());
            }
            Err(error) => {
                turn.record_lost(batch.len());
                turn.note_failure(&sink.name(), &error);
            }
        }
    }
}

/// The gathering of a sink that writes each batch immediately.
pub(super) const AT_ONCE: Gathering = Gathering { time: Duration::ZERO, enough: usize::MAX };

//! The thread that estimates tokens that were not reported, before the record is queued.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::estimate_input::EstimateInput;
use super::{Journal, UsageRecord, UsageSource};
use crate::support::threads::{Deadline, Thread, fault};

/// The largest number of records that wait for their estimate; further ones get none.
/// `estimate_input::ROOM` bounds their texts. A count of 50 µs, which a response of a thousand words
/// takes, makes this a quarter of a second's work.
const CAPACITY: usize = 4096;

/// The time for waiting estimates when the process stops. The remaining records get none.
const GRACE: Duration = Duration::from_secs(1);

/// Records that wait for their estimate.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: Mutex<Queue>,
    ready: Condvar,
}

/// A record, and the input of its estimate.
type WaitingRecord = (Box<UsageRecord>, Box<EstimateInput>);

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<WaitingRecord>,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// The thread has ended.
    #[default]
    Idle,
    Running,
    /// The deadline for waiting records.
    Closed(Instant),
}

impl Waiting {
    /// Queues a record for the thread. Returns it if it gets no estimate.
    pub(super) fn push(
        &self,
        record: Box<UsageRecord>,
        estimate_input: Box<EstimateInput>,
    ) -> Result<(), WaitingRecord> {
        let mut queue = self.lock();
        if queue.state != State::Running || queue.records.len() >= CAPACITY {
            return Err((record, estimate_input));
        }
        queue.records.push_back((record, estimate_input));
        let is_first = queue.records.len() == 1;
        drop(queue);
        if is_first {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for a record. `None` after the queue was closed and emptied.
    fn next(&self) -> Option<WaitingRecord> {
        let nothing = |queue: &mut Queue| queue.records.is_empty() && queue.state == State::Running;
        let queue = self.ready.wait_while(self.lock(), nothing);
        queue.unwrap_or_else(PoisonError::into_inner).records.pop_front()
    }

    /// Returns true if the time for estimates is over.
    fn is_over(&self) -> bool {
        matches!(self.lock().state, State::Closed(deadline) if Instant::now() >= deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code under the lock can panic with the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that dropping the thread's handle waits for its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The thread. Dropping it lets it count for at most one more second, and waits until it has handed
/// on every record. It must end before the writer of records.
#[derive(Debug)]
pub struct Estimator {
    journal: Journal,
    thread: Thread,
    /// `end` has waited for the thread.
    is_over: bool,
}

impl Estimator {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn(journal: &Journal) -> std::io::Result<Self> {
        journal.waiting().lock().state = State::Running;
        let mut counting = Counting(journal.clone());
        let thread = journal.threads().spawn("estimates", move || {
            counting.count_all();
            Ok(())
        })?;
        Ok(Self { journal: journal.clone(), thread, is_over: false })
    }

    /// Waits until the thread has handed on all records, or until the deadline passes. Returns true
    /// if the thread has ended.
    pub fn end(&mut self, deadline: &Deadline) -> bool {
        self.is_over = true;
        self.journal.waiting().lock().state = State::Closed(deadline.at().min(Instant::now() + GRACE));
        self.journal.waiting().ready.notify_one();
        self.thread.wait(deadline)
    }
}

impl Drop for Estimator {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(&Deadline::after(PATIENCE));
        }
    }
}

/// The state of the thread.
struct Counting(Journal);

impl Counting {
    fn count_all(&mut self) {
        let Self(journal) = self;
        let waiting = journal.waiting();
        while let Some((mut record, estimate_input)) = waiting.next() {
            let model = record.model.as_deref().or(record.model_requested.as_deref()).unwrap_or_default();
            // The encodings are third-party code: the record must survive a panic in them.
            match catch_unwind(AssertUnwindSafe(|| estimate_input.estimate(model, &|| waiting.is_over()))) {
                Ok(Some(usage)) => {
                    record.usage = usage;
                    record.usage_source = UsageSource::Estimated;
                }
                Ok(None) | Err(_) => journal.not_estimated(),
            }
            journal.push_observed(*record, estimate_input.observer);
            fault::strike("estimates");
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // After a panic of the thread, the remaining records get no estimate.
        let mut queue = self.0.waiting().lock();
        queue.state = State::Idle;
        let left = std::mem::take(&mut queue.records);
        drop(queue);
        for (record, estimate_input) in left {
            self.0.not_estimated();
            self.0.push_observed(*record, estimate_input.observer);
        }
    }
}

//! The thread that counts tokens where nobody reported any, before the record goes on its way.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::material::Material;
use super::{Journal, UsageRecord, UsageSource};

/// Records that may wait for their estimate. Beyond it one goes on without; what they are made of is bounded by
/// `material::ROOM`. At a count of 50 µs, which an answer of a thousand words takes, this is a quarter of a second's work.
const CAPACITY: usize = 4096;

/// How long the counts that wait may take when the process stops. What is left then goes on without.
const GRACE: Duration = Duration::from_secs(1);

/// Records that wait for their estimate.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<(Box<UsageRecord>, Box<Material>)>,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody counts.
    #[default]
    Idle,
    Running,
    /// What waits is to be done by then.
    Closed(Instant),
}

impl Waiting {
    /// Gives a record to the thread. It is given back where it has to go on without an estimate.
    pub(super) fn push(
        &self,
        record: Box<UsageRecord>,
        material: Box<Material>,
    ) -> Result<(), Box<UsageRecord>> {
        let mut queue = self.lock();
        if queue.state != State::Running || queue.records.len() >= CAPACITY {
            return Err(record);
        }
        queue.records.push_back((record, material));
        let is_first = queue.records.len() == 1;
        drop(queue);
        if is_first {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for a record. `None`: closed, and all were taken.
    fn next(&self) -> Option<(Box<UsageRecord>, Box<Material>)> {
        let nothing = |queue: &mut Queue| queue.records.is_empty() && queue.state == State::Running;
        let queue = self.ready.wait_while(self.lock(), nothing);
        queue.unwrap_or_else(PoisonError::into_inner).records.pop_front()
    }

    /// Whether there is no more time to count.
    fn is_over(&self) -> bool {
        matches!(self.lock().state, State::Closed(deadline) if Instant::now() >= deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code under the lock can panic with the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. Dropping it lets it count for a second more at most, and waits until it has handed on every record.
/// It is dropped before the writer of records.
#[derive(Debug)]
pub struct Estimator {
    journal: Journal,
    thread: Option<JoinHandle<()>>,
}

impl Estimator {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn spawn(journal: &Journal) -> std::io::Result<Self> {
        journal.waiting().lock().state = State::Running;
        let (journal, counting) = (journal.clone(), journal.clone());
        let thread =
            thread::Builder::new().name("estimates".to_owned()).spawn(move || count_all(&counting))?;
        Ok(Self { journal, thread: Some(thread) })
    }
}

impl Drop for Estimator {
    fn drop(&mut self) {
        self.journal.waiting().lock().state = State::Closed(Instant::now() + GRACE);
        self.journal.waiting().ready.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that estimates tokens panicked");
        }
    }
}

fn count_all(journal: &Journal) {
    let waiting = journal.waiting();
    while let Some((mut record, material)) = waiting.next() {
        let model = record.model.as_deref().or(record.model_requested.as_deref()).unwrap_or_default();
        // The encodings are others' code, and the record must go on whatever they make of its texts.
        match catch_unwind(AssertUnwindSafe(|| material.estimate(model, &|| waiting.is_over()))) {
            Ok(Some(usage)) => {
                record.usage = usage;
                record.usage_source = UsageSource::Estimated;
            }
            Ok(None) | Err(_) => journal.not_estimated(),
        }
        journal.push(*record);
    }
}

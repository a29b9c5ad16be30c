//! The queue of a sink: batches on their way from the `records` thread to the sink's own.
//!
//! Every sink has one, of the same kind. Pushing never waits; a batch that finds no room is refused
//! as a whole. A batch is shared with the other queues, so that a record is in memory once however
//! many sinks it waits for.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Batch;
use crate::support::threads::Deadline;

/// When the waiting batches are handed to the sink.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathering {
    /// How long batches are gathered after the first one.
    pub time: Duration,
    /// This many records are handed over at once.
    pub enough: usize,
}

/// Batches that wait, bounded by their records.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signalled when the first batch comes, when there are enough, and at the end.
    changed: Condvar,
    capacity: usize,
    gathering: Gathering,
}

#[derive(Debug, Default)]
struct State {
    batches: Vec<Batch>,
    /// Records in `batches` and in those that the sink has in hand.
    records: usize,
    /// Since when the sink has had batches in hand without finishing one.
    busy_since: Option<Instant>,
    /// By when the last records are to be written; `None` while the process is not ending.
    closed: Option<Deadline>,
    /// The sink's thread has ended, or is waited for no longer.
    is_abandoned: bool,
}

/// The next step of the sink's thread.
#[derive(Debug)]
pub(super) enum Next {
    /// Write these.
    Write(Vec<Batch>),
    /// The moment `wake` has come.
    Wake,
    /// The process ends, and everything was taken.
    End,
}

impl Queue {
    pub(super) fn new(capacity: usize, gathering: Gathering) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), capacity, gathering }
    }

    /// Whether there was room.
    pub(super) fn push(&self, batch: &Batch) -> bool {
        let mut state = self.lock();
        if state.is_abandoned || state.records + batch.len() > self.capacity {
            return false;
        }
        state.records += batch.len();
        state.batches.push(Batch::clone(batch));
        let wake = state.batches.len() == 1 || state.records >= self.gathering.enough;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        true
    }

    /// Waits for batches and lets them gather, or for the moment `wake`.
    pub(super) fn next(&self, wake: Option<Instant>) -> Next {
        let mut state = self.lock();
        while state.batches.is_empty() {
            if state.closed.is_some() {
                return Next::End;
            }
            state = match wake.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Next::Wake,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if !self.gathering.time.is_zero() {
            let few = |state: &mut State| state.records < self.gathering.enough && state.closed.is_none();
            let gathered = self.changed.wait_timeout_while(state, self.gathering.time, few);
            state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.busy_since = Some(Instant::now());
        Next::Write(mem::take(&mut state.batches))
    }

    /// Makes room again for records that the sink has finished with.
    pub(super) fn done(&self, records: usize) {
        let mut state = self.lock();
        state.records = state.records.saturating_sub(records);
        state.busy_since = Some(Instant::now());
    }

    /// The sink has nothing in hand.
    pub(super) fn idle(&self) {
        self.lock().busy_since = None;
    }

    /// Waits for `pause`, or for the close. By when the last records are to be written, once the
    /// process is ending.
    pub(super) fn pause(&self, pause: Duration) -> Option<Instant> {
        let open = |state: &mut State| state.closed.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), pause, open);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed.as_ref().map(Deadline::at)
    }

    /// No more batches come, and those that wait are to be written by `deadline`.
    pub(super) fn close(&self, deadline: &Deadline) {
        self.lock().closed = Some(deadline.clone());
        self.changed.notify_all();
    }

    /// Gives up all records that wait or that the sink has, and returns their number. The queue
    /// takes nothing from now on.
    pub(super) fn abandon(&self) -> usize {
        let mut state = self.lock();
        state.is_abandoned = true;
        state.closed.get_or_insert_with(|| Deadline::after(Duration::ZERO));
        // Dropped outside the lock: they may be many.
        let batches = mem::take(&mut state.batches);
        let records = mem::take(&mut state.records);
        drop(state);
        drop(batches);
        records
    }

    /// Records that wait or are in the sink's hand, and for how long it has finished none of those
    /// in its hand.
    pub(super) fn waiting(&self) -> (usize, Duration) {
        let state = self.lock();
        (state.records, state.busy_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic with the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Entry, Journal, Outcome};
    use super::*;

    fn batch(rows: usize) -> Batch {
        let journal = Journal::new(rows);
        for _ in 0..rows {
            Entry::open(&journal, &"anonymous".into()).close(Outcome::Complete);
        }
        Arc::new(journal.take())
    }

    #[test]
    fn queue_has_no_room_until_what_was_taken_is_done() {
        let queue = Queue::new(4, Gathering::default());
        assert!(queue.push(&batch(3)));
        assert!(!queue.push(&batch(2)), "a batch is refused as a whole");
        assert!(matches!(queue.next(None), Next::Write(batches) if batches.len() == 1));
        assert!(!queue.push(&batch(2)), "what is in hand counts");
        queue.done(3);
        assert!(queue.push(&batch(4)));
        assert_eq!(queue.waiting().0, 4);
    }

    #[test]
    fn closed_queue_hands_over_what_waits_before_its_end() {
        let queue = Queue::new(4, Gathering { time: Duration::from_secs(60), enough: 4 });
        assert!(queue.push(&batch(1)));
        queue.close(&Deadline::after(Duration::ZERO));
        assert!(matches!(queue.next(None), Next::Write(_)));
        assert!(matches!(queue.next(None), Next::End));
        assert!(queue.pause(Duration::from_secs(60)).is_some(), "a pause ends with the queue");
    }

    #[test]
    fn abandoned_queue_counts_what_it_had_and_takes_nothing() {
        let queue = Queue::new(8, Gathering::default());
        assert!(queue.push(&batch(3)));
        assert!(matches!(queue.next(None), Next::Write(_)));
        assert!(queue.push(&batch(2)));
        assert_eq!(queue.abandon(), 5);
        assert!(!queue.push(&batch(1)));
        assert_eq!(queue.abandon(), 0);
        queue.done(3);
        assert_eq!(queue.waiting().0, 0);
    }

    #[test]
    fn queue_wakes_its_sink_at_the_time_it_asked_for() {
        let queue = Queue::new(8, Gathering::default());
        assert!(matches!(queue.next(Some(Instant::now())), Next::Wake));
    }
}

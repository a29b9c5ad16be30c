//! Limits the records of refusals before authentication, since unauthenticated clients may cause
//! any number of them.
//!
//! The first [`APART`] refusals with one reason within a second have a record each. The others of
//! that second share one, which equals the first of them except for its `count`. It is queued when
//! its second is over. So a reason produces at most eleven records a second, and uses the memory of
//! one.

use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Journal, UsageRecord};
use crate::support::threads::{Deadline, Thread, fault};

/// The refusals of a reason that have a record each, per [`WINDOW`].
const APART: u32 = 10;

/// The time for which refusals share a record.
const WINDOW: Duration = Duration::from_secs(1);

/// The refusals of the current second, by reason (an error's code).
#[derive(Debug, Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
    /// Signalled when the first record is shared, and at the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    reasons: HashMap<&'static str, Second>,
    /// True while a thread queues shared records; otherwise each refusal gets its own.
    is_running: bool,
}

#[derive(Debug)]
struct Second {
    since: Instant,
    apart: u32,
    shared: Option<Box<UsageRecord>>,
}

/// The result of counting a refusal.
#[derive(Debug)]
pub(super) struct Counted {
    /// The id of the record that counts it.
    pub(super) id: Uuid,
    /// Records to queue now: this one, or one that refusals of an earlier second shared.
    pub(super) done: [Option<Box<UsageRecord>>; 2],
}

impl Refusals {
    /// Counts a refusal with its record.
    pub(super) fn add(&self, reason: &'static str, mut record: Box<UsageRecord>, now: Instant) -> Counted {
        let mut id = record.id;
        let mut state = self.lock();
        if !state.is_running {
            return Counted { id, done: [None, Some(record)] };
        }
        let second = state.reasons.entry(reason).or_insert(Second { since: now, apart: 0, shared: None });
        let mut earlier = None;
        if second.is_over(now) {
            earlier = second.shared.take();
            (second.since, second.apart) = (now, 0);
        }
        let mut own = None;
        if second.apart < APART {
            second.apart += 1;
            own = Some(record);
        } else if let Some(shared) = &mut second.shared {
            shared.count = shared.count.map(|count| count + 1);
            id = shared.id;
        } else {
            record.count = Some(1);
            second.shared = Some(record);
            self.changed.notify_one();
        }
        Counted { id, done: [earlier, own] }
    }

    /// Waits for shared records whose second is over. `None` at the end, after all were taken.
    fn next(&self) -> Option<Vec<UsageRecord>> {
        let mut state = self.lock();
        loop {
            let is_running = state.is_running;
            let now = Instant::now();
            let is_due = |second: &&mut Second| !is_running || second.is_over(now);
            let due = state.reasons.values_mut().filter(is_due).filter_map(|second| second.shared.take());
            let due: Vec<_> = due.map(|record| *record).collect();
            if !due.is_empty() {
                return Some(due);
            }
            if !is_running {
                return None;
            }
            let waiting = state.reasons.values().filter(|second| second.shared.is_some());
            let first = waiting.map(|second| second.since + WINDOW).min();
            state = match first {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let waited = self.changed.wait_timeout(state, end.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn set_running(&self, is_running: bool) {
        self.lock().is_running = is_running;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic with a half-changed state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Second {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

/// The time that the end waits for the thread. It only moves records.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread that queues shared records. Dropping it queues the last ones; it must be dropped
/// before the writer of records.
#[derive(Debug)]
pub struct RefusalCounter {
    journal: Journal,
    thread: Thread,
}

impl RefusalCounter {
    /// Starts the thread. From now on refusals share records.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn(journal: &Journal) -> io::Result<Self> {
        let waiting = journal.clone();
        let send = move || {
            while let Some(records) = waiting.refusals().next() {
                records.into_iter().for_each(|record| waiting.push(record));
                fault::strike("refusals");
            }
            Ok(())
        };
        journal.refusals().set_running(true);
        match journal.threads().spawn("refusals", send) {
            Ok(thread) => Ok(Self { journal: journal.clone(), thread }),
            Err(error) => {
                journal.refusals().set_running(false);
                Err(error)
            }
        }
    }
}

impl Drop for RefusalCounter {
    fn drop(&mut self) {
        self.journal.refusals().set_running(false);
        self.thread.wait(&Deadline::after(PATIENCE));
        // If the thread has failed, records remain.
        while let Some(records) = self.journal.refusals().next() {
            records.into_iter().for_each(|record| self.journal.push(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Entry;

    fn record() -> Box<UsageRecord> {
        let journal = Journal::new(1);
        drop(Entry::open(&journal, &"anonymous".into()));
        Box::new(journal.take().remove(0))
    }

    fn running() -> Refusals {
        let refusals = Refusals::default();
        refusals.set_running(true);
        refusals
    }

    fn done(counted: Counted) -> Vec<(Uuid, Option<u64>)> {
        counted.done.into_iter().flatten().map(|record| (record.id, record.count)).collect()
    }

    #[test]
    fn refusals_beyond_the_rate_share_one_record() {
        let (refusals, now) = (running(), Instant::now());
        for _ in 0..APART {
            let record = record();
            let id = record.id;
            assert_eq!(done(refusals.add("key_missing", record, now)), [(id, None)]);
        }
        let first = record();
        let shared = first.id;
        for record in [first, record(), record()] {
            let counted = refusals.add("key_missing", record, now);
            assert_eq!(counted.id, shared, "the client is told the record that counts its request");
            assert!(done(counted).is_empty());
        }
        let other = refusals.add("unknown_path", record(), now);
        assert_eq!(other.done.iter().flatten().count(), 1, "another reason has its own rate");
        let next = refusals.add("key_missing", record(), now + WINDOW);
        let id = next.id;
        assert_eq!(done(next), [(shared, Some(3)), (id, None)]);
    }

    #[test]
    #[cfg_attr(not(feature = "slow"), ignore = "slow")]
    fn shared_record_goes_on_when_its_second_is_over() {
        let journal = Journal::new(100);
        let counter = RefusalCounter::spawn(&journal).unwrap();
        let begun = Instant::now();
        for _ in 0..APART + 5 {
            let counted = journal.refusals().add("key_missing", record(), begun);
            drop(counted);
        }
        let mut found = Vec::new();
        while found.is_empty() {
            found = journal.take();
            std::thread::yield_now();
        }
        assert!(begun.elapsed() >= WINDOW);
        assert_eq!(found[0].count, Some(5));
        drop(counter);
    }

    #[test]
    fn end_loses_no_refusal_of_a_thread_that_has_failed() {
        let journal = Journal::new(100);
        let thread = journal.threads().spawn("failed", || Ok(())).unwrap();
        journal.refusals().set_running(true);
        let counter = RefusalCounter { journal: journal.clone(), thread };
        let begun = Instant::now();
        (0..APART + 2).for_each(|_| drop(journal.refusals().add("key_missing", record(), begun)));
        drop(counter);
        assert_eq!(journal.take().iter().filter_map(|record| record.count).sum::<u64>(), 2);
    }

    #[test]
    fn end_loses_no_refusal() {
        let journal = Journal::new(100);
        let counter = RefusalCounter::spawn(&journal).unwrap();
        let begun = Instant::now();
        (0..APART + 2).for_each(|_| drop(journal.refusals().add("key_missing", record(), begun)));
        drop(counter);
        assert_eq!(journal.take().iter().filter_map(|record| record.count).sum::<u64>(), 2);
        assert_eq!(done(journal.refusals().add("key_missing", record(), begun)).len(), 1);
    }
}

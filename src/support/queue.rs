//! A bounded queue from many threads to one, which takes all waiting items at once.
//!
//! Pushing never waits. The bound is a weight, which includes the taken items until they are
//! reported as done.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::threads::Deadline;

/// The conditions under which waiting items are handed over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathering {
    /// The time for which items are gathered after the first one.
    pub time: Duration,
    /// The weight of items that are handed over without further gathering.
    pub enough: usize,
}

/// Items that wait for a thread.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    /// Signalled when the first item comes, when there are enough, and at the end.
    changed: Condvar,
    capacity: usize,
    gathering: Gathering,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    /// The weight of `items` and of those that the thread is working on.
    weight: usize,
    /// The time since when the thread has had items without finishing one.
    busy_since: Option<Instant>,
    /// The deadline of the last items. `None` while the queue is open.
    closed: Option<Deadline>,
    /// The thread has ended, or no one waits for it.
    is_abandoned: bool,
}

/// The next step of the thread.
#[derive(Debug)]
pub enum QueueStep<T> {
    /// The thread must work on these items.
    Items(Vec<T>),
    /// The time `wake` has come.
    Wake,
    /// The queue is closed and empty.
    End,
}

impl<T> Queue<T> {
    pub fn new(capacity: usize, gathering: Gathering) -> Self {
        let (items, weight, busy_since, closed, is_abandoned) = (Vec::new(), 0, None, None, false);
        let state = State { items, weight, busy_since, closed, is_abandoned };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity, gathering }
    }

    /// Returns true if there was room.
    pub fn push(&self, item: T, weight: usize) -> bool {
        let mut state = self.lock();
        if state.is_abandoned || state.weight + weight > self.capacity {
            return false;
        }
        let was_enough = state.weight >= self.gathering.enough;
        state.weight += weight;
        state.items.push(item);
        let wake = state.items.len() == 1 || (!was_enough && state.weight >= self.gathering.enough);
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        true
    }

    /// Waits for items and lets them gather, or for the time `wake`.
    pub fn next(&self, wake: Option<Instant>) -> QueueStep<T> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.closed.is_some() {
                return QueueStep::End;
            }
            state = match wake.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return QueueStep::Wake,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if !self.gathering.time.is_zero() {
            let few = |state: &mut State<T>| state.weight < self.gathering.enough && state.closed.is_none();
            let gathered = self.changed.wait_timeout_while(state, self.gathering.time, few);
            state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.busy_since = Some(Instant::now());
        // The next batch is likely to have the same size.
        let room = Vec::with_capacity(state.items.len());
        QueueStep::Items(mem::replace(&mut state.items, room))
    }

    /// Takes the waiting items without waiting.
    pub fn take(&self) -> Vec<T> {
        let mut state = self.lock();
        state.weight = 0;
        mem::take(&mut state.items)
    }

    /// Frees the room of items that are done.
    pub fn done(&self, weight: usize) {
        let mut state = self.lock();
        state.weight = state.weight.saturating_sub(weight);
        state.busy_since = Some(Instant::now());
    }

    /// Records that the thread has no items.
    pub fn idle(&self) {
        self.lock().busy_since = None;
    }

    /// Waits for `pause`, or for the close. Returns the deadline if the queue is closed.
    pub fn pause(&self, pause: Duration) -> Option<Instant> {
        let open = |state: &mut State<T>| state.closed.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), pause, open);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed.as_ref().map(Deadline::at)
    }

    /// Closes the queue for further items. The waiting ones must be done by `deadline`.
    pub fn close(&self, deadline: &Deadline) {
        self.lock().closed = Some(deadline.clone());
        self.changed.notify_all();
    }

    /// Drops all items that wait or that the thread has, and returns their weight. The queue
    /// accepts no items from now on.
    pub fn abandon(&self) -> usize {
        let mut state = self.lock();
        state.is_abandoned = true;
        state.closed.get_or_insert_with(|| Deadline::after(Duration::ZERO));
        // Dropped outside the lock, since they may be many.
        let items = mem::take(&mut state.items);
        let weight = mem::take(&mut state.weight);
        drop(state);
        drop(items);
        weight
    }

    /// The weight of the items that wait or that the thread has, and the time for which it has
    /// finished none of its own.
    pub fn waiting(&self) -> (usize, Duration) {
        let state = self.lock();
        (state.weight, state.busy_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code under the lock can panic with a half-changed state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_has_no_room_until_what_was_taken_is_done() {
        let queue = Queue::new(4, Gathering::default());
        assert!(queue.push((), 3));
        assert!(!queue.push((), 2), "an item is refused as a whole");
        assert!(matches!(queue.next(None), QueueStep::Items(items) if items.len() == 1));
        assert!(!queue.push((), 2), "what is in hand counts");
        queue.done(3);
        assert!(queue.push((), 4));
        assert_eq!(queue.waiting().0, 4);
    }

    #[test]
    fn closed_queue_hands_over_what_waits_before_its_end() {
        let queue = Queue::new(4, Gathering { time: Duration::from_secs(60), enough: 4 });
        assert!(queue.push((), 1));
        queue.close(&Deadline::after(Duration::ZERO));
        assert!(matches!(queue.next(None), QueueStep::Items(_)));
        assert!(matches!(queue.next(None), QueueStep::End));
        assert!(queue.pause(Duration::from_secs(60)).is_some(), "a pause ends with the queue");
    }

    #[test]
    fn abandoned_queue_counts_what_it_had_and_takes_nothing() {
        let queue = Queue::new(8, Gathering::default());
        assert!(queue.push((), 3));
        assert!(matches!(queue.next(None), QueueStep::Items(_)));
        assert!(queue.push((), 2));
        assert_eq!(queue.abandon(), 5);
        assert!(!queue.push((), 1));
        assert_eq!(queue.abandon(), 0);
        queue.done(3);
        assert_eq!(queue.waiting().0, 0);
    }

    #[test]
    fn queue_wakes_its_thread_at_the_time_it_asked_for() {
        let queue = Queue::<()>::new(8, Gathering::default());
        assert!(matches!(queue.next(Some(Instant::now())), QueueStep::Wake));
    }
}

//! The ids of stored state that a fleet shares, on their way to its store and back.
//!
//! An id that passes here is written in the background, and any other instance asks for it when a
//! request names an id that it does not know. The store has hashes only. Both queues are bounded: of
//! the ids to be written the oldest are dropped, and a request asks for a bounded number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The largest number of ids that wait to be written: those of some seconds of a busy instance.
const MOST_WRITES: usize = 16_384;

/// The largest number of ids for which a request asks. Further ones are unknown.
pub const MOST_ASKED: usize = 2_048;

/// An id of stored state, as all instances of a fleet know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPin {
    /// The hash of the id.
    pub id: u64,
    /// The tag of the client whose request created the object. 0: it is unknown whose did.
    pub client: u32,
    /// The hash of the account's name.
    pub account: u64,
}

/// The ids that wait for the store. All threads share them.
#[derive(Debug)]
pub struct FleetPins {
    written: Mutex<VecDeque<SharedPin>>,
    /// Bounded by the running requests, and the messages of some 150 ms.
    asked: Mutex<Vec<Arc<PinAsk>>>,
    is_away: AtomicBool,
    /// The ids that were asked for while the store was away, and those that were dropped before they
    /// were written.
    failed: AtomicU64,
    dropped: AtomicU64,
    /// Wakes the thread that writes and asks.
    waker: Waker,
}

/// A request for ids that are not known here.
#[derive(Debug)]
pub struct PinAsk {
    ids: Box<[u64]>,
    state: Mutex<AskState>,
}

#[derive(Debug, Default)]
struct AskState {
    /// The end: true if the store has replied.
    replied: Option<bool>,
    waker: Option<Waker>,
}

impl FleetPins {
    /// Nothing is known. `waker` wakes the thread that talks to the store.
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            written: Mutex::default(),
            asked: Mutex::default(),
            is_away: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            waker,
        })
    }

    /// Writes an id in the background.
    pub(super) fn write(&self, pin: SharedPin) {
        let mut written = self.written();
        if written.len() == MOST_WRITES {
            written.pop_front();
            self.record_dropped(1);
        }
        written.push_back(pin);
        drop(written);
        self.waker.wake_by_ref();
    }

    /// Asks for ids, of which the first [`MOST_ASKED`] count.
    pub(super) fn ask(&self, mut ids: Vec<u64>) -> Arc<PinAsk> {
        ids.truncate(MOST_ASKED);
        let ask = Arc::new(PinAsk { ids: ids.into(), state: Mutex::default() });
        self.asked().push(Arc::clone(&ask));
        if self.is_away.load(Ordering::SeqCst) {
            self.fail();
        } else {
            self.waker.wake_by_ref();
        }
        ask
    }

    /// Takes at most `most` ids that are to be written, the oldest first.
    pub fn take_writes(&self, most: usize) -> Vec<SharedPin> {
        let mut written = self.written();
        let count = written.len().min(most);
        written.drain(..count).collect()
    }

    /// Takes ids back that could not be written.
    pub fn put_back(&self, pins: Vec<SharedPin>) {
        let mut written = self.written();
        let room = MOST_WRITES.saturating_sub(written.len());
        self.record_dropped(pins.len().saturating_sub(room));
        pins.into_iter().rev().take(room).for_each(|pin| written.push_front(pin));
    }

    pub fn has_writes(&self) -> bool {
        !self.written().is_empty()
    }

    /// Takes ids back that the store refused, to be written after all others.
    pub fn write_later(&self, pins: Vec<SharedPin>) {
        let mut written = self.written();
        let room = MOST_WRITES.saturating_sub(written.len());
        self.record_dropped(pins.len().saturating_sub(room));
        written.extend(pins.into_iter().take(room));
    }

    fn record_dropped(&self, ids: usize) {
        self.dropped.fetch_add(ids as u64, Ordering::Relaxed);
    }

    /// Takes the number of ids that were dropped before they were written, since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Takes the number of ids for which nothing could be asked since the last call, as the store was
    /// away.
    pub fn take_failed(&self) -> u64 {
        self.failed.swap(0, Ordering::Relaxed)
    }

    /// Takes what requests ask for: the oldest, of at most `most` ids, or one. Those that no request
    /// waits for any longer are dropped. Each has to be [ended](PinAsk::end).
    pub fn take_asks(&self, most: usize) -> Vec<Arc<PinAsk>> {
        let mut asked = self.asked();
        asked.retain(|ask| Arc::strong_count(ask) > 1);
        let mut ids = 0;
        let fits = |ask: &&Arc<PinAsk>| {
            ids += ask.ids.len();
            ids <= most
        };
        let count = asked.iter().take_while(fits).count().max(1).min(asked.len());
        asked.drain(..count).collect()
    }

    pub fn has_asks(&self) -> bool {
        !self.asked().is_empty()
    }

    /// Sets whether the store is away. No request waits for it then.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
        if is_away {
            self.fail();
        }
    }

    fn fail(&self) {
        let asks = std::mem::take(&mut *self.asked());
        let ids = asks.iter().map(|ask| ask.ids.len() as u64).sum();
        self.failed.fetch_add(ids, Ordering::Relaxed);
        asks.iter().for_each(|ask| ask.end(false));
    }

    fn written(&self) -> MutexGuard<'_, VecDeque<SharedPin>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Arc<PinAsk>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PinAsk {
    /// The hashes of the ids.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Ends the wait. `has_replied`: what the store has of the ids is known now.
    pub fn end(&self, has_replied: bool) {
        let mut state = self.state();
        state.replied.get_or_insert(has_replied);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Waits for the end. False: the store is away.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if let Some(replied) = state.replied {
            return Poll::Ready(replied);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Returns true if the store has replied.
    pub fn has_replied(&self) -> bool {
        self.state().replied == Some(true)
    }

    fn state(&self) -> MutexGuard<'_, AskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(id: u64) -> SharedPin {
        SharedPin { id, client: 1, account: 2 }
    }

    fn poll(ask: &PinAsk) -> Poll<bool> {
        ask.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn writes_beyond_the_bound_replace_the_oldest() {
        let pins = FleetPins::new(Waker::noop().clone());
        (0..MOST_WRITES as u64 + 2).for_each(|id| pins.write(pin(id)));
        let taken = pins.take_writes(3);
        assert_eq!(taken, [2, 3, 4].map(pin));
        pins.put_back(taken);
        assert_eq!(pins.take_writes(1), [pin(2)]);
        pins.write_later(vec![pin(2)]);
        let rest = pins.take_writes(usize::MAX);
        assert_eq!((rest[0], rest.last(), rest.len()), (pin(3), Some(&pin(2)), MOST_WRITES));
        assert!(!pins.has_writes());
        assert_eq!(pins.take_dropped(), 2);
    }

    #[test]
    fn asks_end_with_the_reply_or_when_the_store_goes_away() {
        let pins = FleetPins::new(Waker::noop().clone());
        let (first, second) = (pins.ask(vec![1]), pins.ask((0..MOST_ASKED as u64 + 9).collect()));
        assert_eq!((poll(&first), second.ids().len()), (Poll::Pending, MOST_ASKED));
        drop(pins.ask(vec![8]));
        let taken: Vec<_> = (0..2).flat_map(|_| pins.take_asks(MOST_ASKED)).collect();
        assert!(taken.len() == 2 && !pins.has_asks(), "none for a request that has left");
        taken[0].end(true);
        assert_eq!((poll(&first), poll(&second)), (Poll::Ready(true), Poll::Pending));
        let third = pins.ask(vec![3]);
        pins.set_away(true);
        taken[1].end(false);
        let asks = [&second, &third, &pins.ask(vec![4])];
        assert_eq!(asks.map(|ask| poll(ask)), [Poll::Ready(false); 3]);
        assert_eq!(pins.take_failed(), 2, "the second one was taken");
        pins.set_away(false);
        assert_eq!(poll(&pins.ask(vec![5])), Poll::Pending);
    }
}

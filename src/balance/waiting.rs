//! Requests that wait at a group until a member is available for them.
//!
//! A permit that is dropped, or closes a breaker, wakes one waiting request. When that one is
//! polled, it gives places to all that can be served, in the order of the [`WaitQueue`]: a request
//! has its place before it is polled again, so that a newcomer cannot overtake. Timers are the
//! caller's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::wait_queue::{Entered, Ticket, TicketId, WaitQueue};
use super::{Plan, Step};

/// The configuration of the client's turn.
#[derive(Clone, Copy, Debug)]
pub struct WaitTurn {
    /// The client's number or hash.
    pub client: u64,
    pub share: u32,
    pub priority: i32,
    /// An estimate of the request's tokens.
    pub cost: u32,
}

/// The end of waiting.
#[derive(Debug)]
pub enum Waited {
    /// The next step is known: a place at a member, or the end.
    Served(Plan, Step),
    /// The queue was full.
    Refused(Plan),
}

/// The waiting requests of a group. A reload keeps it.
#[derive(Debug)]
pub(super) struct WaitRoom {
    queue: Mutex<WaitQueue<Waiter>>,
    /// The number of waiting requests.
    len: AtomicUsize,
    /// A member became available while the queue was locked.
    has_missed: AtomicBool,
}

#[derive(Debug)]
struct Waiter {
    plan: Plan,
    slot: Arc<Slot>,
}

/// The state that a waiting request and the others share.
#[derive(Debug, Default)]
struct Slot(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waker: Option<Waker>,
    result: Option<Waited>,
    until: Option<Instant>,
}

/// A waiting request. On drop it leaves the queue at once.
#[derive(Debug)]
pub struct Waiting {
    room: Arc<WaitRoom>,
    id: Option<TicketId>,
    slot: Arc<Slot>,
}

impl WaitRoom {
    pub(super) fn new(limit: usize) -> Self {
        let queue = Mutex::new(WaitQueue::new(limit));
        Self { queue, len: AtomicUsize::new(0), has_missed: AtomicBool::new(false) }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(SeqCst)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.with_queue(|queue| queue.set_limit(limit));
    }

    pub(super) fn enter(self: &Arc<Self>, plan: Plan, turn: WaitTurn) -> Waiting {
        let slot = Arc::new(Slot::default());
        let WaitTurn { client, share, priority, cost } = turn;
        let value = Waiter { plan, slot: Arc::clone(&slot) };
        let entered = self.with_queue(|queue| queue.enter(Ticket { client, share, priority, cost, value }));
        let (id, refused) = match entered {
            Entered::Queued(id) => (Some(id), None),
            Entered::InPlaceOf(id, other) => (Some(id), Some(other)),
            Entered::Refused(own) => (None, Some(own)),
        };
        if let Some(Waiter { plan, slot }) = refused {
            slot.finish(Waited::Refused(plan));
        }
        Waiting { room: Arc::clone(self), id, slot }
    }

    /// Wakes a request that gives places to all, since a member may be available again.
    pub(super) fn notify(&self) {
        if self.len() == 0 {
            return;
        }
        self.has_missed.store(true, SeqCst);
        self.wake_missed();
    }

    fn wake_missed(&self) {
        while self.has_missed.load(SeqCst) {
            // The holder of the lock looks again after it.
            let Ok(queue) = self.queue.try_lock() else { return };
            self.has_missed.store(false, SeqCst);
            let waker = queue.first().and_then(|waiter| waiter.slot.lock().waker.clone());
            drop(queue);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut WaitQueue<Waiter>) -> T) -> T {
        let mut queue = self.queue.lock().expect("no holder panics");
        let result = act(&mut queue);
        self.len.store(queue.len(), SeqCst);
        drop(queue);
        self.wake_missed();
        result
    }

    /// Gives places to requests in turn, for as long as one can be served.
    fn serve(&self, now: Instant, random: &mut fastrand::Rng) {
        loop {
            let mut step = None;
            let served = self.with_queue(|queue| {
                queue.take_next_where(|waiter| {
                    step = waiter.try_next(now, random.u64(..));
                    step.is_some()
                })
            });
            let Some((Waiter { plan, slot }, step)) = served.zip(step) else { return };
            slot.finish(Waited::Served(plan, step));
        }
    }

    /// Serves this request, while those before it wait for other members.
    fn serve_only(&self, id: TicketId, now: Instant, random: &mut fastrand::Rng) {
        let mut step = None;
        let served = self.with_queue(|queue| {
            step = queue.get_mut(id)?.try_next(now, random.u64(..));
            step.is_some().then(|| queue.remove(id)).flatten()
        });
        if let Some((Waiter { plan, slot }, step)) = served.zip(step) {
            slot.finish(Waited::Served(plan, step));
        }
    }
}

impl Waiter {
    /// The next step, unless it is to wait.
    fn try_next(&mut self, now: Instant, random: u64) -> Option<Step> {
        match self.plan.next(now, random) {
            Step::Wait(unavailable) => {
                self.slot.lock().until = unavailable.until;
                None
            }
            step => Some(step),
        }
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder panics")
    }

    fn finish(&self, result: Waited) {
        let mut inner = self.lock();
        inner.result = Some(result);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiting {
    /// Gives places to all requests that can be served, and completes when this one is among them.
    /// Must be polled again at [`Waiting::until`].
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant, random: u64) -> Poll<Waited> {
        // The waker is set first, so that no result is missed.
        self.slot.lock().waker = Some(cx.waker().clone());
        let mut random = fastrand::Rng::with_seed(random);
        if let Some(id) = self.id.filter(|_| self.slot.lock().result.is_none()) {
            self.room.serve(now, &mut random);
            if self.slot.lock().result.is_none() {
                self.room.serve_only(id, now, &mut random);
            }
        }
        match self.slot.lock().result.take() {
            Some(result) => {
                self.id = None;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }

    /// The time at which a rate limit or a pause ends, so that a member may be available again.
    pub fn until(&self) -> Option<Instant> {
        self.slot.lock().until
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let waiter = self.room.with_queue(|queue| queue.remove(id));
        drop(waiter);
        // A permit that came too late frees its place, and the wake-up goes to another request.
        let result = self.slot.lock().result.take();
        drop(result);
        self.room.notify();
    }
}

#[cfg(test)]
mod tests;

//! Requests that wait at a group until a member is available for them.
//!
//! A permit that is dropped, or closes a breaker, wakes one waiting request. When that one is
//! polled, it gives places to all that can be served, in the order of the [`WaitQueue`]: a request
//! has its place before it is polled again, so that a newcomer cannot overtake. Timers are the
//! caller's.

mod pass;

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::wait_queue::{Entered, Ticket, TicketId, WaitQueue};
use super::{Plan, Step};
use pass::{Blocked, Pass};

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

/// The limits of a group that a reload changes for requests that run or wait already.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomLimits {
    /// The largest number of waiting requests.
    pub(super) queue: usize,
    /// The largest number of requests that run at each member. 0: any number.
    pub(super) concurrent: u32,
    /// Some members are upstreams with such a number of their own.
    pub(super) limits_upstreams: bool,
    /// Requests may wait.
    pub(super) may_wait: bool,
}

/// The waiting requests of a group. A reload keeps it.
#[derive(Debug, Default)]
pub(super) struct WaitRoom {
    queue: Mutex<WaitQueue<Waiter>>,
    /// The number of waiting requests.
    len: AtomicUsize,
    /// The number of waiting requests in all rooms.
    all: Arc<AtomicUsize>,
    /// A member became available while the queue was locked.
    has_missed: AtomicBool,
    concurrent: AtomicU32,
    limits_upstreams: AtomicBool,
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
}

/// A waiting request. On drop it leaves the queue at once.
#[derive(Debug)]
pub struct Waiting {
    room: Arc<WaitRoom>,
    id: Option<TicketId>,
    slot: Arc<Slot>,
    /// The end of the wait.
    deadline: Instant,
    /// The time at which a rate limit or a pause ends, so that a member may be available.
    until: Option<Instant>,
}

impl WaitRoom {
    /// `all` has the number of waiting requests in all rooms.
    pub(super) fn counted_in(all: &Arc<AtomicUsize>) -> Self {
        Self { all: Arc::clone(all), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(SeqCst)
    }

    pub(super) fn set_limits(self: &Arc<Self>, limits: &RoomLimits) {
        self.concurrent.store(limits.concurrent, Relaxed);
        self.limits_upstreams.store(limits.limits_upstreams, Relaxed);
        self.with_queue(|queue| queue.set_limit(limits.queue));
        // A larger number is room for waiting requests.
        self.notify();
    }

    /// [`RoomLimits::concurrent`] and [`RoomLimits::limits_upstreams`].
    #[inline]
    pub(super) fn concurrent(&self) -> (u32, bool) {
        (self.concurrent.load(Relaxed), self.limits_upstreams.load(Relaxed))
    }

    pub(super) fn enter(self: &Arc<Self>, mut plan: Plan, turn: WaitTurn, now: Instant) -> Waiting {
        let deadline = plan.begin_to_wait(now);
        let slot = Arc::new(Slot::default());
        let WaitTurn { client, share, priority, cost } = turn;
        let value = Waiter { plan, slot: Arc::clone(&slot) };
        let entered = self.with_queue(|queue| queue.enter(Ticket { client, share, priority, cost, value }));
        // A place that another thread frees from here on wakes a request; one that was free before is
        // seen.
        fence(SeqCst);
        let (id, refused) = match entered {
            Entered::Queued(id) => (Some(id), None),
            Entered::InPlaceOf(id, other) => (Some(id), Some(other)),
            Entered::Refused(own) => (None, Some(own)),
        };
        if let Some(Waiter { plan, slot }) = refused {
            slot.finish(Waited::Refused(plan));
        }
        Waiting { room: Arc::clone(self), id, slot, deadline, until: None }
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
        let before = queue.len();
        let result = act(&mut queue);
        let now = queue.len();
        if now > before {
            self.all.fetch_add(now - before, SeqCst);
        } else if now < before {
            self.all.fetch_sub(before - now, SeqCst);
        }
        self.len.store(now, SeqCst);
        drop(queue);
        self.wake_missed();
        result
    }

    /// Gives places to requests in turn, for as long as one can be served. Returns the state of the
    /// requests like `own`, if it still waits.
    fn serve(&self, own: TicketId, now: Instant, random: &mut fastrand::Rng) -> Option<Blocked> {
        let mut pass = Pass::new(now);
        loop {
            let (served, blocked) = self.with_queue(|queue| {
                pass.own = queue.get(own).map(|waiter| waiter.plan.class());
                let served = queue.take_next_where(|waiter| pass.try_serve(&mut waiter.plan, random.u64(..)));
                (served, pass.blocked())
            });
            let Some((Waiter { plan, slot }, step)) = served.zip(pass.step.take()) else { return blocked };
            slot.finish(Waited::Served(plan, step));
        }
    }

    /// The next step of a request that is not in the queue, after those of all waiting requests that
    /// can be served.
    pub(super) fn step_behind(&self, plan: &mut Plan, now: Instant, random: u64) -> Step {
        let (mut pass, mut random) = (Pass::new(now), fastrand::Rng::with_seed(random));
        loop {
            let (served, own) = self.with_queue(|queue| {
                let served = queue.take_next_where(|waiter| pass.try_serve(&mut waiter.plan, random.u64(..)));
                // A place that frees from here on belongs to a waiting request that is woken.
                let own = if served.is_none() { Some(plan.next(now, random.u64(..))) } else { None };
                (served, own)
            });
            if let Some(step) = own {
                return step;
            }
            if let Some((Waiter { plan, slot }, step)) = served.zip(pass.step.take()) {
                slot.finish(Waited::Served(plan, step));
            }
        }
    }

    /// Ends the wait of this request.
    fn end(&self, id: TicketId, now: Instant, random: u64) -> Option<Waited> {
        let Waiter { mut plan, .. } = self.with_queue(|queue| queue.remove(id))?;
        let step = plan.next(now, random);
        Some(Waited::Served(plan, step))
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inner> {
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
    /// Gives places to all requests that can be served, and completes when this one is among them,
    /// or when its time is over. Must be polled again at [`Waiting::wake_at`].
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant, random: u64) -> Poll<Waited> {
        // The waker is set first, so that no result is missed.
        self.slot.lock().waker = Some(cx.waker().clone());
        let mut random = fastrand::Rng::with_seed(random);
        if let Some(id) = self.id.filter(|_| self.slot.lock().result.is_none())
            && let Some(blocked) = self.room.serve(id, now, &mut random)
        {
            self.until = blocked.until;
            let is_over = now >= self.deadline || blocked.ends_after(self.deadline);
            if is_over && let Some(end) = self.room.end(id, now, random.u64(..)) {
                self.id = None;
                return Poll::Ready(end);
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

    /// The time at which the wait ends, or a member may be available again.
    pub fn wake_at(&self) -> Instant {
        self.until.map_or(self.deadline, |until| until.min(self.deadline))
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

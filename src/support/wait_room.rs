//! A room in which requests wait for a place: at a member of a group, or in a limit.
//!
//! The holder of a place that frees it notifies the room, which wakes one waiting request. When that
//! one is polled, it gives places to all that can be served, in the order of the [`WaitQueue`]: a
//! request has its place before it is polled again, so that a newcomer cannot overtake. Timers are
//! the caller's.

mod pass;

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::wait_queue::{Entered, Ticket, TicketId, WaitQueue};
use pass::Pass;

/// A request that may wait.
pub trait Waits: Debug + Sized {
    /// The caller's clock.
    type Time: Copy + Ord + Debug;
    /// Requests of one class need the same places: if one of them cannot be served, none can.
    type Class: Copy + PartialEq;
    /// A place, the end, or the need to wait.
    type Step: Debug;
    /// True if all requests of a room have one class. Then one of them has the timer of all, and the
    /// order of the queue is strict.
    const HAS_ONE_CLASS: bool;

    fn class(&self) -> Self::Class;

    /// The next step. `random` is any number.
    fn step(&mut self, now: Self::Time, random: u64) -> Self::Step;

    /// The reason to wait, if the step is to wait.
    fn blocked(step: &Self::Step) -> Option<Blocked<Self::Time>>;
}

/// The reason for which requests of a class wait.
#[derive(Clone, Copy, Debug)]
pub struct Blocked<T> {
    /// The time from which there may be a place. `None`: unknown.
    pub until: Option<T>,
    /// There may be a place before that.
    pub may_be_sooner: bool,
}

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
pub enum WaitEnd<W: Waits> {
    /// The next step is known: a place, or the end.
    Served(W, W::Step),
    /// The queue was full, or the time was over and the order is strict.
    Refused(W),
}

/// The waiting requests.
#[derive(Debug)]
pub struct WaitRoom<W: Waits> {
    queue: Mutex<WaitQueue<Waiter<W>>>,
    /// The number of waiting requests.
    len: AtomicUsize,
    /// The number of waiting requests in all rooms.
    all: Arc<AtomicUsize>,
    /// A place became available while the queue was locked.
    has_missed: AtomicBool,
}

#[derive(Debug)]
struct Waiter<W: Waits> {
    request: W,
    slot: Arc<Slot<W>>,
}

/// The state that a waiting request and the others share.
#[derive(Debug)]
struct Slot<W: Waits>(Mutex<Inner<W>>);

#[derive(Debug)]
struct Inner<W: Waits> {
    waker: Option<Waker>,
    result: Option<WaitEnd<W>>,
}

/// A waiting request. On drop it leaves the queue at once.
#[derive(Debug)]
pub struct Wait<W: Waits> {
    room: Arc<WaitRoom<W>>,
    id: Option<TicketId>,
    slot: Arc<Slot<W>>,
    /// The end of the wait.
    deadline: W::Time,
    /// The time from which there may be a place.
    until: Option<W::Time>,
}

impl<W: Waits> WaitRoom<W> {
    /// A room for at most `limit` requests. `all` has the number of waiting requests in all rooms.
    pub fn new(limit: usize, all: &Arc<AtomicUsize>) -> Self {
        Self {
            queue: Mutex::new(WaitQueue::new(limit)),
            len: AtomicUsize::new(0),
            all: Arc::clone(all),
            has_missed: AtomicBool::new(false),
        }
    }

    pub fn len(&self) -> usize {
        self.len.load(SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the largest number of waiting requests.
    pub fn set_limit(&self, limit: usize) {
        self.with_queue(|queue| queue.set_limit(limit));
    }

    /// Begins a wait that ends at `deadline`.
    pub fn enter(self: &Arc<Self>, request: W, turn: WaitTurn, deadline: W::Time) -> Wait<W> {
        let slot = Arc::new(Slot(Mutex::new(Inner { waker: None, result: None })));
        let WaitTurn { client, share, priority, cost } = turn;
        let value = Waiter { request, slot: Arc::clone(&slot) };
        let entered = self.with_queue(|queue| queue.enter(Ticket { client, share, priority, cost, value }));
        // A place that another thread frees from here on wakes a request; one that was free before is
        // seen.
        fence(SeqCst);
        let (id, refused) = match entered {
            Entered::Queued(id) => (Some(id), None),
            Entered::InPlaceOf(id, other) => (Some(id), Some(other)),
            Entered::Refused(own) => (None, Some(own)),
        };
        if let Some(Waiter { request, slot }) = refused {
            slot.finish(WaitEnd::Refused(request));
        }
        Wait { room: Arc::clone(self), id, slot, deadline, until: None }
    }

    /// Wakes a request that gives places to all, since there may be one again.
    pub fn notify(&self) {
        if self.is_empty() {
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
            let waker = queue.first().and_then(|(_, waiter)| waiter.slot.lock().waker.clone());
            drop(queue);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut WaitQueue<Waiter<W>>) -> T) -> T {
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
    fn serve(
        &self,
        own: TicketId,
        now: W::Time,
        random: &mut fastrand::Rng,
    ) -> Option<Option<Blocked<W::Time>>> {
        let mut pass = Pass::new(now);
        loop {
            let (served, blocked) = self.with_queue(|queue| {
                pass.own = queue.get(own).map(|waiter| waiter.request.class());
                let served = queue.take_next_where(|waiter| pass.serves(&mut waiter.request, random.u64(..)));
                (served, pass.blocked())
            });
            let Some((Waiter { request, slot }, step)) = served.zip(pass.step.take()) else {
                return blocked;
            };
            slot.finish(WaitEnd::Served(request, step));
            if W::HAS_ONE_CLASS {
                // Another request may be the first one, which has the timer.
                self.notify();
            }
        }
    }

    /// The next step of a request that is not in the queue, after those of all waiting requests that
    /// can be served.
    pub fn step_behind(&self, request: &mut W, now: W::Time, random: u64) -> W::Step {
        let (mut pass, mut random) = (Pass::new(now), fastrand::Rng::with_seed(random));
        loop {
            let (served, own) = self.with_queue(|queue| {
                let served = queue.take_next_where(|waiter| pass.serves(&mut waiter.request, random.u64(..)));
                // A place that frees from here on belongs to a waiting request that is woken.
                let own = if served.is_none() { Some(request.step(now, random.u64(..))) } else { None };
                (served, own)
            });
            if let Some(step) = own {
                return step;
            }
            if let Some((Waiter { request, slot }, step)) = served.zip(pass.step.take()) {
                slot.finish(WaitEnd::Served(request, step));
            }
        }
    }

    /// Ends the wait of this request.
    fn end(&self, id: TicketId, now: W::Time, random: u64) -> Option<WaitEnd<W>> {
        let Waiter { mut request, .. } = self.with_queue(|queue| queue.remove(id))?;
        if W::HAS_ONE_CLASS {
            self.notify();
            // The request in whose turn there is a place has been served.
            return Some(WaitEnd::Refused(request));
        }
        let step = request.step(now, random);
        Some(WaitEnd::Served(request, step))
    }

    fn is_first(&self, id: TicketId) -> bool {
        self.with_queue(|queue| queue.first().is_some_and(|(first, _)| first == id))
    }
}

impl<W: Waits> Slot<W> {
    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.0.lock().expect("no holder panics")
    }

    fn finish(&self, result: WaitEnd<W>) {
        let mut inner = self.lock();
        inner.result = Some(result);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<W: Waits> Wait<W> {
    /// Gives places to all requests that can be served, and completes when this one is among them,
    /// or when its time is over. Must be polled again at [`Wait::wake_at`].
    pub fn poll(&mut self, cx: &mut Context<'_>, now: W::Time, random: u64) -> Poll<WaitEnd<W>> {
        // The waker is set first, so that no result is missed.
        self.slot.lock().waker = Some(cx.waker().clone());
        let mut random = fastrand::Rng::with_seed(random);
        if let Some(id) = self.id.filter(|_| self.slot.lock().result.is_none())
            && let Some(blocked) = self.room.serve(id, now, &mut random)
        {
            let has_timer = !W::HAS_ONE_CLASS || self.room.is_first(id);
            let until = blocked.and_then(|blocked| blocked.until);
            self.until = until.filter(|_| has_timer);
            if until.is_some() && !has_timer {
                // This entry may have changed the turn, and with it the time.
                self.room.notify();
            }
            let is_over =
                now >= self.deadline || blocked.is_some_and(|blocked| blocked.ends_after(self.deadline));
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

    /// The time at which the wait ends, or there may be a place.
    pub fn wake_at(&self) -> W::Time {
        self.until.map_or(self.deadline, |until| until.min(self.deadline))
    }
}

impl<W: Waits> Drop for Wait<W> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let waiter = self.room.with_queue(|queue| queue.remove(id));
        drop(waiter);
        // A place that came too late is free again, and the wake-up goes to another request.
        let result = self.slot.lock().result.take();
        drop(result);
        self.room.notify();
    }
}

impl WaitTurn {
    pub fn new(client: &str, share: u32, priority: u32, cost: u32) -> Self {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        let priority = i32::try_from(priority).unwrap_or(i32::MAX);
        Self { client: hasher.finish(), share, priority, cost }
    }
}

impl<T: Ord + Copy> Blocked<T> {
    /// Returns true if there can be no place before `deadline`.
    fn ends_after(&self, deadline: T) -> bool {
        !self.may_be_sooner && self.until.is_some_and(|until| until > deadline)
    }
}

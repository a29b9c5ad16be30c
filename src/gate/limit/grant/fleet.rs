//! The fleet as an instance sees it, and the requests that wait for the store.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use crate::gate::limit::UseLimit;

/// The treatment of requests while the store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// Each instance spends its grants, and its part of what is left.
    #[default]
    Local,
    /// Requests of clients with limits are refused.
    Refuse,
    /// Nothing is limited.
    Allow,
}

/// The wait of a request for the reply of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyWait {
    /// The request can wait.
    Possible,
    /// The request has waited for the longest time, and is decided as while the store is away.
    Over,
    /// The request never can, and gets this instance's part of what is left.
    Never,
}

/// A limit of one user, which is asked about while it has something to say.
#[derive(Clone, Debug)]
pub struct ListedLimit {
    /// The name that all instances have for it.
    pub name: Arc<str>,
    pub limit: Weak<UseLimit>,
}

/// The fleet as this instance sees it, for all shared limits. All threads share it.
#[derive(Debug)]
pub struct Fleet {
    pub(super) when_away: WhenAway,
    is_away: AtomicBool,
    /// The number of times at which the store went away.
    pub(super) outages: AtomicU64,
    /// The number of grants that this process has begun.
    pub(super) beginnings: AtomicU64,
    /// The number of instances that were seen last, this one included.
    pub(super) instances: AtomicU32,
    /// This instance reports what the whole ledger has, and not only what it has added.
    owns_ledger: AtomicBool,
    owned_at_start: AtomicBool,
    /// This instance ends, and gives back all that it does not use.
    is_leaving: AtomicBool,
    /// Wakes the thread that asks the store.
    pub(super) waker: Waker,
    /// The numbers of the rounds of asks that have begun and ended.
    begun: AtomicU64,
    ended: AtomicU64,
    /// The round that replies to the latest ask of a request.
    asked: AtomicU64,
    /// The requests that wait for the end of a round. Bounded by the running requests.
    waiting: Mutex<Vec<Waker>>,
    /// The limits of users that have something to say since the latest look. Bounded by the users
    /// that are counted.
    listed: Mutex<Vec<ListedLimit>>,
}

impl Fleet {
    /// The fleet before the store is reached. `waker` wakes the thread that asks it.
    pub fn new(when_away: WhenAway, waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            when_away,
            is_away: AtomicBool::new(false),
            outages: AtomicU64::new(0),
            beginnings: AtomicU64::new(0),
            instances: AtomicU32::new(1),
            owns_ledger: AtomicBool::new(false),
            owned_at_start: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            waker,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            waiting: Mutex::default(),
            listed: Mutex::default(),
        })
    }

    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    /// Returns true if the store has replied, and is not away.
    pub(super) fn is_reached(&self) -> bool {
        self.ended.load(Ordering::Acquire) > 0 && !self.is_away()
    }

    /// Returns true if requests of clients with limits are refused now.
    pub fn refuses(&self) -> bool {
        self.when_away == WhenAway::Refuse && self.is_away()
    }

    /// Sets whether the store is away. Requests that wait for it are decided.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Release);
        self.wake_waiting();
    }

    /// Notes that the store is away, and may have lost what it knew. A first connection that takes
    /// long is no such outage.
    pub fn record_outage(&self) {
        self.outages.fetch_add(1, Ordering::AcqRel);
        self.set_away(true);
    }

    /// Notes that the store has lost what it knew, without having been away. All limits are asked
    /// about again.
    pub fn record_loss(&self) {
        self.outages.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of times at which the store was away or has lost what it knew.
    pub fn outages(&self) -> u64 {
        self.outages.load(Ordering::Acquire)
    }

    /// Takes the limits of users that have something to say since the last call.
    pub fn take_listed(&self) -> Vec<ListedLimit> {
        std::mem::take(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn list(&self, limit: ListedLimit) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).push(limit);
    }

    /// From now on, this instance reports what the whole ledger has.
    pub fn own_ledger(&self) {
        self.owns_ledger.store(true, Ordering::Release);
    }

    /// The same from the start on, before anything is asked.
    pub fn own_ledger_from_start(&self) {
        self.owned_at_start.store(true, Ordering::Release);
        self.own_ledger();
    }

    pub fn owned_ledger_at_start(&self) -> bool {
        self.owned_at_start.load(Ordering::Acquire)
    }

    pub fn owns_ledger(&self) -> bool {
        self.owns_ledger.load(Ordering::Acquire)
    }

    /// From now on, this instance gives back all that it does not use.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Begins a round: limits are asked for what they want from here on.
    pub fn begin_round(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends the round: its replies are known to the limits.
    pub fn end_round(&self) {
        self.ended.store(self.begun.load(Ordering::Acquire), Ordering::Release);
        self.wake_waiting();
    }

    /// Asks for a further round, for what a limit wants from here on.
    pub(super) fn ask(&self) {
        // The wake comes last, so that this round is not over when the thread has its notice.
        self.asked.fetch_max(self.begun.load(Ordering::Acquire) + 1, Ordering::AcqRel);
        self.waker.wake_by_ref();
    }

    /// The round that replies to all that limits have wanted before this call.
    pub fn asked_round(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Waits until `round` has ended, or the store is away.
    pub fn poll_round(&self, round: u64, cx: &mut Context<'_>) -> Poll<()> {
        let is_over = || self.ended.load(Ordering::Acquire) >= round || self.is_away();
        if !is_over() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|waker| !waker.will_wake(cx.waker()));
            waiting.push(cx.waker().clone());
        }
        if is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

//! The memory for request bodies in the whole process, and its division when it is short. It is a
//! part of the process's budget ([`Memory`]).
//!
//! Two rules keep one client from taking all of it:
//!
//! * If the budget, or that of the process, is used up, a new body evicts bodies that arrive too
//!   slowly for the memory they hold, the slowest first. Evicted requests get 408. While the budget
//!   lasts, none is evicted.
//! * With several clients, a client that holds more than half of the budget may not take the last
//!   quarter. This does not apply to a client's only body, nor with at most one client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::record::error::{Kind, Result};
use crate::support::flow::{Limit, LimitCounts};
use crate::support::memory::{Memory, MemoryPart};

/// Bodies up to this size do not count against their client's share, since looking the client up
/// costs more than they do.
const SMALL: usize = 64 << 10;

/// Bodies leave one part in this many of the process's budget to the rest: a quarter.
const LEFT: usize = 4;

/// Shared by all workers.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Bodies are one of its parts.
    memory: Memory,
    limit: AtomicUsize,
    /// True if the second rule applies.
    has_shares: AtomicBool,
    /// The bytes that count, by client.
    clients: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
    /// Bodies that arrive too slowly for the memory they hold. While a body is in this list, its
    /// bytes change only under this lock.
    slow: Mutex<Vec<Arc<Slow>>>,
    counts: Arc<LimitCounts>,
}

/// A body that arrives too slowly for the memory it holds.
#[derive(Debug)]
struct Slow {
    bytes: AtomicUsize,
    /// The time at which the body was last in time.
    late_since: Instant,
    evicted: AtomicBool,
    /// Wakes the task that reads the body.
    waker: Waker,
}

impl Budget {
    /// At most `limit` bytes of `memory`; `has_shares`: there are several clients.
    pub fn new(limit: usize, has_shares: bool, counts: Arc<LimitCounts>, memory: Memory) -> Self {
        Self(Arc::new(Inner {
            limit: AtomicUsize::new(bodies(limit, &memory)),
            memory,
            has_shares: AtomicBool::new(has_shares),
            clients: Mutex::default(),
            slow: Mutex::default(),
            counts,
        }))
    }

    /// Sets other bounds. Reserved bytes stay reserved, also if they exceed `limit` now.
    pub fn resize(&self, limit: usize, has_shares: bool) {
        self.0.limit.store(bodies(limit, &self.0.memory), Ordering::Relaxed);
        self.0.has_shares.store(has_shares, Ordering::Relaxed);
    }

    /// The budget of the process.
    pub(super) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// An empty reservation.
    pub(super) fn reserve(&self) -> Reserved {
        Reserved { budget: self.clone(), bytes: 0, counted: 0, client: None, slow: None }
    }

    pub(super) fn count(&self, limit: Limit) {
        self.0.counts.add(limit);
    }

    /// Evicts slow bodies so that new requests are served. Returns false if they do not hold enough.
    pub(super) fn make_room(&self) -> bool {
        let need = self.0.memory.to_be_freed();
        need == 0 || self.evict(need, None)
    }

    /// Evicts bodies that are slower than `mine`, if they hold at least `need` bytes.
    fn evict(&self, need: usize, mine: Option<&Arc<Slow>>) -> bool {
        let mut slow = lock(&self.0.slow);
        slow.sort_by_key(|body| body.late_since);
        // A body evicts only slower ones.
        let others =
            mine.and_then(|mine| slow.iter().position(|body| Arc::ptr_eq(body, mine))).unwrap_or(slow.len());
        let mut freed = 0;
        let enough = slow[..others].iter().position(|body| {
            freed += body.bytes.load(Ordering::Relaxed);
            freed >= need
        });
        let Some(last) = enough else { return false };
        for body in slow.drain(..=last) {
            body.evicted.store(true, Ordering::Relaxed);
            self.0.memory.subtract(MemoryPart::Bodies, body.bytes.load(Ordering::Relaxed));
            self.count(Limit::BodyEvicted);
            body.waker.wake_by_ref();
        }
        true
    }
}

/// The limit of bodies, which leave memory to the rest.
fn bodies(limit: usize, memory: &Memory) -> usize {
    let most = memory.limit().map_or(limit, |all| all / LEFT * (LEFT - 1));
    limit.min(most)
}

/// Code that holds a lock cannot panic in the middle of a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes taken from the budget until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: Budget,
    bytes: usize,
    /// The bytes that were added to the client's counter. Fewer than `bytes` while clients have no
    /// shares, which a reload may change.
    counted: usize,
    /// The client's counter, if this body is large enough to count.
    client: Option<(Arc<str>, Arc<AtomicUsize>)>,
    slow: Option<Arc<Slow>>,
}

impl Reserved {
    /// Takes more bytes for `client`, up to `bytes` in total.
    pub(super) fn grow_to(&mut self, bytes: usize, client: &Arc<str>) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        if self.slow.is_some() {
            self.grow_slow(more)?;
        }
        let held = self.budget.0.memory.add(MemoryPart::Bodies, more);
        self.bytes += more;
        // A refused request gives all of this back when it drops the reservation.
        if self.bytes > SMALL && self.budget.0.has_shares.load(Ordering::Relaxed) {
            self.check_share(held, client)?;
        }
        let limit = self.budget.0.limit.load(Ordering::Relaxed);
        let excess = self.budget.0.memory.excess();
        let need = held.saturating_sub(limit).max(excess);
        if need == 0 || self.budget.evict(need, self.slow.as_ref()) {
            return Ok(());
        }
        let (limit, kind) = match excess {
            0 => (Limit::BodyBudget, Kind::Overloaded),
            _ => (Limit::Memory, Kind::MemoryFull),
        };
        self.budget.count(limit);
        Err(kind.into())
    }

    /// Grows a body that is in the list of slow ones, unless it was evicted.
    fn grow_slow(&mut self, more: usize) -> Result<()> {
        let _list = lock(&self.budget.0.slow);
        match &self.slow {
            Some(slow) if slow.evicted.load(Ordering::Relaxed) => Err(Kind::BodyEvicted.into()),
            Some(slow) => {
                slow.bytes.fetch_add(more, Ordering::Relaxed);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_share(&mut self, held: usize, client: &Arc<str>) -> Result<()> {
        let inner = &*self.budget.0;
        let (_, counter) = self.client.get_or_insert_with(|| {
            let counter = Arc::clone(lock(&inner.clients).entry(Arc::clone(client)).or_default());
            (Arc::clone(client), counter)
        });
        let more = self.bytes - self.counted;
        self.counted = self.bytes;
        let of_client = counter.fetch_add(more, Ordering::Relaxed) + more;
        let is_only = of_client == self.bytes;
        let limit = inner.limit.load(Ordering::Relaxed);
        if of_client > limit / 2 && held > limit / 4 * 3 && !is_only {
            self.budget.count(Limit::BodyShare);
            return Err(Kind::ClientOverloaded.into());
        }
        Ok(())
    }

    /// Adds the body to the list of slow ones, or removes it. `since`: the time at which it was
    /// last in time; `None`: it is in time. `waker` wakes its task.
    pub(super) fn set_late(&mut self, since: Option<Instant>, waker: &Waker) {
        let known = self.slow.as_ref();
        if known.is_some_and(|slow| Some(slow.late_since) == since && slow.waker.will_wake(waker)) {
            return;
        }
        let mut list = lock(&self.budget.0.slow);
        if known.is_some_and(|slow| slow.evicted.load(Ordering::Relaxed)) {
            return;
        }
        if let Some(slow) = self.slow.take() {
            list.retain(|other| !Arc::ptr_eq(other, &slow));
        }
        self.slow = since.map(|late_since| {
            let (bytes, evicted) = (AtomicUsize::new(self.bytes), AtomicBool::new(false));
            let slow = Arc::new(Slow { bytes, late_since, evicted, waker: waker.clone() });
            list.push(Arc::clone(&slow));
            slow
        });
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.slow.as_ref().is_some_and(|slow| slow.evicted.load(Ordering::Relaxed))
    }

    /// Protects a complete body from eviction.
    ///
    /// # Errors
    /// Returns an error if the body was evicted before.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(slow) = &self.slow else { return Ok(()) };
        let mut list = lock(&self.budget.0.slow);
        if slow.evicted.load(Ordering::Relaxed) {
            return Err(Kind::BodyEvicted.into());
        }
        list.retain(|other| !Arc::ptr_eq(other, slow));
        drop(list);
        self.slow = None;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some((name, counter)) = self.client.take() {
            counter.fetch_sub(self.counted, Ordering::Relaxed);
            let mut clients = lock(&self.budget.0.clients);
            // One reference is the map's, one is this.
            if Arc::strong_count(&counter) == 2 {
                clients.remove(&name);
            }
        }
        // The bytes of an evicted body are already given back.
        if self.settle().is_ok() {
            self.budget.0.memory.subtract(MemoryPart::Bodies, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget(has_shares: bool) -> Budget {
        Budget::new(1 << 20, has_shares, Arc::default(), Memory::default())
    }

    fn held(budget: &Budget) -> usize {
        budget.0.memory.of(MemoryPart::Bodies)
    }

    const KIB: usize = 1024;

    #[test]
    fn body_beyond_budget_is_refused_and_its_bytes_are_released() {
        let (budget, client) = (budget(false), "a".into());
        let mut first = budget.reserve();
        first.grow_to(600 * KIB, &client).unwrap();
        first.grow_to(500 * KIB, &client).unwrap();
        let mut second = budget.reserve();
        assert_eq!(*second.grow_to(500 * KIB, &client).unwrap_err().kind(), Kind::Overloaded);
        drop(second);
        first.grow_to(1000 * KIB, &client).unwrap();
        drop(first);
        assert_eq!(held(&budget), 0);
    }

    #[test]
    fn slowest_body_makes_room_and_loses_its_memory_once() {
        let (budget, client) = (budget(false), "a".into());
        let now = Instant::now();
        let mut late = [3, 5, 4].map(|seconds| {
            let mut body = budget.reserve();
            body.grow_to(300 * KIB, &client).unwrap();
            body.set_late(now.checked_sub(Duration::from_secs(seconds)), Waker::noop());
            body
        });
        let mut newcomer = budget.reserve();
        newcomer.grow_to(200 * KIB, &client).unwrap();
        assert_eq!(late.each_ref().map(Reserved::is_evicted), [false, true, false]);
        assert_eq!(held(&budget), 800 * KIB);
        assert_eq!(*late[1].grow_to(301 * KIB, &client).unwrap_err().kind(), Kind::BodyEvicted);
        assert_eq!(*late[1].settle().unwrap_err().kind(), Kind::BodyEvicted);
        // The slowest of the remaining bodies cannot evict a faster one.
        assert_eq!(*late[2].grow_to(900 * KIB, &client).unwrap_err().kind(), Kind::Overloaded);
        drop((late, newcomer));
        assert_eq!(held(&budget), 0);
        assert!(lock(&budget.0.slow).is_empty());
    }

    #[test]
    fn client_gets_back_what_was_counted_while_it_had_a_share() {
        let (budget, client) = (budget(true), "a".into());
        let mut other = budget.reserve();
        other.grow_to(100 * KIB, &client).unwrap();
        let counter = Arc::clone(&other.client.as_ref().unwrap().1);
        let mut body = budget.reserve();
        body.grow_to(200 * KIB, &client).unwrap();
        budget.resize(1 << 20, false);
        body.grow_to(300 * KIB, &client).unwrap();
        drop(body);
        assert_eq!(counter.load(Ordering::Relaxed), 100 * KIB);
        let mut body = budget.reserve();
        body.grow_to(200 * KIB, &client).unwrap();
        budget.resize(1 << 20, true);
        body.grow_to(300 * KIB, &client).unwrap();
        assert_eq!(counter.load(Ordering::Relaxed), 400 * KIB);
    }

    #[test]
    fn bodies_leave_a_quarter_of_all_memory_and_yield_to_the_rest() {
        let (memory, client) = (Memory::new(Some(1 << 20)), "a".into());
        let budget = Budget::new(1 << 30, false, Arc::default(), memory.clone());
        let mut body = budget.reserve();
        body.grow_to(768 * KIB, &client).unwrap();
        assert_eq!(*budget.reserve().grow_to(KIB, &client).unwrap_err().kind(), Kind::Overloaded);
        drop(body);
        let others = memory.hold(MemoryPart::Connections).of(512 * KIB);
        let mut body = budget.reserve();
        body.grow_to(400 * KIB, &client).unwrap();
        let mut second = budget.reserve();
        assert_eq!(*second.grow_to(200 * KIB, &client).unwrap_err().kind(), Kind::MemoryFull);
        drop(second);
        body.set_late(Some(Instant::now()), Waker::noop());
        let mut second = budget.reserve();
        second.grow_to(200 * KIB, &client).unwrap();
        assert!(body.is_evicted(), "a slow body makes room");
        drop((body, second, others));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn bodies_in_time_are_not_evicted() {
        let (budget, client) = (budget(false), "a".into());
        let mut body = budget.reserve();
        body.grow_to(1000 * KIB, &client).unwrap();
        body.set_late(Some(Instant::now()), Waker::noop());
        body.set_late(None, Waker::noop());
        let mut settled = budget.reserve();
        settled.grow_to(1, &client).unwrap();
        settled.set_late(Some(Instant::now()), Waker::noop());
        settled.settle().unwrap();
        assert_eq!(*budget.reserve().grow_to(200 * KIB, &client).unwrap_err().kind(), Kind::Overloaded);
        assert!(!body.is_evicted() && !settled.is_evicted());
    }

    #[test]
    fn one_client_of_several_leaves_the_last_quarter_to_others() {
        let budget = budget(true);
        let (greedy, other) = ("greedy".into(), "other".into());
        let mut bodies = [budget.reserve(), budget.reserve(), budget.reserve()];
        for body in &mut bodies {
            body.grow_to(250 * KIB, &greedy).unwrap();
        }
        let mut more = budget.reserve();
        assert_eq!(*more.grow_to(100 * KIB, &greedy).unwrap_err().kind(), Kind::ClientOverloaded);
        drop(more);
        budget.reserve().grow_to(200 * KIB, &other).unwrap();
        drop(bodies);
        // A single body may use the whole budget.
        budget.reserve().grow_to(1024 * KIB, &greedy).unwrap();
        assert!(lock(&budget.0.clients).is_empty());
        assert_eq!(held(&budget), 0);
    }
}

//! Limits of use: what is counted, held while a request runs, and settled at its end.
//!
//! | module | purpose |
//! |---|---|
//! | `spec`, `filter` | a limit as it is configured, and the requests to which it applies |
//! | `units`, `weights` | amounts of what a limit counts, and those of a request |
//! | `bucket` | a rate: a token bucket that may be in debt |
//! | `period` | a period of the calendar |
//! | `estimate`, `input_ratio` | the input that a request is expected to have |
//! | `slices` | the output that it is expected to have, which grows with what has passed |
//! | `applied` | the limits in use, by their owners, which survive a reload |
//! | `state` | the counts of a limit, behind its lock |
//! | `hold` | what a request holds of all limits that apply to it |
//! | `queue` | the requests that wait for a limit |
//! | `users`, `listed` | the counts of a limit by user, and those about which the fleet's store is asked |
//! | `grant` | the part of a limit that this instance may spend, if a fleet shares the limit |
//!
//! Everything is pure: the caller passes the time.
//!
//! # Bounds
//!
//! A request is admitted if every limit has room for what it is expected to use. While it runs, its
//! hold grows with its output. At its end the hold is replaced by what it has used.
//!
//! A limit that refuses lets running requests hold more without asking. So the sum of a period is at
//! most its limit, and what running requests use beyond their holds at the time of the last
//! admission. A limit that cuts has to have room for more, else the caller ends the request. The sum
//! is then at most the limit, the errors of the expected inputs, and the output that arrives before
//! a request is ended.

mod applied;
mod bucket;
mod estimate;
mod filter;
mod grant;
mod hold;
mod input_ratio;
mod listed;
mod period;
mod queue;
mod slices;
mod spec;
mod state;
mod units;
mod users;
mod weights;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use applied::{AppliedLimit, LimitRegistry, NextLimits, Owner};
pub use bucket::BucketRate;
pub use estimate::{InputSize, names_stored};
pub use filter::LimitFilter;
pub use grant::{Ask, AskedRate, Fleet, ListedLimit, RENEWAL, Reply, ReplyWait, WhenAway};
pub use hold::{LimitHold, NoRoom};
pub use input_ratio::{InputRatios, RatioKey};
pub use period::Calendar;
pub use queue::LimitWant;
pub use slices::Slices;
pub use spec::{AtLimit, LimitBound, LimitSpec, Unpriced};
pub use units::Units;
pub use users::UserLimits;
pub use weights::{Kinds, Quantity, Use, Weights};

use crate::support::wait_room::WaitRoom;
use bucket::Bucket;
use grant::Grant;
use period::{InPeriod, PeriodCount};
use spec::LimitTime;
use state::standing;

/// The time, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Nanoseconds of a clock that never steps back, for rates.
    pub nanos: u64,
    /// The time of day, for periods.
    pub time: Timestamp,
}

/// A limit with its count. All threads share it.
#[derive(Debug)]
pub struct UseLimit {
    quantity: Quantity,
    filter: LimitFilter,
    /// The fleet that shares the limit.
    fleet: Option<Arc<Fleet>>,
    state: Mutex<State>,
    /// Those of a limit by user are counted together.
    counts: Arc<Counts>,
    /// The requests that wait for room.
    waiting: Arc<WaitRoom<LimitWant>>,
}

/// Numbers of requests.
#[derive(Debug, Default)]
struct Counts {
    /// The requests that were refused or ended for lack of room, or let pass by `at_limit = "warn"`.
    exceeded: AtomicU64,
    /// The requests that counted as 0 because a part of their cost is unknown.
    unpriced: AtomicU64,
}

#[derive(Debug)]
struct State {
    bound: LimitBound,
    at_limit: AtLimit,
    unpriced: Unpriced,
    counter: Counter,
    /// The sum of all holds.
    held: Units,
    /// `None`: the limit is this process's own.
    grant: Option<Box<Grant>>,
    /// See [`UseLimit::drift`].
    drift: Option<f64>,
}

#[derive(Debug)]
enum Counter {
    Rate(Bucket),
    Period(PeriodCount),
    Concurrent,
}

/// The place in which a request counts.
#[derive(Clone, Copy, Debug)]
enum Place {
    Period(InPeriod),
    /// The only one.
    Here,
}

/// The part of a limit that a request has got.
struct Taken {
    place: Place,
    /// There was no room, and the limit only warns.
    is_exceeded: bool,
    /// Other requests wait for the limit if it has no room.
    waits: bool,
    /// Running requests are ended for lack of room.
    cuts: bool,
}

/// A limit without room.
struct NoPlace {
    room_from: RoomFrom,
    /// The request may wait for the limit.
    waits: bool,
}

/// The time from which there is room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoomFrom {
    /// The next reply of the store in which the fleet shares its limits.
    AReply,
    /// The return of that store.
    TheStore,
    /// The end of a running request.
    AnEnd,
    /// After this time in nanoseconds, if nothing else is used until then.
    After(u64),
    /// From the end of the period on.
    Time(Timestamp),
}

/// The count of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The used amount. For a bucket, the missing content, which includes `held`.
    pub used: Units,
    /// The sum of the holds of running requests.
    pub held: Units,
    /// The amount that other instances of the fleet use or hold, as far as it is known.
    pub elsewhere: Units,
    /// The part of `used` by sessions that run. The ledger does not have it yet.
    pub unrecorded: Units,
    pub limit: Units,
    /// The current period.
    pub period: Option<(Timestamp, Timestamp)>,
    /// `used` includes `held`.
    holds_in_used: bool,
}

impl UseLimit {
    /// A limit of which nothing is used.
    pub fn new(spec: LimitSpec, now: Now) -> Self {
        Self::shared(spec, None, now)
    }

    /// A limit of which nothing is used, and which `fleet` shares.
    pub fn shared(spec: LimitSpec, fleet: Option<Arc<Fleet>>, now: Now) -> Self {
        let LimitSpec { quantity, bound, at_limit, filter, unpriced } = spec;
        let counter = bound.counter(now);
        let grant = fleet.clone().map(|fleet| Box::new(Grant::new(fleet)));
        let state = State { bound, at_limit, unpriced, counter, held: Units::default(), grant, drift: None };
        let state = Mutex::new(state);
        Self { quantity, filter, fleet, state, counts: Arc::default(), waiting: queue::room() }
    }

    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// The fleet that shares the limit.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref()
    }

    /// The requests to which the limit applies.
    pub fn filter(&self) -> &LimitFilter {
        &self.filter
    }

    /// Returns true if the count can go on under another bound: one of the same kind and, for a
    /// period, of the same calendar.
    pub fn can_change_to(&self, bound: &LimitBound) -> bool {
        match (&self.state().bound, bound) {
            (LimitBound::Rate(_), LimitBound::Rate(_))
            | (LimitBound::Concurrent(_), LimitBound::Concurrent(_)) => true,
            (LimitBound::Period { calendar, .. }, LimitBound::Period { calendar: next, .. }) => {
                calendar == next
            }
            _ => false,
        }
    }

    /// The time in which it counts.
    fn time(&self) -> LimitTime {
        self.state().bound.time()
    }

    /// Takes over the rest of a limit to whose bound this one [can change](Self::can_change_to). The
    /// count goes on: a bucket keeps its level, up to a full one of the new rate.
    pub fn change(&self, spec: &LimitSpec, now: Now) {
        let mut guard = self.state();
        let state = &mut *guard;
        (state.at_limit, state.unpriced) = (spec.at_limit, spec.unpriced);
        if let (Counter::Rate(bucket), LimitBound::Rate(old), LimitBound::Rate(new)) =
            (&mut state.counter, &state.bound, &spec.bound)
        {
            bucket.change(old, new, now.nanos);
        }
        state.bound = spec.bound.clone();
        drop(guard);
        self.waiting.notify();
    }

    /// Counts a request that the caller ends for lack of room: a running or a waiting one.
    pub fn record_exceeded(&self) {
        self.counts.exceeded.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if the limit counts cost, and refuses requests without a price.
    pub fn needs_price(&self) -> bool {
        matches!(self.quantity, Quantity::Cost(_)) && self.state().unpriced == Unpriced::Refuse
    }

    /// The number of requests of which a part counted as 0, since it has no price in the limit's
    /// currency. `None`: the limit does not count cost.
    pub fn unpriced(&self) -> Option<u64> {
        matches!(self.quantity, Quantity::Cost(_)).then(|| self.counts.unpriced.load(Ordering::Relaxed))
    }

    /// Counts a request that has ended if a part of its cost is unknown.
    fn note_unpriced(&self, used: &Use) {
        if self.quantity.is_unpriced(used) {
            self.counts.unpriced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of requests that were refused or ended for lack of room, or let pass by
    /// `at_limit = "warn"`.
    pub fn exceeded(&self) -> u64 {
        self.counts.exceeded.load(Ordering::Relaxed)
    }

    /// Returns the time from which there is room, if there is none for `want` now and the limit
    /// refuses at once. Such a request counts in [`Self::exceeded`]. `None` also if the fleet's store
    /// has to be asked, which begins here.
    pub fn room(&self, want: Units, started: Timestamp, now: Now) -> Option<RoomFrom> {
        let state = &mut *self.state();
        if matches!(state.at_limit, AtLimit::Warn | AtLimit::Wait(_)) {
            return None;
        }
        let room_from =
            state.check(want, started, now, ReplyWait::Possible).err().filter(|from| from.is_known())?;
        self.counts.exceeded.fetch_add(1, Ordering::Relaxed);
        Some(room_from)
    }

    /// Holds `want` for a request that began at `started`, which may wait in the queue if `may_wait`,
    /// and for the fleet's store as `reply_wait` says. A limit for which others wait has no room for a new
    /// request. One that uses nothing never waits.
    fn take(
        &self,
        want: Units,
        started: Timestamp,
        now: Now,
        reply_wait: ReplyWait,
        may_wait: bool,
    ) -> Result<Taken, NoPlace> {
        let state = &mut *self.state();
        // Nearly all limits are this process's own, and have no queue.
        if state.grant.is_none() && matches!(state.at_limit, AtLimit::Refuse | AtLimit::Cut) {
            let cuts = state.at_limit == AtLimit::Cut;
            return match state.take_own(want, started, now) {
                Ok(place) => Ok(Taken { place, is_exceeded: false, waits: false, cuts }),
                Err(room_from) => {
                    self.counts.exceeded.fetch_add(1, Ordering::Relaxed);
                    Err(NoPlace { room_from, waits: false })
                }
            };
        }
        let has_queue = matches!(state.at_limit, AtLimit::Wait(_)) && want > Units::default();
        let waits = has_queue && may_wait;
        let is_behind = has_queue && !self.waiting.is_empty();
        let reply_wait = if is_behind { ReplyWait::Never } else { reply_wait };
        let mut room = state.check(want, started, now, reply_wait);
        if is_behind {
            // Those that wait have the room that a running request gives back.
            room = room.and(Err(RoomFrom::AnEnd));
        }
        let is_exceeded = room.is_err_and(RoomFrom::is_known);
        if is_exceeded && !waits {
            self.counts.exceeded.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(room_from) = room
            && state.at_limit != AtLimit::Warn
        {
            return Err(NoPlace { room_from, waits: waits && is_exceeded });
        }
        let place = state.place(started, now);
        state.owe(place, want, now);
        Ok(Taken { place, is_exceeded, waits, cuts: state.at_limit == AtLimit::Cut })
    }

    /// Holds more for a further turn of what began at `started` and counts in `place`, which may wait
    /// for the fleet's store as `reply_wait` says. A limit for which others wait has no room. True:
    /// there was no room, and the limit only warns.
    fn take_turn(
        &self,
        place: Place,
        more: Units,
        started: Timestamp,
        now: Now,
        reply_wait: ReplyWait,
    ) -> Result<bool, RoomFrom> {
        let state = &mut *self.state();
        let has_queue = matches!(state.at_limit, AtLimit::Wait(_)) && more > Units::default();
        let is_behind = has_queue && !self.waiting.is_empty();
        let reply_wait = if is_behind { ReplyWait::Never } else { reply_wait };
        let mut room = state.check(more, started, now, reply_wait);
        if is_behind {
            room = room.and(Err(RoomFrom::AnEnd));
        }
        let is_exceeded = room.is_err_and(RoomFrom::is_known);
        if is_exceeded {
            self.counts.exceeded.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(room_from) = room
            && state.at_limit != AtLimit::Warn
        {
            return Err(room_from);
        }
        state.owe(place, more, now);
        Ok(is_exceeded)
    }

    /// Holds more for a running request. A limit that cuts is asked for room.
    fn grow(&self, place: Place, more: Units, now: Now) -> Result<(), RoomFrom> {
        let state = &mut *self.state();
        if state.at_limit == AtLimit::Cut {
            state.check_more(place, more, now)?;
        }
        state.owe(place, more, now);
        Ok(())
    }

    /// Replaces what is held by what was used.
    fn settle(&self, place: Place, held: Units, used: Units, nanos: u64) {
        self.settle_rest(place, held, Units::default(), used, nanos);
    }

    /// Replaces what is held, and the part of the use that counts already, by what was used.
    fn settle_rest(&self, place: Place, held: Units, counted: Units, used: Units, nanos: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        match (&mut state.counter, &state.bound, place) {
            (Counter::Rate(bucket), LimitBound::Rate(rate), _) => {
                let before = held.plus(counted);
                if used > before {
                    bucket.owe(rate, used.minus(before), nanos);
                } else {
                    bucket.give_back(rate, before.minus(used));
                }
            }
            (Counter::Period(count), _, Place::Period(period)) => {
                count.settle(period, held, counted, used);
            }
            _ => {}
        }
        if let Some(grant) = &mut state.grant {
            if matches!(state.counter, Counter::Rate(_)) {
                grant.spent += used.signed() - held.signed() - counted.signed();
            }
            grant.list();
        }
        state.held = state.held.minus(held);
        drop(guard);
        self.waiting.notify();
    }

    /// The questions to the fleet's store for which it is time: about the current period, or the
    /// rate, and about the last period. Those that only renew may be put off.
    pub fn asks(&self, now: Now, renews: bool) -> [Option<Ask>; 2] {
        let state = &mut *self.state();
        let Some(grant) = &mut state.grant else { return [None, None] };
        let is_all_own = grant.reports_ledger();
        let foreign = |seeded| if is_all_own { Units::default() } else { seeded };
        let (mut period, mut last, none) = (None, None, Units::default());
        let parts = match (&mut state.counter, &state.bound) {
            (Counter::Period(count), LimitBound::Period { calendar, .. }) => {
                let (used, held, begin, end) = count.current(calendar, now.time);
                period = Some((begin, end));
                last = count.last();
                (used.signed(), foreign(count.seeded()), held)
            }
            (Counter::Rate(_), _) => (grant.spent, none, none),
            _ => (0, none, state.held),
        };
        let standing = standing(&mut state.counter, &state.bound, state.held, grant.spent, now);
        let current = grant.next_ask(&standing, period, parts, now.nanos, renews);
        let last = last.filter(|_| current.is_some()).and_then(|last| {
            grant.ask_last(last.period, (last.used, foreign(last.seeded), last.held), now.nanos)
        });
        [current, last]
    }

    /// Takes over the reply of the fleet's store.
    pub fn reply(&self, ask: &Ask, reply: Reply, now: Now) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(grant) = &mut state.grant {
            grant.record_reply(ask, reply, now.nanos);
        }
        drop(guard);
        self.waiting.notify();
    }

    /// Replaces what is held for a turn by what it has used. The record of its session comes later.
    fn settle_turn(&self, place: Place, held: Units, used: Units, nanos: u64) {
        self.settle(place, held, used, nanos);
        let state = &mut *self.state();
        if let (Counter::Period(count), Place::Period(period)) = (&mut state.counter, place) {
            count.note_unrecorded(period, used);
        }
    }

    /// Returns true if the period of `place` is neither the current nor the last one.
    fn is_over(&self, place: Place, now: Now) -> bool {
        let state = &mut *self.state();
        match (&mut state.counter, &state.bound, place) {
            (Counter::Period(count), LimitBound::Period { calendar, .. }, Place::Period(period)) => {
                count.forgets(calendar, period, now.time)
            }
            _ => false,
        }
    }

    /// Sets what was used in the current period, as the ledger knows it. A rate has no such past.
    pub fn seed(&self, used: Units, at: Timestamp) {
        let state = &mut *self.state();
        if let Counter::Period(count) = &mut state.counter {
            count.seed(used, at);
        }
    }

    /// Sets the part of the count that the ledger does not have, in whole requests or tokens.
    pub fn set_drift(&self, drift: f64) {
        self.state().drift = Some(drift);
    }

    /// The part of the count that the ledger does not have, at the latest comparison; negative if
    /// the ledger has more. `None` before the first comparison.
    pub fn drift(&self) -> Option<f64> {
        self.state().drift
    }

    /// Replaces `before` by `after` in the use of the current period: the same requests at other
    /// prices.
    pub fn reprice(&self, before: Units, after: Units, at: Timestamp) {
        let state = &mut *self.state();
        if let Counter::Period(count) = &mut state.counter {
            count.reprice(before, after, at);
        }
    }

    pub fn status(&self, now: Now) -> LimitStatus {
        let state = &mut *self.state();
        let own = state.own_status(now);
        let Some(grant) = &state.grant else { return own };
        let standing = standing(&mut state.counter, &state.bound, state.held, grant.spent, now);
        LimitStatus { elsewhere: grant.elsewhere(&standing, own.used, now.nanos), ..own }
    }

    /// A panic of another thread leaves whole numbers behind, so that the count goes on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomFrom {
    /// Returns true if there is no room before this time.
    fn is_known(self) -> bool {
        !matches!(self, Self::AReply | Self::TheStore)
    }
}

impl LimitBound {
    /// A counter of which nothing is used.
    fn counter(&self, now: Now) -> Counter {
        match self {
            Self::Rate(rate) => Counter::Rate(Bucket::full(rate, now.nanos)),
            Self::Period { calendar, .. } => Counter::Period(PeriodCount::new(calendar, now.time)),
            Self::Concurrent(_) => Counter::Concurrent,
        }
    }
}

impl LimitStatus {
    /// The part of the limit that is used or held. Above 1 there is a debt.
    pub fn used_ratio(&self) -> f64 {
        let taken = if self.limit.0 == 0 { 0 } else { self.taken().0 };
        taken as f64 / self.limit.0.max(1) as f64
    }

    /// The amount that is neither used nor held.
    pub fn remaining(&self) -> Units {
        self.limit.minus(self.taken())
    }

    /// The sum of the used and the held amount, with those of other instances.
    pub fn taken(&self) -> Units {
        let own = if self.holds_in_used { self.used } else { self.used.plus(self.held) };
        own.plus(self.elsewhere)
    }
}

#[cfg(test)]
mod tests;

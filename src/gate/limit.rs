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
//! | `room`, `settlement` | what a request takes of a limit, and what it has used at its end |
//! | `status` | the count of a limit as others see it |
//! | `hold` | what a request holds of all limits that apply to it |
//! | `queue` | the requests that wait for a limit |
//! | `users`, `listed` | the counts of a limit by user, and those about which the fleet's store is asked |
//! | `grant`, `questions` | the part of a limit that this instance may spend, if a fleet shares the limit |
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
mod questions;
mod queue;
mod room;
mod settlement;
mod slices;
mod spec;
mod state;
mod status;
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
pub use room::RoomFrom;
pub use slices::Slices;
pub use spec::{AtLimit, LimitBound, LimitSpec, Unpriced};
pub use status::LimitStatus;
pub use units::Units;
pub use users::UserLimits;
pub use weights::{Kinds, Quantity, Use, Weights};

use crate::support::wait_room::WaitRoom;
use bucket::Bucket;
use grant::Grant;
use period::{InPeriod, PeriodCount};
use room::{NoPlace, Taken};
use spec::LimitTime;

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

    /// A panic of another thread leaves whole numbers behind, so that the count goes on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests;

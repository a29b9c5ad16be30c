//! Limits of use: what is counted, held while a request runs, and settled at its end.
//!
//! | module | purpose |
//! |---|---|
//! | `units`, `weights` | amounts of what a limit counts, and those of a request |
//! | `bucket` | a rate: a token bucket that may be in debt |
//! | `period` | a period of the calendar |
//! | `estimate`, `slices` | what a request is expected to use, and how that grows with its output |
//! | `hold` | what a request holds of all limits that apply to it |
//! | `users` | one count for each user of a client |
//!
//! Everything is pure: the caller passes the time.
//!
//! # Bounds
//!
//! A request is admitted if every limit has room for what it is expected to use. While it runs, its
//! hold grows with its output, without asking. At its end the hold is replaced by what it has used.
//! So the sum of a period is at most its limit, and what running requests use beyond their holds at
//! the time of the last admission.

mod bucket;
mod estimate;
mod hold;
mod period;
mod slices;
mod units;
mod users;
mod weights;

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use bucket::Rate;
pub use estimate::{InputSize, TokensPerByte};
pub use hold::{Hold, Refused};
pub use period::Calendar;
pub use slices::Slices;
pub use units::Units;
pub use users::Users;
pub use weights::{Kinds, Quantity, Use, Weights};

use bucket::Bucket;
use period::{InPeriod, PeriodCount};

/// The time, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Nanoseconds of a clock that never steps back, for rates.
    pub nanos: u64,
    /// The time of day, for periods.
    pub time: Timestamp,
}

/// A limit as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSpec {
    pub quantity: Quantity,
    pub bound: Bound,
    pub at_limit: AtLimit,
}

/// The amount that a limit allows.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// As much as a bucket holds.
    Rate(Rate),
    /// As much in each period, from 1 to [`Units::MOST`].
    Period { limit: Units, calendar: Calendar },
    /// As many running requests.
    Concurrent(Units),
}

/// The treatment of a request for which a limit has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    Refuse,
    /// The request is admitted, and counts.
    Warn,
}

/// A limit with its count. All threads share it.
#[derive(Debug)]
pub struct Limit {
    spec: LimitSpec,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counter: Counter,
    /// The sum of all holds.
    held: Units,
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

/// The time from which there is room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoomFrom {
    /// When a running request ends.
    AnEnd,
    /// After this time in nanoseconds, if nothing else is used until then.
    After(u64),
    /// From the end of the period on.
    Time(Timestamp),
}

/// The count of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What is used. In a rate's bucket, what is missing, which includes what is held.
    pub used: Units,
    /// What running requests hold.
    pub held: Units,
    pub limit: Units,
    /// The current period.
    pub period: Option<(Timestamp, Timestamp)>,
}

impl Limit {
    /// A limit of which nothing is used.
    pub fn new(spec: LimitSpec, now: Now) -> Self {
        let counter = match &spec.bound {
            Bound::Rate(rate) => Counter::Rate(Bucket::full(rate, now.nanos)),
            Bound::Period { calendar, .. } => Counter::Period(PeriodCount::new(calendar, now.time)),
            Bound::Concurrent(_) => Counter::Concurrent,
        };
        Self { spec, state: Mutex::new(State { counter, held: Units::default() }) }
    }

    pub fn spec(&self) -> &LimitSpec {
        &self.spec
    }

    /// Holds `want` for a request that began at `started`.
    fn take(&self, want: Units, started: Timestamp, now: Now) -> Result<Place, RoomFrom> {
        let mut state = self.state();
        let held = state.held;
        let place = match (&mut state.counter, &self.spec.bound) {
            (Counter::Rate(bucket), Bound::Rate(rate)) => {
                bucket.take(rate, want, now.nanos).map_err(RoomFrom::After)?;
                Place::Here
            }
            (Counter::Period(count), Bound::Period { limit, calendar }) => count
                .take(calendar, *limit, want, started, now.time)
                .map(Place::Period)
                .map_err(RoomFrom::Time)?,
            (Counter::Concurrent, Bound::Concurrent(limit)) if held.plus(want) <= *limit => Place::Here,
            (Counter::Concurrent, _) => return Err(RoomFrom::AnEnd),
            _ => unreachable!("the counter was made for the bound"),
        };
        state.held = held.plus(want);
        Ok(place)
    }

    /// Holds `want` although there may be no room.
    fn force(&self, want: Units, started: Timestamp, now: Now) -> Place {
        let mut state = self.state();
        let place = match (&mut state.counter, &self.spec.bound) {
            (Counter::Period(count), Bound::Period { calendar, .. }) => {
                Place::Period(count.force(calendar, started, now.time))
            }
            _ => Place::Here,
        };
        drop(state);
        self.owe(place, want);
        place
    }

    /// Holds more without asking.
    fn owe(&self, place: Place, more: Units) {
        let mut state = self.state();
        match (&mut state.counter, &self.spec.bound, place) {
            (Counter::Rate(bucket), Bound::Rate(rate), _) => bucket.owe(rate, more),
            (Counter::Period(count), _, Place::Period(period)) => count.owe(period, more),
            _ => {}
        }
        state.held = state.held.plus(more);
    }

    /// Replaces what is held by what was used.
    fn settle(&self, place: Place, held: Units, used: Units) {
        let mut state = self.state();
        match (&mut state.counter, &self.spec.bound, place) {
            (Counter::Rate(bucket), Bound::Rate(rate), _) => {
                bucket.owe(rate, used.minus(held));
                bucket.give_back(rate, held.minus(used));
            }
            (Counter::Period(count), _, Place::Period(period)) => count.settle(period, held, used),
            _ => {}
        }
        state.held = state.held.minus(held);
    }

    /// Sets what was used in the current period, as the ledger knows it. A rate has no such past.
    pub fn seed(&self, used: Units, now: Timestamp) {
        if let (Counter::Period(count), Bound::Period { calendar, .. }) =
            (&mut self.state().counter, &self.spec.bound)
        {
            count.seed(calendar, used, now);
        }
    }

    pub fn status(&self, now: Now) -> Status {
        let mut state = self.state();
        let held = state.held;
        match (&mut state.counter, &self.spec.bound) {
            (Counter::Rate(bucket), Bound::Rate(rate)) => {
                Status { used: bucket.used(rate, now.nanos), held, limit: rate.burst, period: None }
            }
            (Counter::Period(count), Bound::Period { limit, calendar }) => {
                let (used, held, begin, end) = count.current(calendar, now.time);
                Status { used, held, limit: *limit, period: Some((begin, end)) }
            }
            (_, Bound::Concurrent(limit)) => {
                Status { used: Units::default(), held, limit: *limit, period: None }
            }
            _ => unreachable!("the counter was made for the bound"),
        }
    }

    /// A panic of another thread leaves whole numbers behind, so that the count goes on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

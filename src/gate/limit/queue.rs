//! The requests that wait for a limit with `at_limit = "wait"`.
//!
//! The requests have one order: while the first has no room, none has. So a large request is not
//! overtaken forever by small ones.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::{AtLimit, LimitHold, Now, Place, Quantity, ReplyWait, RoomFrom, Units, UseLimit};
use crate::support::wait_room::{Blocked, Wait, WaitRoom, WaitTurn, Waits};

/// The largest number of requests that wait for one limit. Beyond it the newest of the client with
/// the most is refused.
const MOST_WAITING: usize = 1_000;

/// The time in nanoseconds after which a shared limit without room is asked again.
const ASK_AGAIN: u64 = 100_000_000;

pub(super) fn room() -> Arc<WaitRoom<LimitWant>> {
    Arc::new(WaitRoom::new(MOST_WAITING, &Arc::default()))
}

/// A request that waits for a limit.
pub struct LimitWant {
    limit: Arc<UseLimit>,
    want: Units,
    /// The beginning of the request.
    started: Timestamp,
}

impl UseLimit {
    /// Begins to wait for room for `want`, until `deadline` in nanoseconds. The request gets a hold
    /// of this limit only.
    pub fn wait(
        self: &Arc<Self>,
        want: Units,
        started: Timestamp,
        turn: WaitTurn,
        deadline: u64,
    ) -> Wait<LimitWant> {
        self.waiting.enter(LimitWant { limit: Arc::clone(self), want, started }, turn, deadline)
    }

    /// The longest wait in nanoseconds. `None`: requests do not wait.
    pub fn longest_wait(&self) -> Option<u64> {
        match self.state().at_limit {
            AtLimit::Wait(longest) => Some(longest),
            AtLimit::Refuse | AtLimit::Cut | AtLimit::Warn => None,
        }
    }

    /// The number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lets all requests pass, those that wait and further turns of sessions, since the limit is in use
    /// no longer.
    pub(super) fn retire(&self) {
        self.state().at_limit = AtLimit::Warn;
        self.waiting.notify();
    }

    /// Holds `want` for a request that is served in its turn, or after a change of `at_limit`.
    pub(super) fn take_after_wait(
        &self,
        want: Units,
        started: Timestamp,
        now: Now,
    ) -> Result<Place, RoomFrom> {
        let state = &mut *self.state();
        if state.at_limit != AtLimit::Warn {
            state.check(want, started, now, ReplyWait::Possible)?;
        }
        state.owe(Place::Here, want, now);
        Ok(Place::Here)
    }
}

impl LimitWant {
    /// The time from which there is room for a request that waits no longer.
    pub fn room_from(&self, now: Now) -> RoomFrom {
        let room = self.limit.state().check(self.want, self.started, now, ReplyWait::Never);
        room.err().unwrap_or(RoomFrom::AnEnd)
    }
}

impl Waits for LimitWant {
    /// Nanoseconds of [`Now`].
    type Time = u64;
    type Class = ();
    /// `Err(None)`: there is no room, and since a reload the limit refuses.
    type Step = Result<LimitHold, Option<Blocked<u64>>>;
    const HAS_ONE_CLASS: bool = true;

    fn class(&self) {}

    fn step(&mut self, now: u64, _: u64) -> Self::Step {
        // Only rates and running requests are waited for, which do not depend on the time of day.
        let at = Now { nanos: now, time: self.started };
        LimitHold::after_wait(&self.limit, self.want, self.started, at).map_err(|room_from| {
            let until = match room_from {
                RoomFrom::After(nanos) => Some(now.saturating_add(nanos)),
                RoomFrom::AnEnd | RoomFrom::Time(_) | RoomFrom::AReply | RoomFrom::TheStore => None,
            };
            // Other instances may give back, of which this one is not notified.
            let again = self.limit.fleet().map(|_| now.saturating_add(ASK_AGAIN));
            let until = [until, again].into_iter().flatten().min();
            let state = self.limit.state();
            // A request that has run is counted.
            let gives_back = self.limit.quantity != Quantity::Requests && state.held > Units::default();
            let may_be_sooner = again.is_some() || gives_back;
            matches!(state.at_limit, AtLimit::Wait(_)).then_some(Blocked { until, may_be_sooner })
        })
    }

    fn blocked(step: &Self::Step) -> Option<Blocked<u64>> {
        *step.as_ref().err()?
    }
}

impl fmt::Debug for LimitWant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The limit has a list of those that wait for it.
        f.debug_struct("LimitWant").field("want", &self.want).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

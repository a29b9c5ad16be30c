//! The counts of a limit, behind its lock.

use jiff::Timestamp;

use super::grant::{Grant, Lack, Standing};
use super::{Counter, LimitBound, LimitStatus, Now, Place, ReplyWait, RoomFrom, State, Units};

impl State {
    /// The status without other instances.
    pub(super) fn own_status(&mut self, now: Now) -> LimitStatus {
        let (held, elsewhere, unrecorded) = (self.held, Units::default(), Units::default());
        match (&mut self.counter, &self.bound) {
            (Counter::Rate(bucket), LimitBound::Rate(rate)) => LimitStatus {
                used: bucket.used(rate, now.nanos),
                held,
                elsewhere,
                unrecorded,
                limit: rate.burst,
                period: None,
                holds_in_used: true,
            },
            (Counter::Period(count), LimitBound::Period { limit, calendar }) => {
                let (used, held, begin, end) = count.current(calendar, now.time);
                let (period, unrecorded) = (Some((begin, end)), count.unrecorded());
                LimitStatus { used, held, elsewhere, unrecorded, limit: *limit, period, holds_in_used: false }
            }
            (_, LimitBound::Concurrent(limit)) => LimitStatus {
                used: Units::default(),
                held,
                elsewhere,
                unrecorded,
                limit: *limit,
                period: None,
                holds_in_used: false,
            },
            _ => unreachable!("the counter was made for the bound"),
        }
    }

    /// Checks that there is room for `want`, here and in the fleet.
    pub(super) fn check(
        &mut self,
        want: Units,
        started: Timestamp,
        now: Now,
        wait: ReplyWait,
    ) -> Result<(), RoomFrom> {
        // A request that uses nothing waits for no debt.
        if want == Units::default() || self.grant.as_ref().is_some_and(|grant| grant.is_free()) {
            return Ok(());
        }
        self.check_own(want, started, now)?;
        self.check_grant(now, |grant, standing| grant.check(standing, want, wait, now.nanos))
    }

    /// Checks the grant, if the limit is shared.
    pub(super) fn check_grant(
        &mut self,
        now: Now,
        check: impl FnOnce(&mut Grant, &Standing<'_>) -> Result<(), Lack>,
    ) -> Result<(), RoomFrom> {
        let Some(grant) = &mut self.grant else { return Ok(()) };
        let standing = standing(&mut self.counter, &self.bound, self.held, grant.spent, now);
        let Err(lack) = check(grant, &standing) else { return Ok(()) };
        Err(match (lack, &self.counter, standing.rate) {
            (Lack::Grant, ..) => RoomFrom::AReply,
            (Lack::Store, ..) => RoomFrom::TheStore,
            (Lack::Room(missing), _, Some(rate)) => RoomFrom::After(rate.time_for(missing)),
            (Lack::Room(missing), Counter::Period(count), _) => match grant.unused_elsewhere(missing) {
                Some(nanos) => RoomFrom::After(nanos),
                None => RoomFrom::Time(count.end()),
            },
            (Lack::Room(_), ..) => RoomFrom::AnEnd,
        })
    }

    /// Holds `want`, if there is room, of a limit that no fleet shares.
    #[inline]
    pub(super) fn take_own(&mut self, want: Units, started: Timestamp, now: Now) -> Result<Place, RoomFrom> {
        if want == Units::default() {
            return Ok(self.place(started, now));
        }
        let place = match (&mut self.counter, &self.bound) {
            (Counter::Rate(bucket), LimitBound::Rate(rate)) => {
                bucket.take(rate, want, now.nanos).map_err(RoomFrom::After)?;
                Place::Here
            }
            (Counter::Period(count), LimitBound::Period { limit, calendar }) => {
                let place = count.take(calendar, *limit, want, started, now.time);
                Place::Period(place.map_err(RoomFrom::Time)?)
            }
            _ => {
                self.check_own(want, started, now)?;
                Place::Here
            }
        };
        self.held = self.held.plus(want);
        Ok(place)
    }

    /// The place in which a request that began at `started` counts.
    pub(super) fn place(&mut self, started: Timestamp, now: Now) -> Place {
        match (&mut self.counter, &self.bound) {
            (Counter::Period(count), LimitBound::Period { calendar, .. }) => {
                Place::Period(count.place(calendar, started, now.time))
            }
            _ => Place::Here,
        }
    }

    /// Checks that there is room for `want` besides what this process uses.
    pub(super) fn check_own(&mut self, want: Units, started: Timestamp, now: Now) -> Result<(), RoomFrom> {
        match (&mut self.counter, &self.bound) {
            (Counter::Rate(bucket), LimitBound::Rate(rate)) => {
                bucket.check(rate, want, now.nanos).map_err(RoomFrom::After)
            }
            (Counter::Period(count), LimitBound::Period { limit, calendar }) => {
                count.check(calendar, *limit, want, started, now.time).map_err(RoomFrom::Time)
            }
            (Counter::Concurrent, LimitBound::Concurrent(limit)) if self.held.plus(want) <= *limit => Ok(()),
            (Counter::Concurrent, _) => Err(RoomFrom::AnEnd),
            _ => unreachable!("the counter was made for the bound"),
        }
    }

    /// Checks that there is room for `more` of a request that counts in `place`.
    pub(super) fn check_more(&mut self, place: Place, more: Units, now: Now) -> Result<(), RoomFrom> {
        if self.grant.as_ref().is_some_and(|grant| grant.is_free()) {
            return Ok(());
        }
        match (&mut self.counter, &self.bound, place) {
            (Counter::Rate(bucket), LimitBound::Rate(rate), _) => {
                bucket.check(rate, more, now.nanos).map_err(RoomFrom::After)?;
            }
            (Counter::Period(count), LimitBound::Period { limit, .. }, Place::Period(period)) => {
                count.check_more(period, *limit, more).map_err(RoomFrom::Time)?;
                // The fleet is only asked about the current period.
                if !count.is_current(period) {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
        self.check_grant(now, |grant, standing| grant.check_more(standing, more, now.nanos))
    }

    /// Holds more without asking.
    pub(super) fn owe(&mut self, place: Place, more: Units, now: Now) {
        match (&mut self.counter, &self.bound, place) {
            (Counter::Rate(bucket), LimitBound::Rate(rate), _) => bucket.owe(rate, more, now.nanos),
            (Counter::Period(count), _, Place::Period(period)) => count.owe(period, more),
            _ => {}
        }
        self.held = self.held.plus(more);
        if let Some(grant) = &mut self.grant {
            if matches!(self.counter, Counter::Rate(_)) {
                grant.spent += more.signed();
            }
            let standing = standing(&mut self.counter, &self.bound, self.held, grant.spent, now);
            grant.record_taken(&standing, more);
        }
    }
}

/// The use of a shared limit. `spent`: that of a rate.
pub(super) fn standing<'a>(
    counter: &mut Counter,
    bound: &'a LimitBound,
    held: Units,
    spent: i128,
    now: Now,
) -> Standing<'a> {
    match (counter, bound) {
        (Counter::Period(count), LimitBound::Period { limit, calendar }) => {
            let (used, held, begin, _) = count.current(calendar, now.time);
            let taken = used.signed() + held.signed();
            Standing { period: Some(begin), taken, most: *limit, rate: None }
        }
        (_, LimitBound::Rate(rate)) => {
            Standing { period: None, taken: spent, most: rate.burst, rate: Some(rate) }
        }
        (_, LimitBound::Concurrent(limit) | LimitBound::Period { limit, .. }) => {
            Standing { period: None, taken: held.signed(), most: *limit, rate: None }
        }
    }
}

//! A period of the calendar: what was used in it, and what is held.
//!
//! A request counts in the period of its beginning, as its record and its price do. So the count of
//! the last period is kept until the next ends. The periods of a count only move forward: a clock
//! that steps back opens no period again with an empty count.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Units;
use crate::support::calendar::Period;

/// A period of the calendar in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub period: Period,
    pub zone: TimeZone,
}

/// The counts of the current period and of the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeriodCount {
    current: Count,
    last: Option<Count>,
}

/// The count of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    begin: Timestamp,
    end: Timestamp,
    used: Units,
    held: Units,
    /// The part of `used` that the ledger had at the start.
    seeded: Units,
    /// The part of `used` by sessions that run.
    unrecorded: Units,
}

/// The period in which a request counts, by the second of its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InPeriod(i64);

/// The use of the last period.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastPeriod {
    /// Its beginning and end.
    pub(super) period: (Timestamp, Timestamp),
    pub(super) used: Units,
    /// The part of `used` that the ledger had at the start.
    pub(super) seeded: Units,
    pub(super) held: Units,
}

impl PeriodCount {
    /// An empty count of the period that contains `now`.
    pub(super) fn new(calendar: &Calendar, now: Timestamp) -> Self {
        Self { current: Count::around(calendar, now), last: None }
    }

    /// Checks that there is room for `want` units of a request that began at `started`. A request
    /// for more than the limit needs all of it.
    ///
    /// # Errors
    /// Returns the end of the current period if there is no room.
    pub(super) fn check(
        &mut self,
        calendar: &Calendar,
        limit: Units,
        want: Units,
        started: Timestamp,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        self.advance(calendar, started.max(now));
        let need = want.min(limit);
        // A request that began in the last period counts there. It needs room in the current one
        // too: a clock that steps back must not give a client what the last period has left.
        let has_room = self.current.has_room(need, limit)
            && self.last_with(started).is_none_or(|last| last.has_room(need, limit));
        if has_room { Ok(()) } else { Err(self.current.end) }
    }

    /// Holds `want` units of a request that began at `started` if there is [room](Self::check).
    ///
    /// # Errors
    /// Returns the end of the current period if there is no room.
    #[inline]
    pub(super) fn take(
        &mut self,
        calendar: &Calendar,
        limit: Units,
        want: Units,
        started: Timestamp,
        now: Timestamp,
    ) -> Result<InPeriod, Timestamp> {
        if self.current.has(started) && self.current.has(now) {
            let room = limit.minus(self.current.used.plus(self.current.held));
            // A request for more than the limit needs all of it.
            if want > room && limit > room {
                return Err(self.current.end);
            }
            self.current.held = self.current.held.plus(want);
            return Ok(self.current.place());
        }
        self.check(calendar, limit, want, started, now)?;
        let place = self.place_of(started);
        self.owe(place, want);
        Ok(place)
    }

    /// The period in which a request that began at `started` counts, whether or not there is room.
    pub(super) fn place(&mut self, calendar: &Calendar, started: Timestamp, now: Timestamp) -> InPeriod {
        self.advance(calendar, started.max(now));
        self.place_of(started)
    }

    fn place_of(&self, started: Timestamp) -> InPeriod {
        self.last_with(started).unwrap_or(&self.current).place()
    }

    /// Checks that the period of a running request has room for `more`. One that is over for good
    /// counts nothing, and has room.
    ///
    /// # Errors
    /// Returns the end of that period if there is no room.
    pub(super) fn check_more(
        &mut self,
        period: InPeriod,
        limit: Units,
        more: Units,
    ) -> Result<(), Timestamp> {
        match self.count(period) {
            Some(count) if count.used.plus(count.held).plus(more) > limit => Err(count.end),
            _ => Ok(()),
        }
    }

    /// The last period, if `started` is in it.
    fn last_with(&self, started: Timestamp) -> Option<&Count> {
        self.last.as_ref().filter(|last| last.begin <= started && started < last.end)
    }

    /// Holds more without asking.
    pub(super) fn owe(&mut self, period: InPeriod, more: Units) {
        if let Some(count) = self.count(period) {
            count.held = count.held.plus(more);
        }
    }

    /// Replaces what is held, and the part of the use that counts already, by what was used. A period
    /// that is over for good ignores it.
    #[inline]
    pub(super) fn settle(&mut self, period: InPeriod, held: Units, counted: Units, used: Units) {
        if let Some(count) = self.count(period) {
            count.held = count.held.minus(held);
            count.used = count.used.plus(used);
            if counted > Units::default() {
                count.used = count.used.minus(counted);
                count.unrecorded = count.unrecorded.minus(counted);
            }
        }
    }

    /// Notes a part of the use whose record comes later, with the same amount as `counted`.
    pub(super) fn note_unrecorded(&mut self, period: InPeriod, used: Units) {
        if let Some(count) = self.count(period) {
            count.unrecorded = count.unrecorded.plus(used);
        }
    }

    /// The part of the use in the current period whose record comes later.
    pub(super) fn unrecorded(&self) -> Units {
        self.current.unrecorded
    }

    /// Returns true if the period is neither the current nor the last one.
    pub(super) fn forgets(&mut self, calendar: &Calendar, period: InPeriod, now: Timestamp) -> bool {
        self.advance(calendar, now);
        self.count(period).is_none()
    }

    /// Sets what was used in the period that contains `at`, as the ledger knows it. A period that is
    /// over for good stays as it is.
    pub(super) fn seed(&mut self, used: Units, at: Timestamp) {
        if let Some(count) = self.around(at) {
            (count.used, count.seeded) = (used, used);
        }
    }

    /// Adds to what was used in the period that contains `at`, as the ledger knows it.
    pub(super) fn add_seed(&mut self, used: Units, at: Timestamp) {
        if let Some(count) = self.around(at) {
            (count.used, count.seeded) = (count.used.plus(used), count.seeded.plus(used));
        }
    }

    /// Replaces a part of what was used in the period that contains `at`.
    pub(super) fn reprice(&mut self, before: Units, after: Units, at: Timestamp) {
        if let Some(count) = self.around(at) {
            count.used = count.used.minus(before).plus(after);
        }
    }

    /// The count of the known period that contains `at`.
    fn around(&mut self, at: Timestamp) -> Option<&mut Count> {
        let is_in = |count: &&mut Count| count.begin <= at && at < count.end;
        [Some(&mut self.current), self.last.as_mut()].into_iter().flatten().find(is_in)
    }

    /// The used and the held amount of the current period, and its beginning and end.
    pub(super) fn current(
        &mut self,
        calendar: &Calendar,
        now: Timestamp,
    ) -> (Units, Units, Timestamp, Timestamp) {
        self.advance(calendar, now);
        let Count { begin, end, used, held, .. } = self.current;
        (used, held, begin, end)
    }

    /// The end of the current period.
    pub(super) fn end(&self) -> Timestamp {
        self.current.end
    }

    /// Returns true if `period` is the current one.
    pub(super) fn is_current(&self, period: InPeriod) -> bool {
        self.current.place() == period
    }

    /// The part of the use in the current period that the ledger had at the start.
    pub(super) fn seeded(&self) -> Units {
        self.current.seeded
    }

    /// The last period.
    pub(super) fn last(&self) -> Option<LastPeriod> {
        let Count { begin, end, used, held, seeded, .. } = self.last?;
        Some(LastPeriod { period: (begin, end), used, seeded, held })
    }

    fn advance(&mut self, calendar: &Calendar, at: Timestamp) {
        if at >= self.current.end {
            let next = Count::around(calendar, at);
            self.last = Some(std::mem::replace(&mut self.current, next));
        } else if at < self.current.begin {
            self.go_back(calendar, at);
        }
    }

    /// Leaves a period that a clock far ahead of the time has begun, and that would last until then.
    /// The use that was settled in it counts in the present one. A clock that steps back into the
    /// period before changes nothing: that one is the last one, or counts with the current one.
    fn go_back(&mut self, calendar: &Calendar, at: Timestamp) {
        let last = self.last.filter(|last| at < last.end);
        let present = match last {
            Some(last) if at < last.begin => return,
            Some(last) => last,
            None => Count::around(calendar, at),
        };
        if present.end < self.current.begin {
            let Count { used, unrecorded, .. } = self.current;
            let unrecorded = present.unrecorded.plus(unrecorded);
            self.current = Count { used: present.used.plus(used), unrecorded, ..present };
            self.last = self.last.filter(|_| last.is_none());
        }
    }

    #[inline]
    fn count(&mut self, period: InPeriod) -> Option<&mut Count> {
        if self.current.place() == period {
            return Some(&mut self.current);
        }
        self.last.as_mut().filter(|last| last.place() == period)
    }
}

impl Count {
    fn around(calendar: &Calendar, at: Timestamp) -> Self {
        let (begin, end) = calendar.period.around(at, &calendar.zone);
        let none = Units::default();
        Self { begin, end, used: none, held: none, seeded: none, unrecorded: none }
    }

    /// Periods begin at whole seconds.
    fn place(&self) -> InPeriod {
        InPeriod(self.begin.as_second())
    }

    /// Returns true if a time is in the period.
    #[inline]
    fn has(&self, at: Timestamp) -> bool {
        (self.begin.as_second()..self.end.as_second()).contains(&at.as_second())
    }

    fn has_room(&self, need: Units, limit: Units) -> bool {
        self.used.plus(self.held).plus(need) <= limit
    }
}

#[cfg(test)]
mod tests;

//! The end of a hold: what was used takes its place.

use super::{Counter, LimitBound, Now, Place, Units, UseLimit};

impl UseLimit {
    /// Replaces what is held by what was used.
    pub(super) fn settle(&self, place: Place, held: Units, used: Units, nanos: u64) {
        self.settle_rest(place, held, Units::default(), used, nanos);
    }

    /// Replaces what is held, and the part of the use that counts already, by what was used.
    #[inline]
    pub(super) fn settle_rest(&self, place: Place, held: Units, counted: Units, used: Units, nanos: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        match (&mut state.counter, &state.bound, place) {
            (Counter::Rate(bucket), LimitBound::Rate(rate), _) => {
                let before = if counted == Units::default() { held } else { held.plus(counted) };
                if used > before {
                    bucket.owe(rate, used.minus(before), nanos);
                } else if used < before {
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

    /// Replaces what is held for a turn by what it has used. The record of its session comes later.
    pub(super) fn settle_turn(&self, place: Place, held: Units, used: Units, nanos: u64) {
        self.settle(place, held, used, nanos);
        let state = &mut *self.state();
        if let (Counter::Period(count), Place::Period(period)) = (&mut state.counter, place) {
            count.note_unrecorded(period, used);
        }
    }

    /// Returns true if the period of `place` is neither the current nor the last one.
    pub(super) fn is_over(&self, place: Place, now: Now) -> bool {
        let state = &mut *self.state();
        match (&mut state.counter, &state.bound, place) {
            (Counter::Period(count), LimitBound::Period { calendar, .. }, Place::Period(period)) => {
                count.forgets(calendar, period, now.time)
            }
            _ => false,
        }
    }
}

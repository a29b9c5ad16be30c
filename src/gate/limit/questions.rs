//! The questions of a limit to the fleet's store.

use super::state::standing;
use super::{Ask, Counter, LimitBound, Now, Reply, Units, UseLimit};

impl UseLimit {
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
}

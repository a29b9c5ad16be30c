//! The turns of a session, which share its hold.

use jiff::Timestamp;

use super::{LimitHold, NoRoom};
use crate::gate::limit::{Now, Place, ReplyWait, Units, Use};

impl LimitHold {
    /// Holds what the session, which began at `started`, is expected to use with a further turn.
    /// Returns the number of limits that had no room, and let the turn pass. `reply_wait` is about the
    /// fleet's store.
    ///
    /// # Errors
    /// Fails if a limit has no room for the turn, or lacks a grant for which the turn can wait; the
    /// session then holds what it held before.
    pub fn begin_turn(
        &mut self,
        expected: &Use,
        started: Timestamp,
        now: Now,
        reply_wait: ReplyWait,
    ) -> Result<usize, NoRoom> {
        self.nanos = now.nanos;
        let before: Vec<_> = self.parts.iter().map(|part| part.held).collect();
        let mut exceeded = 0;
        for (index, part) in self.parts.iter_mut().enumerate() {
            let want = part.limit.quantity.held_for(expected).minus(part.held);
            match part.limit.take_turn(part.place, want, started, now, reply_wait) {
                Ok(is_exceeded) => {
                    exceeded += usize::from(is_exceeded);
                    part.held = part.held.plus(want);
                }
                Err(room_from) => {
                    for (part, before) in self.parts.iter_mut().zip(before) {
                        let more = part.held.minus(before);
                        part.limit.settle(part.place, more, Units::default(), now.nanos);
                        part.held = before;
                    }
                    return Err(NoRoom { limit: index, want, room_from });
                }
            }
        }
        Ok(exceeded)
    }

    /// Returns true if a period in which the session counts is over for good: its turns would count
    /// nowhere.
    pub fn is_over(&self, now: Now) -> bool {
        self.parts.iter().any(|part| part.limit.is_over(part.place, now))
    }

    /// Counts what a turn has used, and holds only what the session is still `expected` to use.
    /// `recorded` counts in a period, `seen` in a rate: see [`LimitHold::settle_seen`].
    pub fn end_turn(&mut self, expected: &Use, recorded: &Use, seen: &Use, now: Now) {
        self.nanos = now.nanos;
        for part in &mut self.parts {
            let left = part.limit.quantity.held_for(expected).min(part.held);
            let used = if matches!(part.place, Place::Period(_)) { recorded } else { seen };
            let used = part.limit.quantity.of(used);
            part.limit.settle_turn(part.place, part.held.minus(left), used, now.nanos);
            part.held = left;
            let counted = part.counted.get_or_insert_default();
            **counted = counted.plus(used);
        }
    }
}

//! The holds of a request on all limits that apply to it, from its admission to its end.

mod turns;

use std::mem;
use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::{NoPlace, Now, Place, Quantity, ReplyWait, RoomFrom, Taken, Units, Use, UseLimit};

/// The holds of one request. It is settled once: by [`LimitHold::settle`], or when it is dropped, as
/// a request without tokens.
#[derive(Debug, Default)]
pub struct LimitHold {
    parts: SmallVec<[Part; INLINE]>,
    /// 1 after the admission.
    requests: u64,
    /// The latest time that is known, as in [`Now::nanos`].
    nanos: u64,
    /// The number of limits that had no room, and let the request pass.
    exceeded: usize,
    /// A limit ends the request if it has no room for more.
    cuts: bool,
}

/// The limits of most requests, which are held without an allocation.
const INLINE: usize = 4;

#[derive(Debug)]
struct Part {
    limit: Arc<UseLimit>,
    place: Place,
    held: Units,
    /// Other requests wait for the limit if it has no room.
    waits: bool,
    /// The use of turns that have ended, which counts already. `None`: none has.
    counted: Option<Box<Units>>,
}

/// The limit that has no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The index of the limit: of several, the one that has room last.
    pub limit: usize,
    /// The amount that the request is expected to use.
    pub want: Units,
    pub room_from: RoomFrom,
}

impl LimitHold {
    /// Holds what a request that began at `started` is `expected` to use of each limit.
    ///
    /// # Errors
    /// Fails if a limit has no room; nothing is held then.
    pub fn take<'a>(
        limits: impl IntoIterator<Item = &'a Arc<UseLimit>>,
        expected: &Use,
        started: Timestamp,
        now: Now,
    ) -> Result<Self, NoRoom> {
        let mut hold = Self::default();
        hold.take_or_wait(limits, expected, started, now, ReplyWait::Never, None).map(|()| hold)
    }

    /// Does the same for a request that may wait, and that holds nothing yet. If a limit for which it
    /// may wait has no room, `waiting` gets the indices of all such limits, of which nothing is held
    /// yet. `reply_wait` is about the fleet's store.
    ///
    /// # Errors
    /// Fails if another limit has no room, or lacks a grant for which the request then has to wait;
    /// nothing is held then.
    pub fn take_or_wait<'a>(
        &mut self,
        limits: impl IntoIterator<Item = &'a Arc<UseLimit>>,
        expected: &Use,
        started: Timestamp,
        now: Now,
        reply_wait: ReplyWait,
        mut waiting: Option<&mut Vec<usize>>,
    ) -> Result<(), NoRoom> {
        let mut has_to_wait = false;
        self.nanos = now.nanos;
        let mut refused: Option<NoRoom> = None;
        for (index, limit) in limits.into_iter().enumerate() {
            let want = limit.quantity.held_for(expected);
            let room_from = match refused {
                None => match limit.take(want, started, now, reply_wait, waiting.is_some()) {
                    Ok(Taken { place, is_exceeded, waits, cuts }) => {
                        self.cuts |= cuts;
                        self.exceeded += usize::from(is_exceeded);
                        let limit = Arc::clone(limit);
                        self.parts.push(Part { limit, place, held: want, waits, counted: None });
                        waiting.iter_mut().filter(|_| waits).for_each(|waiting| waiting.push(index));
                        continue;
                    }
                    Err(NoPlace { waits: true, .. }) if let Some(waiting) = &mut waiting => {
                        waiting.push(index);
                        has_to_wait = true;
                        continue;
                    }
                    Err(NoPlace { room_from, .. }) => {
                        // Other requests may have what this one cannot use.
                        self.release(&Use::default(), &Use::default());
                        Some(room_from)
                    }
                },
                // Only asked for the time from which there is room.
                Some(_) => limit.room(want, started, now),
            };
            if let Some(room_from) = room_from
                && refused.is_none_or(|refused| refused.room_from < room_from)
            {
                refused = Some(NoRoom { limit: index, want, room_from });
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        match waiting {
            Some(_) if has_to_wait => self.give_back(|part| part.waits),
            Some(waiting) => waiting.clear(),
            None => {}
        }
        self.requests = expected.requests;
        Ok(())
    }

    /// Holds `want` of one limit for a request that has waited for it. It counts with
    /// [another hold](Self::join) of the request.
    ///
    /// # Errors
    /// Returns the time from which there is room if there is none.
    pub(super) fn after_wait(
        limit: &Arc<UseLimit>,
        want: Units,
        started: Timestamp,
        now: Now,
    ) -> Result<Self, RoomFrom> {
        let place = limit.take_after_wait(want, started, now)?;
        let limit = Arc::clone(limit);
        let part = Part { limit, place, held: want, waits: true, counted: None };
        Ok(Self { parts: [part].into_iter().collect(), nanos: now.nanos, ..Self::default() })
    }

    /// Adds what the request holds of further limits.
    pub fn join(&mut self, mut other: Self) {
        self.nanos = other.nanos;
        self.parts.append(&mut other.parts);
    }

    /// The number of limits that had no room, and let the request pass.
    pub fn exceeded(&self) -> usize {
        self.exceeded
    }

    /// Returns true if a limit ended the request, had it no room for more, when it was admitted.
    pub fn cuts(&self) -> bool {
        self.cuts
    }

    /// Holds more if the request is now expected to use more.
    ///
    /// # Errors
    /// Fails if a limit that cuts has no room. The request then holds of this limit what it held
    /// before, and may ask again.
    pub fn grow(&mut self, expected: &Use, now: Now) -> Result<(), NoRoom> {
        self.nanos = now.nanos;
        for (index, part) in self.parts.iter_mut().enumerate() {
            let expected = part.limit.quantity.held_for(expected);
            let more = expected.minus(part.held);
            if more > Units::default() {
                let grown = part.limit.grow(part.place, more, now);
                grown.map_err(|room_from| NoRoom { limit: index, want: more, room_from })?;
                part.held = expected;
            }
        }
        Ok(())
    }

    /// Gives back the place of a running request. The rest is held until the request is settled.
    pub fn end(&mut self) {
        self.give_back(|part| part.limit.quantity == Quantity::Concurrent);
    }

    /// Gives some parts back.
    fn give_back(&mut self, is_given: impl Fn(&Part) -> bool) {
        let nanos = self.nanos;
        self.parts.retain(|part| {
            let is_given = is_given(part);
            if is_given {
                part.limit.settle(part.place, part.held, Units::default(), nanos);
            }
            !is_given
        });
    }

    /// Gives back all that is held, and the place of a running request: another upstream gets the
    /// request. What this one has used is settled at the end.
    pub fn leave(&mut self, now: Now) {
        self.nanos = now.nanos;
        self.end();
        self.requests = 0;
        for Part { limit, place, held, .. } in &mut self.parts {
            limit.settle(*place, mem::take(held), Units::default(), now.nanos);
        }
    }

    /// Replaces what is held by what the request has used.
    pub fn settle(mut self, used: &Use, now: Now) {
        self.settle_seen(used, used, now.nanos);
    }

    /// Replaces what is held by what the request has used. `recorded` is the use that the ledger
    /// has, which is the count of a period. `seen` is at least as much, and counts in a rate. `nanos`:
    /// see [`Now::nanos`]. A request counts in the period of its beginning.
    pub fn settle_seen(&mut self, recorded: &Use, seen: &Use, nanos: u64) {
        self.nanos = nanos;
        self.release(recorded, seen);
    }

    fn release(&mut self, recorded: &Use, seen: &Use) {
        for Part { limit, place, held, counted, .. } in &self.parts {
            let used = if matches!(place, Place::Period(_)) { recorded } else { seen };
            limit.note_unpriced(used);
            let counted = counted.as_ref().map(|counted| **counted).unwrap_or_default();
            limit.settle_rest(*place, *held, counted, limit.quantity.of(used), self.nanos);
        }
        self.parts.clear();
    }
}

impl Drop for LimitHold {
    fn drop(&mut self) {
        if self.parts.is_empty() {
            return;
        }
        let used = Use { requests: self.requests, ..Use::default() };
        self.release(&used, &used);
    }
}

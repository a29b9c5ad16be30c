//! The room of a limit: what a request takes of it, and the time from which there is some.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{AtLimit, Now, Place, ReplyWait, State, Units, UseLimit};

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

/// The part of a limit that a request has got.
pub(super) struct Taken {
    pub(super) place: Place,
    /// There was no room, and the limit only warns.
    pub(super) is_exceeded: bool,
    /// Other requests wait for the limit if it has no room.
    pub(super) waits: bool,
    /// Running requests are ended for lack of room.
    pub(super) cuts: bool,
}

/// A limit without room.
pub(super) struct NoPlace {
    pub(super) room_from: RoomFrom,
    /// The request may wait for the limit.
    pub(super) waits: bool,
}

impl RoomFrom {
    /// Returns true if there is no room before this time.
    fn is_known(self) -> bool {
        !matches!(self, Self::AReply | Self::TheStore)
    }
}

impl UseLimit {
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
    #[inline]
    pub(super) fn take(
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
        self.take_asking(state, want, started, now, reply_wait, may_wait)
    }

    /// Does the same for a limit with a queue, one that warns, and one that a fleet shares.
    #[inline(never)]
    fn take_asking(
        &self,
        state: &mut State,
        want: Units,
        started: Timestamp,
        now: Now,
        reply_wait: ReplyWait,
        may_wait: bool,
    ) -> Result<Taken, NoPlace> {
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
    pub(super) fn take_turn(
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
    pub(super) fn grow(&self, place: Place, more: Units, now: Now) -> Result<(), RoomFrom> {
        let state = &mut *self.state();
        if state.at_limit == AtLimit::Cut {
            state.check_more(place, more, now)?;
        }
        state.owe(place, more, now);
        Ok(())
    }
}

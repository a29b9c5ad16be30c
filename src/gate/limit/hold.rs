//! The holds of a request on all limits that apply to it, from its admission to its end.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{AtLimit, Now, Place, RoomFrom, Units, Use, UseLimit};

/// The holds of one request. It is settled once: by [`LimitHold::settle`], or when it is dropped, by
/// what was seen of its use until then.
#[derive(Debug)]
pub struct LimitHold {
    parts: Vec<Part>,
    /// The known use of the request.
    seen: Use,
    /// The number of limits that had no room, and let the request pass.
    exceeded: usize,
}

#[derive(Debug)]
struct Part {
    limit: Arc<UseLimit>,
    place: Place,
    held: Units,
}

/// The limit that has no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The index of the limit: of several, the one that has room last.
    pub limit: usize,
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
        let mut hold = Self { parts: Vec::new(), seen: Use::default(), exceeded: 0 };
        let mut refused: Option<NoRoom> = None;
        for (index, limit) in limits.into_iter().enumerate() {
            let held = limit.quantity.held_for(expected);
            let place = match limit.take(held, started, now) {
                Ok(place) => place,
                Err(_) if limit.at_limit() == AtLimit::Warn => {
                    limit.exceeded.fetch_add(1, Ordering::Relaxed);
                    hold.exceeded += 1;
                    limit.force(held, started, now)
                }
                Err(room_from) => {
                    limit.exceeded.fetch_add(1, Ordering::Relaxed);
                    if refused.is_none_or(|refused| refused.room_from < room_from) {
                        refused = Some(NoRoom { limit: index, room_from });
                    }
                    continue;
                }
            };
            hold.parts.push(Part { limit: Arc::clone(limit), place, held });
        }
        if let Some(refused) = refused {
            // The hold is dropped, which gives back what it took.
            return Err(refused);
        }
        hold.seen.requests = expected.requests;
        Ok(hold)
    }

    /// The number of limits that had no room, and let the request pass.
    pub fn exceeded(&self) -> usize {
        self.exceeded
    }

    /// Holds more if the request is now expected to use more.
    pub fn grow(&mut self, expected: &Use) {
        for part in &mut self.parts {
            let expected = part.limit.quantity.held_for(expected);
            let more = expected.minus(part.held);
            if more > Units::default() {
                part.limit.owe(part.place, more);
                part.held = expected;
            }
        }
    }

    /// Notes what the request has used so far, in case it ends without [`LimitHold::settle`].
    pub fn see(&mut self, used: Use) {
        self.seen = used;
    }

    /// Replaces what is held by what the request has used.
    pub fn settle(mut self, used: &Use) {
        self.release(used);
    }

    fn release(&mut self, used: &Use) {
        for Part { limit, place, held } in mem::take(&mut self.parts) {
            limit.settle(place, held, limit.quantity.of(used));
        }
    }
}

impl Drop for LimitHold {
    fn drop(&mut self) {
        let seen = self.seen;
        self.release(&seen);
    }
}

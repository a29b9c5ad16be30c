//! The part of a limit that this instance may spend without asking, where a fleet shares the limit.
//!
//! The instances of a fleet keep what each has spent of a limit in a store. An instance spends from
//! a *grant*: an amount that the store has set aside for it, so that no request waits for the store.
//! It asks for more when half of a grant is spent. Near the limit a grant is no more than what
//! requests want, and a request waits for the reply.
//!
//! An ask is absolute: it says what this instance has spent in all and what it holds, so that a
//! repeated, late or lost one does no harm. The store promises that the sum of what all have spent
//! and what all are granted is at most the limit. This instance promises to spend no more than its
//! grant, except for what running requests use beyond their holds, and to spend nothing of a grant
//! whose time is over.

mod ask;
mod asking;
mod fleet;
mod listing;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

pub use ask::{Ask, AskedRate, Reply};
pub use fleet::{Fleet, ListedLimit, ReplyWait, WhenAway};

use super::{BucketRate, Units};
use listing::Listing;

/// The time after which an instance asks again in any case. With the interval of looks it is at most
/// 1.6 seconds, so that a store that has lost its sums has them again within two.
pub const RENEWAL: u64 = 14 * SECOND / 10;

/// The time for which the store keeps a grant, except for one of a rate.
const VALID: u64 = 15 * SECOND;

/// The time for which the store keeps a grant of a rate, whose bucket fills again meanwhile.
const RATE_VALID: u64 = 5 * SECOND;

/// The time for which the store is not asked again for more than it had left.
const NO_ROOM: u64 = SECOND / 10;

/// The time whose use a grant covers.
const COVERED: u64 = 5 * SECOND;

/// The part of a limit that all instances together keep in reserve, also while they are idle, so
/// that their first requests need not wait.
const IDLE_PART: u128 = 64;

/// The part of what is left that all instances together may be granted beyond what they want.
const GRANTED_PART: i128 = 4;

/// The part of a limit below which an instance's part of what is left is nothing: near the limit it is
/// granted no more than what requests want. The same number is in `grant.lua`.
const NEAR_PART: i128 = 1_024;

const SECOND: u64 = 1_000_000_000;

/// The reason for which a request cannot spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// The grant is used up; the store was asked for more.
    Grant,
    /// The store is away, and requests are refused meanwhile.
    Store,
    /// The fleet has no room for this amount more than it has left.
    Room(Units),
}

/// The use of a limit here, when a request asks for more of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// The beginning of the current period.
    pub(super) period: Option<Timestamp>,
    /// The used and the held amount of this instance. Ever larger for a rate.
    pub(super) taken: i128,
    /// The most that all instances may take; the content of a full bucket for a rate.
    pub(super) most: Units,
    pub(super) rate: Option<&'a BucketRate>,
}

impl Standing<'_> {
    /// The amount that all instances together keep in reserve.
    fn idle(&self) -> Units {
        Units(self.most.0 / IDLE_PART)
    }

    /// The room that a request for `want` needs. One for a full bucket does not need what others keep
    /// in reserve, which they never give back, nor does one for more than a whole period.
    fn need(&self, want: Units) -> Units {
        let is_capped = self.rate.is_some() || want >= self.most;
        if is_capped { want.min(self.most.minus(self.idle())) } else { want }
    }
}

/// The grant of one limit, and the last reply about it.
#[derive(Debug)]
pub(super) struct Grant {
    fleet: Arc<Fleet>,
    /// The period of all that follows.
    period: Option<Timestamp>,
    /// The amount that may be taken.
    ceiling: i128,
    /// The time until which it may be.
    valid_until: u64,
    /// The grant that was left after the last reply.
    reserve: i128,
    reply: Option<(u64, Reply)>,
    /// The number of outages before the ask to which that is the reply.
    outages: u64,
    no_room_until: u64,
    /// The amount that requests wait for since the last ask, and the least of them.
    wanted: Units,
    least: Option<Units>,
    /// More is asked for without waiting for the renewal.
    is_due: bool,
    asked_at: Option<u64>,
    /// The amounts taken since the last ask, and in the time that grants cover before it.
    fresh: Units,
    recent: f64,
    /// The amount that a rate has taken, less what was given back; and the part that the store
    /// knows.
    pub(super) spent: i128,
    confirmed: i128,
    /// The number of this grant among those of the process.
    beginning: u64,
    /// The end of the last period as the store knows it.
    last_known: Option<(Timestamp, Units, Units)>,
    /// The amount that a rate may take while the store is away, and the time of it.
    apart: Option<(i128, u64)>,
    /// The amount that this instance has spent, as the store knows it.
    told: i128,
    /// `None`: the limit is asked about at all times.
    listing: Option<Listing>,
}

impl Grant {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        let outages = fleet.outages.load(Ordering::Acquire);
        let beginning = fleet.beginnings.fetch_add(1, Ordering::Relaxed);
        Self {
            fleet,
            period: None,
            ceiling: 0,
            valid_until: 0,
            reserve: 0,
            reply: None,
            outages,
            no_room_until: 0,
            wanted: Units::default(),
            least: None,
            is_due: false,
            asked_at: None,
            fresh: Units::default(),
            recent: 0.0,
            spent: 0,
            confirmed: 0,
            beginning,
            last_known: None,
            apart: None,
            told: 0,
            listing: None,
        }
    }

    pub(super) fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Checks that `want` may be taken.
    pub(super) fn check(
        &mut self,
        standing: &Standing<'_>,
        want: Units,
        wait: ReplyWait,
        now: u64,
    ) -> Result<(), Lack> {
        let need = standing.need(want);
        self.turn(standing.period);
        if self.fleet.is_away() {
            return self.check_away(standing, need, true, now);
        }
        self.apart = None;
        if now < self.valid_until && standing.taken + need.signed() <= self.ceiling {
            return Ok(());
        }
        let missing = self.missing(standing, need);
        if now < self.no_room_until && missing > Units::default() {
            return Err(Lack::Room(missing));
        }
        self.ask_for(need);
        match wait {
            ReplyWait::Possible => Err(Lack::Grant),
            ReplyWait::Over => self.check_away(standing, need, true, now),
            ReplyWait::Never => self.check_away(standing, need, false, now),
        }
    }

    /// Checks that a running request may take `more`. It does not wait: it fails only if the store
    /// has said that there is no room.
    pub(super) fn check_more(&mut self, standing: &Standing<'_>, more: Units, now: u64) -> Result<(), Lack> {
        match self.check(standing, more, ReplyWait::Possible, now) {
            Err(Lack::Grant | Lack::Store) => Ok(()),
            checked => checked,
        }
    }

    /// Counts what was taken. Asks for more when half of the grant is spent; one that is no more
    /// than what requests wanted is not renewed before the next of them.
    pub(super) fn record_taken(&mut self, standing: &Standing<'_>, more: Units) {
        self.fresh = self.fresh.plus(more);
        self.list();
        let is_half_spent = self.ceiling - standing.taken < self.reserve / 2;
        if is_half_spent && self.reserve > 0 && !self.is_due {
            self.is_due = true;
            self.fleet.waker.wake_by_ref();
        }
    }

    /// The instances that were seen last, by this limit if it has a reply.
    fn instances(&self) -> u32 {
        let seen = || self.fleet.instances.load(Ordering::Relaxed);
        self.reply.map_or_else(seen, |(_, reply)| reply.instances.max(1))
    }

    /// The missing amount, if the fleet has less left than `need`.
    fn missing(&self, standing: &Standing<'_>, need: Units) -> Units {
        let left = self.reply.map_or(0, |(_, reply)| reply.left);
        Units::from_signed(need.signed() - (self.ceiling - standing.taken).max(0) - left)
    }

    fn ask_for(&mut self, need: Units) {
        self.wanted = self.wanted.plus(need);
        self.least = Some(self.least.map_or(need, |least| least.min(need)));
        self.list();
        self.fleet.ask();
    }

    /// Forgets the grant of another period.
    fn turn(&mut self, period: Option<Timestamp>) {
        if self.period != period {
            (self.period, self.ceiling, self.valid_until, self.reserve) = (period, 0, 0, 0);
            (self.reply, self.no_room_until) = (None, 0);
            (self.wanted, self.least) = (Units::default(), None);
            self.told = 0;
        }
    }

    /// Returns true if nothing is limited now.
    pub(super) fn is_free(&self) -> bool {
        self.fleet.when_away == WhenAway::Allow && self.fleet.is_away()
    }

    /// The amount up to which this instance may take without knowing what others have spent since
    /// the last reply: its part of what was left then.
    fn alone(&self, standing: &Standing<'_>) -> i128 {
        let instances = i128::from(self.instances());
        match (self.reply, standing.rate) {
            (Some((_, reply)), _) => self.ceiling + reply.left.max(0) / instances,
            (None, Some(_)) => standing.taken + (standing.most.signed() / instances).max(1),
            (None, None) => standing.most.signed() / instances,
        }
    }

    /// Decides without the store, as `when_away` says if it `is_away` for the request. Others get this
    /// instance's part of what is left.
    fn check_away(
        &mut self,
        standing: &Standing<'_>,
        need: Units,
        is_away: bool,
        now: u64,
    ) -> Result<(), Lack> {
        let instances = i128::from(self.instances());
        let mut need = need.signed();
        let allowed = match (self.fleet.when_away, standing.rate) {
            (WhenAway::Allow, _) if is_away => return Ok(()),
            (WhenAway::Refuse, _) if is_away || !self.fleet.is_reached() => return Err(Lack::Store),
            (_, None) => self.alone(standing),
            (_, Some(rate)) => {
                let part = (standing.most.signed() / instances).max(1);
                need = need.min(part);
                let since = self.reply.map_or(now, |(at, _)| at);
                let (begin, since) = self.apart.unwrap_or_else(|| (self.alone(standing), since));
                let refill = rate.limit.signed().saturating_mul(now.saturating_sub(since).into());
                let allowed = begin.saturating_add(refill / (i128::from(rate.period) * instances));
                // A bucket of this instance alone holds its part of the burst.
                let full = standing.taken + part;
                self.apart = Some(if allowed > full { (full, now) } else { (begin, since) });
                allowed.min(full)
            }
        };
        let missing = standing.taken + need - allowed;
        if missing <= 0 { Ok(()) } else { Err(Lack::Room(Units::from_signed(missing * instances))) }
    }

    /// The time from which there may be room in a period although the fleet has none left: others
    /// give back what they are granted and do not use.
    pub(super) fn unused_elsewhere(&self, missing: Units) -> Option<u64> {
        let (_, reply) = self.reply.filter(|_| !self.fleet.is_away())?;
        (missing <= reply.unused).then_some(RENEWAL)
    }

    /// The use of others, as far as it is known. `own`: the missing content of a rate's own bucket.
    pub(super) fn elsewhere(&self, standing: &Standing<'_>, own: Units, now: u64) -> Units {
        match (self.reply, standing.rate) {
            (Some(_), Some(rate)) => {
                Units::from_signed(rate.burst.signed() - self.level(rate, now)).minus(own)
            }
            (Some((_, reply)), None) if self.period == standing.period => reply.elsewhere,
            _ => Units::default(),
        }
    }
}

#[cfg(test)]
mod tests;

//! The conversation of a grant with the fleet's store: the next ask, and its reply.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{
    Ask, AskedRate, COVERED, GRANTED_PART, Grant, NEAR_PART, NO_ROOM, RATE_VALID, RENEWAL, Reply, Standing,
    VALID,
};
use crate::gate::limit::{BucketRate, Units};

impl Grant {
    /// The next ask, if it is time for one: also if the store was away since the last reply. `spent`
    /// and `held` make up what is taken, except for a rate. One that only renews is put off unless
    /// `renews`.
    pub(in crate::gate::limit) fn next_ask(
        &mut self,
        standing: &Standing<'_>,
        period: Option<(Timestamp, Timestamp)>,
        (spent, foreign, held): (i128, Units, Units),
        now: u64,
        renews: bool,
    ) -> Option<Ask> {
        self.turn(standing.period);
        let is_leaving = self.fleet.is_leaving();
        let is_due = self.is_due || is_leaving || self.wanted > Units::default();
        let since = self.asked_at.map(|asked| now.saturating_sub(asked));
        let outages = self.fleet.outages.load(Ordering::Acquire);
        let is_fresh = || self.outages == outages && since.is_some_and(|since| since < RENEWAL);
        if !is_due && (!renews || is_fresh()) {
            return None;
        }
        self.note_use(since.unwrap_or(COVERED));
        (self.asked_at, self.is_due) = (Some(now), false);
        let (idle, soon) = match is_leaving {
            true => (Units::default(), Units::default()),
            // One user keeps nothing in reserve.
            false if self.listing.is_some() => (Units::default(), Units(self.recent as u128)),
            false => (standing.idle(), Units(self.recent as u128)),
        };
        let (alone, instances) = (self.alone(standing) - standing.taken, self.instances());
        let keep = self.keep(standing, soon, idle, now);
        let rate = standing.rate.map(|rate| AskedRate {
            refill: rate.limit.0 as f64 / (rate.period as f64 / 1e6),
            unconfirmed: self.spent - self.confirmed,
            level: self.level(rate, now),
            beginning: self.beginning,
        });
        Some(Ask {
            period,
            spent,
            foreign,
            held,
            want: std::mem::take(&mut self.wanted),
            least: self.least.take().unwrap_or_default(),
            keep,
            soon,
            idle,
            most: standing.most,
            // The store may have forgotten what it knew of an idle limit.
            is_known: self.reply.is_some() && now < self.valid_until,
            was_away: self.outages != outages,
            alone: Units::from_signed(alone),
            instances,
            valid: if rate.is_some() { RATE_VALID } else { VALID },
            rate,
            at: now,
            outages,
        })
    }

    /// Gives back what the grant has beyond this instance's part, before the store may grant it to
    /// others. Returns what is kept.
    fn keep(&mut self, standing: &Standing<'_>, soon: Units, idle: Units, now: u64) -> Units {
        let instances = i128::from(self.instances());
        let granted = if now < self.valid_until { (self.ceiling - standing.taken).max(0) } else { 0 };
        let left = self.reply.map_or(0, |(_, reply)| reply.left.max(0)) + granted;
        let part = left / (GRANTED_PART * instances);
        let part = if part < standing.most.signed() / NEAR_PART { 0 } else { part };
        let keep = soon.signed().max(idle.signed() / instances).min(part).min(granted);
        // Use beyond the grant does not raise it.
        self.ceiling = self.ceiling.min(standing.taken + keep);
        Units::from_signed(keep)
    }

    /// The level of the fleet's bucket, as far as it is known.
    pub(super) fn level(&self, rate: &BucketRate, now: u64) -> i128 {
        let burst = rate.burst.signed();
        let Some((at, reply)) = self.reply else { return burst };
        let refill = rate.limit.signed().saturating_mul(now.saturating_sub(at).into());
        let level = burst - reply.elsewhere.signed() - (self.spent - self.confirmed);
        level.saturating_add(refill / i128::from(rate.period)).min(burst)
    }

    /// Counts the use since the last ask, `since` nanoseconds ago.
    fn note_use(&mut self, since: u64) {
        let decay = (-(since as f64) / COVERED as f64).exp();
        self.recent = self.recent * decay + std::mem::take(&mut self.fresh).0 as f64;
    }

    /// Takes over the reply to an ask.
    pub(in crate::gate::limit) fn record_reply(&mut self, ask: &Ask, reply: Reply, now: u64) {
        if ask.rate.is_some() {
            self.confirmed = ask.spent;
        }
        let period = ask.period.map(|(begin, _)| begin);
        if period != self.period {
            // A reply about the last period.
            self.last_known = period.map(|begin| (begin, Units::from_signed(ask.spent), ask.held));
            return;
        }
        self.fleet.instances.store(reply.instances.max(1), Ordering::Relaxed);
        (self.told, self.ceiling) = (ask.spent, ask.spent + reply.granted.signed());
        self.valid_until = ask.at + ask.valid;
        self.reserve = (reply.granted.signed() - ask.held.signed()).max(0);
        (self.reply, self.outages) = (Some((now, reply)), ask.outages);
        self.no_room_until = if self.reserve < ask.want.signed() { now + NO_ROOM } else { 0 };
    }

    /// The ask about the last period, unless the store knows its `used` and `held` amounts.
    pub(in crate::gate::limit) fn ask_last(
        &self,
        period: (Timestamp, Timestamp),
        (used, foreign, held): (Units, Units, Units),
        now: u64,
    ) -> Option<Ask> {
        let none = Units::default();
        (!self.knows_last(period.0, used, held)).then(|| Ask {
            period: Some(period),
            spent: used.signed(),
            foreign,
            held,
            want: none,
            least: none,
            keep: none,
            soon: none,
            idle: none,
            most: none,
            rate: None,
            is_known: false,
            was_away: false,
            alone: none,
            instances: 1,
            valid: VALID,
            at: now,
            outages: self.outages,
        })
    }
}

//! A store as `grant.lua` keeps it, and an instance of the fleet.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::*;

/// A ledger, and the process that writes to it.
pub(super) type Writer = (usize, usize);

/// The store, as `grant.lua` keeps it.
#[derive(Default)]
pub(super) struct Store {
    pub(super) spent: BTreeMap<Writer, i128>,
    /// The beginning of a rate's count.
    pub(super) begun: BTreeMap<Writer, u64>,
    /// The grant, the part that is held, and the end.
    pub(super) granted: BTreeMap<Writer, (i128, i128, u64)>,
    /// The level of a rate, and its time.
    pub(super) level: Option<(f64, u64)>,
    /// The latest time at which an instance missed what it had reported, or was back.
    pub(super) emptied: Option<u64>,
}

impl Store {
    pub(super) fn reply(&mut self, who: Writer, is_heir: bool, ask: &Ask, now: u64) -> Reply {
        let (held, mut lost) = (ask.held.signed(), 0);
        if is_heir {
            let is_earlier = |other: &Writer| other.0 == who.0 && *other != who;
            self.spent.retain(|other, _| !is_earlier(other));
            let earlier = self.granted.extract_if(.., |other, _| is_earlier(other));
            let unsure: i128 = earlier.map(|(_, (amount, ..))| amount).sum();
            lost = if ask.rate.is_some() { unsure } else { 0 };
        }
        let others = |part: &BTreeMap<Writer, i128>| {
            part.iter().filter(|(other, _)| **other != who).map(|(_, spent)| *spent).sum::<i128>()
        };
        let over: Vec<_> =
            self.granted.iter().filter(|(_, (.., ends))| *ends <= now).map(|(who, _)| *who).collect();
        for over in over.into_iter().filter(|over| *over != who) {
            let (amount, ..) = self.granted.remove(&over).unwrap();
            if ask.rate.is_some() {
                lost += amount;
                self.spent.remove(&over);
            }
        }
        let live = || self.granted.iter().filter(|(other, _)| **other != who).map(|(_, granted)| *granted);
        let granted: i128 = live().map(|(amount, ..)| amount).sum();
        let holds: i128 = live().map(|(_, holds, _)| holds).sum();
        let mut instances = live().count() as u32 + 1;
        let most = ask.most.signed();
        let mine = self.spent.get(&who).copied();
        let (mut left, elsewhere) = match &ask.rate {
            None => {
                let used = others(&self.spent);
                (most - used - granted - ask.spent - held, used + holds)
            }
            Some(rate) => {
                let mut level = rate.level as f64;
                let goes_on = self.begun.insert(who, rate.beginning) == Some(rate.beginning);
                if let Some((known, at)) = self.level {
                    let known = (known + (now - at) as f64 / 1e6 * rate.refill).min(most as f64);
                    let mine = mine.filter(|_| goes_on);
                    level = known - (lost + mine.map_or(rate.unconfirmed, |mine| ask.spent - mine)) as f64;
                }
                let level = level.min(most as f64);
                self.level = Some((level, now));
                ((level - granted as f64).floor() as i128, most - level.floor() as i128)
            }
        };
        let part = left.max(0) / (4 * i128::from(instances));
        let part = if part < most / NEAR_PART { 0 } else { part };
        let want = if ask.least.signed() > left { 0 } else { ask.want.signed() };
        let likely = ask.soon.signed().max(ask.idle.signed() / i128::from(instances)).min(part);
        let mut more = ask.keep.signed().max(want).max(likely).min(left).max(0);
        if ask.rate.is_none() && (ask.was_away || ask.is_known && mine.is_none()) {
            self.emptied = Some(now);
        }
        let mut unused = granted - holds;
        if self.emptied.is_some_and(|emptied| now.abs_diff(emptied) < UNSURE) {
            let alone = ask.alone.signed();
            instances = instances.max(ask.instances);
            more = more.min(alone);
            let known_left = left.min(more + (alone - more) * i128::from(instances));
            (unused, left) = (unused + left - known_left, known_left);
        }
        self.spent.insert(who, ask.spent);
        self.granted.insert(who, (held + more, held, now + ask.valid));
        Reply {
            granted: Units::from_signed(held + more),
            left: left - more,
            instances,
            elsewhere: Units::from_signed(elsewhere),
            unused: Units::from_signed(unused),
        }
    }
}

/// The time for which a store that may have lost its state grants no more than parts.
const UNSURE: u64 = 25 * SECOND / 10;

pub(super) struct Instance {
    pub(super) who: Writer,
    pub(super) fleet: Arc<Fleet>,
    pub(super) limit: Arc<UseLimit>,
    pub(super) holds: Vec<(LimitHold, u64)>,
    /// The store knows that it reports what earlier processes of its ledger have.
    pub(super) has_inherited: Cell<bool>,
}

impl Instance {
    pub(super) fn new(
        ledger: usize,
        quantity: Quantity,
        bound: &LimitBound,
        when_away: WhenAway,
        at: u64,
    ) -> Self {
        let fleet = Fleet::new(when_away, Waker::noop().clone());
        fleet.own_ledger();
        let limit = Arc::new(UseLimit::shared(spec(quantity, bound), Some(Arc::clone(&fleet)), now(at)));
        Self { who: (ledger, 0), fleet, limit, holds: Vec::new(), has_inherited: Cell::new(false) }
    }

    pub(super) fn exchange(&self, store: &mut Store, at: u64) {
        self.exchange_through(store, at, |_| true);
    }

    /// `arrives`: the way there, and the way back.
    pub(super) fn exchange_through(&self, store: &mut Store, at: u64, mut arrives: impl FnMut(bool) -> bool) {
        for ask in self.limit.asks(now(at), true).into_iter().flatten() {
            if arrives(true) {
                let reply = store.reply(self.who, !self.has_inherited.get(), &ask, at);
                if arrives(false) {
                    self.limit.reply(&ask, reply, now(at));
                    self.has_inherited.set(true);
                }
            }
        }
    }

    pub(super) fn take(&self, want: u64, at: u64) -> Result<LimitHold, RoomFrom> {
        let expected = Use { requests: 1, reported: want, ..Use::default() };
        take_or_wait([&self.limit], &expected, now(at).time, now(at), ReplyWait::Possible, None)
            .map_err(|NoRoom { room_from, .. }| room_from)
    }

    /// Takes it, and asks the store if that is necessary.
    pub(super) fn take_asking(&self, want: u64, store: &mut Store, at: u64) -> Result<LimitHold, RoomFrom> {
        match self.take(want, at) {
            Err(RoomFrom::AReply) => {
                self.exchange(store, at);
                self.take(want, at)
            }
            taken => taken,
        }
    }

    pub(super) fn taken(&self, at: u64) -> u128 {
        let status = self.limit.status(now(at));
        status.used.plus(status.held).0
    }
}

/// See [`LimitHold::take_or_wait`].
pub(super) fn take_or_wait<'a>(
    limits: impl IntoIterator<Item = &'a Arc<UseLimit>>,
    expected: &Use,
    started: Timestamp,
    now: Now,
    reply_wait: ReplyWait,
    waiting: Option<&mut Vec<usize>>,
) -> Result<LimitHold, NoRoom> {
    let mut hold = LimitHold::default();
    hold.take_or_wait(limits, expected, started, now, reply_wait, waiting).map(|()| hold)
}

//! The limits about which the server is asked, and the questions for which it is time.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::script::key;
use crate::gate::limit::{AppliedLimit, Ask, Fleet, LimitRegistry, Now, UseLimit};

/// The largest number of asks at the same time, and of renewals in a round. A server that runs some
/// 10,000 scripts a second has done them long before its time is over, also for several instances.
pub(super) const MAX_ASKS: usize = 32;

/// An ask on its way.
pub(super) struct Sent {
    pub(super) limit: Arc<UseLimit>,
    name: Arc<str>,
    pub(super) key: String,
    pub(super) ask: Ask,
    pub(super) is_heir: bool,
}

/// The limits that the fleet shares.
pub(super) struct AskedLimits {
    prefix: String,
    limits: Arc<LimitRegistry>,
    fleet: Arc<Fleet>,
    /// The limits with their names, as of the last look.
    known: Vec<(Arc<str>, AppliedLimit)>,
    /// The limits of users that have something to say. Bounded by the users that are counted.
    listed: Vec<(Arc<str>, Arc<UseLimit>)>,
    /// The beginnings of the periods in which this process has taken over what earlier ones of the
    /// same ledger have reported, by the limit. Bounded by the limits that live.
    inherited: HashMap<Arc<str>, (Weak<UseLimit>, Option<i64>)>,
    /// The outages before the latest look.
    outages: u64,
    /// The limit with which the next round begins, so that each has its turn of renewal.
    turn: usize,
}

impl AskedLimits {
    pub(super) fn new(prefix: &str, limits: Arc<LimitRegistry>, fleet: Arc<Fleet>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            limits,
            fleet,
            known: Vec::new(),
            listed: Vec::new(),
            inherited: HashMap::new(),
            outages: 0,
            turn: 0,
        }
    }

    /// Notes the limits in use, which a reload changes.
    pub(super) fn look(&mut self, now: Now) {
        let mut all = self.limits.all();
        if std::mem::replace(&mut self.outages, self.fleet.outages()) != self.outages {
            // The server may not know what it was told of users that are idle now.
            all.iter().filter_map(|applied| applied.users.as_ref()).for_each(|users| users.list_all(now));
        }
        all.retain(|applied| applied.limit.fleet().is_some());
        let is_same = |((_, known), now): (&(Arc<str>, AppliedLimit), &AppliedLimit)| {
            Arc::ptr_eq(&known.limit, &now.limit)
        };
        if all.len() != self.known.len() || !self.known.iter().zip(&all).all(is_same) {
            self.known = all.into_iter().map(|applied| (applied.shared_name().into(), applied)).collect();
        }
        self.inherited.retain(|_, (limit, _)| limit.strong_count() > 0);
    }

    /// The questions for which it is time. Those that only renew are put off beyond [`MAX_ASKS`].
    pub(super) fn questions(&mut self, now: Now) -> Vec<Sent> {
        let listed = self.fleet.take_listed().into_iter();
        self.listed.extend(listed.filter_map(|listed| Some((listed.name, listed.limit.upgrade()?))));
        let owned = [self.fleet.owns_ledger(), self.fleet.owned_ledger_at_start()];
        let of_users = self.known.len();
        let known = self.known.iter().map(|(name, applied)| (name, &applied.limit));
        let all: Vec<_> = known.chain(self.listed.iter().map(|(name, limit)| (name, limit))).collect();
        let all = all.into_iter().enumerate();
        let first = self.turn % all.len().max(1);
        let mut asked = Vec::new();
        for (index, (name, limit)) in all.clone().skip(first).chain(all.take(first)) {
            let renews = asked.len() < MAX_ASKS;
            let [current, last] = limit.asks(now, renews);
            if renews {
                self.turn = index + 1;
            }
            let is_inherited =
                |ask: &Ask| self.inherited.get(name).is_some_and(|(_, known)| *known == begin(ask));
            // See `Grant::reports_ledger`.
            let owns_ledger = owned[usize::from(index >= of_users)];
            let current = current.map(|ask| (owns_ledger && !is_inherited(&ask), ask));
            for (is_heir, ask) in current.into_iter().chain(last.map(|ask| (false, ask))) {
                let key = key(&self.prefix, name, &ask);
                asked.push(Sent { limit: Arc::clone(limit), name: Arc::clone(name), key, ask, is_heir });
            }
        }
        asked
    }

    /// Forgets the limits of users that have nothing more to say.
    pub(super) fn forget_idle(&mut self, now: Now) {
        self.listed.retain(|(_, limit)| !limit.unlist(now));
    }

    /// Notes that the server has replied to an ask.
    pub(super) fn record_reply(&mut self, sent: &Sent) {
        if sent.is_heir {
            let inherited = (Arc::downgrade(&sent.limit), begin(&sent.ask));
            self.inherited.insert(Arc::clone(&sent.name), inherited);
        }
    }
}

/// The beginning of the ask's period.
fn begin(ask: &Ask) -> Option<i64> {
    ask.period.map(|(begin, _)| begin.as_second())
}

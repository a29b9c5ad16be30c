//! The limits in use, by their owners.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, mem};

use super::{
    Fleet, InputRatios, LimitFilter, LimitSpec, LimitStatus, LimitTime, Now, Quantity, UseLimit, UserLimits,
    Weights,
};

/// The owner of limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// All clients together, and requests without a client.
    All,
    Client(Arc<str>),
    Team(Arc<str>),
}

/// The longest name of a user in messages, in bytes.
const MOST_SHOWN: usize = 64;

/// A limit that applies to a client.
#[derive(Clone, Debug)]
pub struct AppliedLimit {
    pub owner: Owner,
    /// The position in the owner's `limits`.
    pub index: usize,
    /// The position among those that count the same in the same time.
    nth: usize,
    /// The limit of one user, if that is known. Where only `users` are known, it counts nothing.
    pub limit: Arc<UseLimit>,
    /// The limits of each user, if the requests of each count for themselves.
    pub users: Option<Arc<UserLimits>>,
    /// The user; empty for requests without one.
    user: Option<Arc<str>>,
}

/// All limits of a process. A limit keeps its count across reloads: the first limit of an owner
/// that counts requests of a model, for example, continues the first one before.
#[derive(Debug, Default)]
pub struct LimitRegistry {
    limits: Mutex<HashMap<Place, AppliedLimit>>,
    /// The ratios for expected input, which are learned across reloads.
    pub input_ratios: Arc<InputRatios>,
    /// The fleet that shares them.
    fleet: Option<Arc<Fleet>>,
}

/// The owner, what is counted, in which time, of which requests, and the position among the limits
/// that count the same.
type Place = (Owner, Quantity, LimitTime, LimitFilter, usize);

/// The limits of a configuration that is not in use yet.
#[derive(Debug, Default)]
pub struct NextLimits {
    limits: HashMap<Place, AppliedLimit>,
    /// The limits in use that go on, with their new bounds.
    changes: Vec<(AppliedLimit, LimitSpec)>,
    /// The other limits.
    begun: Vec<AppliedLimit>,
}

impl NextLimits {
    /// The limits that count from nothing, unless the ledger knows of use in their period.
    pub fn begun(&self) -> &[AppliedLimit] {
        &self.begun
    }

    /// The limits whose count goes on.
    pub fn kept(&self) -> Vec<AppliedLimit> {
        let is_kept = |applied: &&AppliedLimit| {
            self.changes.iter().any(|(changed, _)| Arc::ptr_eq(&changed.limit, &applied.limit))
        };
        self.limits.values().filter(is_kept).cloned().collect()
    }
}

impl LimitRegistry {
    /// Limits that `fleet` shares.
    pub fn shared(fleet: Option<Arc<Fleet>>) -> Self {
        Self { fleet, ..Self::default() }
    }

    /// The fleet that shares the limits.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref()
    }

    /// The limits of each owner: those in use, and new ones. Nothing changes before
    /// [`Self::take_over`].
    pub fn plan<'a>(
        &self,
        wanted: impl IntoIterator<Item = (Owner, &'a [LimitSpec])>,
        now: Now,
    ) -> (HashMap<Owner, Vec<AppliedLimit>>, NextLimits) {
        let known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut next, mut by_owner) = (NextLimits::default(), HashMap::new());
        for (owner, specs) in wanted {
            let mut limits = Vec::new();
            for (index, spec) in specs.iter().enumerate() {
                let counts = |spec: &LimitSpec| (spec.quantity, spec.bound.time(), spec.filter.clone());
                let nth = specs[..index].iter().filter(|earlier| counts(earlier) == counts(spec)).count();
                let place = (owner.clone(), spec.quantity, spec.bound.time(), spec.filter.clone(), nth);
                let known = known.get(&place).filter(|known| known.limit.can_change_to(&spec.bound));
                let limit = match known {
                    Some(known) => Arc::clone(&known.limit),
                    None => {
                        // A limit of each user counts nothing itself.
                        let fleet = self.fleet.clone().filter(|_| !spec.filter.each_user);
                        Arc::new(UseLimit::shared(spec.clone(), fleet, now))
                    }
                };
                let users = known.and_then(|known| known.users.clone());
                let mut applied = AppliedLimit { owner: owner.clone(), index, nth, limit, users, user: None };
                if spec.filter.each_user && applied.users.is_none() {
                    let sharing = self.fleet.clone().map(|fleet| (fleet, applied.shared_name()));
                    applied.users = Some(Arc::new(UserLimits::new(spec.clone(), sharing)));
                }
                match known {
                    Some(_) => next.changes.push((applied.clone(), spec.clone())),
                    None => next.begun.push(applied.clone()),
                }
                next.limits.insert(place, applied.clone());
                limits.push(applied);
            }
            by_owner.insert(owner, limits);
        }
        (by_owner, next)
    }

    /// Uses planned limits, and forgets all others: no request waits for them any longer.
    pub fn take_over(&self, next: NextLimits, now: Now) {
        for (AppliedLimit { limit, users, .. }, spec) in next.changes {
            limit.change(&spec, now);
            users.iter().for_each(|users| users.change(&spec, now));
        }
        let mut known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let old = mem::replace(&mut *known, next.limits.clone());
        drop(known);
        for (place, AppliedLimit { limit, users, .. }) in &old {
            if next.limits.get(place).is_none_or(|kept| !Arc::ptr_eq(&kept.limit, limit)) {
                limit.retire();
                users.iter().for_each(|users| users.retire());
            }
        }
    }

    /// All limits, in the order of their owners.
    pub fn all(&self) -> Vec<AppliedLimit> {
        let known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        all.sort_by(|one, other| (&one.owner, one.index).cmp(&(&other.owner, other.index)));
        all
    }
}

impl AppliedLimit {
    /// The limit of this user, if the requests of each count for themselves.
    #[must_use]
    pub fn for_user(&self, user: Option<&str>, now: Now) -> Self {
        let Some(users) = &self.users else { return self.clone() };
        let user = user.unwrap_or_default();
        let limit = users.of(user, &self.limit, now);
        Self { limit, user: Some(user.into()), ..self.clone() }
    }

    /// The fleet that shares it, or the limits of its users.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.limit.fleet().or_else(|| self.users.as_ref()?.fleet())
    }

    /// The status of the limit; of several users, that of the one that has used most.
    pub fn status(&self, now: Now) -> LimitStatus {
        let fullest =
            self.users.as_ref().filter(|_| self.user.is_none()).and_then(|users| users.fullest(now));
        fullest.unwrap_or_else(|| self.limit.status(now))
    }

    /// The counted quantity, with its requests and its time: `tokens per day, of gpt-*`.
    pub fn counts(&self) -> String {
        const SECOND: u64 = 1_000_000_000;
        let per = match self.limit.time() {
            LimitTime::Rate(SECOND) => " per second".to_owned(),
            LimitTime::Rate(nanos) if nanos == 60 * SECOND => " per minute".to_owned(),
            LimitTime::Rate(nanos) if nanos == 3600 * SECOND => " per hour".to_owned(),
            LimitTime::Rate(nanos) => format!(" per {} s", nanos / SECOND),
            LimitTime::Calendar(period) => format!(" per {}", period.name()),
            LimitTime::Present => String::new(),
        };
        let LimitFilter { model, upstream, each_user } = self.limit.filter();
        let model = model.as_ref().map(|model| format!(", of {model}")).unwrap_or_default();
        let upstream = upstream.as_ref().map(|name| format!(", at {name}")).unwrap_or_default();
        let each = if *each_user { ", each user" } else { "" };
        format!("{}{per}{model}{upstream}{each}", self.limit.quantity().unit())
    }

    /// The number of requests that wait for the limit.
    pub fn waiting(&self) -> usize {
        self.users.as_ref().map_or_else(|| self.limit.waiting(), |users| users.waiting())
    }

    /// The owner, or its user, for messages: `client search`.
    pub fn whose(&self) -> String {
        let owner = &self.owner;
        match self.user.as_deref() {
            None if self.users.is_some() => format!("most active user of {owner}"),
            None => owner.to_string(),
            Some("") => format!("part without a user of {owner}"),
            Some(user) => {
                let shown = &user[..user.floor_char_boundary(MOST_SHOWN)];
                format!("user {shown} of {owner}")
            }
        }
    }

    /// The place in the configuration.
    pub fn key(&self) -> String {
        match self.owner.table() {
            None => format!("limits[{}]", self.index),
            Some(table) => format!("limits[{}] in [{table}]", self.index),
        }
    }

    /// The same as a path of keys.
    pub fn path(&self) -> String {
        match self.owner.table() {
            None => format!("limits[{}]", self.index),
            Some(table) => format!("{table}.limits[{}]", self.index),
        }
    }

    /// The name that all instances of a fleet have for it, whatever its place and its amount are.
    pub fn shared_name(&self) -> String {
        let quantity = match self.limit.quantity() {
            Quantity::Requests => "requests".to_owned(),
            Quantity::Tokens(Weights::Reported) => "tokens".to_owned(),
            Quantity::Tokens(Weights::ByKind { input, cached_input, cache_write, output, reasoning }) => {
                format!("tokens-{input}-{cached_input}-{cache_write}-{output}-{reasoning}")
            }
            Quantity::Cost(currency) => format!("cost-{currency}"),
            Quantity::Concurrent => "concurrent".to_owned(),
        };
        let time = match self.limit.time() {
            LimitTime::Rate(nanos) => format!("{}s", nanos / 1_000_000_000),
            LimitTime::Calendar(period) => format!("{period:?}").to_lowercase(),
            LimitTime::Present => "now".to_owned(),
        };
        let LimitFilter { model, upstream, .. } = self.limit.filter();
        let model = model.as_ref().map(|model| format!(":model={model}")).unwrap_or_default();
        let upstream = upstream.as_ref().map(|name| format!(":upstream={name}")).unwrap_or_default();
        let owner = self.owner.table().unwrap_or_else(|| "all".to_owned());
        format!("{owner}:{quantity}:{time}{model}{upstream}:{}", self.nth)
    }
}

impl Owner {
    /// The key of the owner's table. `None`: the limits are in no table.
    pub fn table(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Client(name) => Some(format!("clients.{name}")),
            Self::Team(name) => Some(format!("teams.{name}")),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("total of all clients"),
            Self::Client(name) => write!(f, "client {name}"),
            Self::Team(name) => write!(f, "team {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::super::{AtLimit, BucketRate, Calendar, LimitBound, LimitHold, Units, Unpriced, Use};
    use super::*;
    use crate::support::calendar::Period;

    const NOW: Now = Now { nanos: 0, time: Timestamp::UNIX_EPOCH };

    fn spec(quantity: Quantity, limit: u128) -> LimitSpec {
        let bound = match quantity {
            Quantity::Concurrent => LimitBound::Concurrent(Units(limit)),
            _ => LimitBound::Rate(BucketRate { limit: Units(limit), period: 60, burst: Units(limit) }),
        };
        LimitSpec {
            quantity,
            bound,
            at_limit: AtLimit::Refuse,
            filter: LimitFilter::default(),
            unpriced: Unpriced::Refuse,
        }
    }

    fn owner() -> Owner {
        Owner::Client("a".into())
    }

    fn replaced(registry: &LimitRegistry, specs: &[LimitSpec]) -> Vec<Arc<UseLimit>> {
        let (mut limits, next) = registry.plan([(owner(), specs)], NOW);
        registry.take_over(next, NOW);
        limits.remove(&owner()).unwrap().into_iter().map(|applied| applied.limit).collect()
    }

    #[test]
    fn limit_continues_its_count_after_a_reload() {
        let registry = LimitRegistry::default();
        let [requests, concurrent] = [Quantity::Requests, Quantity::Concurrent];
        let first = replaced(&registry, &[spec(requests, 10), spec(concurrent, 3)]);
        let one = Use { requests: 1, ..Use::default() };
        let hold = LimitHold::take(&first, &one, NOW.time, NOW).unwrap();
        // Another order, and other bounds.
        let second = replaced(&registry, &[spec(concurrent, 1), spec(requests, 5)]);
        assert!(Arc::ptr_eq(&first[0], &second[1]) && Arc::ptr_eq(&first[1], &second[0]));
        assert!(second[0].room(Units(1), NOW.time, NOW).is_some(), "one request runs");
        // 9 were left, and a full bucket holds 5.
        assert_eq!(second[1].status(NOW).used, Units(0));
        drop(hold);
        assert_eq!(second[0].status(NOW).held, Units(0), "a hold settles where it was taken");
        // Also what is allowed without a price.
        let dollars = Quantity::Cost(crate::llm::price::Currency::parse("USD").unwrap());
        let allowed = LimitSpec { unpriced: Unpriced::Allow, ..spec(dollars, 5) };
        let cost = replaced(&registry, &[spec(dollars, 5)]);
        assert!(cost[0].needs_price());
        replaced(&registry, &[allowed]);
        assert!(!cost[0].needs_price());
        let waits = LimitSpec { at_limit: AtLimit::Wait(9), ..spec(requests, 7) };
        let waited_for = replaced(&registry, &[waits]);
        assert!(waited_for[0].longest_wait().is_some());
        let third = replaced(&registry, &[]);
        assert_eq!(waited_for[0].longest_wait(), None, "a limit that is gone lets its queue pass");
        assert!(third.is_empty() && registry.all().is_empty());
    }

    #[test]
    fn rates_of_other_periods_keep_their_own_levels() {
        let registry = LimitRegistry::default();
        let per = |period, limit| {
            let bound = LimitBound::Rate(BucketRate { limit: Units(limit), period, burst: Units(limit) });
            LimitSpec { bound, ..spec(Quantity::Requests, 1) }
        };
        let (second, hour) = (per(1, 10), per(3600, 10_000));
        let first = replaced(&registry, &[second.clone(), hour.clone()]);
        let swapped = replaced(&registry, &[hour.clone(), second]);
        assert!(Arc::ptr_eq(&first[0], &swapped[1]) && Arc::ptr_eq(&first[1], &swapped[0]));
        let alone = replaced(&registry, &[hour]);
        assert!(Arc::ptr_eq(&first[1], &alone[0]));
    }

    #[test]
    fn limit_of_another_calendar_begins_its_count() {
        let registry = LimitRegistry::default();
        let per = |period| {
            let calendar = Calendar { period, zone: TimeZone::UTC };
            let bound = LimitBound::Period { limit: Units(5), calendar };
            LimitSpec { bound, ..spec(Quantity::Requests, 1) }
        };
        let begun = |spec: LimitSpec| {
            let (_, next) = registry.plan([(owner(), &[spec][..])], NOW);
            let begun = next.begun().len();
            registry.take_over(next, NOW);
            begun
        };
        let (day, week) = (per(Period::Day), per(Period::Week));
        let specs = [day.clone(), LimitSpec { at_limit: AtLimit::Warn, ..day.clone() }, week, day];
        assert_eq!(specs.map(begun), [1, 0, 1, 1]);
    }

    #[test]
    fn limits_of_one_quantity_are_told_apart_by_their_order() {
        let registry = LimitRegistry::default();
        let specs = [spec(Quantity::Requests, 1), spec(Quantity::Requests, 2)];
        let first = replaced(&registry, &specs);
        let again = replaced(&registry, &specs);
        assert!(first.iter().zip(&again).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert!(!Arc::ptr_eq(&first[0], &first[1]));
        assert_eq!(registry.all().len(), 2);
    }
}

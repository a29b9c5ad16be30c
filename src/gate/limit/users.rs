//! The counts of a limit with `each = "user"`: one for each user of the client.
//!
//! Requests without a user have a count of their own. The users are bounded in number: beyond it
//! the least recently used one is forgotten, and begins to count again, except those for whose
//! limits requests wait: a reload concerns these too.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::{LimitSpec, LimitStatus, Now, Units, UseLimit};

/// The largest number of users that a limit counts.
pub(super) const MOST_USERS: usize = 10_000;

/// The longest name of a user, in bytes, as in records.
const MOST_BYTES: usize = 1_024;

/// The counts of a limit by user.
#[derive(Debug)]
pub struct UserLimits {
    most: usize,
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    spec: LimitSpec,
    /// The number of uses so far.
    uses: u64,
    /// The limit of each user, with the number of its latest use.
    by_name: HashMap<Arc<str>, (u64, Arc<UseLimit>)>,
    /// The users by the number of their latest use.
    by_use: BTreeMap<u64, Arc<str>>,
}

impl UserLimits {
    pub(super) fn new(spec: LimitSpec) -> Self {
        Self::bounded(spec, MOST_USERS)
    }

    /// Counts for at most `most` users, at least 1.
    pub(super) fn bounded(spec: LimitSpec, most: usize) -> Self {
        let users = Users { spec, uses: 0, by_name: HashMap::new(), by_use: BTreeMap::new() };
        Self { most, users: Mutex::new(users) }
    }

    /// The limit of a user, which counts its refusals with `all`. Empty: requests without a user.
    pub(super) fn of(&self, user: &str, all: &UseLimit, now: Now) -> Arc<UseLimit> {
        let user = &user[..user.floor_char_boundary(MOST_BYTES)];
        let users = &mut *self.users();
        users.uses += 1;
        if let Some((latest, limit)) = users.by_name.get_mut(user) {
            if let Some(name) = users.by_use.remove(latest) {
                users.by_use.insert(users.uses, name);
            }
            *latest = users.uses;
            return Arc::clone(limit);
        }
        if users.by_name.len() >= self.most {
            users.forget_one();
        }
        let (name, limit) = (Arc::<str>::from(user), Arc::new(all.for_user(users.spec.clone(), now)));
        users.by_use.insert(users.uses, Arc::clone(&name));
        users.by_name.insert(name, (users.uses, Arc::clone(&limit)));
        limit
    }

    /// Adds what a user has used in the period that contains `at`, as the ledger knows it.
    pub fn add_used(&self, user: &str, all: &UseLimit, used: Units, at: Timestamp, now: Now) {
        self.of(user, all, now).reprice(Units::default(), used, at);
    }

    pub(super) fn change(&self, spec: &LimitSpec, now: Now) {
        let users = &mut *self.users();
        users.by_name.values().for_each(|(_, limit)| limit.change(spec, now));
        users.spec = spec.clone();
    }

    /// Lets all waiting requests pass, since the limit is in use no longer.
    pub(super) fn retire(&self) {
        self.users().by_name.values().for_each(|(_, limit)| limit.retire());
    }

    /// The number of users that are counted.
    pub fn len(&self) -> usize {
        self.users().by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The status of the user that has used most of its limit.
    pub(super) fn fullest(&self, now: Now) -> Option<LimitStatus> {
        let users = self.users();
        let statuses = users.by_name.values().map(|(_, limit)| limit.status(now));
        statuses.max_by(|one, other| one.used_ratio().total_cmp(&other.used_ratio()))
    }

    /// The number of requests that wait for the limits of all users.
    pub(super) fn waiting(&self) -> usize {
        self.users().by_name.values().map(|(_, limit)| limit.waiting()).sum()
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// Forgets the least recently used one without waiting requests; if each has some, the least
    /// recently used one.
    fn forget_one(&mut self) {
        let waits = |name: &Arc<str>| self.by_name.get(name).is_some_and(|(_, limit)| limit.waiting() > 0);
        let idle = self.by_use.iter().find(|(_, name)| !waits(name)).map(|(latest, _)| *latest);
        let oldest = idle.or_else(|| Some(*self.by_use.first_key_value()?.0));
        if let Some(name) = oldest.and_then(|oldest| self.by_use.remove(&oldest)) {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::{AtLimit, BucketRate, LimitBound, LimitFilter, LimitHold, Quantity, Unpriced, Use};
    use super::*;
    use crate::support::wait_room::WaitTurn;

    const NOW: Now = Now { nanos: 0, time: Timestamp::UNIX_EPOCH };

    fn spec(limit: u64) -> LimitSpec {
        let rate = BucketRate { limit: limit.into(), period: 60_000_000_000, burst: limit.into() };
        LimitSpec {
            quantity: Quantity::Requests,
            bound: LimitBound::Rate(rate),
            at_limit: AtLimit::Refuse,
            filter: LimitFilter { each_user: true, ..LimitFilter::default() },
            unpriced: Unpriced::Refuse,
        }
    }

    fn ask(limit: &Arc<UseLimit>) -> bool {
        let one = Use { requests: 1, ..Use::default() };
        let hold = LimitHold::take([limit], &one, NOW.time, NOW);
        hold.map(|hold| hold.settle(&one, NOW)).is_ok()
    }

    #[test]
    fn each_user_has_a_count_and_all_share_the_number_of_refusals() {
        let (all, users) = (UseLimit::new(spec(2), NOW), UserLimits::new(spec(2)));
        let asked = ["a", "a", "", "a", "b"].map(|user| ask(&users.of(user, &all, NOW)));
        assert_eq!(asked, [true, true, true, false, true]);
        assert_eq!((users.len(), all.exceeded()), (3, 1));
        assert_eq!(users.fullest(NOW).unwrap().used, Units(2));
        users.change(&spec(3), NOW);
        assert!(!ask(&users.of("a", &all, NOW)), "the level stays");
        assert_eq!(users.of("c", &all, NOW).status(NOW).limit, Units(3));
        let long = "ä".repeat(MOST_BYTES);
        assert!(Arc::ptr_eq(&users.of(&long, &all, NOW), &users.of(&format!("{long}x"), &all, NOW)));
    }

    #[test]
    fn user_whose_requests_wait_is_kept_and_a_reload_concerns_it() {
        let waits = |limit| LimitSpec { at_limit: AtLimit::Wait(60_000_000_000), ..spec(limit) };
        let (all, users) = (UseLimit::new(waits(1), NOW), UserLimits::bounded(waits(1), 2));
        let waiting = users.of("a", &all, NOW);
        assert!(ask(&waiting));
        let turn = WaitTurn { client: 1, share: 1, priority: 0, cost: 1 };
        let wait = waiting.wait(Units(1), NOW.time, turn, u64::MAX);
        assert_eq!(waiting.waiting(), 1);
        let kept = ["b", "c", "d"].map(|user| users.of(user, &all, NOW));
        assert_eq!((users.len(), users.waiting()), (2, 1));
        users.change(&waits(9), NOW);
        assert_eq!(waiting.status(NOW).limit, Units(9));
        assert_eq!(kept[0].status(NOW).limit, Units(1), "it is forgotten");
        users.retire();
        assert_eq!(waiting.longest_wait(), None);
        drop(wait);
        ["e", "f"].iter().for_each(|user| drop(users.of(user, &all, NOW)));
        assert!(!Arc::ptr_eq(&users.of("a", &all, NOW), &waiting), "it was the least recently used");
    }

    /// Least recently used out, with a list.
    #[test]
    fn users_beyond_the_bound_are_those_that_were_used_long_ago() {
        let (all, users) = (UseLimit::new(spec(1_000), NOW), UserLimits::bounded(spec(1_000), 5));
        let mut naive: VecDeque<(String, u128)> = VecDeque::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let user = random.u8(..8).to_string();
            let known = naive.iter().position(|(name, _)| *name == user);
            let count = known.and_then(|place| naive.remove(place)).map_or(0, |(_, count)| count);
            naive.push_back((user.clone(), count + 1));
            naive.drain(..naive.len().saturating_sub(5));
            let limit = users.of(&user, &all, NOW);
            assert!(ask(&limit));
            assert_eq!(limit.status(NOW).used, Units(count + 1));
            assert_eq!(users.len(), naive.len());
        }
    }
}

//! The counts of a limit with `each = "user"`: one for each user of the client.
//!
//! Requests without a user have a count of their own. The users are bounded in number: beyond it
//! the least recently used one is forgotten, and begins to count again, except those for whose
//! limits requests wait: a reload concerns these too.
//!
//! A fleet shares the counts of a user under a hash of its name. The store is asked about a user only
//! while there is something to say. The users that an instance shares of a limit are bounded for a day
//! too, since each of them is a key in the store: it counts further ones for itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::{Fleet, LimitSpec, LimitStatus, Now, Units, UseLimit};
use crate::support::hex;

/// The largest number of users that a limit counts.
pub(super) const MOST_USERS: usize = 10_000;

/// The longest name of a user, in bytes, as in records.
const MOST_BYTES: usize = 1_024;

/// The time in which at most as many users are shared, in nanoseconds.
const A_DAY: u64 = 86_400_000_000_000;

/// The counts of a limit by user.
#[derive(Debug)]
pub struct UserLimits {
    most: usize,
    /// The fleet that shares them, and the name of the limit.
    sharing: Option<(Arc<Fleet>, String)>,
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
    /// The number of users that are shared since this time.
    shared: usize,
    shared_since: u64,
}

impl UserLimits {
    /// `sharing`: the fleet that shares them, and the name that all instances have for the limit.
    pub(super) fn new(spec: LimitSpec, sharing: Option<(Arc<Fleet>, String)>) -> Self {
        Self { sharing, ..Self::bounded(spec, MOST_USERS) }
    }

    /// Counts for at most `most` users, at least 1.
    pub(super) fn bounded(spec: LimitSpec, most: usize) -> Self {
        let (by_name, by_use) = (HashMap::new(), BTreeMap::new());
        let users = Users { spec, uses: 0, by_name, by_use, shared: 0, shared_since: 0 };
        Self { most, sharing: None, users: Mutex::new(users) }
    }

    pub(super) fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.sharing.as_ref().map(|(fleet, _)| fleet)
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
        let sharing = self.sharing.as_ref().filter(|_| users.count_shared(self.most, now.nanos));
        let sharing = sharing.map(|(fleet, limit)| (Arc::clone(fleet), shared_name(limit, user)));
        let (name, limit) = (Arc::<str>::from(user), all.for_user(users.spec.clone(), sharing, now));
        users.by_use.insert(users.uses, Arc::clone(&name));
        users.by_name.insert(name, (users.uses, Arc::clone(&limit)));
        limit
    }

    /// Adds what a user has used in the period that contains `at`, as the ledger knows it.
    pub fn add_used(&self, user: &str, all: &UseLimit, used: Units, at: Timestamp, now: Now) {
        self.of(user, all, now).add_seed(used, at);
    }

    /// Has the fleet's store asked about all users with any use.
    pub fn list_all(&self, now: Now) {
        if self.sharing.is_some() {
            self.users().by_name.values().for_each(|(_, limit)| limit.list(now));
        }
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

/// The name that all instances have for the limit of a user: names may be personal, and long.
fn shared_name(limit: &str, user: &str) -> Arc<str> {
    let mut name = format!("{limit}:user=");
    hex::push(&mut name, &digest(&SHA256, user.as_bytes()).as_ref()[..16]);
    name.into()
}

impl Users {
    /// Counts a further user that is shared. Returns false if there are too many.
    fn count_shared(&mut self, most: usize, nanos: u64) -> bool {
        if nanos.saturating_sub(self.shared_since) >= A_DAY {
            (self.shared, self.shared_since) = (0, nanos);
        }
        let may_share = self.shared < most;
        self.shared += usize::from(may_share);
        may_share
    }

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
        let (all, users) = (UseLimit::new(spec(2), NOW), UserLimits::new(spec(2), None));
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

    #[test]
    fn shared_users_are_bounded_for_a_day_and_listed_while_busy() {
        let fleet = Fleet::new(super::super::WhenAway::Local, std::task::Waker::noop().clone());
        let sharing = Some((Arc::clone(&fleet), "clients.a:requests".to_owned()));
        let all = UseLimit::new(spec(9), NOW);
        let users = UserLimits { sharing, ..UserLimits::bounded(spec(9), 2) };
        let limits = ["a", "b", "c"].map(|user| users.of(user, &all, NOW));
        assert_eq!(limits.each_ref().map(|limit| limit.fleet().is_some()), [true, true, false]);
        let tomorrow = Now { nanos: A_DAY, ..NOW };
        assert!(users.of("d", &all, tomorrow).fleet().is_some());
        assert!(fleet.take_listed().is_empty(), "nothing is to be said of them");
        assert!(ask(&limits[0]) && ask(&limits[0]) && ask(&limits[2]));
        let listed = fleet.take_listed();
        assert_eq!(listed.len(), 1, "once");
        assert!(Arc::ptr_eq(&listed[0].limit.upgrade().unwrap(), &limits[0]));
        assert!(listed[0].name.starts_with("clients.a:requests:user=") && listed[0].name.len() == 56);
        assert!(!limits[0].unlist(NOW), "the store does not know its use");
        let [ask_store, _] = limits[0].asks(NOW, true);
        let none = Units::default();
        let reply =
            super::super::Reply { granted: none, left: 5, instances: 1, elsewhere: none, unused: none };
        limits[0].reply(&ask_store.unwrap(), reply, NOW);
        assert!(limits[0].unlist(NOW));
        assert!(fleet.take_listed().is_empty());
        ask(&limits[0]);
        assert_eq!(fleet.take_listed().len(), 1, "it is busy again");
    }
}

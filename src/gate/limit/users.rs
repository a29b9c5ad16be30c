//! One count for each user of a client.
//!
//! The number of users is bounded, since clients may invent any number: the count of the user that
//! asked least recently goes first. A running request keeps the count that it holds.
//!
//! Not configurable yet: `each = "user"` of a limit will be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{LimitSpec, Now, UseLimit};

/// The most users of one limit.
const MOST_USERS: usize = 10_000;

/// The counts of a limit, by user.
#[derive(Debug)]
pub struct Users {
    spec: LimitSpec,
    most: usize,
    limits: HashMap<Arc<str>, (u64, Arc<UseLimit>)>,
    /// The users by the number of their last request.
    order: BTreeMap<u64, Arc<str>>,
    requests: u64,
}

impl Users {
    pub fn new(spec: LimitSpec) -> Self {
        Self::at_most(spec, MOST_USERS)
    }

    fn at_most(spec: LimitSpec, most: usize) -> Self {
        Self { spec, most, limits: HashMap::new(), order: BTreeMap::new(), requests: 0 }
    }

    /// The count of a user.
    pub fn of(&mut self, user: &str, now: Now) -> Arc<UseLimit> {
        self.requests += 1;
        if let Some((last, limit)) = self.limits.get_mut(user) {
            let name = self.order.remove(last).expect("every user has a place in the order");
            *last = self.requests;
            self.order.insert(self.requests, name);
            return Arc::clone(limit);
        }
        if self.limits.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.limits.remove(&oldest);
        }
        let (name, limit) = (Arc::<str>::from(user), Arc::new(UseLimit::new(self.spec.clone(), now)));
        self.order.insert(self.requests, Arc::clone(&name));
        self.limits.insert(name, (self.requests, Arc::clone(&limit)));
        limit
    }

    /// The number of users with a count.
    pub fn len(&self) -> usize {
        self.limits.len()
    }

    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{AtLimit, LimitBound, LimitFilter, LimitHold, Quantity, Units, Unpriced, Use};
    use super::*;

    const NOW: Now = Now { nanos: 0, time: Timestamp::UNIX_EPOCH };

    fn users(most: usize) -> Users {
        let spec = LimitSpec {
            quantity: Quantity::Concurrent,
            bound: LimitBound::Concurrent(Units(1)),
            at_limit: AtLimit::Refuse,
            filter: LimitFilter::default(),
            unpriced: Unpriced::Refuse,
        };
        Users::at_most(spec, most)
    }

    fn take(users: &mut Users, user: &str) -> Option<LimitHold> {
        let limit = users.of(user, NOW);
        LimitHold::take([&limit], &Use::default(), NOW.time, NOW).ok()
    }

    #[test]
    fn each_user_has_a_count_of_its_own() {
        let mut users = users(2);
        let ada = take(&mut users, "ada");
        assert!(ada.is_some() && take(&mut users, "ada").is_none());
        assert!(take(&mut users, "bob").is_some());
        drop(ada);
        assert!(take(&mut users, "ada").is_some());
    }

    #[test]
    fn least_recent_user_goes_first() {
        let mut users = users(2);
        let (ada, bob) = (users.of("ada", NOW), users.of("bob", NOW));
        users.of("ada", NOW);
        users.of("eve", NOW);
        assert_eq!(users.len(), 2);
        assert!(Arc::ptr_eq(&users.of("ada", NOW), &ada));
        assert!(!Arc::ptr_eq(&users.of("bob", NOW), &bob));
        assert_eq!((users.len(), users.order.len()), (2, 2));
    }
}

//! The limit of one user: there are many, and the fleet's store is asked only about those that have
//! something to say.

use std::sync::{Arc, Weak};

use jiff::Timestamp;

use super::grant::Grant;
use super::state::standing;
use super::{Counter, Fleet, LimitSpec, ListedLimit, Now, Units, UseLimit};

impl UseLimit {
    /// A limit of one user, of which nothing is used. `sharing`: the fleet that shares it, and the name
    /// that all instances have for it.
    pub(super) fn for_user(
        &self,
        spec: LimitSpec,
        sharing: Option<(Arc<Fleet>, Arc<str>)>,
        now: Now,
    ) -> Arc<Self> {
        let (fleet, name) = sharing.unzip();
        Arc::new_cyclic(|me| {
            let limit = Self { counts: Arc::clone(&self.counts), ..Self::shared(spec, fleet, now) };
            if let (Some(name), Some(grant)) = (name, &mut limit.state().grant) {
                let of = ListedLimit { name, limit: Weak::clone(me) };
                **grant = Grant::new(Arc::clone(grant.fleet())).listed_as(of);
            }
            limit
        })
    }

    /// Adds a user's limit to those about which the fleet's store is asked, if it has any use.
    pub(super) fn list(&self, now: Now) {
        let state = &mut *self.state();
        let has_use = state.own_status(now).taken() > Units::default();
        state.grant.iter_mut().filter(|_| has_use).for_each(|grant| grant.list());
    }

    /// Removes a user's limit from them if the store knows all about it. Returns true if it is gone.
    pub fn unlist(&self, now: Now) -> bool {
        let state = &mut *self.state();
        let Some(grant) = &mut state.grant else { return true };
        let is_last_known = match &state.counter {
            Counter::Period(count) => {
                count.last().is_none_or(|last| grant.knows_last(last.period.0, last.used, last.held))
            }
            _ => true,
        };
        let standing = standing(&mut state.counter, &state.bound, state.held, grant.spent, now);
        let spent = match standing.rate {
            Some(_) => grant.spent,
            None => standing.taken - state.held.signed(),
        };
        is_last_known && state.held == Units::default() && grant.unlist(&standing, spent, now.nanos)
    }

    /// Adds to what a user has used in the current period, as the ledger knows it.
    pub(super) fn add_seed(&self, used: Units, at: Timestamp) {
        let state = &mut *self.state();
        if let Counter::Period(count) = &mut state.counter {
            count.add_seed(used, at);
        }
        state.grant.iter_mut().for_each(|grant| grant.list());
    }
}

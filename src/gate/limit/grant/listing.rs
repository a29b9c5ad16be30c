//! The grant of a user's limit, which is asked about while it has something to say.

use jiff::Timestamp;

use super::{Grant, ListedLimit, Standing};
use crate::gate::limit::Units;

/// The limit of one user: there are many, most of them idle.
#[derive(Debug)]
pub(super) struct Listing {
    of: ListedLimit,
    /// True while it is among those that are asked about.
    is_listed: bool,
}

impl Grant {
    /// Returns true if it reports what the whole ledger has. What another process adds to the ledger is
    /// not counted for each user, so that one that owns the ledger later reports only its own part.
    pub(in crate::gate::limit) fn reports_ledger(&self) -> bool {
        match self.listing {
            Some(_) => self.fleet.owned_ledger_at_start(),
            None => self.fleet.owns_ledger(),
        }
    }

    /// Makes it the grant of a user's limit.
    pub(in crate::gate::limit) fn listed_as(self, of: ListedLimit) -> Self {
        Self { listing: Some(Listing { of, is_listed: false }), ..self }
    }

    /// Adds a user's limit to those that are asked about.
    pub(in crate::gate::limit) fn list(&mut self) {
        if let Some(listing) = self.listing.as_mut().filter(|listing| !listing.is_listed) {
            listing.is_listed = true;
            self.fleet.list(listing.of.clone());
        }
    }

    /// Removes it from them if the store knows that it has `spent` so much, and nothing is held,
    /// granted or wanted. Returns true if it is gone.
    pub(in crate::gate::limit) fn unlist(&mut self, standing: &Standing<'_>, spent: i128, now: u64) -> bool {
        let is_granted = now < self.valid_until && self.ceiling > standing.taken;
        let is_quiet = self.told == spent
            && standing.period == self.period
            && self.outages == self.fleet.outages()
            && self.wanted == Units::default()
            && !(self.is_due || is_granted);
        if let Some(listing) = self.listing.as_mut().filter(|_| is_quiet) {
            listing.is_listed = false;
        }
        is_quiet
    }

    /// Returns true if the store knows the end of the last period.
    pub(in crate::gate::limit) fn knows_last(&self, begin: Timestamp, used: Units, held: Units) -> bool {
        self.last_known == Some((begin, used, held))
    }
}

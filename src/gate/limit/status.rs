//! The count of a limit as others see it, and what the ledger has of it.

use jiff::Timestamp;

use super::state::standing;
use super::{Counter, Now, Units, UseLimit};

/// The count of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The used amount. For a bucket, the missing content, which includes `held`.
    pub used: Units,
    /// The sum of the holds of running requests.
    pub held: Units,
    /// The amount that other instances of the fleet use or hold, as far as it is known.
    pub elsewhere: Units,
    /// The part of `used` by sessions that run. The ledger does not have it yet.
    pub unrecorded: Units,
    pub limit: Units,
    /// The current period.
    pub period: Option<(Timestamp, Timestamp)>,
    /// `used` includes `held`.
    pub(super) holds_in_used: bool,
}

impl LimitStatus {
    /// The part of the limit that is used or held. Above 1 there is a debt.
    pub fn used_ratio(&self) -> f64 {
        let taken = if self.limit.0 == 0 { 0 } else { self.taken().0 };
        taken as f64 / self.limit.0.max(1) as f64
    }

    /// The amount that is neither used nor held.
    pub fn remaining(&self) -> Units {
        self.limit.minus(self.taken())
    }

    /// The sum of the used and the held amount, with those of other instances.
    pub fn taken(&self) -> Units {
        let own = if self.holds_in_used { self.used } else { self.used.plus(self.held) };
        own.plus(self.elsewhere)
    }
}

impl UseLimit {
    pub fn status(&self, now: Now) -> LimitStatus {
        let state = &mut *self.state();
        let own = state.own_status(now);
        let Some(grant) = &state.grant else { return own };
        let standing = standing(&mut state.counter, &state.bound, state.held, grant.spent, now);
        LimitStatus { elsewhere: grant.elsewhere(&standing, own.used, now.nanos), ..own }
    }

    /// Sets what was used in the current period, as the ledger knows it. A rate has no such past.
    pub fn seed(&self, used: Units, at: Timestamp) {
        let state = &mut *self.state();
        if let Counter::Period(count) = &mut state.counter {
            count.seed(used, at);
        }
    }

    /// Sets the part of the count that the ledger does not have, in whole requests or tokens.
    pub fn set_drift(&self, drift: f64) {
        self.state().drift = Some(drift);
    }

    /// The part of the count that the ledger does not have, at the latest comparison; negative if
    /// the ledger has more. `None` before the first comparison.
    pub fn drift(&self) -> Option<f64> {
        self.state().drift
    }

    /// Replaces `before` by `after` in the use of the current period: the same requests at other
    /// prices.
    pub fn reprice(&self, before: Units, after: Units, at: Timestamp) {
        let state = &mut *self.state();
        if let Counter::Period(count) = &mut state.counter {
            count.reprice(before, after, at);
        }
    }
}

//! Bounds the requests that are sent again because of failures.

use std::sync::Mutex;

/// The time for which a deposit counts.
const TTL_MS: u64 = 10_000;
/// Retries that are allowed in any case, per second.
const FLOOR: f64 = 3.0;
/// The price of one retry. Deposits are fractions of it.
const RETRY: f64 = 1.0;

/// A token bucket: each request deposits a share of a retry, and each retry withdraws one. Deposits
/// expire after 10 s, in slots of a second. In addition 3 retries per second are allowed.
#[derive(Debug, Default)]
pub(super) struct RetryBudget(Mutex<Deposits>);

#[derive(Debug, Default)]
struct Deposits {
    /// Deposits by second, modulo their number. A retry takes from the oldest first.
    slots: [f64; SLOTS],
    /// The newest second.
    at: u64,
    /// The rest of the floor.
    floor: f64,
    floor_at: u64,
}

const SLOTS: usize = (TTL_MS / 1000) as usize;

impl RetryBudget {
    /// Records that a first attempt begins at `tick` (in milliseconds).
    pub(super) fn deposit(&self, tick: u64, share: f64) {
        let mut deposits = self.0.lock().expect("no holder panics");
        deposits.advance(tick);
        let slot = (deposits.at % SLOTS as u64) as usize;
        deposits.slots[slot] += share * RETRY;
    }

    /// Gives back a retry that did not begin.
    pub(super) fn give_back(&self, tick: u64) {
        self.deposit(tick, RETRY);
    }

    /// Takes one retry. False: the budget is exhausted.
    pub(super) fn try_withdraw(&self, tick: u64) -> bool {
        self.0.lock().expect("no holder panics").try_withdraw(tick)
    }
}

impl Deposits {
    fn advance(&mut self, tick: u64) {
        let second = tick / 1000;
        let passed = second.saturating_sub(self.at);
        for step in 1..=passed.min(SLOTS as u64) {
            self.slots[((self.at + step) % SLOTS as u64) as usize] = 0.0;
        }
        self.at = self.at.max(second);
    }

    fn try_withdraw(&mut self, tick: u64) -> bool {
        self.advance(tick);
        let elapsed = tick.saturating_sub(self.floor_at) as f64 / 1000.0;
        // At the start, the floor of a whole second is available.
        self.floor = if self.floor_at == 0 { FLOOR } else { (self.floor + elapsed * FLOOR).min(FLOOR) };
        self.floor_at = tick.max(1);
        if self.floor >= RETRY {
            self.floor -= RETRY;
            return true;
        }
        // A sum of fifths is not exact.
        if self.slots.iter().sum::<f64>() < RETRY - 1e-9 {
            return false;
        }
        let mut price = RETRY;
        for step in 1..=SLOTS as u64 {
            let slot = &mut self.slots[((self.at + step) % SLOTS as u64) as usize];
            let taken = slot.min(price);
            *slot -= taken;
            price -= taken;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withdraw_all(budget: &RetryBudget, tick: u64) -> usize {
        (0..).take_while(|_| budget.try_withdraw(tick)).count()
    }

    #[test]
    fn share_of_the_requests_may_be_sent_again() {
        let budget = RetryBudget::default();
        (0..100).for_each(|_| budget.deposit(1000, 0.2));
        assert_eq!(withdraw_all(&budget, 1000), 3 + 20);
        assert_eq!(withdraw_all(&budget, 1000), 0);
    }

    #[test]
    fn three_a_second_are_allowed_in_any_case() {
        let budget = RetryBudget::default();
        assert_eq!(withdraw_all(&budget, 1), 3);
        let later: usize = (1..=20).map(|half| withdraw_all(&budget, 1 + half * 500)).sum();
        assert!((29..=30).contains(&later), "{later}");
        assert_eq!(withdraw_all(&budget, 1_000_000), 3, "they are not saved up");
    }

    #[test]
    fn deposits_expire_after_10_s() {
        for (tick, left) in [(9_999, 20), (10_999, 20), (11_000, 0), (500_000, 0)] {
            let budget = RetryBudget::default();
            (0..100).for_each(|_| budget.deposit(1_000, 0.2));
            assert_eq!(withdraw_all(&budget, tick), 3 + left, "{tick}");
        }
    }

    #[test]
    fn retries_stay_within_share_and_floor_of_any_minute() {
        let mut random = fastrand::Rng::with_seed(2);
        let budget = RetryBudget::default();
        let (mut tick, mut requests, mut retries) = (1, 0, 0);
        while tick < 60_000 {
            tick += random.u64(..20);
            requests += 1;
            budget.deposit(tick, 0.2);
            // In an outage all requests fail, and each is sent again three times.
            retries += (0..3).filter(|_| budget.try_withdraw(tick)).count();
        }
        let most = f64::from(requests) * 0.2 + 3.0 * 61.0;
        assert!(retries as f64 <= most, "{retries} of {requests}");
        assert!(retries as f64 >= 0.95 * most - 60.0, "{retries} of {requests}");
    }

    #[test]
    fn budget_of_nothing_leaves_the_floor() {
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.deposit(1, 0.0));
        assert_eq!(withdraw_all(&budget, 1), 3);
    }
}

//! A rate: a token bucket that may be in debt.
//!
//! The bucket holds `burst` units and is refilled evenly. A request takes what it is expected to
//! use; its end gives the difference back, or takes more, also below 0: later requests then wait
//! until the debt is paid. So the use in any span of time is at most the burst, the refill of that
//! span, and what requests have used beyond their estimates.
//!
//! Levels are whole numbers, in units times the length of the period, so that a refill of any
//! length of time is exact.

use super::Units;

/// The rate of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRate {
    /// Units per period, from 1 to [`Units::MOST`].
    pub limit: Units,
    /// The length of the period in nanoseconds, up to an hour.
    pub period: u64,
    /// The units that a full bucket holds, from 1 to [`Units::MOST`].
    pub burst: Units,
}

/// The level of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Units times [`BucketRate::period`].
    level: i128,
    /// The level of a full bucket.
    most: i128,
    /// The time of the level, in nanoseconds of a clock that never steps back.
    at: u64,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(rate: &BucketRate, now: u64) -> Self {
        Self { level: rate.most(), most: rate.most(), at: now }
    }

    /// Checks that there is room for `want` units. For more than a bucket holds, a full one has room.
    ///
    /// # Errors
    /// Returns the time in nanoseconds until there are enough units.
    #[inline]
    pub(super) fn check(&mut self, rate: &BucketRate, want: Units, now: u64) -> Result<(), u64> {
        self.refill(rate, now);
        self.check_level(rate, rate.scaled(want))
    }

    /// Checks that the level has room for `want`, or is that of a full bucket.
    #[inline]
    fn check_level(&self, rate: &BucketRate, want: i128) -> Result<(), u64> {
        if want <= self.level || self.most <= self.level {
            return Ok(());
        }
        Err(rate.wait_for(want.min(self.most) - self.level))
    }

    /// Takes `want` units if there is [room](Self::check) for them.
    ///
    /// # Errors
    /// Returns the time in nanoseconds until there are enough units.
    #[inline]
    pub(super) fn take(&mut self, rate: &BucketRate, want: Units, now: u64) -> Result<(), u64> {
        self.refill(rate, now);
        let want = rate.scaled(want);
        self.check_level(rate, want)?;
        self.level = self.level.saturating_sub(want);
        Ok(())
    }

    /// Takes units without asking, also as a debt.
    #[inline]
    pub(super) fn owe(&mut self, rate: &BucketRate, more: Units, now: u64) {
        // A full bucket has not filled further meanwhile, which would pay the debt.
        self.refill(rate, now);
        self.level = self.level.saturating_sub(rate.scaled(more));
    }

    /// Gives units back. What a full bucket cannot hold is lost.
    #[inline]
    pub(super) fn give_back(&mut self, rate: &BucketRate, units: Units) {
        self.level = self.level.saturating_add(rate.scaled(units)).min(self.most);
    }

    /// The units that are missing in the bucket at `now`, rounded up.
    pub(super) fn used(&self, rate: &BucketRate, now: u64) -> Units {
        let mut bucket = *self;
        bucket.refill(rate, now);
        let (missing, period) = (bucket.most - bucket.level, i128::from(rate.period));
        Units::from_signed((missing + period - 1) / period)
    }

    /// Continues with another rate: keeps the level, at most a full bucket of the new rate.
    pub(super) fn change(&mut self, old: &BucketRate, new: &BucketRate, now: u64) {
        self.refill(old, now);
        let level = self.level.div_euclid(old.period.into()).saturating_mul(new.period.into());
        self.most = new.most();
        self.level = level.min(self.most);
    }

    #[inline]
    fn refill(&mut self, rate: &BucketRate, now: u64) {
        if now <= self.at {
            return;
        }
        let elapsed = now - self.at;
        self.at = now;
        // The product of two words is exact, and computed in fewer instructions.
        let refill = match u64::try_from(rate.limit.0) {
            Ok(limit) => i128::try_from(u128::from(elapsed) * u128::from(limit)).unwrap_or(i128::MAX),
            Err(_) => i128::from(elapsed).saturating_mul(rate.limit.signed()),
        };
        self.level = self.level.saturating_add(refill).min(self.most);
    }
}

impl BucketRate {
    /// The names and the lengths, in nanoseconds, of the periods that rates can have.
    pub const PERIODS: [(&str, u64); 3] =
        [("second", 1_000_000_000), ("minute", 60_000_000_000), ("hour", 3_600_000_000_000)];

    /// The time in nanoseconds in which a bucket gets `units`.
    pub(super) fn time_for(&self, units: Units) -> u64 {
        self.wait_for(self.scaled(units))
    }

    /// The same, for a part of a level.
    #[cold]
    fn wait_for(&self, missing: i128) -> u64 {
        let wait = (missing + self.limit.signed() - 1) / self.limit.signed();
        u64::try_from(wait).unwrap_or(u64::MAX)
    }

    fn scaled(&self, units: Units) -> i128 {
        units.signed() * i128::from(self.period)
    }

    fn most(&self) -> i128 {
        self.scaled(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(limit: u64, burst: u64) -> BucketRate {
        BucketRate { limit: limit.into(), period: 60 * SECOND, burst: burst.into() }
    }

    fn take(bucket: &mut Bucket, rate: &BucketRate, want: u64, now: u64) -> Result<(), u64> {
        let mut other = *bucket;
        let taken = bucket.take(rate, want.into(), now);
        // The same in two steps.
        let room = other.check(rate, want.into(), now);
        room.is_ok().then(|| other.owe(rate, want.into(), now));
        assert_eq!((taken, *bucket), (room, other));
        taken
    }

    #[test]
    fn wait_is_exact_to_the_nanosecond() {
        // 7 units a minute: a unit takes 8571428571.43 ns.
        let rate = rate(7, 7);
        let mut bucket = Bucket::full(&rate, 5);
        assert_eq!(take(&mut bucket, &rate, 7, 5), Ok(()));
        let wait = take(&mut bucket, &rate, 1, 5).unwrap_err();
        assert_eq!(wait, 8_571_428_572);
        assert_eq!(take(&mut bucket, &rate, 1, 5 + wait - 1), Err(1));
        assert_eq!(take(&mut bucket, &rate, 1, 5 + wait), Ok(()));
    }

    #[test]
    fn request_larger_than_the_bucket_needs_a_full_one() {
        let rate = rate(60, 10);
        let mut bucket = Bucket::full(&rate, 0);
        assert_eq!(take(&mut bucket, &rate, 1, 0), Ok(()));
        assert_eq!(take(&mut bucket, &rate, 25, 0), Err(SECOND));
        assert_eq!(take(&mut bucket, &rate, 25, SECOND), Ok(()));
        // The debt of 15 is paid first.
        assert_eq!(take(&mut bucket, &rate, 1, SECOND), Err(16 * SECOND));
        assert_eq!(bucket.used(&rate, SECOND), Units(25));
    }

    #[test]
    fn use_beyond_the_estimate_is_paid_by_later_requests() {
        let rate = rate(60, 60);
        let mut bucket = Bucket::full(&rate, 0);
        take(&mut bucket, &rate, 10, 0).unwrap();
        bucket.owe(&rate, Units(80), 0);
        assert_eq!(take(&mut bucket, &rate, 1, 0), Err(31 * SECOND));
        bucket.give_back(&rate, Units(1_000));
        assert_eq!(bucket.used(&rate, 0), Units(0), "a bucket holds its burst at most");
    }

    #[test]
    fn debt_of_a_full_bucket_is_not_paid_by_the_time_before_it() {
        let rate = rate(60, 60);
        let mut bucket = Bucket::full(&rate, 0);
        // An hour in which the bucket was full.
        bucket.owe(&rate, Units(80), 3_600 * SECOND);
        assert_eq!(take(&mut bucket, &rate, 1, 3_600 * SECOND), Err(21 * SECOND));
    }

    #[test]
    fn clock_that_steps_back_refills_nothing() {
        let rate = rate(60, 1);
        let mut bucket = Bucket::full(&rate, 10 * SECOND);
        take(&mut bucket, &rate, 1, 10 * SECOND).unwrap();
        assert_eq!(take(&mut bucket, &rate, 1, 2 * SECOND), Err(SECOND));
        assert_eq!(take(&mut bucket, &rate, 1, 10 * SECOND), Err(SECOND));
    }

    #[test]
    fn changed_rate_keeps_the_level_up_to_the_new_burst() {
        let (old, new) = (rate(60, 60), BucketRate { limit: Units(5), period: SECOND, burst: Units(20) });
        for (taken, left) in [(10, 20), (50, 10), (59, 1)] {
            let mut bucket = Bucket::full(&old, 0);
            take(&mut bucket, &old, taken, 0).unwrap();
            bucket.change(&old, &new, 0);
            assert_eq!(bucket.used(&new, 0), Units(20 - left), "{taken}");
        }
    }

    #[test]
    fn largest_rate_and_longest_time_do_not_overflow() {
        let rate = BucketRate { limit: Units::MOST, period: 3_600 * SECOND, burst: Units::MOST };
        let mut bucket = Bucket::full(&rate, 0);
        bucket.check(&rate, Units::MOST, 0).unwrap();
        (0..4).for_each(|_| bucket.owe(&rate, Units::MOST, 0));
        bucket.give_back(&rate, Units::MOST);
        assert!(bucket.check(&rate, Units(1), 0).unwrap_err() > 3_600 * SECOND);
        assert_eq!(bucket.check(&rate, Units::MOST, u64::MAX), Ok(()));
    }

    /// The oracle: a list of all takings, from which each decision is made again with fractions.
    #[test]
    fn decisions_agree_with_the_list_of_all_takings() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let rate = BucketRate {
                limit: random.u64(1..50).into(),
                period: random.u64(1..100),
                burst: random.u64(1..60).into(),
            };
            let mut bucket = Bucket::full(&rate, 0);
            let mut taken: Vec<(u64, i128)> = Vec::new();
            let mut now = 0;
            for _ in 0..200 {
                now += random.u64(0..40);
                let want = random.u64(0..70);
                let admitted = take(&mut bucket, &rate, want, now);
                let need = u128::from(want).min(rate.burst.0);
                let has_room = naive_level(&rate, &taken, now) >= (need * u128::from(rate.period)) as i128;
                assert_eq!(admitted.is_ok(), has_room, "{rate:?} {want} at {now}");
                match admitted {
                    Ok(()) => {
                        taken.push((now, want.into()));
                        // The end of the request: it used more or less.
                        now += random.u64(0..40);
                        let (more, less) = (random.u64(0..9), random.u64(0..9));
                        bucket.owe(&rate, more.into(), now);
                        bucket.give_back(&rate, less.into());
                        taken.extend([(now, more.into()), (now, -i128::from(less))]);
                    }
                    Err(wait) => {
                        let need = (need * u128::from(rate.period)) as i128;
                        assert!(naive_level(&rate, &taken, now + wait) >= need);
                        assert!(naive_level(&rate, &taken, now + wait - 1) < need);
                    }
                }
            }
        }
    }

    /// The level, in units times the period: one nanosecond after the other.
    fn naive_level(rate: &BucketRate, taken: &[(u64, i128)], now: u64) -> i128 {
        let most = (rate.burst.0 * u128::from(rate.period)) as i128;
        let (mut level, mut at) = (most, 0);
        for (time, units) in taken.iter().copied().chain([(now, 0)]) {
            level = (at..time).fold(level, |level, _| (level + rate.limit.0 as i128).min(most));
            at = time;
            level = (level - units * i128::from(rate.period)).min(most);
        }
        level
    }
}

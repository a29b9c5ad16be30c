//! Counts of good and bad results in the last 30 s.

/// The buckets of a window.
const BUCKETS: usize = 10;
/// The time of one bucket.
const BUCKET_MS: u64 = 3_000;
/// The time of all buckets.
pub(super) const WINDOW_MS: u64 = BUCKETS as u64 * BUCKET_MS;

/// Exact counts in ten buckets of 3 s, so that a burst cannot hide and an idle member begins again.
#[derive(Debug, Default)]
pub(super) struct SuccessWindow {
    /// Good and bad results, by bucket number modulo [`BUCKETS`].
    buckets: [(u16, u16); BUCKETS],
    /// The number of the newest bucket since the registry's start: 400 years of them.
    newest: u32,
    /// The fingerprint of the last bad result.
    fingerprint: u32,
    /// 1 + the bucket of the last bad result whose fingerprint was not that of the one before it. 0:
    /// none.
    changed: u32,
}

impl SuccessWindow {
    pub(super) fn record_good(&mut self, tick: u64) {
        let bucket = self.bucket(tick);
        bucket.0 = bucket.0.saturating_add(1);
    }

    pub(super) fn record_bad(&mut self, tick: u64, fingerprint: u32) {
        let is_first = self.totals().1 == 0;
        let bucket = self.bucket(tick);
        bucket.1 = bucket.1.saturating_add(1);
        if self.fingerprint != fingerprint && !is_first {
            self.changed = self.newest + 1;
        }
        self.fingerprint = fingerprint;
    }

    /// The sums of good and bad results, as of the last one that was recorded.
    pub(super) fn totals(&self) -> (u32, u32) {
        let add = |(good, bad), &(more, worse)| (good + u32::from(more), bad + u32::from(worse));
        self.buckets.iter().fold((0, 0), add)
    }

    /// Whether the bad results came from at least two fingerprints.
    pub(super) fn has_two_fingerprints(&self) -> bool {
        self.changed != 0 && self.newest - (self.changed - 1) < BUCKETS as u32
    }

    fn bucket(&mut self, tick: u64) -> &mut (u16, u16) {
        let number = (tick / BUCKET_MS) as u32;
        let passed = number.saturating_sub(self.newest);
        for step in 1..=passed.min(BUCKETS as u32) {
            self.buckets[(self.newest + step) as usize % BUCKETS] = (0, 0);
        }
        self.newest = self.newest.max(number);
        &mut self.buckets[self.newest as usize % BUCKETS]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn window_equals_a_list_of_results() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut window, mut list, mut tick) = (SuccessWindow::default(), VecDeque::new(), 0);
        for _ in 0..5_000 {
            tick += random.u64(..4_000).saturating_sub(2_500);
            if random.u32(..200) == 0 {
                tick += random.u64(..60_000);
            }
            let is_good = random.bool();
            if is_good {
                window.record_good(tick)
            } else {
                window.record_bad(tick, random.u32(..3))
            }
            list.push_back((tick / BUCKET_MS, is_good));
            list.retain(|&(bucket, _)| bucket + BUCKETS as u64 > tick / BUCKET_MS);
            let good = list.iter().filter(|(_, is_good)| *is_good).count();
            assert_eq!(window.totals(), (good as u32, (list.len() - good) as u32));
        }
    }

    #[test]
    fn second_fingerprint_is_forgotten_with_its_bucket() {
        let mut window = SuccessWindow::default();
        window.record_bad(0, 5);
        window.record_bad(1, 5);
        assert!(!window.has_two_fingerprints());
        window.record_bad(2, 6);
        assert!(window.has_two_fingerprints());
        window.record_bad(WINDOW_MS + 3_000, 6);
        assert!(!window.has_two_fingerprints());
    }

    #[test]
    fn counts_saturate() {
        let mut window = SuccessWindow::default();
        (0..70_000).for_each(|_| window.record_good(0));
        assert_eq!(window.totals(), (65_535, 0));
    }
}

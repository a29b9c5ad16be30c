//! Counts of good and bad results in the last 30 s.

/// The buckets of a window.
pub(super) const BUCKETS: usize = 10;
/// The duration of one bucket.
const BUCKET_MS: u64 = 3_000;

/// Exact counts in ten buckets of 3 s, so that a burst is visible and an idle member starts again.
#[derive(Debug, Default)]
pub(super) struct SuccessWindow {
    /// Good and bad results, by bucket number modulo [`BUCKETS`].
    buckets: [(u16, u16); BUCKETS],
    /// The number of the newest bucket since the registry's start, which suffices for 400 years.
    newest: u32,
    /// The fingerprint of the last bad result. While the circuit is not closed, when no result is
    /// counted, the second at which it opened: there are 10,000 circuits of models in 2 MB.
    fingerprint: u32,
    /// A bit for each bucket with a bad result whose fingerprint differs from that of the bad
    /// result before.
    changed: u16,
    /// The bad results since the last good one. Here, so that it takes the place of padding.
    run: u16,
}

impl SuccessWindow {
    /// Records a good result at the time of the last [`advance`](Self::advance).
    pub(super) fn record_good(&mut self) {
        let bucket = &mut self.buckets[self.newest as usize % BUCKETS];
        bucket.0 = bucket.0.saturating_add(1);
        self.run = 0;
    }

    /// Returns true if the bad result before it had another fingerprint.
    pub(super) fn record_bad(&mut self, tick: u64, fingerprint: u32) -> bool {
        self.advance(tick);
        let has_changed = self.fingerprint != fingerprint && self.totals().1 > 0;
        let place = self.newest as usize % BUCKETS;
        self.changed |= u16::from(has_changed) << place;
        self.buckets[place].1 = self.buckets[place].1.saturating_add(1);
        self.run = self.run.saturating_add(1);
        std::mem::replace(&mut self.fingerprint, fingerprint) != fingerprint
    }

    /// Notes the second at which the circuit opened. The next bad result that counts is the first
    /// of its run, whose fingerprint is compared with none.
    pub(super) fn note_opened(&mut self, second: u32) {
        self.fingerprint = second;
    }

    pub(super) fn opened(&self) -> u32 {
        self.fingerprint
    }

    /// The bad results since the last good one.
    pub(super) fn run(&self) -> u32 {
        u32::from(self.run)
    }

    /// The sums of good and bad results at the time of the last one.
    pub(super) fn totals(&self) -> (u32, u32) {
        let add = |(good, bad), &(more, worse)| (good + u32::from(more), bad + u32::from(worse));
        self.buckets.iter().fold((0, 0), add)
    }

    /// Returns true if the bad results have at least two fingerprints.
    pub(super) fn has_two_fingerprints(&self) -> bool {
        self.changed != 0
    }

    /// Forgets all results.
    pub(super) fn clear(&mut self) {
        *self = Self { newest: self.newest, ..Self::default() };
    }

    /// Begins the buckets up to now. Returns their number.
    pub(super) fn advance(&mut self, tick: u64) -> u32 {
        let number = (tick / BUCKET_MS) as u32;
        let passed = number.saturating_sub(self.newest);
        for step in 1..=passed.min(BUCKETS as u32) {
            let place = (self.newest + step) as usize % BUCKETS;
            self.buckets[place] = (0, 0);
            self.changed &= !(1 << place);
        }
        self.newest += passed;
        passed
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
                window.advance(tick);
                window.record_good();
            } else {
                window.record_bad(tick, random.u32(..3));
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
        window.record_bad(33_000, 6);
        assert!(!window.has_two_fingerprints());
    }

    #[test]
    fn counts_saturate() {
        let mut window = SuccessWindow::default();
        (0..70_000).for_each(|_| window.record_good());
        assert_eq!(window.totals(), (65_535, 0));
    }
}

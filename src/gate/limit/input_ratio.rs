//! The tokens per byte of a request's text, learned from what services have reported.
//!
//! Bytes are those of the whole JSON body, so that the ratio also covers its syntax. It differs by
//! model, by language, and by what the clients of a model write.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;

use super::InputSize;
use crate::support::no_hasher::NoHasher;

/// The tokens per byte before anything is learned.
const BEGINNING: f64 = 1.0 / 3.5;

/// The bytes that count for [`BEGINNING`] at the first report: of some short requests, or less than
/// a long one.
const BEGINNING_BYTES: f64 = 8_192.0;

/// The tokens per byte of one report. Outside of it, a service counts something else, or the text
/// is padded: no client makes the inputs of others appear small.
const REPORTED: RangeInclusive<f64> = 1.0 / 16.0..=1.0;

/// The most bytes that one report adds, so that a single long request does not decide alone.
const MOST_BYTES: f64 = 65_536.0;

/// The part of what was known before that a report leaves: it is forgotten after some 16 reports.
const KEPT: f64 = 1.0 - 1.0 / 16.0;

/// The most models of upstreams that are known. Beyond it, the one that had no report for the
/// longest time is forgotten.
const MOST: usize = 1_024;

/// The ratios of all models of all upstreams. All threads share it.
#[derive(Debug, Default)]
pub struct InputRatios {
    /// Keyed by a hash of the names, since clients may write long ones. Names with the same hash share
    /// a ratio, so that it need not resist an attacker.
    hasher: RandomState,
    known: Mutex<Known>,
}

/// A ratio's key: a hash of the names.
#[derive(Clone, Copy, Debug)]
pub struct RatioKey(u64);

#[derive(Debug, Default)]
struct Known {
    ratios: HashMap<u64, Ratio, BuildHasherDefault<NoHasher>>,
    /// The number of reports so far.
    reports: u64,
}

/// An upstream has no say beside others after this many reports of others in a row: a backup that
/// served a few requests long ago.
const IDLE: u64 = 1_024;

/// A moving average, weighted by length: the sums of reported tokens and of bytes, both of which
/// fade.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    tokens: f64,
    bytes: f64,
    /// The number of the latest report.
    latest: u64,
}

impl Ratio {
    fn tokens_per_byte(self) -> f64 {
        self.tokens / self.bytes
    }

    /// Takes over the report of this number.
    #[inline]
    fn learn(&mut self, text: u64, tokens: u64, number: u64) {
        self.latest = number;
        let bytes = (text as f64).min(MOST_BYTES);
        let reported = (tokens as f64 / text as f64).clamp(*REPORTED.start(), *REPORTED.end());
        self.tokens = self.tokens * KEPT + reported * bytes;
        self.bytes = self.bytes * KEPT + bytes;
    }

    /// The larger one, unless only the other has recent reports.
    fn larger(self, other: Self) -> Self {
        match self.latest.abs_diff(other.latest) > IDLE {
            true if self.latest > other.latest => self,
            false if self.tokens_per_byte() > other.tokens_per_byte() => self,
            _ => other,
        }
    }
}

impl InputRatios {
    /// The key of the ratio of an upstream's model. `model` is the name in the request.
    pub fn key(&self, upstream: &str, model: Option<&str>) -> RatioKey {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(upstream.as_bytes());
        if let Some(model) = model {
            // No byte of UTF-8.
            hasher.write_u8(0xff);
            hasher.write(model.as_bytes());
        }
        RatioKey(hasher.finish())
    }

    /// The tokens that an input is expected to have: the most by these ratios, of upstreams that
    /// may get the request, except those of which nothing recent is known if it is of others.
    pub fn tokens(&self, size: &InputSize, keys: impl IntoIterator<Item = RatioKey>) -> u64 {
        // All threads share the lock, which is not held while a key is computed.
        let ratio = |RatioKey(key)| self.known().ratios.get(&key).copied();
        let largest = keys.into_iter().filter_map(ratio).reduce(Ratio::larger);
        size.tokens(largest.map_or(BEGINNING, Ratio::tokens_per_byte))
    }

    /// Learns from the reported tokens of an input. One that is not all in the text teaches nothing:
    /// it has files, or more tokens than bytes, since the service had a part of it.
    pub fn learn(&self, size: &InputSize, RatioKey(key): RatioKey, tokens: u64) {
        if size.files > 0 || size.has_stored || tokens == 0 || tokens > size.text {
            return;
        }
        let Known { ratios, reports } = &mut *self.known();
        *reports += 1;
        if let Some(ratio) = ratios.get_mut(&key) {
            ratio.learn(size.text, tokens, *reports);
            return;
        }
        if ratios.len() >= MOST {
            let oldest = ratios.iter().min_by_key(|(_, ratio)| ratio.latest).map(|(key, _)| *key);
            oldest.and_then(|oldest| ratios.remove(&oldest));
        }
        let mut ratio = Ratio { tokens: BEGINNING * BEGINNING_BYTES, bytes: BEGINNING_BYTES, latest: 0 };
        ratio.learn(size.text, tokens, *reports);
        ratios.insert(key, ratio);
    }

    /// Code that holds the lock cannot panic in the middle of a change.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: u64) -> InputSize {
        InputSize { text, ..InputSize::default() }
    }

    fn expected_of(ratios: &InputRatios, model: Option<&str>, upstreams: &[&str]) -> u64 {
        ratios.tokens(&size(7_000), upstreams.iter().map(|upstream| ratios.key(upstream, model)))
    }

    fn expected(ratios: &InputRatios, upstreams: &[&str]) -> u64 {
        expected_of(ratios, Some("m"), upstreams)
    }

    #[test]
    fn ratio_follows_the_reports_of_its_upstream_and_model() {
        let ratios = InputRatios::default();
        assert_eq!(expected(&ratios, &["up"]), 2_000);
        for _ in 0..100 {
            ratios.learn(&size(7_000), ratios.key("up", Some("m")), 1_400);
            ratios.learn(&size(7_000), ratios.key("up", Some("dense")), 3_500);
            ratios.learn(&size(7_000), ratios.key("up", None), 700);
        }
        assert!(expected(&ratios, &["up"]).abs_diff(1_400) <= 2);
        assert!(expected_of(&ratios, Some("dense"), &["up"]).abs_diff(3_500) <= 2);
        assert!(expected_of(&ratios, None, &["up"]).abs_diff(700) <= 2);
        // Nothing is known of another upstream.
        assert_eq!(expected(&ratios, &["other"]), 2_000);
        // Any of them may get the request, and services count alike.
        assert!(expected(&ratios, &["up", "other"]).abs_diff(1_400) <= 2);
        ratios.learn(&size(7_000), ratios.key("other", Some("m")), 2_000);
        assert_eq!(expected(&ratios, &["up", "other"]), 2_000);
        for _ in 0..100 {
            ratios.learn(&size(7_000), ratios.key("up", Some("m")), 2_800);
        }
        assert!(expected(&ratios, &["up"]).abs_diff(2_800) <= 4, "{}", expected(&ratios, &["up"]));
    }

    #[test]
    fn idle_backup_does_not_decide_beside_the_members_that_serve() {
        let ratios = InputRatios::default();
        ratios.learn(&size(7_000), ratios.key("backup", Some("m")), 3_500);
        let before = expected(&ratios, &["up", "backup"]);
        assert!(before > 2_300, "{before}");
        (0..=IDLE).for_each(|_| ratios.learn(&size(7_000), ratios.key("up", Some("m")), 1_400));
        for members in [["up", "backup"], ["backup", "up"]] {
            assert!(expected(&ratios, &members).abs_diff(1_400) <= 2);
        }
        assert_eq!(expected(&ratios, &["backup"]), before, "alone it is the best that is known");
        ratios.learn(&size(7_000), ratios.key("backup", Some("m")), 3_500);
        assert!(expected(&ratios, &["up", "backup"]) >= before, "it serves again");
    }

    #[test]
    fn long_request_counts_more_than_a_short_one() {
        let ratios = InputRatios::default();
        ratios.learn(&size(60_000), ratios.key("up", Some("m")), 12_000);
        let after_long = expected(&ratios, &["up"]);
        assert!(after_long.abs_diff(1_400) <= 70, "{after_long}");
        ratios.learn(&size(100), ratios.key("up", Some("m")), 100);
        assert!(expected(&ratios, &["up"]).abs_diff(after_long) <= 10);
    }

    #[test]
    fn padded_request_does_not_decide_for_others() {
        let ratios = InputRatios::default();
        (0..20).for_each(|_| ratios.learn(&size(7_000), ratios.key("up", Some("m")), 1_750));
        assert!(expected(&ratios, &["up"]).abs_diff(1_750) <= 30);
        ratios.learn(&size(30_000_000), ratios.key("up", Some("m")), 10);
        // Counts as 64 KiB of the lowest ratio, beside some 16 reports of 7,000 bytes.
        let after = expected(&ratios, &["up"]);
        assert!(after > 1_100, "{after}");
        (0..100).for_each(|_| ratios.learn(&size(30_000_000), ratios.key("up", Some("m")), 10));
        assert_eq!(expected(&ratios, &["up"]), 7_000 / 16 + 1);
    }

    #[test]
    fn input_that_is_not_all_in_the_text_teaches_nothing() {
        let ratios = InputRatios::default();
        ratios.learn(
            &InputSize { text: 7_000, files: 1, has_stored: false },
            ratios.key("up", Some("m")),
            700,
        );
        ratios.learn(
            &InputSize { text: 7_000, files: 0, has_stored: true },
            ratios.key("up", Some("m")),
            700,
        );
        ratios.learn(&size(700), ratios.key("up", Some("m")), 701);
        ratios.learn(&size(700), ratios.key("up", Some("m")), 0);
        assert_eq!(expected(&ratios, &["up"]), 2_000);
    }

    #[test]
    fn known_models_are_bounded_and_the_oldest_goes() {
        let ratios = InputRatios::default();
        let learn =
            |model| ratios.learn(&size(1_000_000), ratios.key("up", Some(&format!("m{model}"))), 100_000);
        (0..MOST).for_each(&learn);
        learn(0);
        learn(MOST);
        assert_eq!(ratios.known().ratios.len(), MOST);
        let expected = |model: &str| expected_of(&ratios, Some(model), &["up"]);
        assert_eq!(expected("m1"), 2_000);
        assert!(expected("m0") < 900 && expected(&format!("m{MOST}")) < 900);
    }
}

//! Knowledge about an upstream's `stream_options`: the models that refused them, for a limited
//! time, the models that accepted them, and whether the upstream reports usage without them.
//!
//! An upstream that does (llama.cpp's server sends `timings` in any case) is not asked. Models
//! whose responses then have no counts are asked again, since servers of several kinds may be
//! behind one address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::include_usage::UsageOption;
use crate::llm::provider::IncludeUsage;
use crate::proxy::meter::UsageObserver;

/// The time for which a refusal is believed. Upstreams are updated, and noticing that costs one
/// request a day.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest number of models that are remembered of one upstream. Beyond it, the oldest refusal
/// is forgotten.
const MODELS: usize = 1024;

/// The longest name that is remembered, in bytes: clients may invent names.
const NAME: usize = 256;

/// Shared by all workers.
#[derive(Debug, Default)]
pub struct StreamOptionsSupport {
    /// The size of `refused`, so that most requests need no lock.
    count: AtomicUsize,
    /// Models that refused, and the time of the refusal.
    refused: Mutex<HashMap<Box<str>, Instant>>,
    /// Models that accepted.
    accepted: Hashes,
    /// The last time at which usage came without being requested, in milliseconds since [`START`],
    /// or 0.
    unrequested: AtomicU64,
    /// Models whose responses have no counts unless they are requested.
    lacking: Hashes,
}

/// An instant before all others.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl StreamOptionsSupport {
    /// Decides for a request that does not ask for usage and whose upstream might be asked.
    pub(super) fn option(&self, wanted: IncludeUsage, model: &str, now: Instant) -> UsageOption {
        if wanted != IncludeUsage::Auto {
            return UsageOption::Always;
        }
        let hash = hash(model);
        if self.is_unneeded(hash, now) {
            UsageOption::Unneeded(hash)
        } else if self.is_unsupported(model, now) {
            UsageOption::Untouched
        } else {
            UsageOption::Auto(hash)
        }
    }

    /// Returns true if `model` has refused, and that is still believed at `now`.
    fn is_unsupported(&self, model: &str, now: Instant) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.lock().get(model).is_some_and(|&refused| is_believed(refused, now))
    }

    pub(super) fn note_unsupported(&self, model: &str, now: Instant) {
        if model.len() > NAME {
            return;
        }
        let mut models = self.lock();
        if models.len() >= MODELS && !models.contains_key(model) {
            models.retain(|_, &mut refused| is_believed(refused, now));
            let oldest = models.iter().min_by_key(|&(_, refused)| refused).map(|(model, _)| model.clone());
            if let Some(oldest) = oldest.filter(|_| models.len() >= MODELS) {
                models.remove(&oldest);
            }
        }
        models.insert(model.into(), now);
        self.count.store(models.len(), Ordering::Relaxed);
    }

    /// Returns true if the model of this hash has accepted, as far as that is remembered. Otherwise
    /// the beginning of its next response is looked at again.
    pub(super) fn is_supported(&self, model: u64) -> bool {
        self.accepted.has(model)
    }

    pub(super) fn note_supported(&self, model: u64) {
        self.accepted.note(model);
    }

    /// Returns true if responses of the model of this hash have counts without `stream_options`, as
    /// believed at `now`.
    fn is_unneeded(&self, model: u64, now: Instant) -> bool {
        let seen = self.unrequested.load(Ordering::Relaxed);
        seen > 0 && is_believed(*START + Duration::from_millis(seen), now) && !self.lacking.has(model)
    }

    /// Code that holds the lock cannot panic in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a model that needs no lock: FNV-1a of its name, never 0.
fn hash(model: &str) -> u64 {
    let hash = model.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

/// A few models by their hashes. Each hash has one slot, which keeps the last one noted: no lock,
/// and no more memory than this.
#[derive(Debug, Default)]
struct Hashes([AtomicU64; 32]);

impl Hashes {
    fn has(&self, hash: u64) -> bool {
        self.slot(hash).load(Ordering::Relaxed) == hash
    }

    fn note(&self, hash: u64) {
        let slot = self.slot(hash);
        // The hash is usually there, and a store would take the cache line from the other workers.
        if slot.load(Ordering::Relaxed) != hash {
            slot.store(hash, Ordering::Relaxed);
        }
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.0[(hash >> 59) as usize]
    }
}

impl UsageObserver for StreamOptionsSupport {
    fn on_unrequested_usage(&self) {
        let since = START.elapsed().as_millis() as u64;
        self.unrequested.store(since.max(1), Ordering::Relaxed);
    }

    fn on_missing_usage(&self, model: u64) {
        self.lacking.note(model);
    }
}

fn is_believed(refused: Instant, now: Instant) -> bool {
    now.saturating_duration_since(refused) < BELIEVED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_believed_for_a_day_and_of_that_model_alone() {
        let support = StreamOptionsSupport::default();
        let now = Instant::now();
        assert!(!support.is_unsupported("m", now));
        support.note_unsupported("m", now);
        assert!(support.is_unsupported("m", now) && !support.is_unsupported("n", now));
        assert!(support.is_unsupported("m", now + BELIEVED - Duration::from_secs(1)));
        assert!(!support.is_unsupported("m", now + BELIEVED));
        support.note_unsupported("m", now + BELIEVED);
        assert!(support.is_unsupported("m", now + BELIEVED), "it refused again");
    }

    #[test]
    fn accepting_model_is_known_by_its_hash() {
        let support = StreamOptionsSupport::default();
        let [m, n, empty] = ["m", "n", ""].map(hash);
        assert!(!support.is_supported(m) && !support.is_supported(empty));
        support.note_supported(m);
        support.note_supported(empty);
        assert!(support.is_supported(m) && support.is_supported(empty) && !support.is_supported(n));
    }

    #[test]
    fn unrequested_usage_is_expected_for_a_day_except_where_missing() {
        let support = StreamOptionsSupport::default();
        let now = Instant::now();
        let [m, n] = ["m", "n"].map(hash);
        assert!(!support.is_unneeded(m, now));
        support.on_unrequested_usage();
        assert!(support.is_unneeded(m, now) && support.is_unneeded(n, now));
        support.on_missing_usage(n);
        assert!(support.is_unneeded(m, now) && !support.is_unneeded(n, now));
        assert!(!support.is_unneeded(m, now + BELIEVED + Duration::from_secs(1)));
    }

    #[test]
    fn option_follows_configuration_then_what_was_learned() {
        let support = StreamOptionsSupport::default();
        let now = Instant::now();
        let option = |wanted| support.option(wanted, "m", now);
        assert_eq!(option(IncludeUsage::Auto), UsageOption::Auto(hash("m")));
        support.note_unsupported("m", now);
        assert_eq!(option(IncludeUsage::Auto), UsageOption::Untouched);
        support.on_unrequested_usage();
        assert_eq!(option(IncludeUsage::Auto), UsageOption::Unneeded(hash("m")));
        assert_eq!(option(IncludeUsage::Always), UsageOption::Always);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_refusal_goes_first() {
        let support = StreamOptionsSupport::default();
        let now = Instant::now();
        let at = |second: usize| now + Duration::from_secs(second as u64);
        for number in 0..=MODELS {
            support.note_unsupported(&number.to_string(), at(number));
        }
        assert_eq!(support.lock().len(), MODELS);
        assert!(!support.is_unsupported("0", at(MODELS)) && support.is_unsupported("1", at(MODELS)));
        support.note_unsupported(&"n".repeat(NAME + 1), now);
        assert!(!support.is_unsupported(&"n".repeat(NAME + 1), now));
        support.note_unsupported("new", now + 2 * BELIEVED);
        assert_eq!(support.lock().len(), 1, "expired refusals go too");
    }
}

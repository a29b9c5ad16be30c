//! What was learnt of a service by asking it for usage: which of its models refused, for as long as
//! that is believed, which took the question, and whether the service counts itself.
//!
//! A service that counts itself (llama.cpp's server, whose `timings` come unasked) is not asked.
//! Models whose responses have no counts then are asked again, since servers of several kinds may
//! be behind one address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::meter::UsageObserver;

/// How long a refusal is believed: services learn, and one request a day is what it costs to see
/// that.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// How many models are remembered of one service. Beyond it, the one that refused longest ago is
/// forgotten.
const MODELS: usize = 1024;

/// Names that are longer are not remembered. Clients make them up.
const NAME: usize = 256;

/// Shared by all workers.
#[derive(Debug, Default)]
pub struct StreamOptionsSupport {
    /// How many there are, so that most requests need no lock.
    count: AtomicUsize,
    /// When each refused.
    models: Mutex<HashMap<Box<str>, Instant>>,
    /// Those that took the question.
    taken: Names,
    /// When the service was last seen to count itself, in milliseconds since [`START`], or 0.
    counted: AtomicU64,
    /// Those whose answers have no counts unless they are asked for.
    lacking: Names,
}

/// Some moment before all others.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl StreamOptionsSupport {
    /// Whether `model` has refused, as far as that is believed at `now`.
    pub(super) fn has(&self, model: &str, now: Instant) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.lock().get(model).is_some_and(|&refused| is_believed(refused, now))
    }

    /// Notes that `model` has refused at `now`.
    pub(super) fn note(&self, model: &str, now: Instant) {
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

    /// Whether `model` has taken the question, as far as that is remembered. If it is not, its next
    /// answer is looked at again.
    pub(super) fn is_taken(&self, model: &str) -> bool {
        self.taken.has(Self::hash(model))
    }

    /// Notes that `model` has taken the question.
    pub(super) fn note_taken(&self, model: &str) {
        self.taken.note(Self::hash(model));
    }

    /// Whether answers of `model` have counts unasked, as far as that is believed at `now`.
    pub(super) fn counts_itself(&self, model: &str, now: Instant) -> bool {
        let counted = self.counted.load(Ordering::Relaxed);
        counted > 0
            && is_believed(*START + Duration::from_millis(counted), now)
            && !self.lacking.has(Self::hash(model))
    }

    /// A number by which a model is known here. It is never 0.
    pub(super) fn hash(model: &str) -> u64 {
        // FNV-1a.
        let hash = model.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hash.max(1)
    }

    /// Nothing that holds the lock can panic in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A few names, by their hashes: each has one place, where the last one that was noted is
/// remembered. No lock, and no more memory than this.
#[derive(Debug, Default)]
struct Names([AtomicU64; 32]);

impl Names {
    fn has(&self, hash: u64) -> bool {
        self.place(hash).load(Ordering::Relaxed) == hash
    }

    fn note(&self, hash: u64) {
        let place = self.place(hash);
        // Most often it is there, and a store would take the line from the other workers.
        if place.load(Ordering::Relaxed) != hash {
            place.store(hash, Ordering::Relaxed);
        }
    }

    fn place(&self, hash: u64) -> &AtomicU64 {
        &self.0[(hash >> 59) as usize]
    }
}

impl UsageObserver for StreamOptionsSupport {
    fn on_unrequested_usage(&self) {
        let since = START.elapsed().as_millis() as u64;
        self.counted.store(since.max(1), Ordering::Relaxed);
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
    fn a_refusal_is_believed_for_a_day_and_of_that_model_alone() {
        let refusals = StreamOptionsSupport::default();
        let now = Instant::now();
        assert!(!refusals.has("m", now));
        refusals.note("m", now);
        assert!(refusals.has("m", now) && !refusals.has("n", now));
        assert!(refusals.has("m", now + BELIEVED - Duration::from_secs(1)));
        assert!(!refusals.has("m", now + BELIEVED));
        refusals.note("m", now + BELIEVED);
        assert!(refusals.has("m", now + BELIEVED), "it refused again");
    }

    #[test]
    fn a_model_that_took_the_question_is_known_by_its_name() {
        let refusals = StreamOptionsSupport::default();
        assert!(!refusals.is_taken("m") && !refusals.is_taken(""));
        refusals.note_taken("m");
        refusals.note_taken("");
        assert!(refusals.is_taken("m") && refusals.is_taken("") && !refusals.is_taken("n"));
    }

    #[test]
    fn a_service_that_counts_itself_is_believed_for_a_day_but_for_models_that_do_not() {
        let refusals = StreamOptionsSupport::default();
        let now = Instant::now();
        assert!(!refusals.counts_itself("m", now));
        refusals.on_unrequested_usage();
        assert!(refusals.counts_itself("m", now) && refusals.counts_itself("n", now));
        refusals.on_missing_usage(StreamOptionsSupport::hash("n"));
        assert!(refusals.counts_itself("m", now) && !refusals.counts_itself("n", now));
        assert!(!refusals.counts_itself("m", now + BELIEVED + Duration::from_secs(1)));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_refusal_goes_first() {
        let refusals = StreamOptionsSupport::default();
        let now = Instant::now();
        let at = |second: usize| now + Duration::from_secs(second as u64);
        for number in 0..=MODELS {
            refusals.note(&number.to_string(), at(number));
        }
        assert_eq!(refusals.lock().len(), MODELS);
        assert!(!refusals.has("0", at(MODELS)) && refusals.has("1", at(MODELS)));
        refusals.note(&"n".repeat(NAME + 1), now);
        assert!(!refusals.has(&"n".repeat(NAME + 1), now));
        refusals.note("new", now + 2 * BELIEVED);
        assert_eq!(refusals.lock().len(), 1, "what is not believed any longer goes too");
    }
}

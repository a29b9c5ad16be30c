//! Which models of a service refused to be asked for usage, for as long as that is believed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a refusal is believed: services learn, and one request a day is what it costs to see that.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// How many models are remembered of one service. Beyond it, the one that refused longest ago is forgotten.
const MODELS: usize = 1024;

/// Names that are longer are not remembered. Clients make them up.
const NAME: usize = 256;

/// Shared by all workers.
#[derive(Debug, Default)]
pub struct Refusals {
    /// How many there are, so that most requests need no lock.
    count: AtomicUsize,
    /// When each refused.
    models: Mutex<HashMap<Box<str>, Instant>>,
}

impl Refusals {
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

    /// Nothing that holds the lock can panic in the middle of a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
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
        let refusals = Refusals::default();
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
    fn memory_is_bounded_and_the_oldest_refusal_goes_first() {
        let refusals = Refusals::default();
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

//! Pauses between failing attempts.

use std::time::Duration;

/// Exponential backoff: each pause is twice the one before, up to a limit.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with a pause of `first`; no pause is longer than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause in full.
    pub fn take_next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// The next pause, drawn from the upper half of its range, so that the instances of a fleet do
    /// not retry at the same moment.
    pub fn take_jittered(&mut self) -> Duration {
        self.take_next().mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Records a success: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_again() {
        let mut backoff = Backoff::new(S, 5 * S);
        let pauses: Vec<_> = (0..5).map(|_| backoff.take_next()).collect();
        assert_eq!(pauses, [S, 2 * S, 4 * S, 5 * S, 5 * S]);
        backoff.reset();
        assert_eq!(backoff.take_next(), S);
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        let mut backoff = Backoff::new(S, 4 * S);
        for full in [S, 2 * S, 4 * S, 4 * S] {
            let pause = backoff.take_jittered();
            assert!((full / 2..=full).contains(&pause), "{pause:?} of {full:?}");
        }
    }
}

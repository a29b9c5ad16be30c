//! The output that a request is expected to have, which grows with the output that has passed.
//!
//! To hold the most output that a request may have would refuse others although there is room. So
//! a first slice is held, and the next one when most of it has passed.

/// The output tokens of a slice.
const SLICE: u64 = 1_024;

/// The output tokens of a slice after [`SMALL`] tokens.
const LARGE_SLICE: u64 = 4_096;

/// The output tokens for which slices are small.
const SMALL: u64 = 4 * SLICE;

/// The most choices that are expected: OpenAI's largest `n`. A service refuses more.
const MOST_CHOICES: u64 = 128;

/// The expected output of a running request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// The output tokens that are held.
    held: u64,
    /// The part of `held` in the latest slice.
    latest: u64,
    /// The most output tokens that the request allows. `None`: it does not say.
    most: Option<u64>,
    /// The number of choices that are generated at once, from 1 to [`MOST_CHOICES`].
    choices: u64,
}

impl Slices {
    /// The first slice of a request with this limit for the output of each of its `choices`.
    pub fn first(max_output: Option<u64>, choices: u64) -> Self {
        let choices = choices.clamp(1, MOST_CHOICES);
        let most = max_output.map(|most| most.saturating_mul(choices));
        let slice = (SLICE * choices).min(most.unwrap_or(u64::MAX));
        Self { held: slice, latest: slice, most, choices }
    }

    /// The output tokens that are held.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Holds `output` tokens, and a slice more when less than a fifth of the latest one is still to
    /// come. Returns true if there is more to hold.
    pub fn grow(&mut self, output: u64) -> bool {
        let before = self.held;
        // A service may exceed the request's own limit, and may report any number.
        self.held = before.max(output);
        if output > before - self.latest / 5 {
            let slice = if self.held < SMALL * self.choices { SLICE } else { LARGE_SLICE };
            let room = self.most.unwrap_or(u64::MAX).saturating_sub(self.held);
            let slice = (slice * self.choices).min(room);
            if slice > 0 {
                (self.held, self.latest) = (self.held + slice, slice);
            }
        }
        self.held > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of holds while the output grows token by token.
    fn held(mut slices: Slices, output: u64) -> Vec<u64> {
        let mut held = vec![slices.held()];
        for output in 0..=output {
            if slices.grow(output) {
                held.push(slices.held());
            }
        }
        held
    }

    #[test]
    fn slices_grow_before_the_output_reaches_them() {
        let slices = Slices::first(None, 1);
        assert_eq!(held(slices, 10_000), [1024, 2048, 3072, 4096, 8192, 12_288]);
        let mut slices = Slices::first(None, 1);
        assert!(!slices.grow(820) && slices.grow(821));
        for output in 0..100_000 {
            slices.grow(output);
            assert!(slices.held() > output && slices.held() <= output + LARGE_SLICE + SLICE, "{output}");
        }
    }

    #[test]
    fn request_holds_no_more_than_its_own_limit() {
        assert_eq!(held(Slices::first(Some(100), 1), 100), [100]);
        assert_eq!(held(Slices::first(Some(1_500), 1), 1_500), [1024, 1500]);
        assert_eq!(held(Slices::first(Some(0), 1), 0), [0]);
        // A service that sends more than the request allows.
        assert_eq!(held(Slices::first(Some(100), 1), 102), [100, 101, 102]);
    }

    #[test]
    fn choices_multiply_the_slices() {
        assert_eq!(held(Slices::first(None, 3), 3_000), [3072, 6144]);
        assert_eq!(held(Slices::first(Some(10), 3), 30), [30]);
        assert_eq!(Slices::first(None, 0).held(), 1024);
        // A body may ask for any number.
        let mut slices = Slices::first(None, u64::MAX);
        assert_eq!(slices.held(), 128 * 1024);
        slices.grow(u64::MAX);
        assert_eq!(slices.held(), u64::MAX);
        assert_eq!(Slices::first(Some(u64::MAX), u64::MAX).held(), 128 * 1024);
    }

    #[test]
    fn output_that_comes_at_once_is_held_at_once() {
        let mut slices = Slices::first(None, 1);
        assert!(slices.grow(50_000));
        assert!(slices.held() > 50_000 && slices.held() < 60_000);
    }

    #[test]
    fn reported_number_of_any_size_is_held_in_one_step() {
        for (most, slice) in [(None, LARGE_SLICE), (Some(100), 0)] {
            let mut slices = Slices::first(most, 1);
            assert!(slices.grow(1 << 53));
            assert_eq!(slices.held(), (1 << 53) + slice);
        }
    }
}

//! The minimum rate of a request body.
//!
//! The clock runs only while the proxy waits for the client, not while the upstream accepts no
//! more. A body is *behind* by the time it was waited for, minus the time that its bytes may take
//! at `server.min_body_rate`. It may be behind by [`GRACE`] and by the time that its bytes so far
//! may take, up to [`LONGEST`]. This is Apache's `RequestReadTimeout` with a bound on the credit of
//! a fast beginning.
//!
//! A buffered body is *late* if it arrives too slowly for the memory it holds: at a rate that would
//! take longer than [`LONGEST`] for its bytes so far. When memory is short, late bodies are evicted
//! (see [`Budget`](super::Budget)).

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use crate::record::error::{Error, Kind};

/// The time that any body may be behind.
const GRACE: Duration = Duration::from_secs(10);

/// The longest time that a body may be behind, and the longest pause if there is no minimum rate.
const LONGEST: Duration = Duration::from_secs(60);

/// The lateness at which a body may be evicted.
const LATE: Duration = Duration::from_secs(1);

/// The pace of one body.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<NonZeroU32>,
    clock: Clock,
    /// Created at the first wait, and reset only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The result of waiting for a body.
#[derive(Debug)]
pub(super) enum Wait {
    /// The body may go on; the time at which it was last in time, if it is late.
    On(Option<Instant>),
    /// The client is too slow.
    Over(Error),
}

impl Pace {
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        Self { rate, clock: Clock::default(), timer: None }
    }

    /// Stops the clock, as bytes arrived.
    pub(super) fn heard(&mut self, bytes: usize) {
        if self.clock.waiting_since.is_some() {
            self.clock.stop(Instant::now());
        }
        self.clock.take(bytes, self.rate);
    }

    /// Must be called when there is nothing to read. Wakes the task when the result changes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Wait {
        let now = Instant::now();
        let since = *self.clock.waiting_since.get_or_insert(now);
        loop {
            let over = since + self.clock.allowed(self.rate).saturating_sub(self.clock.behind);
            let late = since + LATE.saturating_sub(self.clock.late);
            if now >= over {
                let kind = match self.rate {
                    Some(rate) => Kind::BodyTooSlow { rate: rate.get() },
                    None => Kind::BodyTimeout(LONGEST),
                };
                return Wait::Over(kind.into());
            }
            let is_late = now >= late;
            let next = if is_late { over } else { over.min(late) };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
            if timer.deadline() > next.into() {
                timer.as_mut().reset(next.into());
            }
            if timer.as_mut().poll(cx) == Poll::Pending {
                return Wait::On(is_late.then(|| since.checked_sub(self.clock.late)).flatten());
            }
            // The timer was set for an earlier deadline.
            timer.as_mut().reset(next.into());
        }
    }
}

/// The arithmetic.
#[derive(Debug, Default)]
struct Clock {
    waiting_since: Option<Instant>,
    received: u64,
    /// The time by which the body was behind at its last byte.
    behind: Duration,
    late: Duration,
}

impl Clock {
    fn stop(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            let waited = now.saturating_duration_since(since);
            self.behind += waited;
            self.late += waited;
        }
    }

    fn take(&mut self, bytes: usize, rate: Option<NonZeroU32>) {
        let bytes = bytes as u64;
        self.received += bytes;
        if self.behind.is_zero() && self.late.is_zero() {
            return;
        }
        self.behind = match rate {
            Some(rate) => self.behind.saturating_sub(time_for(bytes, rate.get().into())),
            None if bytes == 0 => self.behind,
            None => Duration::ZERO,
        };
        let fitting = (self.received / LONGEST.as_secs()).max(rate.map_or(1, |rate| rate.get().into()));
        self.late = self.late.saturating_sub(time_for(bytes, fitting));
    }

    /// The time that the body may be behind.
    fn allowed(&self, rate: Option<NonZeroU32>) -> Duration {
        let Some(rate) = rate else { return LONGEST };
        (GRACE + time_for(self.received, rate.get().into())).min(LONGEST)
    }
}

/// The time for these bytes at `rate` bytes per second, which is not 0.
fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<NonZeroU32> = NonZeroU32::new(500);

    /// A clock after waits of so many seconds, each for so many bytes.
    fn clock(rate: Option<NonZeroU32>, waits: &[(u64, usize)]) -> Clock {
        let (mut clock, mut now) = (Clock::default(), Instant::now());
        for &(seconds, bytes) in waits {
            clock.waiting_since = Some(now);
            now += Duration::from_secs(seconds);
            clock.stop(now);
            clock.take(bytes, rate);
        }
        clock
    }

    fn is_over(rate: Option<NonZeroU32>, waits: &[(u64, usize)]) -> bool {
        let clock = clock(rate, waits);
        clock.behind >= clock.allowed(rate)
    }

    #[test]
    fn a_body_may_be_behind_by_the_grace_and_by_what_it_brought() {
        for (waits, over) in [
            (&[(9, 0)][..], false),
            (&[(10, 0)], true),
            (&[(1, 1); 10], false),
            (&[(1, 1); 11], true),
            (&[(1, 500); 1000], false),
            (&[(1, 490); 450], false),
            // A fast body may pause for a minute, and no longer.
            (&[(0, 1 << 20), (59, 0)], false),
            (&[(0, 1 << 20), (60, 0)], true),
            (&[(0, 1 << 20), (30, 1), (31, 1)], true),
            (&[(0, 1 << 20), (30, 20_000), (40, 0)], false),
        ] {
            assert_eq!(is_over(RATE, waits), over, "{waits:?}");
        }
    }

    #[test]
    fn without_a_rate_only_a_pause_is_too_long() {
        assert!(!is_over(None, &[(59, 1); 100]));
        assert!(is_over(None, &[(59, 1), (60, 0)]));
        assert!(is_over(None, &[(30, 0), (30, 0)]), "no bytes are no sign of life");
    }

    #[test]
    fn a_body_that_holds_much_is_late_sooner() {
        assert!(clock(RATE, &[(0, 30 << 20), (1, 501), (1, 501)]).late >= LATE);
        assert!(clock(RATE, &[(1, 501); 30]).late < LATE);
        assert!(clock(RATE, &[(1, 1 << 20); 30]).late < LATE);
    }
}

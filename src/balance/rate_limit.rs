//! The end of a service's rate limit, and the rest before it is reached.
//!
//! The first of these that exists: `retry-after-ms`; `retry-after`; of `x-ratelimit-reset-*` and
//! `anthropic-ratelimit-*-reset` those whose `remaining` is 0, the latest; Google's `retryDelay`;
//! the time in the message. A time that is not above 0, not a number, past or absurd is ignored.

mod headers;
mod span;

use std::time::{Duration, Instant};

use super::UpstreamError;
use crate::codec::head::Headers;

pub(super) use headers::{Remaining, may_have_limits, remaining};
pub(super) use span::parse_span;

/// The longest time for which a member is left out because of a rate limit. Then it is asked again,
/// regardless of the service's time.
const MAX_COOLDOWN: Duration = Duration::from_secs(600);
/// The longest time that is believed: a year.
const ABSURD: Duration = Duration::from_secs(366 * 24 * 3600);
/// The first pause if the service names no time, doubled up to the longest.
const FIRST_GUESS: Duration = Duration::from_secs(1);
const LONGEST_GUESS: Duration = Duration::from_secs(30);

/// The time on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub now: Instant,
    /// Since 1970, for dates in headers.
    pub unix: Duration,
}

/// The rest of a rate limit: above 0, and at most 10 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown(pub Duration);

/// The end of the rate limit that a 429 reports. `None`: the service names none.
pub fn cooldown(headers: &Headers, error: &UpstreamError, clock: Clock) -> Option<Cooldown> {
    let pause = headers::pause(headers, clock)
        .or(error.retry_delay.filter(is_believable))
        .or_else(|| span::in_text(&error.message).filter(is_believable))?;
    Some(Cooldown(pause.min(MAX_COOLDOWN)))
}

fn is_believable(pause: &Duration) -> bool {
    !pause.is_zero() && *pause <= ABSURD
}

/// The pause after this many 429s without a time (at least 1): 1 s, doubled up to 30 s, ± 20 %.
pub(super) fn guessed_pause(number: u8, random: u64) -> Duration {
    let factor = 2_u32.saturating_pow(u32::from(number.saturating_sub(1)).min(10));
    let pause = FIRST_GUESS.saturating_mul(factor).min(LONGEST_GUESS);
    let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
    pause.mul_f64(0.8 + 0.4 * uniform)
}

#[cfg(test)]
mod tests;

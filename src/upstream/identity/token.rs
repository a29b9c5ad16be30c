//! A token with the times of its life.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::secret::Secret;

/// A token is not used in the last two minutes of its life, since a request may be on its way for a
/// while, and clocks differ.
const MARGIN: Duration = Duration::from_secs(120);

/// The part of a short life that is the margin.
const MARGIN_PART: u32 = 4;

/// The longest life that is believed: a day.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of a life by which a renewal may be earlier or later, so that a fleet does not renew at
/// the same moment.
const JITTER: f64 = 0.1;

/// The text of a token and its life, as an authority issued it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Issued {
    pub(super) text: Secret,
    /// Not zero.
    pub(super) life: Duration,
    /// The time after which the authority wants it to be renewed.
    pub(super) refresh_in: Option<Duration>,
}

/// A token in use.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccessToken {
    pub(super) text: Secret,
    issued: Instant,
    expires: Instant,
    refresh: Duration,
}

impl AccessToken {
    /// `asked`: the time at which it was requested, from which its life is counted.
    pub(super) fn new(issued: Issued, asked: Instant) -> Self {
        let life = issued.life.min(MAX_LIFE);
        let refresh = issued.refresh_in.filter(|refresh| !refresh.is_zero()).unwrap_or(life / 2);
        Self {
            text: issued.text,
            issued: asked,
            expires: asked + life,
            refresh: refresh.min(life / 2 + life / 4),
        }
    }

    /// Returns true until the margin before its end.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        now + MARGIN.min((self.expires - self.issued) / MARGIN_PART) < self.expires
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.issued)
    }

    /// The rest of its life.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.expires.saturating_duration_since(now)
    }

    /// The time of its renewal. `random` is from 0 to 1.
    pub(super) fn renewal(&self, random: f64) -> Instant {
        self.issued + self.refresh.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn token(life: u32, refresh_in: Option<u32>, now: Instant) -> AccessToken {
        let issued = Issued {
            text: Secret::new("t".to_owned()),
            life: S * life,
            refresh_in: refresh_in.map(|s| S * s),
        };
        AccessToken::new(issued, now)
    }

    #[test]
    fn token_is_used_until_two_minutes_before_its_end() {
        let now = Instant::now();
        for (life, last) in [(3600, 3479), (480, 359), (240, 179), (4, 2)] {
            let token = token(life, None, now);
            assert!(token.is_usable(now + S * last), "{life}");
            assert!(!token.is_usable(now + S * (last + 1)), "{life}");
        }
        assert_eq!(token(10, None, now).rest(now + 11 * S), Duration::ZERO);
        assert!(!token(u32::MAX, None, now).is_usable(now + MAX_LIFE), "a life is a day at most");
    }

    #[test]
    fn renewal_is_at_half_of_the_life_or_as_the_authority_says() {
        let now = Instant::now();
        let times = |life, refresh| {
            [0.0, 0.5, 1.0].map(|random| (token(life, refresh, now).renewal(random) - now).as_secs())
        };
        assert_eq!(times(3600, None), [1620, 1800, 1980]);
        assert_eq!(times(86400, Some(43200)), [38880, 43200, 47520]);
        assert_eq!(times(3600, Some(0)), [1620, 1800, 1980]);
        // A renewal after the end would leave requests without a token.
        assert_eq!(times(100, Some(1000)), [67, 75, 82]);
    }
}

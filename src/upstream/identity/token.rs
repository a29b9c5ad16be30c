//! A token with the times of its life.

use std::fmt;
use std::time::{Duration, SystemTime};

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

/// The shortest time between a token and its renewal ahead of its end, whatever the authority says.
const MIN_REFRESH: Duration = Duration::from_secs(10);

/// A time on both clocks. The monotonic one stands still while the machine sleeps, and the other one
/// may be set: a life is over when it is on either.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) monotonic: Instant,
    pub(super) wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The longer of the times on the two clocks.
    fn since(self, earlier: Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        self.monotonic.saturating_duration_since(earlier.monotonic).max(wall)
    }
}

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
#[derive(Clone)]
pub(super) struct AccessToken {
    pub(super) text: Secret,
    issued: Moment,
    life: Duration,
    refresh: Duration,
}

impl AccessToken {
    /// `asked`: the time at which it was requested, from which its life is counted.
    pub(super) fn new(issued: Issued, asked: Moment) -> Self {
        let life = issued.life.min(MAX_LIFE);
        let refresh = issued.refresh_in.filter(|refresh| !refresh.is_zero()).unwrap_or(life / 2);
        Self {
            text: issued.text,
            issued: asked,
            life,
            refresh: refresh.min(life / 2 + life / 4).max(MIN_REFRESH),
        }
    }

    /// Returns true until the margin before its end.
    pub(super) fn is_usable(&self, now: Moment) -> bool {
        self.age(now) + MARGIN.min(self.life / MARGIN_PART) < self.life
    }

    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.issued)
    }

    /// The rest of its life.
    pub(super) fn rest(&self, now: Moment) -> Duration {
        self.life.saturating_sub(self.age(now))
    }

    /// The age at which it is renewed. `random` is from 0 to 1.
    pub(super) fn renewal(&self, random: f64) -> Duration {
        self.refresh.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
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

    fn token(life: u32, refresh_in: Option<u32>, now: Moment) -> AccessToken {
        let issued = Issued {
            text: Secret::new("t".to_owned()),
            life: S * life,
            refresh_in: refresh_in.map(|s| S * s),
        };
        AccessToken::new(issued, now)
    }

    #[test]
    fn token_is_used_until_two_minutes_before_its_end() {
        let now = Moment::now();
        let after = |time: Duration| Moment { monotonic: now.monotonic + time, ..now };
        for (life, last) in [(3600, 3479), (480, 359), (240, 179), (4, 2)] {
            let token = token(life, None, now);
            assert!(token.is_usable(after(S * last)), "{life}");
            assert!(!token.is_usable(after(S * (last + 1))), "{life}");
        }
        assert_eq!(token(10, None, now).rest(after(11 * S)), Duration::ZERO);
        assert!(!token(u32::MAX, None, now).is_usable(after(MAX_LIFE)), "a life is a day at most");
    }

    #[test]
    fn life_is_over_when_it_is_on_either_clock() {
        let now = Moment::now();
        let token = token(3600, None, now);
        let woken = Moment { wall: now.wall + 3600 * S, ..now };
        assert!(!token.is_usable(woken), "the machine slept for an hour");
        assert_eq!((token.age(woken), token.rest(woken)), (3600 * S, Duration::ZERO));
        let set_back = Moment { monotonic: now.monotonic + 60 * S, wall: now.wall - 7200 * S };
        assert!(token.is_usable(set_back));
        assert_eq!(token.age(set_back), 60 * S);
    }

    #[test]
    fn renewal_is_at_half_of_the_life_or_as_the_authority_says() {
        let now = Moment::now();
        let times =
            |life, refresh| [0.0, 0.5, 1.0].map(|random| token(life, refresh, now).renewal(random).as_secs());
        assert_eq!(times(3600, None), [1620, 1800, 1980]);
        assert_eq!(times(86400, Some(43200)), [38880, 43200, 47520]);
        assert_eq!(times(3600, Some(0)), [1620, 1800, 1980]);
        // A renewal after the end would leave requests without a token.
        assert_eq!(times(100, Some(1000)), [67, 75, 82]);
        // An authority must not be asked all the time.
        assert_eq!(times(3600, Some(1)), [9, 10, 11]);
        assert_eq!(times(1, None), [9, 10, 11]);
    }
}

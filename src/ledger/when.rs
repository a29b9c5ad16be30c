//! A moment as people write it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::config;

/// A length of time back from now (`30m`, `24h`, `90d`), a UTC day (`2026-07-30`) or a time (`2026-07-30T08:00:00Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long before now.
    Ago(Duration),
    /// That moment; of a day, its beginning.
    At(Timestamp),
}

impl When {
    /// Reads one of the forms.
    ///
    /// # Errors
    /// In words: what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        if let Some(day) = text.parse::<Date>().ok().and_then(|day| day.to_zoned(TimeZone::UTC).ok()) {
            return Ok(Self::At(day.timestamp()));
        }
        config::past(text).map(Self::Ago)
    }

    /// The moment itself.
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            Self::At(at) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_length_of_time_a_day_or_a_time() {
        let now: Timestamp = "2026-07-30T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", "2026-07-29T12:00:00Z"),
            ("730d", "2024-07-30T12:00:00Z"),
            ("2026-07-01", "2026-07-01T00:00:00Z"),
            ("2026-07-30T08:00:00+02:00", "2026-07-30T06:00:00Z"),
        ] {
            assert_eq!(When::parse(text).unwrap().before(now).to_string(), expected, "{text}");
        }
        for (text, reason) in
            [("24", "no unit"), ("yesterday", "no length of time"), ("0s", "longer than zero")]
        {
            let error = When::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}

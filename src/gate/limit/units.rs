//! Amounts of what a limit counts.

use std::fmt;

/// An amount of what a limit counts: requests, thousandths of a token, or the smallest amounts of
/// a currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Units(pub u128);

impl Units {
    /// The largest limit. It fits into a bucket's level for a period of an hour, and is a million
    /// million in any currency.
    pub const MOST: Self = Self(1_000_000_000_000_000_000_000_000);

    /// The sum, saturated at [`Self::MOST`], so that no computation with a level overflows.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(Self::MOST.0))
    }

    /// The difference; 0 if `other` is larger.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// A negative number is 0.
    pub(super) fn from_signed(units: i128) -> Self {
        Self(u128::try_from(units).unwrap_or(0))
    }

    pub(super) fn signed(self) -> i128 {
        // At most MOST, which is far below the largest i128.
        self.0.min(Self::MOST.0) as i128
    }
}

impl From<u64> for Units {
    fn from(units: u64) -> Self {
        Self(units.into())
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    #[inline]
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match self.0.checked_add(other.0) {
            Some(sum) if sum <= Self::MOST.0 => Self(sum),
            _ => Self::most(),
        }
    }

    /// A branch that is never taken costs less than two words that are always chosen.
    #[cold]
    #[inline(never)]
    fn most() -> Self {
        Self::MOST
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

    #[inline]
    pub(super) fn signed(self) -> i128 {
        // At most MOST, which is far below the largest i128.
        let units = if self <= Self::MOST { self } else { Self::most() };
        units.0 as i128
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

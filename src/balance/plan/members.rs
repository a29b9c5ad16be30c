//! A set of members.

use crate::balance::MAX_MEMBERS;

/// A set of the numbers of members, which are below [`MAX_MEMBERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Members(u128);

const _: () = assert!(MAX_MEMBERS <= u128::BITS as usize);

impl Members {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn contains(self, number: usize) -> bool {
        self.0 >> number & 1 != 0
    }

    pub(super) fn with(self, number: usize) -> Self {
        Self(self.0 | 1 << number)
    }

    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

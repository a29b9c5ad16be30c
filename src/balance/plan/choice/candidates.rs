//! The available members of a tier.

use crate::balance::MAX_MEMBERS;
use crate::balance::group::Bound;

/// A list of members in ascending order, with the sums that a choice needs.
#[derive(Clone, Copy)]
pub(super) struct Candidates {
    numbers: [u8; MAX_MEMBERS],
    length: usize,
    /// The requests that run at them.
    pub(super) running: u64,
    /// The sum of their weights.
    pub(super) weight: u64,
}

const _: () = assert!(MAX_MEMBERS <= 256);

impl Candidates {
    pub(super) const NONE: Self = Self { numbers: [0; MAX_MEMBERS], length: 0, running: 0, weight: 0 };

    #[inline]
    pub(super) fn push(&mut self, number: usize, bound: &Bound) {
        self.numbers[self.length] = number as u8;
        self.length += 1;
        self.running += u64::from(bound.load.running());
        self.weight += u64::from(bound.weight);
    }

    /// Removes a member, if it is in the list.
    pub(super) fn remove(&mut self, number: usize, bound: &Bound) {
        let Some(place) = self.iter().position(|other| other == number) else { return };
        self.numbers.copy_within(place + 1..self.length, place);
        self.length -= 1;
        self.weight -= u64::from(bound.weight);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn get(&self, place: usize) -> usize {
        usize::from(self.numbers[..self.length][place])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.numbers[..self.length].iter().map(|&number| usize::from(number))
    }
}

//! The places of the fields with known names.

use super::{KnownName, NameSet, Place};

/// The known names of a head, and the first field of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index {
    names: NameSet,
    /// The place of the first field of each name, at most [`FAR`].
    first: [u8; KnownName::COUNT],
}

/// No field has the name.
const ABSENT: u8 = u8::MAX;

/// The last place that an index has.
const FAR: u8 = ABSENT - 1;

impl Index {
    pub(super) const EMPTY: Self = Self { names: NameSet::of(&[]), first: [ABSENT; KnownName::COUNT] };

    /// Notes that the field at `at`, behind all noted ones, has this name.
    #[inline]
    pub(super) fn note(&mut self, name: KnownName, at: usize) {
        let first = &mut self.first[name as usize];
        if *first == ABSENT {
            *first = at.min(usize::from(FAR)) as u8;
            self.names.add(name);
        }
    }

    /// The index of these fields.
    pub(super) fn of(fields: &[Place]) -> Self {
        let mut index = Self::EMPTY;
        for (at, place) in fields.iter().enumerate() {
            place.known.into_iter().for_each(|known| index.note(known, at));
        }
        index
    }

    pub(super) fn names(&self) -> NameSet {
        self.names
    }

    /// The place at which a search for fields of this name begins. `None`: there are none.
    #[inline]
    pub(super) fn first(&self, name: KnownName) -> Option<usize> {
        let first = self.first[name as usize];
        (first != ABSENT).then_some(usize::from(first))
    }
}

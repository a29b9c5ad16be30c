//! The target of a route.

/// The upstreams of a route, decided when the configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<U> {
    /// One upstream, no group.
    One(U),
}

impl<U> Target<U> {
    /// The first member, which names the target until an attempt wins.
    pub fn first(&self) -> &U {
        let Self::One(upstream) = self;
        upstream
    }

    /// The member of this number, which is less than [`Target::len`].
    pub fn member(&self, _number: usize) -> &U {
        self.first()
    }

    /// The number of members: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a target is never empty")]
    pub fn len(&self) -> usize {
        1
    }

    /// The same target with other members.
    pub fn map<V>(&self, member: impl FnOnce(&U) -> V) -> Target<V> {
        Target::One(member(self.first()))
    }
}

//! The target of a route.

use std::sync::Arc;

use super::UpstreamGroup;

/// The upstreams of a route, decided when the configuration is read.
#[derive(Clone, Debug)]
pub enum Target<U> {
    /// One upstream, no group.
    One(U),
    /// The members of a group. Boxed, so that the target of one upstream stays small.
    Group(Box<GroupTarget<U>>),
}

/// A group, with a value for each of its members.
#[derive(Clone, Debug)]
pub struct GroupTarget<U> {
    group: Arc<UpstreamGroup>,
    /// The values by number.
    members: Box<[U]>,
}

impl<U> Target<U> {
    /// The target of a group. `members` are in the order of [`UpstreamGroup::members`].
    pub fn group(group: Arc<UpstreamGroup>, members: Vec<U>) -> Self {
        assert_eq!(group.members().len(), members.len(), "one for each member");
        Self::Group(Box::new(GroupTarget { group, members: members.into() }))
    }

    /// The first member, which names the target until an attempt wins.
    pub fn first(&self) -> &U {
        self.member(0)
    }

    /// The member of this number, which is less than [`Target::len`].
    pub fn member(&self, number: usize) -> &U {
        match self {
            Self::One(upstream) => upstream,
            Self::Group(target) => &target.members[number],
        }
    }

    /// The number of members: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a target is never empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Group(target) => target.members.len(),
        }
    }

    /// The group, if the target is one.
    pub fn as_group(&self) -> Option<&Arc<UpstreamGroup>> {
        match self {
            Self::One(_) => None,
            Self::Group(target) => Some(&target.group),
        }
    }

    /// A target of the same form with other members.
    pub fn map<V>(&self, mut member: impl FnMut(&U) -> V) -> Target<V> {
        match self {
            Self::One(upstream) => Target::One(member(upstream)),
            Self::Group(target) => Target::Group(Box::new(GroupTarget {
                group: Arc::clone(&target.group),
                members: target.members.iter().map(member).collect(),
            })),
        }
    }
}

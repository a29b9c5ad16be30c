//! The permit of a group's member, as an attempt and its response carry it.

use crate::balance::Permit;
use crate::record::GroupNotes;

/// The permit of a group's member. In one box with the notes of a request that has only one attempt,
/// and needs nothing else of its group.
#[derive(Debug)]
pub struct MemberPermit {
    pub permit: Permit,
    /// `None`: the group's request has them, or the response runs, which the record describes alone.
    pub notes: Option<GroupNotes>,
}

impl MemberPermit {
    pub fn new(permit: Permit) -> Box<Self> {
        Box::new(Self { permit, notes: None })
    }
}

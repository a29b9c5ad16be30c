//! The question of an instance to the store of a limit that a fleet shares, and the reply.

use jiff::Timestamp;

use crate::gate::limit::Units;

/// A question to the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The period that it is about.
    pub period: Option<(Timestamp, Timestamp)>,
    /// The amount that this instance has spent in all. For a rate also what running requests hold.
    pub spent: i128,
    /// The part of `spent` that another instance with the same ledger reports.
    pub foreign: Units,
    /// The amount that running requests hold, and have not spent.
    pub held: Units,
    /// The amount that requests wait for, and the least of them, which has to be left for any of
    /// them to go on.
    pub want: Units,
    pub least: Units,
    /// The grant that this instance keeps.
    pub keep: Units,
    /// The amount that it is likely to use soon.
    pub soon: Units,
    /// The amount that all instances keep in reserve.
    pub idle: Units,
    pub most: Units,
    pub rate: Option<AskedRate>,
    /// The store has replied to an ask about this period before.
    pub is_known: bool,
    /// The store was away since, so that it may not know what others have spent.
    pub was_away: bool,
    /// The amount that this instance may take if the store does not know what others have spent.
    pub alone: Units,
    /// The instances that were seen last.
    pub instances: u32,
    /// The time for which the grant is kept, in nanoseconds.
    pub valid: u64,
    /// The time of the ask, and the number of outages before it.
    pub(super) at: u64,
    pub(super) outages: u64,
}

/// The part of an ask that is about a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AskedRate {
    /// Units per millisecond.
    pub refill: f64,
    /// The part of `spent` of which the store has not said that it is known.
    pub unconfirmed: i128,
    /// The level that the bucket should have, if the store does not know it.
    pub level: i128,
    /// The number of the beginning of `spent`, by which the store knows a repeated ask from that of a
    /// rate that begins again.
    pub beginning: u64,
}

/// The reply of the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reply {
    /// The grant that is not spent: at least what running requests hold, except for a rate.
    pub granted: Units,
    /// The amount that is neither spent nor granted; negative if too much is spent.
    pub left: i128,
    /// The instances with grants, this one included.
    pub instances: u32,
    /// The amount that others have spent or hold. For a rate, what is missing in the bucket.
    pub elsewhere: Units,
    /// The grants of others that they neither spend nor hold.
    pub unused: Units,
}

//! A limit as it is configured.

use super::{BucketRate, Calendar, LimitFilter, Quantity, Units};
use crate::support::calendar::Period;

/// A limit as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSpec {
    pub quantity: Quantity,
    pub bound: LimitBound,
    pub at_limit: AtLimit,
    pub filter: LimitFilter,
    pub unpriced: Unpriced,
}

/// The treatment of a request whose model has no price, by a limit of cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpriced {
    #[default]
    Refuse,
    /// The request is admitted, and costs nothing.
    Allow,
}

/// The amount that a limit allows.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitBound {
    /// The content of a bucket.
    Rate(BucketRate),
    /// The amount of each period, from 1 to [`Units::MOST`].
    Period { limit: Units, calendar: Calendar },
    /// The number of running requests.
    Concurrent(Units),
}

/// The treatment of a request for which a limit has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    Refuse,
    /// A running request is ended too, when it needs more than it holds.
    Cut,
    /// The request waits for room, at most this time in nanoseconds, and is then refused.
    Wait(u64),
    /// The request is admitted, and counts.
    Warn,
}

/// The time in which a limit counts. A limit for another one begins its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitTime {
    /// The period of a rate, in nanoseconds.
    Rate(u64),
    Calendar(Period),
    /// The time of running requests.
    Present,
}

impl LimitBound {
    pub(super) fn time(&self) -> LimitTime {
        match self {
            Self::Rate(rate) => LimitTime::Rate(rate.period),
            Self::Period { calendar, .. } => LimitTime::Calendar(calendar.period),
            Self::Concurrent(_) => LimitTime::Present,
        }
    }
}

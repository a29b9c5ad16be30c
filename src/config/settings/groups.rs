//! `[groups.NAME]`.

use std::time::Duration;

use crate::balance::{BreakerPolicy, ChoiceBy, RetryPolicy, StickyBy};

/// Several upstreams for the same requests.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    pub name: String,
    /// The members by preference. No tier is empty, no two members are equal, and some member has a
    /// weight.
    pub tiers: Vec<Vec<MemberSettings>>,
    pub balance: ChoiceBy,
    /// The keys of a conversation, whose requests stay at one member: the first that a request has
    /// counts.
    pub sticky: Vec<StickyBy>,
    /// The longest time for which the beginning of a stream is held, in case it is an error.
    /// `None`: it is not held.
    pub first_event: Option<Duration>,
    pub retry: RetryPolicy,
    pub breaker: BreakerPolicy,
    /// The path that asks a member that is left out whether it is well. `None`: the next request
    /// decides.
    pub probe: Option<String>,
    /// The largest number of requests that run at each member at the same time; 0: any number.
    pub concurrent: u32,
    /// The longest time for which a request waits for a member. `None`: no request waits.
    pub wait: Option<Duration>,
    /// The largest number of waiting requests, at least 1.
    pub queue: usize,
}

impl GroupSettings {
    /// The members of all tiers, by preference.
    pub fn members(&self) -> impl Iterator<Item = &MemberSettings> {
        self.tiers.iter().flatten()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// The index of an upstream.
    pub upstream: usize,
    /// The share of the tier's requests; 0: none.
    pub weight: u32,
    /// The model in place of the request's.
    pub model: Option<String>,
}

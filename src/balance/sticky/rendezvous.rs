//! Rendezvous hashing: each key has an order of members, without a table.
//!
//! The member with the highest score of key and name is the first. The order is the same in all
//! processes, and the removal of a member moves only its own keys. With weights the score is
//! `-ln(u) / weight` for a uniform `u`, and the lowest is the first, so that a member's share is
//! its weight's.

use super::StickyKey;
use super::hash::{Hash64, mix};

/// The order of members for a key: the lowest is the first.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(in crate::balance) struct Rank(f64);

impl Rank {
    pub(in crate::balance) const LAST: Self = Self(f64::INFINITY);
}

/// The part of a member's hash that does not depend on the key.
pub(in crate::balance) fn member_seed(upstream: &str, model: Option<&str>) -> u64 {
    Hash64::new().bytes(upstream.as_bytes()).bytes(model.unwrap_or_default().as_bytes()).finish()
}

/// The rank of a member for a key. `is_even`: all weights that are compared are equal, which makes
/// the logarithm unnecessary.
pub(in crate::balance) fn rank(key: StickyKey, seed: u64, weight: u32, is_even: bool) -> Rank {
    let hash = mix(key.0 ^ seed) >> 11;
    // A uniform number of 53 bits, above 0 and up to 1.
    let uniform = (hash + 1) as f64 / (1_u64 << 53) as f64;
    if is_even { Rank(-uniform) } else { Rank(-uniform.ln() / f64::from(weight)) }
}

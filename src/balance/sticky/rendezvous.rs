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

/// The rank of a member for a key, if it is before `other`. `is_even`: all weights that are compared
/// are equal, which makes the logarithm unnecessary.
#[inline]
pub(in crate::balance) fn rank_before(
    other: Rank,
    key: StickyKey,
    seed: u64,
    weight: u32,
    is_even: bool,
) -> Option<Rank> {
    let hash = mix(key.0 ^ seed) >> 11;
    // A uniform number of 53 bits, above 0 and up to 1.
    let uniform = (hash + 1) as f64 / (1_u64 << 53) as f64;
    if is_even {
        return Some(Rank(-uniform)).filter(|rank| *rank < other);
    }
    // 1 - u is never above -ln(u), and cheaper.
    let weight = f64::from(weight);
    if (1.0 - uniform) / weight >= other.0 {
        return None;
    }
    Some(Rank(-uniform.ln() / weight)).filter(|rank| *rank < other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_that_is_skipped_is_not_before_the_other() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let (key, seed, weight) = (StickyKey(random.u64(..)), random.u64(..), random.u32(1..9));
            let rank = rank_before(Rank::LAST, key, seed, weight, false).unwrap();
            let other = Rank(random.f64());
            assert_eq!(rank_before(other, key, seed, weight, false).is_some(), rank < other);
        }
    }

    #[test]
    fn equal_weights_have_the_same_order_with_and_without_logarithm() {
        for key in 0..500 {
            let first = |is_even| {
                let rank = |seed: &u64| rank_before(Rank::LAST, StickyKey(key), *seed, 3, is_even).unwrap();
                (0..20_u64)
                    .map(|seed| seed * 0x1234_5678_9abc)
                    .min_by(|one, other| rank(one).partial_cmp(&rank(other)).expect("ranks are numbers"))
            };
            assert_eq!(first(true), first(false));
        }
    }
}

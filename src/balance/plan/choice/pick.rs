//! The choice among available members: by the conversation's key, by latency, or by weight.

use std::ops::Range;

use super::Choice;
use crate::balance::ChoiceBy;
use crate::balance::group::Bound;
use crate::balance::plan::members::Members;
use crate::balance::sticky::{Rank, StickyKey, StickyResult, rank_before};

/// The limit on a member's load: new conversations skip a member with more running requests than
/// this many times its share of the tier's, plus [`LOAD_SLACK`].
const LOAD_FACTOR: f64 = 1.25;
const LOAD_SLACK: f64 = 4.0;

/// The running requests of the available members of a tier, and the sum of their weights.
struct TierLoad {
    running: u64,
    weight: u64,
}

impl Choice<'_> {
    /// Chooses one of several members.
    pub(super) fn pick(&self, candidates: Members, tier: &Range<usize>) -> (usize, StickyResult) {
        match (self.plan.sticky, self.plan.group.spec().choice) {
            (Some(key), _) => self.by_key(key, candidates, tier),
            (None, ChoiceBy::Weight) => (self.draw(candidates), StickyResult::None),
            (None, ChoiceBy::Latency) => (self.by_latency(candidates), StickyResult::None),
        }
    }

    /// The first member in the key's order whose load is within the limit.
    fn by_key(&self, key: StickyKey, candidates: Members, tier: &Range<usize>) -> (usize, StickyResult) {
        let load = self.tier_load(candidates);
        let is_even = self.plan.group.is_even;
        // The first of all members, of those that are available, and of those that have room: each is
        // behind the one before it, or the same.
        let [mut home, mut first, mut best] = [(Rank::LAST, 0); 3];
        for number in tier.clone() {
            let bound = self.bound(number);
            if bound.weight == 0 {
                continue;
            }
            let Some(rank) = rank_before(best.0, key, bound.seed, bound.weight, is_even) else { continue };
            if rank < home.0 {
                home = (rank, number);
            }
            if candidates.contains(number) {
                if rank < first.0 {
                    first = (rank, number);
                }
                if load.has_room(bound) {
                    best = (rank, number);
                }
            }
        }
        let (_, chosen) = if best.0 < Rank::LAST { best } else { first };
        let is_home = chosen == home.1 && tier.start == 0;
        (chosen, if is_home { StickyResult::Kept } else { StickyResult::Moved })
    }

    fn tier_load(&self, candidates: Members) -> TierLoad {
        candidates.iter().fold(TierLoad { running: 0, weight: 0 }, |load, number| {
            let bound = self.bound(number);
            TierLoad {
                running: load.running + u64::from(bound.load.running()),
                weight: load.weight + u64::from(bound.weight),
            }
        })
    }

    /// Draws two members, and returns the one with the earlier expected first event.
    fn by_latency(&self, candidates: Members) -> usize {
        let one = self.draw(candidates);
        let mut others = candidates;
        others.remove(one);
        if others.is_empty() {
            return one;
        }
        let other = self.draw(others);
        let cost = |number: usize| {
            let running = self.bound(number).load.running() as f32 + 1.0;
            (self.model(number).latency.expected(self.tick) * running, running)
        };
        if cost(other) < cost(one) { other } else { one }
    }

    /// Draws a member at random, by weight.
    fn draw(&self, candidates: Members) -> usize {
        let total: u64 = candidates.iter().map(|number| u64::from(self.bound(number).weight)).sum();
        let mut drawn = self.random.borrow_mut().u64(..total.max(1));
        for number in candidates.iter() {
            let weight = u64::from(self.bound(number).weight);
            if drawn < weight {
                return number;
            }
            drawn -= weight;
        }
        candidates.iter().next().unwrap_or_default()
    }
}

impl TierLoad {
    /// One more request leaves the member within its bound.
    fn has_room(&self, bound: &Bound) -> bool {
        let share = (self.running + 1) as f64 * f64::from(bound.weight) / self.weight as f64;
        f64::from(bound.load.running()) + 1.0 <= LOAD_FACTOR * share + LOAD_SLACK
    }
}

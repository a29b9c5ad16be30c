//! The choice among available members: by the conversation's key, by latency, or by weight.

use std::ops::Range;

use super::Choice;
use super::candidates::Candidates;
use crate::balance::ChoiceBy;
use crate::balance::group::Bound;
use crate::balance::sticky::{Rank, StickyKey, StickyResult, rank_before};

/// The limit on a member's load: new conversations skip a member with more running requests than
/// this many times its share of the tier's, plus [`LOAD_SLACK`].
const LOAD_FACTOR: f64 = 1.25;
const LOAD_SLACK: f64 = 4.0;

impl Choice<'_> {
    /// Chooses one of several members.
    pub(super) fn pick(&self, candidates: &Candidates, tier: &Range<usize>) -> (usize, StickyResult) {
        match (self.plan.sticky, self.plan.group.spec().choice) {
            (Some(key), _) => self.by_key(key, candidates, tier),
            (None, ChoiceBy::Weight) => (self.draw(candidates, None), StickyResult::None),
            (None, ChoiceBy::Latency) => (self.by_latency(candidates), StickyResult::None),
        }
    }

    /// The first member in the key's order whose load is within the limit.
    fn by_key(&self, key: StickyKey, candidates: &Candidates, tier: &Range<usize>) -> (usize, StickyResult) {
        // `first` is of all candidates, `best` of those that have room.
        let [mut first, mut best] = [(Rank::LAST, 0); 2];
        for number in candidates.iter() {
            let bound = self.view.bound(number);
            let Some(rank) = self.rank_before(best.0, key, bound) else { continue };
            if rank < first.0 {
                first = (rank, number);
            }
            if has_room(candidates, bound) {
                best = (rank, number);
            }
        }
        let chosen = if best.0 < Rank::LAST { best } else { first };
        let is_before = |number: usize| {
            let bound = self.view.bound(number);
            bound.weight > 0 && number != chosen.1 && self.rank_before(chosen.0, key, bound).is_some()
        };
        let is_complete = candidates.len() == tier.len();
        let is_first = chosen.1 == first.1 && (is_complete || !tier.clone().any(is_before));
        let is_home = is_first && tier.start == 0;
        (chosen.1, if is_home { StickyResult::Kept } else { StickyResult::Moved })
    }

    #[inline]
    fn rank_before(&self, other: Rank, key: StickyKey, bound: &Bound) -> Option<Rank> {
        rank_before(other, key, bound.seed, bound.weight, self.plan.group.is_even)
    }

    /// Draws two members, and returns the one with the earlier expected first event.
    fn by_latency(&self, candidates: &Candidates) -> usize {
        let one = self.draw(candidates, None);
        if candidates.len() == 1 {
            return one;
        }
        let other = self.draw(candidates, Some(one));
        let cost = |number: usize| {
            let running = self.view.bound(number).load.running() as f32 + 1.0;
            (self.view.model(number).latency.expected(self.view.tick) * running, running)
        };
        if cost(other) < cost(one) { other } else { one }
    }

    /// Draws one of the candidates by weight. `except` is one of several, and is not drawn.
    fn draw(&self, candidates: &Candidates, except: Option<usize>) -> usize {
        let mut random = self.random.borrow_mut();
        if self.plan.group.is_even {
            let count = candidates.len() - usize::from(except.is_some());
            let number = candidates.get(random.usize(..count));
            // The last one takes the place of the one that is not drawn.
            return if Some(number) == except { candidates.get(count) } else { number };
        }
        let weight = |number: usize| u64::from(self.view.bound(number).weight);
        let mut drawn = random.u64(..candidates.weight - except.map_or(0, weight));
        let mut others = candidates.iter().filter(|&number| Some(number) != except);
        let hit = others.find(|&number| {
            let is_hit = drawn < weight(number);
            drawn = drawn.saturating_sub(weight(number));
            is_hit
        });
        hit.unwrap_or_else(|| candidates.get(0))
    }
}

/// Returns true if the member's load stays within the limit with one more request.
fn has_room(candidates: &Candidates, bound: &Bound) -> bool {
    let share = (candidates.running + 1) as f64 * f64::from(bound.weight) / candidates.weight as f64;
    f64::from(bound.load.running()) + 1.0 <= LOAD_FACTOR * share + LOAD_SLACK
}

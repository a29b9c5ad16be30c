//! The choice among available members: by the conversation's key, by latency, or by weight.

use std::ops::Range;

use super::Choice;
use crate::balance::ChoiceBy;
use crate::balance::group::Bound;
use crate::balance::plan::members::Members;
use crate::balance::sticky::{Rank, StickyKey, StickyResult, rank};

/// The limit on a member's load: new conversations skip a member with more running requests than
/// this many times its share of the tier's, plus [`LOAD_SLACK`].
const LOAD_FACTOR: f64 = 1.25;
const LOAD_SLACK: f64 = 4.0;

/// The available members of a tier, and their running requests.
#[derive(Default)]
struct Survey {
    running: f64,
    weight: f64,
    least: u32,
    most: u32,
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
        let all = Members::of(tier);
        let tier_weights = self.survey(all);
        let survey = if candidates == all { None } else { Some(self.survey(candidates)) };
        let survey = survey.as_ref().unwrap_or(&tier_weights);
        let is_even = tier_weights.least == tier_weights.most;
        let [mut home, mut best, mut first] = [(Rank::LAST, 0); 3];
        for number in tier.clone() {
            let bound = self.bound(number);
            if bound.weight == 0 {
                continue;
            }
            let ranked = (rank(key, bound.seed, bound.weight, is_even), number);
            let keep = |kept: &mut (Rank, usize)| {
                if ranked.0 < kept.0 {
                    *kept = ranked;
                }
            };
            keep(&mut home);
            if candidates.contains(number) {
                keep(&mut first);
                if survey.has_room(bound) {
                    keep(&mut best);
                }
            }
        }
        let chosen = if best.0 < Rank::LAST { best } else { first };
        let is_home = chosen.1 == home.1 && tier.start == 0;
        (chosen.1, if is_home { StickyResult::Kept } else { StickyResult::Moved })
    }

    fn survey(&self, members: Members) -> Survey {
        let mut survey = Survey { least: u32::MAX, ..Survey::default() };
        for number in members.iter() {
            let bound = self.bound(number);
            if bound.weight > 0 {
                survey.running += f64::from(bound.load.running());
                survey.weight += f64::from(bound.weight);
                survey.least = survey.least.min(bound.weight);
                survey.most = survey.most.max(bound.weight);
            }
        }
        survey
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

impl Survey {
    /// Returns true if one more request leaves the member within its limit.
    fn has_room(&self, bound: &Bound) -> bool {
        let share = self.running * f64::from(bound.weight) / self.weight;
        f64::from(bound.load.running()) + 1.0 <= LOAD_FACTOR * share + LOAD_SLACK
    }
}

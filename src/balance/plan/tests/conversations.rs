//! Conversations stay at their member, and members are loaded evenly.

use std::collections::HashMap;

use super::*;

const MEMBERS: usize = 4;
const CONVERSATIONS: usize = 2_000;
const TURNS: usize = 10;

/// The outcome of all turns.
struct Outcome {
    /// The number of turns that each member served, by conversation.
    served: Vec<[usize; MEMBERS]>,
    /// The largest number of requests at a member beyond 1.25 x the mean + 4, directly after it got
    /// one.
    excess: f64,
}

impl Outcome {
    /// The share of the turns that were served by their conversation's usual member.
    fn kept(&self) -> f64 {
        let usual: usize = self.served.iter().filter_map(|served| served.iter().max()).sum();
        usual as f64 / (CONVERSATIONS * TURNS) as f64
    }

    fn usual(&self) -> Vec<usize> {
        let usual = |served: &[usize; MEMBERS]| (0..MEMBERS).max_by_key(|&number| served[number]).unwrap();
        self.served.iter().map(usual).collect()
    }
}

/// Serves all turns in random order, with this many running at the same time.
fn simulate(fixture: &Fixture, running: usize, seed: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut outcome = Outcome { served: vec![[0; MEMBERS]; CONVERSATIONS], excess: f64::MIN };
    let mut turns: Vec<_> = (0..CONVERSATIONS * TURNS).map(|turn| turn % CONVERSATIONS).collect();
    random.shuffle(&mut turns);
    let mut permits = Vec::new();
    for conversation in turns {
        if permits.len() == running {
            permits.swap_remove(random.usize(..running));
        }
        let request =
            PlanRequest { sticky: Some(StickyKey(conversation as u64 * 7 + 1)), ..fixture.request() };
        let permit = fixture.ask(&request, 1, random.u64(..)).unwrap();
        outcome.served[conversation][permit.number()] += 1;
        let load = f64::from(fixture.group.bound[permit.number()].load.running());
        permits.push(permit);
        let available = (0..MEMBERS).filter(|&number| fixture.group.bound[number].upstream.out().is_none());
        let bound = 1.25 * permits.len() as f64 / available.count() as f64 + 4.0;
        outcome.excess = outcome.excess.max(load - bound);
    }
    outcome
}

#[test]
fn conversations_stay_and_load_is_even() {
    for running in [1, 8, 32, 64, 128, 400, 1600] {
        let outcome = simulate(&Fixture::new(spec(tiers(&[MEMBERS]))), running, 19);
        assert!(outcome.kept() >= 0.99, "{running} running: {}", outcome.kept());
        assert!(outcome.excess <= 0.0, "{running} running: {} too many", outcome.excess);
    }
}

#[test]
fn only_conversations_of_a_dead_member_move() {
    let before = simulate(&Fixture::new(spec(tiers(&[MEMBERS]))), 4, 19).usual();
    let fixture = Fixture::new(spec(tiers(&[MEMBERS])));
    fixture.break_member(2, 1);
    let outcome = simulate(&fixture, 4, 23);
    let after = outcome.usual();
    let mut moved = HashMap::<usize, usize>::new();
    for (before, after) in before.into_iter().zip(after) {
        if before == 2 {
            *moved.entry(after).or_default() += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!(outcome.kept() >= 0.99);
    assert_eq!(moved.len(), 3, "to all others: {moved:?}");
    assert!(moved.values().all(|&count| count > 100), "{moved:?}");
}

#[test]
fn replicas_agree_on_the_member_of_a_conversation() {
    let fixtures = [(); 2].map(|()| Fixture::new(spec(tiers(&[MEMBERS]))));
    for key in 0..1000 {
        let at = fixtures.each_ref().map(|fixture| {
            let request = PlanRequest { sticky: Some(StickyKey(key)), ..fixture.request() };
            fixture.ask(&request, 1, key).unwrap().number()
        });
        assert_eq!(at[0], at[1]);
    }
}

#[test]
fn members_get_equal_shares_of_the_keys() {
    let fixture = Fixture::new(spec(tiers(&[MEMBERS])));
    let mut counts = [0; MEMBERS];
    for key in 0..20_000 {
        let request = PlanRequest { sticky: Some(StickyKey(key)), ..fixture.request() };
        counts[fixture.ask(&request, 1, 0).unwrap().number()] += 1;
    }
    assert!(counts.iter().all(|count| (4_800..5_200).contains(count)), "{counts:?}");
}

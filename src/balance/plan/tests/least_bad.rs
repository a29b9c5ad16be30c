//! Members that are asked although they are out.

use super::*;
use crate::balance::Opening;

/// The state of a member during all attempts of one request.
enum State {
    Available,
    /// Its breaker is open until this tick, or its rate limit is a guess.
    Failing(u64),
    /// Its credentials are refused until this tick.
    Refusing(u64),
    /// Its rate limit has a known end, its weight is 0, or it is out and full.
    NotAsked,
    Full,
}

const NOW: u64 = 1_000;

impl Fixture {
    fn failing(&self, number: usize, pause: u64) -> State {
        let pause = Duration::from_millis(pause);
        let opening = Opening { reason: OutReason::Failures, first: pause, longest: pause };
        assert!(self.model(number).circuit.open(1, &opening));
        State::Failing(1 + u64::try_from(pause.as_millis()).unwrap())
    }
}

/// Leaves members out at random. Running requests are added to `running`.
fn states(fixture: &Fixture, random: &mut fastrand::Rng, running: &mut Vec<Permit>) -> Vec<State> {
    let mut state = |number: usize| match random.u32(..8) {
        _ if fixture.group.members()[number].weight == 0 => State::NotAsked,
        0 => fixture.failing(number, random.u64(1_000..9_000)),
        1 => {
            fixture.model(number).limit(None, NOW, random.u64(..));
            State::Failing(fixture.model(number).rate_limit(NOW).unwrap().until)
        }
        2 => {
            fixture.failing(number, 1);
            running.push(fixture.at_member(number, &fixture.request(), NOW));
            assert!(running.last().unwrap().is_trial());
            if fixture.group.spec().concurrent == 1 {
                return State::NotAsked;
            }
            let lease = fixture.group.spec().breaker.trial;
            State::Failing(NOW + u64::try_from(lease.as_millis()).unwrap())
        }
        3 => {
            fixture.break_member(number, 1);
            State::Refusing(60_001)
        }
        4 => {
            fixture.limit(number, NOW, Some(random.u64(1..9_000)));
            State::NotAsked
        }
        5 if fixture.group.spec().concurrent == 1 => {
            running.push(fixture.at_member(number, &fixture.request(), NOW));
            State::Full
        }
        _ => State::Available,
    };
    (0..fixture.group.members().len()).map(&mut state).collect()
}

/// The members of which one is asked after those in `tried`, and whether they are out.
fn expected(fixture: &Fixture, states: &[State], tried: &[usize]) -> (Vec<usize>, bool) {
    let mut untried = (0..states.len()).filter(|number| !tried.contains(number));
    let is_available = |number: &usize| matches!(states[*number], State::Available);
    for tier in fixture.group.tiers() {
        let available: Vec<_> =
            untried.clone().filter(|number| tier.contains(number)).filter(is_available).collect();
        if !available.is_empty() {
            return (available, false);
        }
    }
    if untried.any(|number| matches!(states[number], State::Full)) {
        return (Vec::new(), true);
    }
    let back = |number: usize| match states[number] {
        State::Failing(until) => Some((until, number)),
        State::Refusing(until) if tried.is_empty() => Some((until, number)),
        _ => None,
    };
    let untried = (0..states.len()).filter(|number| !tried.contains(number));
    let first = untried.filter_map(back).min();
    (first.map(|(_, number)| number).into_iter().collect(), true)
}

#[test]
fn each_attempt_goes_to_an_available_or_the_least_bad_member() {
    let mut random = fastrand::Rng::with_seed(19);
    let mut least_bad = 0;
    for seed in 0..500 {
        let sizes: Vec<_> = (0..random.usize(1..4)).map(|_| random.usize(1..6)).collect();
        let mut tiers = tiers(&sizes);
        tiers.iter_mut().flatten().for_each(|member| member.weight = random.u32(..4));
        let retry = RetryPolicy { budget: 100.0, ..spec(Vec::new()).retry };
        let fixture = Fixture::new(GroupSpec { retry, concurrent: random.u32(..2), ..spec(tiers) });
        let mut running = Vec::new();
        let states = states(&fixture, &mut random, &mut running);
        let sticky = random.bool().then(|| StickyKey(random.u64(..)));
        let mut plan = fixture.plan(&PlanRequest { sticky, ..fixture.request() });
        let mut tried = Vec::new();
        let (headers, error) = (Headers::default(), unknown_id());
        loop {
            let (members, is_out) = expected(&fixture, &states, &tried);
            match plan.next(fixture.at(NOW), seed) {
                Step::Ask(permit) => {
                    let number = permit.number();
                    assert!(
                        members.contains(&number),
                        "{number} of {members:?} after {tried:?}, seed {seed}"
                    );
                    assert_eq!((permit.is_least_bad(), permit.is_trial()), (is_out, false));
                    least_bad += usize::from(is_out && !tried.is_empty());
                    tried.push(number);
                    let failure = status(400, &headers, &error);
                    plan.record_verdict(&permit.record_failure(&failure, fixture.clock(NOW), 0));
                }
                Step::End(end) => {
                    let all = tried.len() == states.len();
                    assert!(members.is_empty() || all, "{end:?} before {members:?}, seed {seed}");
                    break;
                }
                Step::Wait(_) => panic!("the group has no `wait`"),
            }
        }
    }
    assert!(least_bad > 250, "{least_bad} further attempts");
}

#[test]
fn least_bad_member_is_asked_where_all_are_out() {
    let fixture = Fixture::new(spec(tiers(&[2, 1])));
    fixture.break_member(0, 500);
    fixture.break_member(1, 900);
    fixture.break_member(2, 100);
    let permit = fixture.ask(&fixture.request(), NOW, 0).unwrap();
    assert_eq!((permit.number(), permit.is_least_bad(), permit.is_trial()), (2, true, false));
    permit.record_end(crate::balance::RelayEnd::Complete, fixture.at(1001));
    assert!(fixture.group.bound[2].upstream.circuit.reason().is_some(), "it is no trial");
}

#[test]
fn further_attempt_goes_to_failing_member_but_not_to_refusing() {
    let refusing = Fixture::new(spec(tiers(&[2])));
    refusing.break_member(0, 1);
    let failing = Fixture::new(spec(tiers(&[2])));
    failing.failing(0, 30_000);
    let known = Fixture::new(spec(tiers(&[2])));
    known.limit(0, 1, Some(30_000));
    for (fixture, second) in [(refusing, None), (failing, Some(0)), (known, None)] {
        let mut plan = fixture.plan(&fixture.request());
        assert!(matches!(plan.next(fixture.at(2), 0), Step::Ask(permit) if permit.number() == 1));
        match plan.next(fixture.at(2), 0) {
            Step::Ask(permit) => assert!(Some(permit.number()) == second && permit.is_least_bad()),
            end => assert!(second.is_none() && matches!(end, Step::End(End::Tried)), "{end:?}"),
        }
        assert!(matches!(plan.next(fixture.at(2), 0), Step::End(End::Tried | End::Attempts)));
    }
}

#[test]
fn attempt_at_a_member_that_is_out_uses_the_budget_after_a_429() {
    let retry = RetryPolicy { budget: 0.0, ..spec(tiers(&[2])).retry };
    let fixture = Fixture::new(GroupSpec { retry, ..spec(tiers(&[2])) });
    fixture.failing(0, 30_000);
    let (headers, error) = (Headers::default(), UpstreamError::default());
    let second = || {
        let mut plan = fixture.plan(&fixture.request());
        assert!(matches!(plan.next(fixture.at(2), 0), Step::Ask(permit) if permit.number() == 1));
        plan.record_verdict(&Verdict::of(&status(429, &headers, &error), fixture.clock(2)));
        plan.next(fixture.at(2), 0)
    };
    for _ in 0..3 {
        assert!(matches!(second(), Step::Ask(_)), "three in a second, in any case");
    }
    assert!(matches!(second(), Step::End(End::Budget)));
}

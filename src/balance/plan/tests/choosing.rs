use super::*;
use crate::balance::sticky::StickyResult;

/// The members in the order of attempts that all fail, and the end.
fn attempts(fixture: &Fixture, request: &PlanRequest<'_>, millis: u64, seed: u64) -> (Vec<usize>, End) {
    let (mut plan, mut tried) = (fixture.plan(request), Vec::new());
    let (headers, error) = (Headers::default(), unknown_id());
    loop {
        match plan.next(fixture.at(millis), seed + tried.len() as u64) {
            Step::Ask(permit) => {
                tried.push(permit.number());
                let verdict =
                    permit.record_failure(&status(400, &headers, &error), fixture.clock(millis), seed);
                assert!(plan.record_verdict(&verdict));
            }
            Step::End(end) => return (tried, end),
            Step::Wait(_) => panic!("the group has no `wait`"),
        }
    }
}

#[test]
fn no_member_comes_twice_and_no_available_one_is_left() {
    let mut random = fastrand::Rng::with_seed(11);
    for seed in 0..400 {
        let sizes: Vec<_> = (0..random.usize(1..4)).map(|_| random.usize(1..7)).collect();
        let mut tiers = tiers(&sizes);
        tiers.iter_mut().flatten().for_each(|member| member.weight = random.u32(..3));
        let choice = if random.bool() { ChoiceBy::Latency } else { ChoiceBy::Weight };
        let fixture = Fixture::new(GroupSpec { choice, ..spec(tiers) });
        let mut available = Vec::new();
        for (number, member) in fixture.group.members().iter().enumerate() {
            match random.u32(..5) {
                0 => fixture.break_member(number, 1),
                1 => fixture.limit(number, 1, Some(30_000)),
                _ if member.weight > 0 => available.push(number),
                _ => {}
            }
            fixture.model(number).latency.record(1, random.f32() * 1000.0);
        }
        let key = random.bool().then(|| StickyKey(random.u64(..)));
        let request = PlanRequest { sticky: key, ..fixture.request() };
        let (mut tried, end) = attempts(&fixture, &request, 2, seed);
        if available.is_empty() {
            assert!(tried.len() <= 1, "the least bad one only: {tried:?}");
            continue;
        }
        let tier = |number: usize| fixture.group.tiers().iter().position(|tier| tier.contains(&number));
        assert!(tried.is_sorted_by_key(|&number| tier(number)), "{tried:?} of {sizes:?}");
        tried.sort_unstable();
        assert_eq!(tried, available);
        assert!(matches!(end, End::Tried | End::Attempts), "{end:?}");
    }
}

#[test]
fn attempts_end_with_the_number_of_the_policy() {
    let retry = RetryPolicy { attempts: 0, budget: 10.0, ..RetryPolicy::default() };
    let fixture = Fixture::new(GroupSpec { retry, ..spec(tiers(&[3, 3])) });
    let (tried, end) = attempts(&fixture, &fixture.request(), 1, 0);
    assert_eq!((tried.len(), end), (4, End::Attempts));
}

#[test]
fn no_attempt_begins_after_a_deadline() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    let client = PlanRequest { client_deadline: Some(fixture.at(5_000)), ..fixture.request() };
    for (request, last) in [(fixture.request(), 59_999), (client, 4_000)] {
        for (millis, is_late) in [(last, false), (last + 1, true)] {
            let mut plan = fixture.plan(&request);
            // The first attempt begins in any case.
            assert!(matches!(plan.next(fixture.at(millis), 0), Step::Ask(_)));
            let next = plan.next(fixture.at(millis), 0);
            assert_eq!(matches!(next, Step::End(End::Deadline)), is_late, "{next:?}");
        }
    }
}

#[test]
fn member_of_weight_0_takes_only_what_is_bound_to_it() {
    let mut tiers = tiers(&[2]);
    tiers[0][0].weight = 0;
    let fixture = Fixture::new(spec(tiers));
    assert!((0..100).all(|random| fixture.first(1, random) == Some(1)));
    assert_eq!(fixture.at_member(0, &fixture.request(), 1).number(), 0);
    let mut plan = fixture.plan(&fixture.request());
    assert!(matches!(plan.next(fixture.at(1), 0), Step::Ask(_)));
    assert!(plan.is_last(), "the other member takes none");
}

#[test]
fn only_member_of_its_tier_is_chosen_without_a_search() {
    let key = |key| PlanRequest { sticky: key, ..Fixture::new(spec(tiers(&[1]))).request() };
    let (with, without) = (key(Some(StickyKey(7))), key(None));
    let fixture = Fixture::new(GroupSpec { concurrent: 1, ..spec(tiers(&[1, 1])) });
    let chosen = |request| fixture.ask(request, 1, 0).map(|permit| (permit.number(), permit.sticky()));
    assert_eq!(chosen(&with), Some((0, StickyResult::Kept)));
    assert_eq!(chosen(&without), Some((0, StickyResult::None)));
    let running = fixture.ask(&without, 1, 0);
    assert_eq!(chosen(&with), Some((1, StickyResult::Moved)), "the first one is full");
    fixture.limit(1, 1, Some(30_000));
    let mut plan = fixture.plan(&with);
    assert!(matches!(plan.next(fixture.at(1), 0), Step::End(End::Full)));
    drop(running);
    fixture.break_member(0, 1);
    let Step::Ask(permit) = fixture.plan(&with).next(fixture.at(1), 0) else { panic!("one is least bad") };
    assert_eq!((permit.number(), permit.is_least_bad()), (0, true));
}

#[test]
fn plan_that_may_not_go_on_ends_after_any_failure() {
    let (headers, error) = (Headers::default(), unknown_id());
    let one_attempt = RetryPolicy { attempts: 1, budget: 10.0, ..RetryPolicy::default() };
    let wait = Some(Duration::from_secs(5));
    for (sizes, retry, pin, wait, goes_on) in [
        (&[1][..], RetryPolicy { attempts: 0, ..one_attempt }, None, None, false),
        (&[2], one_attempt, None, None, false),
        (&[2], RetryPolicy { attempts: 2, ..one_attempt }, Some(1), None, false),
        (&[1], one_attempt, None, wait, true),
        (&[1, 1], RetryPolicy { attempts: 2, ..one_attempt }, None, None, true),
    ] {
        let fixture = Fixture::new(GroupSpec { retry, wait, ..spec(tiers(sizes)) });
        for failure in
            [400, 429, 500].map(|code| status(code, &headers, &error)).into_iter().chain([Failure::Closed])
        {
            let mut plan = fixture.plan(&PlanRequest { pin, ..fixture.request() });
            let Step::Ask(permit) = plan.next(fixture.at(1), 0) else { continue };
            assert_eq!(plan.may_go_on(), goes_on, "{sizes:?}");
            plan.record_verdict(&permit.record_failure(&failure, fixture.clock(1), 0));
            let next = plan.next(fixture.at(1), 0);
            assert!(goes_on || matches!(next, Step::End(_)), "{sizes:?}: {next:?}");
        }
    }
}

#[test]
fn weights_are_shares_of_the_requests() {
    let mut tiers = tiers(&[3]);
    tiers[0][1].weight = 2;
    let fixture = Fixture::new(GroupSpec { choice: ChoiceBy::Weight, ..spec(tiers) });
    let mut counts = [0; 3];
    (0..4000).for_each(|random| counts[fixture.first(1, random).unwrap()] += 1);
    assert!((900..1100).contains(&counts[0]) && (1900..2100).contains(&counts[1]), "{counts:?}");
}

#[test]
fn weights_are_shares_of_the_conversations() {
    let mut tiers = tiers(&[3]);
    tiers[0][1].weight = 2;
    let fixture = Fixture::new(spec(tiers));
    let mut counts = [0; 3];
    for key in 0..4000 {
        let request = PlanRequest { sticky: Some(StickyKey(key)), ..fixture.request() };
        counts[fixture.ask(&request, 1, 0).unwrap().number()] += 1;
    }
    assert!((900..1100).contains(&counts[0]) && (1900..2100).contains(&counts[1]), "{counts:?}");
}

#[test]
fn faster_member_is_preferred_and_an_unknown_one_is_tried() {
    let fixture = Fixture::new(spec(tiers(&[3])));
    fixture.succeed(0, 1, 100);
    fixture.succeed(1, 1, 900);
    let mut counts = [0; 3];
    (0..3000).for_each(|random| counts[fixture.first(1000, random).unwrap()] += 1);
    // Between two members, the unknown one is chosen, else the faster one.
    assert!(counts[2] > 1800 && counts[0] > 900 && counts[1] == 0, "{counts:?}");
}

#[test]
fn member_that_fails_at_once_does_not_look_fast() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    fixture.succeed(0, 1, 100);
    fixture.succeed(1, 1, 900);
    let (headers, error) = (Headers::default(), UpstreamError::default());
    for failure in [status(500, &headers, &error), Failure::Connect, Failure::Closed] {
        fixture.fail(0, &fixture.request(), 1000, &failure);
        assert!((0..100).all(|random| fixture.first(1001, random) == Some(1)), "{failure:?}");
    }
    // A client's fault or a rate limit is no evidence about the latency.
    let fixture = Fixture::new(spec(tiers(&[2])));
    fixture.succeed(0, 1, 100);
    fixture.succeed(1, 1, 900);
    fixture.fail(0, &fixture.request(), 1000, &status(400, &headers, &error));
    assert!((0..100).all(|random| fixture.first(1001, random) == Some(0)));
}

#[test]
fn running_requests_weigh_on_a_fast_member() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    fixture.succeed(0, 1, 100);
    fixture.succeed(1, 1, 350);
    let mut running = Vec::new();
    let order: Vec<_> = (0..6)
        .map(|random| {
            running.push(fixture.ask(&fixture.request(), 1000, random).unwrap());
            running.last().unwrap().number()
        })
        .collect();
    // 100, 200, 300 against 350; then 400 against 350.
    assert_eq!(order[..4], [0, 0, 0, 1]);
}

#[test]
fn member_short_of_tokens_is_the_last_of_its_tier() {
    let fixture = Fixture::new(spec(tiers(&[2, 1])));
    let mut headers = Headers::default();
    headers.append(b"x-ratelimit-remaining-tokens", b"900");
    headers.append(b"x-ratelimit-reset-tokens", b"10s");
    fixture.at_member(0, &fixture.request(), 1).record_headers(&headers, || fixture.clock(1));
    let large = PlanRequest { tokens: 1000, ..fixture.request() };
    for seed in 0..20 {
        assert_eq!(attempts(&fixture, &large, 2, seed).0, [1, 0, 2]);
    }
    let small = PlanRequest { tokens: 900, ..fixture.request() };
    let any = |request, millis| (0..50).any(|seed| attempts(&fixture, request, millis, seed).0[0] == 0);
    assert!(any(&small, 2) && any(&large, 11_000), "it has enough, and after the reset");
}

#[test]
fn full_members_are_passed_over() {
    let fixture = Fixture::new(GroupSpec { concurrent: 2, ..spec(tiers(&[2, 1])) });
    let mut permits: Vec<_> =
        (0..6).map(|random| fixture.ask(&fixture.request(), 1, random).unwrap()).collect();
    assert!(permits[..4].iter().all(|permit| permit.number() < 2));
    assert!(permits[4..].iter().all(|permit| permit.number() == 2));
    let refused = fixture.plan(&fixture.request()).next(fixture.at(1), 0);
    assert!(matches!(refused, Step::End(End::Full)), "{refused:?}");
    permits.remove(0);
    assert!(fixture.first(1, 0).unwrap() < 2);
}

#[test]
fn retries_end_with_the_budget_and_rate_limits_do_not_use_it() {
    let retry = RetryPolicy { budget: 0.0, ..spec(tiers(&[2])).retry };
    let fixture = Fixture::new(GroupSpec { retry, ..spec(tiers(&[2])) });
    let (headers, error) = (Headers::default(), UpstreamError::default());
    let second = |failure: &Failure<'_>| {
        let mut plan = fixture.plan(&fixture.request());
        let Step::Ask(permit) = plan.next(fixture.at(1), 0) else { panic!("a first attempt is free") };
        let verdict = Verdict::of(failure, fixture.clock(1));
        drop(permit);
        assert!(plan.record_verdict(&verdict));
        plan.next(fixture.at(1), 0)
    };
    for _ in 0..3 {
        assert!(matches!(second(&Failure::Connect), Step::Ask(_)), "three in a second, in any case");
    }
    assert!(matches!(second(&Failure::Connect), Step::End(End::Budget)));
    assert!(matches!(second(&status(429, &headers, &error)), Step::Ask(_)));
}

#[test]
fn key_says_whether_the_conversation_was_kept() {
    let fixture = Fixture::new(spec(tiers(&[3, 1])));
    let request = PlanRequest { sticky: Some(StickyKey(77)), ..fixture.request() };
    let permit = fixture.ask(&request, 1, 0).unwrap();
    assert_eq!(permit.sticky(), StickyResult::Kept);
    let home = permit.number();
    fixture.break_member(home, 1);
    let permit = fixture.ask(&request, 2, 0).unwrap();
    assert!(permit.number() != home && permit.sticky() == StickyResult::Moved);
    (0..3).filter(|&number| number != home).for_each(|number| fixture.break_member(number, 1));
    let permit = fixture.ask(&request, 2, 0).unwrap();
    assert_eq!((permit.number(), permit.sticky()), (3, StickyResult::Moved));
    assert_eq!(fixture.ask(&fixture.request(), 2, 0).unwrap().sticky(), StickyResult::None);
}

#[test]
fn unfit_member_takes_no_attempt_and_no_retry() {
    let retry = RetryPolicy { attempts: 1, budget: 0.0, ..RetryPolicy::default() };
    let fixture = Fixture::new(GroupSpec { retry, ..GroupSpec::of(tiers(&[1, 1, 1])) });
    let mut plan = fixture.plan(&fixture.request());
    for number in 0..2 {
        let Step::Ask(permit) = plan.next(fixture.at(1), 0) else { panic!("{number}") };
        assert_eq!(permit.number(), number);
        plan.skip(permit, fixture.at(1));
        assert_eq!(plan.attempts(), 0);
    }
    assert!(matches!(plan.next(fixture.at(1), 0), Step::Ask(permit) if permit.number() == 2));
    assert_eq!(fixture.group.bound.iter().map(|bound| bound.load.running()).sum::<u32>(), 0);

    // The last of those that are left is the last attempt.
    let fixture = Fixture::new(GroupSpec::of(tiers(&[1, 1])));
    let mut plan = fixture.plan(&fixture.request());
    let Step::Ask(permit) = plan.next(fixture.at(1), 0) else { panic!() };
    assert!(!plan.is_last());
    plan.skip(permit, fixture.at(1));
    assert!(matches!(plan.next(fixture.at(1), 0), Step::Ask(permit) if permit.number() == 1));
    assert!(plan.is_last());

    // The three retries of the floor are still there.
    let retry = RetryPolicy { attempts: 4, budget: 0.0, ..RetryPolicy::default() };
    let fixture = Fixture::new(GroupSpec { retry, ..GroupSpec::of(tiers(&[1, 1, 1])) });
    for number in 0..4 {
        let mut plan = fixture.plan(&fixture.request());
        assert!(matches!(plan.next(fixture.at(1), 0), Step::Ask(_)));
        match plan.next(fixture.at(1), 0) {
            Step::Ask(unfit) => plan.skip(unfit, fixture.at(1)),
            step => {
                assert!(matches!(step, Step::End(End::Budget)) && number == 3, "{number}: {step:?}");
                continue;
            }
        }
        assert!(matches!(plan.next(fixture.at(1), 0), Step::Ask(permit) if permit.number() == 2));
        assert!(number < 3);
    }
}

#[test]
fn only_member_is_asked_without_a_plan_while_it_is_well() {
    let ask = |fixture: &Fixture| {
        let request = fixture.request();
        let name_at = |_| request.model.map(Into::into);
        ask_only(&fixture.group, request.model, name_at, request.sticky, request.fingerprint, fixture.at(1))
    };
    let is_asked = |spec| ask(&Fixture::new(spec)).is_some();
    let one = || spec(tiers(&[1]));
    assert!(is_asked(one()));
    assert!(!is_asked(spec(tiers(&[2]))) && !is_asked(spec(tiers(&[1, 1]))));
    assert!(!is_asked(GroupSpec { wait: Some(Duration::from_secs(1)), ..one() }));
    let full = Fixture::new(GroupSpec { concurrent: 1, ..one() });
    let running = ask(&full);
    assert!(running.is_some() && ask(&full).is_none());
    drop(running);
    assert!(ask(&full).is_some());
    let limited = Fixture::new(one());
    limited.limit(0, 1, Some(30_000));
    assert!(ask(&limited).is_none());
    let out = Fixture::new(one());
    out.break_member(0, 1);
    assert!(ask(&out).is_none());
}

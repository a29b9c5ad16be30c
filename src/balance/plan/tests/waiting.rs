//! All members are out.

use super::*;

fn with_wait(sizes: &[usize], wait: u64) -> Fixture {
    Fixture::new(GroupSpec { wait: Some(Duration::from_millis(wait)), ..spec(tiers(sizes)) })
}

#[test]
fn known_rate_limits_are_refused_until_the_first_ends() {
    let fixture = Fixture::new(spec(tiers(&[2, 1])));
    for (number, pause) in [(0, 9_000), (1, 4_000), (2, 6_000)] {
        fixture.limit(number, 1000, Some(pause));
    }
    let step = fixture.plan(&fixture.request()).next(fixture.at(1001), 0);
    assert!(matches!(step, Step::End(End::RateLimited { until }) if until == fixture.at(5_000)), "{step:?}");
    assert_eq!(fixture.first(5_000, 0), Some(1));
}

#[test]
fn guessed_rate_limit_is_asked_as_the_least_bad() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    fixture.limit(0, 1000, Some(9_000));
    fixture.limit(1, 1000, None);
    assert_eq!(fixture.first(1001, 0), Some(1));
}

#[test]
fn request_waits_for_a_limit_that_ends_in_time() {
    let fixture = with_wait(&[2], 3_000);
    fixture.limit(0, 1000, Some(9_000));
    fixture.limit(1, 1000, Some(2_000));
    let mut plan = fixture.plan(&fixture.request());
    let Step::Wait(unavailable) = plan.next(fixture.at(1500), 0) else { panic!("it is in time") };
    let (until, deadline) = (Some(fixture.at(3_000)), fixture.at(4_500));
    let expected = Unavailable { until, may_be_sooner: false, deadline };
    assert_eq!(unavailable, expected);
    assert!(matches!(plan.next(fixture.at(3_000), 0), Step::Ask(permit) if permit.number() == 1));

    fixture.limit(1, 4_000, Some(5_000));
    let step = fixture.plan(&fixture.request()).next(fixture.at(5_000), 0);
    assert!(matches!(step, Step::End(End::RateLimited { .. })), "not in time: {step:?}");
}

#[test]
fn wait_ends_with_the_clients_timeout() {
    let fixture = with_wait(&[1], 10_000);
    fixture.limit(0, 1000, Some(2_000));
    let timeout = |millis| PlanRequest { client_deadline: Some(fixture.at(millis)), ..fixture.request() };
    let step = fixture.plan(&timeout(4_000)).next(fixture.at(1000), 0);
    assert!(matches!(step, Step::Wait(wait) if wait.deadline == fixture.at(3_000)), "{step:?}");
    let step = fixture.plan(&timeout(3_999)).next(fixture.at(1000), 0);
    assert!(matches!(step, Step::End(End::RateLimited { .. })), "{step:?}");
}

#[test]
fn member_that_was_limited_is_tried_again_after_waiting() {
    let fixture = with_wait(&[1], 10_000);
    let mut plan = fixture.plan(&fixture.request());
    let Step::Ask(permit) = plan.next(fixture.at(1), 0) else { panic!("it is available") };
    let mut headers = Headers::default();
    headers.append(b"retry-after-ms", b"500");
    let error = UpstreamError::default();
    let verdict = permit.record_failure(&status(429, &headers, &error), fixture.clock(1), 0);
    assert!(plan.record_verdict(&verdict));
    assert!(matches!(plan.next(fixture.at(2), 0), Step::Wait(wait) if wait.until == Some(fixture.at(501))));
    assert!(matches!(plan.next(fixture.at(501), 0), Step::Ask(_)));
}

#[test]
fn half_open_member_lets_exactly_one_of_100_through() {
    // A shorter time than the trial may take, and a longer one.
    half_open_among_100(with_wait(&[1], 10_000));
    half_open_among_100(with_wait(&[1], 100_000));
}

fn half_open_among_100(fixture: Fixture) {
    let (millis, lease) = (5_000, BreakerPolicy::default().trial);
    for _ in 0..5 {
        fixture.fail(0, &fixture.request(), 1, &Failure::Connect);
    }
    let mut plans: Vec<_> = (0..100).map(|_| fixture.plan(&fixture.request())).collect();
    let mut trial = None;
    for plan in &mut plans {
        match plan.next(fixture.at(millis), 0) {
            Step::Ask(permit) => assert!(permit.is_trial() && trial.replace(permit).is_none()),
            Step::Wait(wait) => assert_eq!(wait.until, Some(fixture.at(millis) + lease)),
            Step::End(end) => panic!("{end:?}"),
        }
    }
    trial.unwrap().record_first_event(fixture.at(millis + 10));
    for plan in &mut plans[1..] {
        assert!(matches!(plan.next(fixture.at(millis + 11), 0), Step::Ask(_)));
    }
}

#[test]
fn trial_of_a_client_that_left_is_free_again() {
    let fixture = Fixture::new(spec(tiers(&[1])));
    for _ in 0..5 {
        fixture.fail(0, &fixture.request(), 1, &Failure::Connect);
    }
    for _ in 0..3 {
        let permit = fixture.ask(&fixture.request(), 5_000, 0).unwrap();
        assert!(permit.is_trial());
        assert_eq!(fixture.group.bound[0].load.running(), 1);
    }
    assert_eq!(fixture.group.bound[0].load.running(), 0);
}

#[test]
fn trial_that_is_rate_limited_closes_the_breaker() {
    let fixture = Fixture::new(spec(tiers(&[1])));
    for client in ["a", "b", "a", "b", "a"] {
        let request =
            PlanRequest { fingerprint: PromptHash::new(client, None, []).fingerprint(), ..fixture.request() };
        fixture.fail(0, &request, 1, &Failure::Closed);
    }
    let permit = fixture.ask(&fixture.request(), 5_000, 0).unwrap();
    assert!(permit.is_trial());
    let (headers, error) = (Headers::default(), UpstreamError::default());
    permit.record_failure(&status(429, &headers, &error), fixture.clock(5_000), 0);
    assert_eq!(fixture.model(0).circuit.reason(), None);
    assert!(fixture.model(0).rate_limit(5_001).is_some());
}

#[test]
fn bound_request_passes_a_breaker_and_waits_for_a_rate_limit() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    fixture.break_member(1, 1);
    let bound = PlanRequest { pin: Some(1), ..fixture.request() };
    assert_eq!(fixture.ask(&bound, 2, 0).map(|permit| permit.number()), Some(1));
    fixture.limit(1, 10, Some(700));
    let mut plan = fixture.plan(&bound);
    let step = plan.next(fixture.at(20), 0);
    assert!(matches!(step, Step::End(End::RateLimited { until }) if until == fixture.at(710)), "{step:?}");
    assert!(matches!(plan.next(fixture.at(710), 0), Step::Ask(permit) if permit.number() == 1));
    assert!(matches!(plan.next(fixture.at(711), 0), Step::End(End::Tried)), "no other member is asked");
}

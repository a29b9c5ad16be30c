//! One client's failures have no effect on others.

use super::*;

/// The members that are available for this model.
fn available(fixture: &Fixture, model: &'static str, millis: u64) -> Vec<usize> {
    let request = PlanRequest { model: Some(model), ..fixture.request() };
    let mut members: Vec<_> = (0..200)
        .filter_map(|random| fixture.ask(&request, millis, random))
        .filter(|permit| !permit.is_least_bad())
        .map(|permit| permit.number())
        .collect();
    members.sort_unstable();
    members.dedup();
    members
}

fn of_client(fixture: &Fixture, client: &str, prompt: &[u8]) -> PlanRequest<'static> {
    PlanRequest { fingerprint: PromptHash::new(client, None, [prompt]).fingerprint(), ..fixture.request() }
}

#[test]
fn poisonous_prompt_of_one_client_closes_nothing() {
    let fixture = Fixture::new(spec(tiers(&[3])));
    let (headers, error) = (Headers::default(), UpstreamError::default());
    let poison = of_client(&fixture, "mallory", b"poison");
    for millis in 1..2_000 {
        for number in 0..3 {
            for failure in [
                Failure::Closed,
                Failure::FirstByte(Duration::from_secs(1)),
                Failure::EmptyStream,
                status(500, &headers, &error),
            ] {
                assert_eq!(fixture.fail(number, &poison, millis, &failure).opened, None);
            }
        }
    }
    assert_eq!(available(&fixture, "m", 2_000), [0, 1, 2]);
}

#[test]
fn failures_of_two_clients_close_the_model_only() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    let opened: Vec<_> = (0..5)
        .map(|number| of_client(&fixture, if number % 2 == 0 { "a" } else { "b" }, b"same"))
        .map(|request| fixture.fail(0, &request, 1, &Failure::Closed).opened)
        .collect();
    assert_eq!(opened[3..], [None, Some(OutReason::Failures)]);
    assert_eq!(available(&fixture, "m", 2), [1]);
    assert_eq!(available(&fixture, "other", 2), [0, 1]);
}

#[test]
fn failed_connections_close_the_upstream_for_all_models() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    for _ in 0..5 {
        fixture.fail(0, &fixture.request(), 1, &Failure::Connect);
    }
    assert_eq!(available(&fixture, "m", 2), [1]);
    assert_eq!(available(&fixture, "other", 2), [1]);
}

#[test]
fn refused_key_closes_the_upstream_at_once() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    let (headers, error) = (Headers::default(), UpstreamError::default());
    let verdict = fixture.fail(0, &fixture.request(), 1, &status(401, &headers, &error));
    assert_eq!(verdict.opened, Some(OutReason::Credentials));
    assert_eq!(available(&fixture, "other", 59_999), [1]);
    let upstream = &fixture.group.bound[0].upstream;
    assert_eq!(upstream.out(), Some(OutReason::Credentials));
    upstream.readmit();
    assert_eq!(available(&fixture, "m", 4), [0, 1]);
}

#[test]
fn forbidden_model_closes_no_other() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    let (headers, error) = (Headers::default(), UpstreamError::default());
    for millis in [1, 61_000, 122_000] {
        let verdict = fixture.fail(0, &fixture.request(), millis, &status(403, &headers, &error));
        assert_eq!(verdict.opened, Some(OutReason::Forbidden));
        assert_eq!(available(&fixture, "m", millis + 1), [1]);
        assert_eq!(available(&fixture, "other", millis + 1), [0, 1]);
    }
}

#[test]
fn forbidden_for_three_models_within_30_s_closes_the_upstream() {
    for (apart, is_out) in [(10_000, true), (16_000, false)] {
        let fixture = Fixture::new(spec(tiers(&[2])));
        let (headers, error) = (Headers::default(), UpstreamError::default());
        for (number, model) in ["m1", "m2", "m3"].into_iter().enumerate() {
            let request = PlanRequest { model: Some(model), ..fixture.request() };
            let millis = 1 + number as u64 * apart;
            fixture.fail(0, &request, millis, &status(403, &headers, &error));
        }
        let expected: &[usize] = if is_out { &[1] } else { &[0, 1] };
        assert_eq!(available(&fixture, "m", 3 * apart), expected);
    }
}

#[test]
fn unknown_model_is_out_for_a_minute_at_its_member() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    let error = UpstreamError { code: "model_not_found".into(), ..UpstreamError::default() };
    let verdict = fixture.fail(0, &fixture.request(), 1, &status(404, &Headers::default(), &error));
    assert_eq!(verdict.opened, Some(OutReason::UnknownModel));
    assert_eq!(available(&fixture, "m", 60_000), [1]);
    assert_eq!(available(&fixture, "m", 60_001), [0, 1]);
    assert_eq!(available(&fixture, "other", 2), [0, 1]);
}

#[test]
fn exhausted_quota_closes_the_upstream_then_one_probe() {
    let fixture = Fixture::new(spec(tiers(&[1, 1])));
    let error = UpstreamError { code: "insufficient_quota".into(), ..UpstreamError::default() };
    let headers = Headers::default();
    let verdict = fixture.fail(0, &fixture.request(), 1, &status(429, &headers, &error));
    assert_eq!(verdict.opened, Some(OutReason::Quota));
    assert_eq!(fixture.first(299_999, 0), Some(1));
    let probe = fixture.ask(&fixture.request(), 300_001, 0).unwrap();
    assert!(probe.number() == 0 && probe.is_trial());
    assert_eq!(fixture.first(300_001, 0), Some(1), "the others go elsewhere");
    probe.record_failure(&status(429, &headers, &error), fixture.clock(300_002), 0);
    assert_eq!(fixture.first(600_000, 0), Some(1));
}

#[test]
fn rate_limit_of_one_model_says_nothing_of_another() {
    let fixture = Fixture::new(spec(tiers(&[2])));
    fixture.limit(0, 1, Some(5_000));
    assert_eq!(available(&fixture, "m", 2), [1]);
    assert_eq!(available(&fixture, "other", 2), [0, 1]);
}

#[test]
fn client_that_leaves_is_no_failure() {
    let fixture = Fixture::new(spec(tiers(&[1])));
    for client in 0..100 {
        drop(fixture.at_member(0, &of_client(&fixture, &client.to_string(), b"p"), 1));
    }
    assert_eq!(available(&fixture, "m", 2), [0]);
}

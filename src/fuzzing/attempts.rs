//! The attempts of many requests to a group, with any failures in any order.
//!
//! Input: five bytes for the group, and then a byte for each decision: the kind of a request, the
//! result of an attempt, the time that passes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{
    BreakerPolicy, ChoiceBy, Clock, Closes, Cooldown, Failure, GroupSpec, HealthRegistry, MemberSpec, Permit,
    Plan, PlanRequest, PromptHash, RelayEnd, RetryOn, RetryPolicy, Step, UpstreamError, UpstreamGroup,
    Verdict,
};
use crate::codec::head::Headers;
use crate::support::UpstreamId;

/// The largest number of requests that run at the same time.
const RUNNING: usize = 32;

/// The statuses of failed attempts, with their bodies.
const STATUSES: [(u16, &str); 12] = [
    (400, "{}"),
    (400, r#"{"error":{"code":"previous_response_not_found"}}"#),
    (401, "{}"),
    (403, "{}"),
    (404, r#"{"error":{"code":"model_not_found"}}"#),
    (408, "{}"),
    (429, "{}"),
    (429, r#"{"error":{"code":"insufficient_quota"}}"#),
    (500, "{}"),
    (503, "{}"),
    (504, "{}"),
    (529, "{}"),
];

/// The ends of rate limits that were named, by member and model.
type KnownLimits = HashMap<(usize, Option<&'static str>), Instant>;

/// Checks that no request asks a member twice, more members than `attempts`, or a member whose rate
/// limit has a known end; that a member never runs more requests than `concurrent`; and that a group
/// whose requests have ended and whose pauses are over serves again.
pub fn attempts(data: &[u8]) {
    let [shape, weights, limits, policy, choice, script @ ..] = data else { return };
    let mut script = script.iter().copied();
    let start = Instant::now();
    let registry = HealthRegistry::new(start);
    let group = group(&registry, [*shape, *weights, *limits, *policy, *choice]);
    let mut now = start + Duration::from_millis(1);
    let mut running: Vec<Permit> = Vec::new();
    let mut limits = KnownLimits::new();
    while let Some(kind) = script.next() {
        now += Duration::from_millis([0, 1, 700, 40_000][usize::from(kind >> 6)]);
        request(&group, &mut limits, kind, now, &mut script, &mut running);
        check_load(&group, &running);
        if running.len() > RUNNING {
            end(running.remove(0), kind, now);
        }
    }
    running.clear();
    now += Duration::from_secs(3600);
    let request = plan_request(0, now);
    let mut plan = Plan::new(&group, &request, |_| Some("m".into()));
    let is_served = matches!(plan.next(now, 7), Step::Ask(_));
    assert!(is_served || group.members().iter().all(|member| member.weight == 0), "no limit lasts an hour");
}

fn group(
    registry: &Arc<HealthRegistry>,
    [shape, weights, limits, policy, choice]: [u8; 5],
) -> Arc<UpstreamGroup> {
    let sizes = [1 + shape % 4, shape / 4 % 4, shape / 16 % 3].map(usize::from);
    let mut number = 0_u32;
    let mut member = || {
        number += 1;
        MemberSpec {
            weight: u32::from(weights).rotate_right(number) & 3,
            ..MemberSpec::from(UpstreamId::from(&*format!("u{number}")))
        }
    };
    let tiers = sizes.into_iter().filter(|size| *size > 0).map(|size| (0..size).map(|_| member()).collect());
    let retry = RetryPolicy {
        attempts: usize::from(policy % 8),
        on: if policy & 8 == 0 { RetryOn::RETRYABLE } else { RetryOn::DOUBTFUL },
        budget: if policy & 16 == 0 { 10.0 } else { 0.0 },
        ..RetryPolicy::default()
    };
    let breaker = BreakerPolicy { failures: u32::from(policy >> 5), requests: 4, ..BreakerPolicy::default() };
    let choice = if choice & 1 == 0 { ChoiceBy::Latency } else { ChoiceBy::Weight };
    let concurrent = u32::from(limits & 3);
    let spec = GroupSpec { retry, breaker, choice, concurrent, ..GroupSpec::of(tiers.collect()) };
    UpstreamGroup::new(spec, registry)
}

fn plan_request(kind: u8, now: Instant) -> PlanRequest<'static> {
    PlanRequest {
        model: Some(["m", "n"][usize::from(kind & 1)]),
        sticky: None,
        pin: None,
        fingerprint: PromptHash::new(["a", "b"][usize::from(kind >> 1 & 1)], None, [&b"prompt"[..]])
            .fingerprint(),
        tokens: 0,
        started: now,
        client_deadline: (kind & 4 != 0).then(|| now + Duration::from_secs(30)),
    }
}

/// One request to its end. A response that goes on is added to `running`.
fn request(
    group: &Arc<UpstreamGroup>,
    limits: &mut KnownLimits,
    kind: u8,
    now: Instant,
    script: &mut impl Iterator<Item = u8>,
    running: &mut Vec<Permit>,
) {
    let request = plan_request(kind, now);
    let mut plan = Plan::new(group, &request, |_| request.model.map(Into::into));
    let mut tried = Vec::new();
    loop {
        let mut permit = match plan.next(now, u64::from(kind)) {
            Step::Ask(permit) => permit,
            Step::Wait(_) => panic!("the group has no `wait`"),
            Step::End(_) => return,
        };
        assert!(!tried.contains(&permit.number()), "{} after {tried:?}", permit.number());
        assert!(!(permit.is_least_bad() && permit.is_trial()));
        let limit = limits.get(&(permit.number(), request.model));
        assert!(limit.is_none_or(|until| *until <= now), "{} has a known limit", permit.number());
        tried.push(permit.number());
        assert!(tried.len() <= group.spec().retry.attempts_of(group.takers()));
        let result = script.next().unwrap_or_default();
        match result % 8 {
            0 => {
                permit.record_first_event(now);
                return running.push(permit);
            }
            1 => return end(permit, result, now),
            2 => return drop(permit),
            _ => {
                let place = (permit.number(), request.model);
                let verdict = fail(permit, result, now);
                if let Closes::Limit(Some(Cooldown(pause))) = verdict.closes {
                    let until = limits.entry(place).or_insert(now);
                    *until = (*until).max(now + pause);
                }
                if !plan.record_verdict(&verdict) {
                    return;
                }
            }
        }
    }
}

fn fail(permit: Permit, result: u8, now: Instant) -> Verdict {
    let clock = Clock { now, unix: Duration::from_secs(1_767_323_045) };
    let (status, body) = STATUSES[usize::from(result >> 3) % STATUSES.len()];
    let error = UpstreamError::parse(body.as_bytes());
    let mut headers = Headers::default();
    if result & 128 != 0 {
        headers.append(b"retry-after-ms", b"900");
    }
    let failure = match result % 8 {
        3 => Failure::Connect,
        4 => Failure::Closed,
        5 => Failure::FirstByte(Duration::from_secs(1)),
        6 => Failure::FirstEvent { error: &error },
        _ => Failure::Response { status, headers: &headers, error: &error },
    };
    permit.record_failure(&failure, clock, u64::from(result))
}

fn end(mut permit: Permit, result: u8, now: Instant) {
    permit.record_first_event(now);
    let ending = if result & 16 == 0 { RelayEnd::Complete } else { RelayEnd::Truncated };
    permit.record_end(ending, now);
}

/// Checks the limits of running requests.
fn check_load(group: &UpstreamGroup, running: &[Permit]) {
    let mut load = HashMap::<usize, u32>::new();
    running.iter().for_each(|permit| *load.entry(permit.number()).or_default() += 1);
    let limit = group.spec().concurrent;
    for (number, running) in load {
        assert!(limit == 0 || running <= limit, "{running} of {limit} at {number}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_random_input_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/attempts");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            super::attempts(&std::fs::read(entry.expect("an entry").path()).expect("a readable seed"));
            count += 1;
        }
        assert!(count >= 2, "the seeds were not found");
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let bytes: Vec<_> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            super::attempts(&bytes);
        }
    }
}

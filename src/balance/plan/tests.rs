//! Tests with a simulated clock: a time is the registry's start plus some milliseconds.

mod choosing;
mod conversations;
mod isolation;
mod least_bad;
mod waiting;

use std::time::Duration;

use super::*;
use crate::balance::verdict::CREDENTIALS;
use crate::balance::{
    BreakerPolicy, ChoiceBy, Clock, Cooldown, Failure, GroupSpec, HealthRegistry, MemberSpec, OutReason,
    PromptHash, RetryPolicy, UpstreamError,
};
use crate::codec::head::Headers;

/// A group, and the clock of its registry.
struct Fixture {
    group: Arc<UpstreamGroup>,
    start: Instant,
}

fn member(name: &str) -> MemberSpec {
    MemberSpec::from(crate::support::UpstreamId::from(name))
}

fn spec(tiers: Vec<Vec<MemberSpec>>) -> GroupSpec {
    let retry = RetryPolicy { attempts: usize::MAX, budget: 10.0, ..RetryPolicy::default() };
    GroupSpec { retry, ..GroupSpec::of(tiers) }
}

/// Tiers of these sizes: `u0`, `u1` and so on.
fn tiers(sizes: &[usize]) -> Vec<Vec<MemberSpec>> {
    let mut number = 0;
    let mut next = || {
        number += 1;
        member(&format!("u{}", number - 1))
    };
    sizes.iter().map(|&size| (0..size).map(|_| next()).collect()).collect()
}

impl Fixture {
    fn new(spec: GroupSpec) -> Self {
        let start = Instant::now();
        Self { group: UpstreamGroup::new(spec, &HealthRegistry::new(start)), start }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn request(&self) -> PlanRequest<'static> {
        PlanRequest {
            model: Some("m"),
            sticky: None,
            pin: None,
            fingerprint: PromptHash::new("client", None, [&b"prompt"[..]]).fingerprint(),
            tokens: 0,
            started: self.start,
            client_deadline: None,
        }
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Plan {
        Plan::new(&self.group, request, |_| request.model.map(Into::into))
    }

    /// The member of the first attempt at an ordinary request.
    fn first(&self, millis: u64, random: u64) -> Option<usize> {
        self.ask(&self.request(), millis, random).map(|permit| permit.number())
    }

    fn ask(&self, request: &PlanRequest<'_>, millis: u64, random: u64) -> Option<Permit> {
        match self.plan(request).next(self.at(millis), random) {
            Step::Ask(permit) => Some(permit),
            Step::Wait(_) | Step::End(_) => None,
        }
    }

    /// A permit for this member, regardless of its health.
    fn at_member(&self, number: usize, request: &PlanRequest<'_>, millis: u64) -> Permit {
        let request = PlanRequest { pin: Some(number), ..*request };
        self.ask(&request, millis, 0).expect("the member has no rate limit and is not full")
    }

    fn fail(&self, number: usize, request: &PlanRequest<'_>, millis: u64, failure: &Failure<'_>) -> Verdict {
        self.at_member(number, request, millis).record_failure(failure, self.clock(millis), 0)
    }

    fn succeed(&self, number: usize, millis: u64, latency: u64) {
        let mut permit = self.at_member(number, &self.request(), millis);
        permit.record_first_event(self.at(millis + latency));
        permit.record_end(crate::balance::RelayEnd::Complete, self.at(millis + latency));
    }

    fn clock(&self, millis: u64) -> Clock {
        Clock { now: self.at(millis), unix: Duration::from_secs(1_700_000_000) }
    }

    fn model(&self, number: usize) -> Arc<crate::balance::ModelHealth> {
        let row = self.group.row(Some("m"), |_| Some("m".into()));
        Arc::clone(&row[number])
    }

    /// Leaves a member out until the tick 60,000 and later.
    fn break_member(&self, number: usize, millis: u64) {
        assert!(self.group.bound[number].upstream.circuit.open(millis.max(1), &CREDENTIALS));
    }

    fn limit(&self, number: usize, millis: u64, pause: Option<u64>) {
        let pause = pause.map(|pause| Cooldown(Duration::from_millis(pause)));
        self.model(number).limit(pause, millis, 0);
    }
}

/// A failure that closes nothing, and after which another member is asked.
fn unknown_id() -> UpstreamError {
    UpstreamError { code: "previous_response_not_found".into(), ..UpstreamError::default() }
}

fn status<'a>(status: u16, headers: &'a Headers, error: &'a UpstreamError) -> Failure<'a> {
    Failure::Response { status, headers, error }
}

#[test]
fn limit_of_running_requests_holds_across_threads() {
    let fixture = Fixture::new(GroupSpec { concurrent: 5, ..spec(tiers(&[2])) });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let fixture = &fixture;
            scope.spawn(move || {
                for random in 0..2_000 {
                    let permit = fixture.ask(&fixture.request(), 1, random + thread);
                    let running = fixture.group.bound.iter().map(|bound| bound.load.running());
                    assert!(running.max() <= Some(5));
                    drop(permit);
                }
            });
        }
    });
    assert!(fixture.group.bound.iter().all(|bound| bound.load.running() == 0));
}

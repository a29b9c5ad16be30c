//! The choice of a member of a group.

use std::hint::black_box;
use std::time::{Duration, Instant};

use streamgauge::balance::{
    GroupSpec, HealthRegistry, MemberSpec, Permit, Plan, PlanRequest, PromptHash, Step, StickyBody, StickyBy,
    StickyKey, StickyParts, UpstreamGroup, sticky_key,
};
use streamgauge::codec::head::Headers;
use streamgauge::support::UpstreamId;

use super::callgrind::counted;

pub(crate) fn among_16(times: usize) {
    choose(times, 16);
}

pub(crate) fn among_100(times: usize) {
    choose(times, 100);
}

/// Requests that are kept at a member by a key and requests without one, in turn: a plan, its first
/// step, and the end of the permit. Each member has a latency and a few running requests.
fn choose(times: usize, members: usize) {
    let start = Instant::now();
    let now = start + Duration::from_secs(1);
    let member = |number: usize| MemberSpec::from(UpstreamId::from(&*format!("upstream-{number}")));
    let spec = GroupSpec::of(vec![(0..members).map(member).collect()]);
    let group = UpstreamGroup::new(spec, &HealthRegistry::new(start));
    let keys: Vec<_> = (0..64).map(key).collect();
    let ask = |number: usize| -> Permit {
        let request = PlanRequest {
            model: Some("gpt-5"),
            sticky: number.is_multiple_of(2).then(|| keys[number / 2 % 64]),
            pin: None,
            fingerprint: PromptHash::new("client", None, [&b"prompt"[..]]).fingerprint(),
            tokens: 1000,
            started: now,
            client_deadline: None,
        };
        let mut plan = Plan::new(&group, &request, |_| Some("gpt-5".into()));
        match plan.next(now, number as u64) {
            Step::Ask(permit) => permit,
            step => panic!("{step:?}"),
        }
    };
    let mut running: Vec<_> = (0..4 * members).map(ask).collect();
    running.iter_mut().for_each(|permit| permit.record_first_event(now + Duration::from_millis(300)));
    counted(&mut || {
        for number in 0..times {
            drop(black_box(ask(black_box(number))));
        }
    });
}

fn key(number: usize) -> StickyKey {
    let mut headers = Headers::default();
    headers.append(b"x-session-id", number.to_string().as_bytes());
    let prompt = PromptHash::new("", None, []);
    let parts = StickyParts { headers: &headers, body: StickyBody::default(), prompt };
    sticky_key(&[StickyBy::parse("session").unwrap()], &parts).unwrap()
}

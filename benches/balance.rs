//! The cost of a choice of a member: a plan, its first step, and the end of the permit.
//!
//! ```text
//! cargo bench --bench balance
//! ```
//!
//! Limits: at most 1 µs among 16 members, at most 3 µs among 100.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use streamgauge::balance::{
    GroupSpec, HealthRegistry, MemberSpec, Plan, PlanRequest, PromptHash, Step, StickyBody, StickyBy,
    StickyKey, StickyParts, UpstreamGroup, sticky_key,
};
use streamgauge::codec::head::Headers;
use streamgauge::support::UpstreamId;

fn key(number: usize) -> StickyKey {
    let mut headers = Headers::default();
    headers.append(b"x-session-id", number.to_string().as_bytes());
    let prompt = PromptHash::new("", None, []);
    let parts = StickyParts { headers: &headers, body: StickyBody::default(), prompt };
    sticky_key(&[StickyBy::parse("session").unwrap()], &parts).unwrap()
}

fn choices(criterion: &mut Criterion) {
    let start = Instant::now();
    let now = start + Duration::from_secs(1);
    for members in [2, 16, 100] {
        for (name, has_key, weights) in
            [("latency", false, 1), ("sticky", true, 1), ("sticky, weights", true, 5)]
        {
            let member = |number: usize| MemberSpec {
                weight: 1 + number as u32 % weights,
                ..MemberSpec::from(UpstreamId::from(&*format!("upstream-{number}")))
            };
            let spec = GroupSpec::of(vec![(0..members).map(member).collect()]);
            let group = UpstreamGroup::new(spec, &HealthRegistry::new(start));
            let keys: Vec<_> = (0..64).map(key).collect();
            let request = |number: usize| PlanRequest {
                model: Some("gpt-5"),
                sticky: has_key.then(|| keys[number % 64]),
                pin: None,
                fingerprint: PromptHash::new("client", None, [&b"prompt"[..]]).fingerprint(),
                tokens: 1000,
                started: now,
                client_deadline: None,
            };
            let ask = |number: usize| {
                let mut plan = Plan::new(&group, &request(number), |_| Some("gpt-5".into()));
                match plan.next(now, number as u64) {
                    Step::Ask(permit) => permit,
                    step => panic!("{step:?}"),
                }
            };
            // Each member has a latency, and a few requests run.
            let mut running: Vec<_> = (0..4 * members).map(ask).collect();
            running.iter_mut().for_each(|permit| permit.record_first_event(now + Duration::from_millis(300)));
            let mut number = 0;
            criterion.bench_function(&format!("{name} among {members}"), |bencher| {
                bencher.iter(|| {
                    number += 1;
                    drop(black_box(ask(number)));
                });
            });
        }
    }
}

criterion_group!(benches, choices);
criterion_main!(benches);

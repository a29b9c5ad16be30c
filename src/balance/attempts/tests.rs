use std::time::Duration;

use super::*;

const POLICY: RetryPolicy = RetryPolicy { members: 3, deadline: Duration::from_secs(60) };

fn attempt(member: usize, variant: Variant) -> Attempt {
    Attempt { member, variant }
}

/// The numbers of the members that are tried when every attempt fails at once.
fn tried(policy: RetryPolicy, members: usize) -> Vec<usize> {
    let now = Instant::now();
    let mut attempts = Attempts::new(policy, members, now);
    let mut tried = vec![attempts.current().member];
    while let Some(attempt) = attempts.next_member(now) {
        tried.push(attempt.member);
    }
    tried
}

#[test]
fn each_member_is_tried_once_up_to_the_policy() {
    assert_eq!(tried(POLICY, 2), [0, 1]);
    assert_eq!(tried(POLICY, 4), [0, 1, 2]);
    assert_eq!(tried(POLICY, 1), [0]);
    assert_eq!(tried(RetryPolicy::SINGLE, 4), [0]);
}

#[test]
fn no_member_is_tried_after_the_deadline() {
    let started = Instant::now();
    let mut attempts = Attempts::new(POLICY, 3, started);
    assert!(attempts.next_member(started + POLICY.deadline - Duration::from_nanos(1)).is_some());
    assert_eq!(attempts.next_member(started + POLICY.deadline), None);
}

#[test]
fn refused_stream_options_are_left_out_for_the_same_member_only() {
    let now = Instant::now();
    let mut attempts = Attempts::new(POLICY, 2, now);
    assert_eq!(attempts.current(), attempt(0, Variant::Standard));
    assert_eq!(attempts.without_stream_options(), attempt(0, Variant::WithoutStreamOptions));
    assert_eq!(attempts.current(), attempt(0, Variant::WithoutStreamOptions));
    assert_eq!(attempts.next_member(now), Some(attempt(1, Variant::Standard)));
}

#[test]
fn single_upstream_may_still_be_sent_the_other_variant() {
    let mut attempts = Attempts::new(RetryPolicy::SINGLE, 1, Instant::now());
    assert_eq!(attempts.without_stream_options().member, 0);
    assert_eq!(attempts.next_member(Instant::now()), None);
}

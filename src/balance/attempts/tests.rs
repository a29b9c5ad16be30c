use super::*;

#[test]
fn single_upstream_may_still_be_sent_the_other_variant() {
    let mut attempts = Attempts::single(Instant::now());
    assert_eq!(attempts.current(), Attempt { member: 0, variant: Variant::Standard });
    let other = Attempt { member: 0, variant: Variant::WithoutStreamOptions };
    assert_eq!(attempts.without_stream_options(), other);
    assert_eq!(attempts.current(), other);
    assert!(attempts.plan().is_none() && attempts.permit().is_none());
}

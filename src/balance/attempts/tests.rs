use super::*;

#[test]
fn variant_changes_at_a_member_and_is_standard_at_the_next() {
    let mut attempts = Attempts::new(0, Instant::now());
    assert_eq!(attempts.current(), Attempt { member: 0, variant: Variant::Standard });
    let other = Attempt { member: 0, variant: Variant::WithoutStreamOptions };
    assert_eq!(attempts.without_stream_options(), other);
    assert_eq!(attempts.current(), other);
    attempts.begin(2);
    assert_eq!(attempts.current(), Attempt { member: 2, variant: Variant::Standard });
}

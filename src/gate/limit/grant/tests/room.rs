//! Requests that need much of a limit, or all that is left.

use super::*;

#[test]
fn request_larger_than_the_bucket_passes_two_instances() {
    let rate = BucketRate { limit: tokens(10_000), period: 60 * SECOND, burst: tokens(10_000) };
    for want in [9_950, 10_000, 12_000] {
        let mut store = Store::default();
        let [one, other] =
            [0, 1].map(|who| Instance::new(who, TOKENS, &LimitBound::Rate(rate), WhenAway::Local, 0));
        for at in [0, RENEWAL] {
            [&one, &other].iter().for_each(|instance| instance.exchange(&mut store, at));
        }
        let at = 2 * RENEWAL;
        let hold = one.take_asking(want, &mut store, at).expect("the bucket is full");
        hold.settle(&used(want), now(at));
        // Use beyond the bucket is a debt, also of the other one.
        one.exchange(&mut store, at + RENEWAL);
        other.exchange(&mut store, at + RENEWAL);
        assert!(other.take_asking(500, &mut store, at + RENEWAL + SECOND).is_err());
        assert!(other.take_asking(100, &mut store, at + 60 * SECOND).is_ok());
    }
}

#[test]
fn request_for_a_whole_period_passes_two_instances() {
    let mut store = Store::default();
    let bound = per_day(tokens(10_000));
    let [one, other] = [0, 1].map(|who| Instance::new(who, TOKENS, &bound, WhenAway::Local, 0));
    for at in [0, RENEWAL] {
        [&one, &other].iter().for_each(|instance| instance.exchange(&mut store, at));
    }
    let hold = one.take_asking(12_000, &mut store, 2 * RENEWAL).expect("nothing is used");
    for instance in [&one, &other] {
        instance.exchange(&mut store, 3 * RENEWAL);
    }
    assert!(other.take_asking(100, &mut store, 3 * RENEWAL).is_err());
    drop(hold);
}

#[test]
fn request_without_room_keeps_none_from_others() {
    let rate = BucketRate { limit: tokens(10_000), period: 3_600 * SECOND, burst: tokens(10_000) };
    for bound in [LimitBound::Rate(rate), per_day(tokens(10_000))] {
        let mut store = Store::default();
        let [one, other] = [0, 1].map(|who| Instance::new(who, TOKENS, &bound, WhenAway::Local, 0));
        other.take_asking(4_000, &mut store, 0).unwrap().settle(&used(4_000), now(0));
        other.exchange(&mut store, RENEWAL);
        assert!(one.take_asking(8_000, &mut store, RENEWAL).is_err());
        assert!(other.take_asking(5_000, &mut store, RENEWAL).is_ok());
    }
}

#[test]
fn part_of_the_waiting_requests_has_room() {
    let mut store = Store::default();
    let one = Instance::new(0, TOKENS, &per_day(tokens(1_000)), WhenAway::Local, 0);
    for want in [700, 600] {
        assert_eq!(one.take(want, 0).err(), Some(RoomFrom::AReply));
    }
    one.exchange(&mut store, 0);
    let holds = [700, 600].map(|want| one.take(want, 0));
    assert_eq!(holds.each_ref().map(Result::is_ok), [true, false]);
}

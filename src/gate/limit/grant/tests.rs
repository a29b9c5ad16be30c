//! Several instances on one store under a simulated clock, with lost asks and replies, restarts and
//! outages.

mod away;
mod room;
mod store;

use std::task::{Context, Waker};

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::super::{
    AtLimit, Calendar, LimitBound, LimitFilter, LimitHold, LimitSpec, NoRoom, Now, Quantity, RoomFrom,
    Unpriced, Use, UseLimit, Weights,
};
use super::*;
use crate::support::calendar::Period;
use store::{Instance, Store, take_or_wait};

fn now(nanos: u64) -> Now {
    let begin: Timestamp = "2026-11-30T01:00:00Z".parse().unwrap();
    Now { nanos, time: begin + SignedDuration::from_nanos(nanos as i64) }
}

fn tokens(tokens: u64) -> Units {
    Units(u128::from(tokens) * u128::from(Weights::ONE))
}

const TOKENS: Quantity = Quantity::Tokens(Weights::Reported);

fn per_day(limit: Units) -> LimitBound {
    LimitBound::Period { limit, calendar: Calendar { period: Period::Day, zone: TimeZone::UTC } }
}

fn spec(quantity: Quantity, bound: &LimitBound) -> LimitSpec {
    LimitSpec {
        quantity,
        bound: bound.clone(),
        at_limit: AtLimit::Refuse,
        filter: LimitFilter::default(),
        unpriced: Unpriced::Refuse,
    }
}

fn used(tokens: u64) -> Use {
    Use { requests: 1, reported: tokens, ..Use::default() }
}

#[test]
fn fleet_never_exceeds_a_period_and_uses_all_of_it() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (limit, mut store, mut at) = (tokens(200_000), Store::default(), 0);
        let bound = per_day(limit);
        let new = |who, at| Instance::new(who, TOKENS, &bound, WhenAway::Local, at);
        let mut fleet: Vec<_> = (0..3).map(|who| new(who, 0)).collect();
        for step in 0..3_000 {
            at += random.u64(0..100) * SECOND / 1_000;
            let index = random.usize(..fleet.len());
            match random.u8(0..10) {
                0..4 => {
                    let want = random.u64(1..400);
                    let mut taken = fleet[index].take(want, at);
                    if taken.as_ref().is_err_and(|from| *from == RoomFrom::AReply) {
                        fleet[index].exchange_through(&mut store, at, |_| random.u8(0..10) > 0);
                        taken = fleet[index].take(want, at);
                    }
                    fleet[index].holds.extend(taken.map(|hold| (hold, want)));
                }
                4..8 if !fleet[index].holds.is_empty() => {
                    let holds = &mut fleet[index].holds;
                    let (hold, want) = holds.swap_remove(random.usize(..holds.len()));
                    hold.settle(&used(random.u64(0..=want)), now(at));
                }
                8 => fleet[index].exchange_through(&mut store, at, |_| random.u8(0..10) > 0),
                9 if random.u8(0..20) == 0 => {
                    // A restart: what runs is lost, and the ledger has the rest. The first ask
                    // replaces what the process before has reported.
                    fleet[index].holds.clear();
                    let used = fleet[index].limit.status(now(at)).used;
                    let (ledger, writer) = fleet[index].who;
                    fleet[index] = new(ledger, at);
                    fleet[index].who.1 = writer + 1;
                    fleet[index].limit.seed(used, now(at).time);
                }
                _ => {}
            }
            let taken: u128 = fleet.iter().map(|instance| instance.taken(at)).sum();
            assert!(taken <= limit.0, "seed {seed}, step {step}: {taken}");
        }
        fleet.iter_mut().for_each(|instance| instance.holds.clear());
        // One instance can have all that is left, two renewals after the others have stopped.
        for _ in 0..40 {
            at += RENEWAL;
            fleet.iter().for_each(|instance| instance.exchange(&mut store, at));
            for want in [500, 20, 1] {
                while let Ok(hold) = fleet[0].take_asking(want, &mut store, at) {
                    hold.settle(&used(want), now(at));
                }
            }
        }
        let taken: u128 = fleet.iter().map(|instance| instance.taken(at)).sum();
        assert_eq!(taken, limit.0, "seed {seed}");
        assert!(matches!(fleet[0].take_asking(1, &mut store, at), Err(RoomFrom::Time(_))));
    }
}

#[test]
fn fleet_never_exceeds_the_bucket_of_a_rate() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rate = BucketRate { limit: tokens(6_000), period: 60 * SECOND, burst: tokens(2_000) };
        let bound = LimitBound::Rate(rate);
        let (mut store, mut at, mut taken) = (Store::default(), 0, 0);
        let fleet: Vec<_> =
            (0..3).map(|who| Instance::new(who, TOKENS, &bound, WhenAway::Local, 0)).collect();
        for _ in 0..3_000 {
            at += random.u64(0..200) * SECOND / 1_000;
            let instance = &fleet[random.usize(..3)];
            let want = random.u64(1..200);
            if random.u8(0..4) == 0 {
                instance.exchange_through(&mut store, at, |_| random.u8(0..10) > 0);
            } else if let Ok(hold) = instance.take_asking(want, &mut store, at) {
                let spent = random.u64(want / 2..=want);
                hold.settle(&used(spent), now(at));
                taken += u128::from(spent) * 1_000;
            }
            let refill = rate.limit.0 * u128::from(at) / u128::from(rate.period);
            assert!(taken <= rate.burst.0 + refill + 1_000, "seed {seed}: {taken} at {at}");
        }
        // Most of it is used.
        assert!(taken > rate.limit.0 * u128::from(at) / u128::from(rate.period) / 2, "seed {seed}: {taken}");
    }
}

#[test]
fn fleet_never_runs_more_than_its_permits() {
    let mut random = fastrand::Rng::with_seed(1);
    let bound = LimitBound::Concurrent(Units(7));
    let (mut store, mut at, mut most) = (Store::default(), 0, 0);
    let mut fleet: Vec<_> =
        (0..3).map(|who| Instance::new(who, Quantity::Concurrent, &bound, WhenAway::Local, 0)).collect();
    for _ in 0..5_000 {
        at += random.u64(0..100) * SECOND / 1_000;
        let instance = &mut fleet[random.usize(..3)];
        match random.u8(0..4) {
            0..2 => {
                let taken = instance.take_asking(1, &mut store, at);
                instance.holds.extend(taken.map(|hold| (hold, 1)));
            }
            2 if !instance.holds.is_empty() => drop(instance.holds.pop()),
            _ => instance.exchange(&mut store, at),
        }
        let running = fleet.iter().map(|instance| instance.holds.len()).sum::<usize>();
        assert!(running <= 7, "{running}");
        most = most.max(running);
    }
    assert_eq!(most, 7);
}

#[test]
fn idle_fleet_grants_the_first_request_without_a_reply() {
    let bound = per_day(tokens(1_000_000));
    let mut store = Store::default();
    let fleet = [0, 1].map(|who| Instance::new(who, TOKENS, &bound, WhenAway::Local, 0));
    fleet.iter().for_each(|instance| instance.exchange(&mut store, 0));
    assert!(fleet[0].take(2_000, 1).is_ok());
    // More is asked for when half is spent, and not before.
    let busy = &fleet[0];
    let taken =
        (0..200).take_while(|_| busy.take(100, 2).map(|hold| hold.settle(&used(100), now(2))).is_ok());
    assert!(taken.count() > 20);
    assert!(busy.limit.asks(now(3), true)[0].is_some() && fleet[1].limit.asks(now(3), true)[0].is_none());
}

#[test]
fn grant_whose_time_is_over_is_not_spent() {
    let bound = per_day(tokens(1_000_000));
    let mut store = Store::default();
    let one = Instance::new(0, TOKENS, &bound, WhenAway::Local, 0);
    one.exchange(&mut store, 0);
    assert!(one.take(10, VALID - 1).is_ok());
    assert_eq!(one.take(10, VALID).err(), Some(RoomFrom::AReply));
}

#[test]
fn request_without_room_is_refused_without_another_ask() {
    let bound = per_day(tokens(100));
    let mut store = Store::default();
    let [one, other] = [0, 1].map(|who| Instance::new(who, TOKENS, &bound, WhenAway::Local, 0));
    other.take_asking(90, &mut store, 0).unwrap().settle(&used(90), now(0));
    other.exchange(&mut store, RENEWAL);
    let end = RoomFrom::Time("2026-12-01T00:00:00Z".parse().unwrap());
    assert_eq!(one.take_asking(20, &mut store, RENEWAL).err(), Some(end));
    assert_eq!(one.take(20, RENEWAL + NO_ROOM - 1).err(), Some(end));
    assert!(one.limit.asks(now(RENEWAL + 1), true)[0].is_none());
    assert_eq!(one.limit.status(now(RENEWAL)).taken(), tokens(90), "with what others have used");
    assert!(one.take_asking(7, &mut store, RENEWAL + 1).is_ok(), "there is as much");
}

#[test]
fn isolated_instance_spends_its_part_of_what_is_left() {
    for (when_away, expected) in [(WhenAway::Local, 50), (WhenAway::Allow, 1_000), (WhenAway::Refuse, 0)] {
        let bound = per_day(Units(100));
        let mut store = Store::default();
        let [one, other] = [0, 1].map(|who| Instance::new(who, Quantity::Requests, &bound, when_away, 0));
        for at in [0, RENEWAL] {
            [&one, &other].iter().for_each(|instance| instance.exchange(&mut store, at));
        }
        [&one, &other].iter().for_each(|instance| instance.fleet.set_away(true));
        let admitted = |instance: &Instance| {
            (0..1_000).filter(|_| instance.take(1, RENEWAL + 1).map(drop).is_ok()).count()
        };
        let counts = [admitted(&one), admitted(&other)];
        assert!(counts.iter().all(|count| count.abs_diff(expected) <= 1), "{when_away:?}: {counts:?}");
        // Nor does an attempt to ask grant anything.
        one.limit.asks(now(2 * RENEWAL), true);
        let refused = one.take(1, 2 * RENEWAL).err();
        match when_away {
            WhenAway::Local => assert!(matches!(refused, Some(RoomFrom::Time(_)))),
            WhenAway::Refuse => assert_eq!(refused, Some(RoomFrom::TheStore)),
            WhenAway::Allow => assert_eq!(refused, None),
        }
    }
}

#[test]
fn request_that_cannot_wait_has_its_part_of_what_is_left() {
    let mut store = Store::default();
    let bound = per_day(Units(10));
    let one = Instance::new(0, Quantity::Requests, &bound, WhenAway::Refuse, 0);
    let expected = Use { requests: 1, ..Use::default() };
    let take = |at| {
        take_or_wait([&one.limit], &expected, now(at).time, now(at), ReplyWait::Never, None)
            .map_err(|NoRoom { room_from, .. }| room_from)
    };
    assert_eq!(take(0).err(), Some(RoomFrom::TheStore), "the store was never reached");
    one.fleet.begin_round();
    one.exchange(&mut store, 0);
    one.fleet.end_round();
    let holds: Vec<_> = (0..4).map(|_| take(1).expect("there is room")).collect();
    let [ask, _] = one.limit.asks(now(2), true);
    assert_eq!(ask.map(|ask| (ask.held, ask.want)), Some((Units(4), Units(3))), "all beyond the grant");
    one.fleet.set_away(true);
    assert_eq!(take(3).err(), Some(RoomFrom::TheStore));
    drop(holds);
}

#[test]
fn isolated_instance_has_its_part_of_a_rate() {
    let rate = BucketRate { limit: Units(60), period: 60 * SECOND, burst: Units(20) };
    let mut store = Store::default();
    let bound = LimitBound::Rate(rate);
    let [one, other] = [0, 1].map(|who| Instance::new(who, Quantity::Requests, &bound, WhenAway::Local, 0));
    for at in [0, RENEWAL] {
        [&one, &other].iter().for_each(|instance| instance.exchange(&mut store, at));
    }
    one.fleet.set_away(true);
    let later = |seconds: u64| RENEWAL + seconds * SECOND;
    let admitted = |at| (0..1_000).filter(|_| one.take(1, at).map(drop).is_ok()).count();
    assert_eq!(admitted(later(0)), 10, "half of the burst");
    assert_eq!(admitted(later(10)), 5, "half of the refill");
    assert_eq!(one.take(1, later(10)).err(), Some(RoomFrom::After(2 * SECOND)));
    assert_eq!(admitted(later(3_600)), 10);
}

#[test]
fn last_period_is_reported_until_it_is_known() {
    let bound = per_day(tokens(1_000));
    let mut store = Store::default();
    let one = Instance::new(0, TOKENS, &bound, WhenAway::Local, 0);
    let hold = one.take_asking(100, &mut store, 0).unwrap();
    let tomorrow = 24 * 3_600 * SECOND;
    let last = |at: u64| {
        let [current, last] = one.limit.asks(now(at), true);
        // Only this one of the three instances still has to do with the last period.
        let seen = current.as_ref().map(|ask| ask.instances);
        assert_eq!(seen, Some(if at == tomorrow { 1 } else { 3 }));
        for (ask, instances) in [(&current, 3), (&last, 1)] {
            let none = Units(0);
            let reply = Reply { granted: none, left: 0, instances, elsewhere: none, unused: none };
            ask.iter().for_each(|ask| one.limit.reply(ask, reply, now(at)));
        }
        last.map(|ask| (ask.spent, ask.held))
    };
    assert_eq!(last(tomorrow), Some((0, tokens(100))));
    assert_eq!(last(tomorrow + RENEWAL), None);
    hold.settle(&used(70), now(tomorrow + RENEWAL));
    assert_eq!(last(tomorrow + 2 * RENEWAL), Some((70_000, Units(0))));
    assert_eq!(last(tomorrow + 3 * RENEWAL), None);
}

#[test]
fn round_that_has_begun_ends_no_later_wait() {
    let fleet = Fleet::new(WhenAway::Local, Waker::noop().clone());
    let mut context = Context::from_waker(Waker::noop());
    fleet.begin_round();
    fleet.ask();
    // The next one may begin before the request waits.
    for is_over in [false, true] {
        fleet.end_round();
        assert_eq!(fleet.poll_round(fleet.asked_round(), &mut context).is_ready(), is_over);
        fleet.begin_round();
    }
    fleet.ask();
    let round = fleet.asked_round();
    assert!(fleet.poll_round(round, &mut context).is_pending());
    fleet.set_away(true);
    assert!(fleet.poll_round(round, &mut context).is_ready());
}

#[test]
fn first_ask_after_an_outage_says_so() {
    let mut store = Store::default();
    let one = Instance::new(0, TOKENS, &per_day(tokens(1_000)), WhenAway::Local, 0);
    one.exchange(&mut store, 0);
    one.fleet.record_outage();
    one.fleet.set_away(false);
    let was_away = |at: u64| one.limit.asks(now(at), true)[0].as_ref().map(|ask| ask.was_away);
    // Until the store has replied.
    assert_eq!(was_away(RENEWAL), Some(true));
    assert_eq!(was_away(2 * RENEWAL), Some(true));
    one.exchange(&mut store, 3 * RENEWAL);
    assert_eq!(was_away(4 * RENEWAL), Some(false));
}

#[test]
fn new_instance_spends_its_part_after_an_outage() {
    let bound = per_day(tokens(10_000));
    let mut store = Store::default();
    let other = Instance::new(1, TOKENS, &bound, WhenAway::Local, 0);
    other.exchange(&mut store, 0);
    // A start while the store is away.
    let one = Instance::new(0, TOKENS, &bound, WhenAway::Local, 0);
    one.fleet.record_outage();
    one.fleet.set_away(false);
    assert!(one.take_asking(1_000, &mut store, SECOND).is_ok());
    assert!(store.emptied.is_some());
    // The other one has no more than its part, which is enough.
    assert!(other.take_asking(4_000, &mut store, SECOND).is_ok());
}

#[test]
fn limit_that_is_new_after_an_outage_has_missed_none() {
    let one = Instance::new(0, TOKENS, &per_day(tokens(1_000)), WhenAway::Local, 0);
    // A first connection that takes long.
    one.fleet.set_away(true);
    one.fleet.set_away(false);
    let was_away = |limit: &UseLimit| limit.asks(now(0), true)[0].as_ref().map(|ask| ask.was_away);
    assert_eq!(was_away(&one.limit), Some(false));
    one.fleet.record_outage();
    let spec = spec(TOKENS, &per_day(tokens(1_000)));
    let added = UseLimit::shared(spec, Some(Arc::clone(&one.fleet)), now(0));
    assert_eq!(was_away(&added), Some(false));
}

#[test]
fn only_a_fleet_that_refuses_refuses_while_away() {
    for when_away in [WhenAway::Local, WhenAway::Allow, WhenAway::Refuse] {
        let fleet = Fleet::new(when_away, Waker::noop().clone());
        assert!(!fleet.refuses());
        fleet.set_away(true);
        assert_eq!(fleet.refuses(), when_away == WhenAway::Refuse);
    }
}

#[test]
fn request_whose_wait_is_over_is_decided_as_while_away() {
    for (when_away, expected) in [
        (WhenAway::Local, [None, Some(RoomFrom::AnEnd)]),
        (WhenAway::Allow, [None, None]),
        (WhenAway::Refuse, [Some(RoomFrom::TheStore); 2]),
    ] {
        let mut store = Store::default();
        let bound = LimitBound::Concurrent(Units(4));
        let [one, other] = [0, 1].map(|who| Instance::new(who, Quantity::Concurrent, &bound, when_away, 0));
        for at in [0, RENEWAL] {
            for instance in [&one, &other] {
                instance.fleet.begin_round();
                instance.exchange(&mut store, at);
                instance.fleet.end_round();
            }
        }
        let (one_request, now) = (Use { requests: 1, ..Use::default() }, now(RENEWAL + 1));
        let take = |wait| {
            take_or_wait([&one.limit], &one_request, now.time, now, wait, None)
                .map_err(|NoRoom { room_from, .. }| room_from)
        };
        let _hold = take(ReplyWait::Never).expect("it is half of this instance's part");
        let taken = [(); 2].map(|()| take(ReplyWait::Over));
        assert_eq!(taken.each_ref().map(|taken| taken.as_ref().err().copied()), expected, "{when_away:?}");
    }
}

//! Limits of every kind under a simulated clock, against a list of all requests.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::support::calendar::Period;

const SECOND: u64 = 1_000_000_000;

/// The time at which a simulation begins, just before the end of a day.
const BEGIN: &str = "2026-11-29T23:30:00Z";

fn now(nanos: u64) -> Now {
    let begin: Timestamp = BEGIN.parse().unwrap();
    Now { nanos, time: begin + SignedDuration::from_nanos(nanos as i64) }
}

fn limit(quantity: Quantity, bound: LimitBound, at_limit: AtLimit) -> Arc<UseLimit> {
    Arc::new(UseLimit::new(
        LimitSpec { quantity, bound, at_limit, filter: LimitFilter::default(), unpriced: Unpriced::Refuse },
        now(0),
    ))
}

fn tokens(tokens: u64) -> Units {
    Units(u128::from(tokens) * u128::from(Weights::ONE))
}

fn use_of(reported: u64) -> Use {
    Use { requests: 1, reported, ..Use::default() }
}

fn day() -> Calendar {
    Calendar { period: Period::Day, zone: TimeZone::UTC }
}

/// Limits of every kind.
fn all_kinds() -> [Arc<UseLimit>; 4] {
    let per_minute = |limit: Units| LimitBound::Rate(BucketRate { limit, period: 60 * SECOND, burst: limit });
    [
        limit(Quantity::Requests, per_minute(Units(30)), AtLimit::Refuse),
        limit(Quantity::Tokens(Weights::Reported), per_minute(tokens(20_000)), AtLimit::Refuse),
        limit(
            Quantity::Tokens(Weights::Reported),
            LimitBound::Period { limit: tokens(300_000), calendar: day() },
            AtLimit::Refuse,
        ),
        limit(Quantity::Concurrent, LimitBound::Concurrent(Units(8)), AtLimit::Refuse),
    ]
}

#[test]
fn refusal_holds_nothing_and_names_the_limit_with_room_last() {
    let limits = all_kinds();
    let holds: Vec<_> =
        (0..8).map(|_| LimitHold::take(&limits, &use_of(100), now(0).time, now(0)).unwrap()).collect();
    let refused = LimitHold::take(&limits, &use_of(100), now(0).time, now(0)).unwrap_err();
    assert_eq!(refused, NoRoom { limit: 3, want: Units(1), room_from: RoomFrom::AnEnd });
    let refused = LimitHold::take(&limits, &use_of(400_000), now(0).time, now(0)).unwrap_err();
    let midnight = "2026-11-30T00:00:00Z".parse().unwrap();
    assert_eq!(refused, NoRoom { limit: 2, want: tokens(400_000), room_from: RoomFrom::Time(midnight) });
    let held = limits.each_ref().map(|limit| limit.status(now(0)).held);
    assert_eq!(held, [Units(8), tokens(800), tokens(800), Units(8)]);
    drop(holds);
    let left = limits.each_ref().map(|limit| {
        let status = limit.status(now(0));
        (status.held, status.used)
    });
    let none = Units::default();
    // Dropped requests have used nothing but themselves.
    assert_eq!(left, [(none, Units(8)), (none, none), (none, none), (none, none)]);
}

#[test]
fn refused_request_counts_at_each_limit_without_room() {
    let limits = all_kinds();
    let asked: Vec<_> =
        (0..8).map(|_| LimitHold::take(&limits, &use_of(2_500), now(0).time, now(0)).unwrap()).collect();
    LimitHold::take(&limits, &use_of(2_500), now(0).time, now(0)).unwrap_err();
    assert_eq!(limits.each_ref().map(|limit| limit.exceeded()), [0, 1, 0, 1]);
    assert!(limits[3].room(Units(1), now(0).time, now(0)).is_some());
    assert_eq!(limits[3].exceeded(), 2, "also before the body is read");
    drop(asked);
}

#[test]
fn refused_request_takes_nothing_after_the_full_limit() {
    let [requests, tokens, ..] = all_kinds();
    let full = limit(Quantity::Concurrent, LimitBound::Concurrent(Units(1)), AtLimit::Refuse);
    let one = LimitHold::take([&full], &use_of(0), now(0).time, now(0)).unwrap();
    // Another request, asked between the limits of the first.
    let meanwhile = || {
        assert_eq!(requests.status(now(0)).held, Units(0), "given back at once");
        LimitHold::take([&tokens], &use_of(20_000), now(0).time, now(0)).is_ok()
    };
    let mut was_admitted = false;
    let limits = [&requests, &full, &tokens].into_iter().enumerate();
    let limits = limits.map(|(index, limit)| {
        if index == 2 {
            was_admitted = meanwhile();
        }
        limit
    });
    LimitHold::take(limits, &use_of(100), now(0).time, now(0)).unwrap_err();
    assert!(was_admitted);
    drop(one);
}

#[test]
fn ended_request_gives_back_its_place_before_it_is_settled() {
    let limits = all_kinds();
    let mut hold = LimitHold::take(&limits, &use_of(100), now(0).time, now(0)).unwrap();
    hold.end();
    let held = limits.each_ref().map(|limit| limit.status(now(0)).held);
    assert_eq!(held, [Units(1), tokens(100), tokens(100), Units(0)]);
    hold.settle(&use_of(70), now(0));
    let used = limits.each_ref().map(|limit| (limit.status(now(0)).used, limit.status(now(0)).held));
    let none = Units::default();
    assert_eq!(used, [(Units(1), none), (tokens(70), none), (tokens(70), none), (none, none)]);
}

#[test]
fn request_that_uses_nothing_passes_in_debt() {
    let limits = &all_kinds()[1..3];
    LimitHold::take(limits, &use_of(1), now(0).time, now(0)).unwrap().settle(&use_of(400_000), now(0));
    assert!(LimitHold::take(limits, &use_of(1), now(0).time, now(0)).is_err());
    assert!(LimitHold::take(limits, &use_of(0), now(0).time, now(0)).is_ok());
    assert_eq!(limits[0].room(Units(0), now(0).time, now(0)), None);
}

#[test]
fn dropped_hold_settles_as_a_request_without_tokens() {
    let limits = all_kinds();
    let mut hold = LimitHold::take(&limits, &use_of(1_000), now(0).time, now(0)).unwrap();
    hold.grow(&use_of(3_000), now(0)).unwrap();
    hold.grow(&use_of(2_000), now(0)).unwrap();
    assert_eq!(limits[2].status(now(0)).held, tokens(3_000), "a hold never shrinks before its end");
    drop(hold);
    assert_eq!(limits[0].status(now(0)).used, Units(1));
    for limit in &limits[1..3] {
        assert_eq!((limit.status(now(0)).used, limit.status(now(0)).held), (Units(0), Units(0)));
    }
}

/// Limits of tokens that cut: 1,000 a minute, and 1,000 a day.
fn cutting() -> [Arc<UseLimit>; 2] {
    let rate = BucketRate { limit: tokens(1_000), period: 60 * SECOND, burst: tokens(1_000) };
    let period = LimitBound::Period { limit: tokens(1_000), calendar: day() };
    [LimitBound::Rate(rate), period]
        .map(|bound| limit(Quantity::Tokens(Weights::Reported), bound, AtLimit::Cut))
}

#[test]
fn limit_that_cuts_is_asked_before_a_hold_grows() {
    for limit in cutting() {
        let mut first = LimitHold::take([&limit], &use_of(400), now(0).time, now(0)).unwrap();
        let second = LimitHold::take([&limit], &use_of(500), now(0).time, now(0)).unwrap();
        first.grow(&use_of(500), now(0)).unwrap();
        let no_room = first.grow(&use_of(501), now(0)).unwrap_err();
        assert_eq!((no_room.limit, no_room.want), (0, tokens(1)));
        assert_eq!(limit.status(now(0)).held, tokens(1_000), "it holds what it held before");
        assert_eq!(limit.exceeded(), 0);
        limit.record_exceeded();
        assert_eq!(limit.exceeded(), 1);
        drop(second);
        first.grow(&use_of(501), now(0)).unwrap();
        // All use counts, also beyond the limit.
        first.settle(&use_of(1_200), now(0));
        assert_eq!((limit.status(now(0)).used, limit.status(now(0)).held), (tokens(1_200), Units(0)));
    }
}

#[test]
fn request_of_yesterday_asks_yesterdays_period() {
    let [_, limit] = cutting();
    let tomorrow = now(3_600 * SECOND);
    let mut old = LimitHold::take([&limit], &use_of(100), now(0).time, now(0)).unwrap();
    let new = LimitHold::take([&limit], &use_of(1_000), tomorrow.time, tomorrow).unwrap();
    old.grow(&use_of(1_000), tomorrow).unwrap();
    let midnight = "2026-11-30T00:00:00Z".parse().unwrap();
    let no_room = NoRoom { limit: 0, want: tokens(1), room_from: RoomFrom::Time(midnight) };
    assert_eq!(old.grow(&use_of(1_001), tomorrow), Err(no_room));
    // Two days later nothing is known of it.
    limit.status(now(30 * 3_600 * SECOND));
    assert_eq!(old.grow(&use_of(1_001), tomorrow), Ok(()));
    drop(new);
}

#[test]
fn running_request_needs_room_only_of_limits_that_cut() {
    let [_, cut] = cutting();
    let [_, _, refuse, _] = all_kinds();
    let mut hold = LimitHold::take([&refuse, &cut], &use_of(100), now(0).time, now(0)).unwrap();
    refuse.seed(tokens(300_000), now(0).time);
    hold.grow(&use_of(1_000), now(0)).unwrap();
    assert_eq!(hold.grow(&use_of(2_000), now(0)).unwrap_err().limit, 1);
}

#[test]
fn limit_that_warns_counts_and_refuses_nothing() {
    let spec = [LimitBound::Period { limit: Units(2), calendar: day() }, LimitBound::Concurrent(Units(1))];
    let [requests, concurrent] = spec;
    let limits = [
        limit(Quantity::Requests, requests, AtLimit::Warn),
        limit(Quantity::Concurrent, concurrent, AtLimit::Warn),
    ];
    let exceeded: Vec<_> = (0..3)
        .map(|_| {
            let hold = LimitHold::take(&limits, &use_of(0), now(0).time, now(0)).unwrap();
            let exceeded = hold.exceeded();
            std::mem::forget(hold);
            exceeded
        })
        .collect();
    assert_eq!(exceeded, [0, 1, 2]);
    assert_eq!(limits[0].status(now(0)).held, Units(3));
    assert_eq!(limits[1].status(now(0)).held, Units(3));
}

#[test]
fn seeded_period_continues_from_the_ledgers_sum() {
    let limit = &all_kinds()[2];
    limit.seed(tokens(299_000), now(0).time);
    assert!(LimitHold::take([limit], &use_of(1_001), now(0).time, now(0)).is_err());
    LimitHold::take([limit], &use_of(1_000), now(0).time, now(0)).unwrap().settle(&use_of(500), now(0));
    assert_eq!(limit.status(now(0)).used, tokens(299_500));
}

#[test]
fn sum_of_the_ledger_counts_in_its_own_period() {
    let limit = &all_kinds()[2];
    let (today, tomorrow) = (now(0).time, now(3_600 * SECOND));
    assert_eq!(limit.status(tomorrow).used, tokens(0), "it began while the ledger was read");
    limit.seed(tokens(299_000), today);
    limit.reprice(tokens(0), tokens(5), today);
    assert_eq!(limit.status(tomorrow).used, tokens(0));
    LimitHold::take([limit], &use_of(1_001), tomorrow.time, tomorrow).unwrap();
    assert!(LimitHold::take([limit], &use_of(1_001), today, tomorrow).is_err());
}

/// A request of the simulation.
struct Running {
    hold: LimitHold,
    ends: u64,
    expected: u64,
    actual: u64,
    started: Timestamp,
}

/// Agents with random requests over two days, with every kind of end. The list of all requests is
/// the oracle.
#[test]
fn bounds_hold_and_nothing_is_held_at_the_end() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = all_kinds();
        let (mut at, mut running) = (0, Vec::<Running>::new());
        let mut settled: Vec<(Timestamp, u64)> = Vec::new();
        // The tokens beyond the estimates.
        let mut owed = 0;
        for _ in 0..3_000 {
            at += random.u64(0..3 * SECOND);
            let time = now(at);
            let mut index = 0;
            while index < running.len() {
                if running[index].ends > at {
                    index += 1;
                    continue;
                }
                let Running { hold, actual, expected, started, .. } = running.swap_remove(index);
                if random.bool() {
                    owed += actual.saturating_sub(expected);
                    settled.push((started, actual));
                    hold.settle(&use_of(actual), time);
                }
            }
            let expected = random.u64(1..4_000);
            match LimitHold::take(&limits, &use_of(expected), time.time, time) {
                Ok(hold) => {
                    let (ends, actual) = (at + random.u64(0..30 * SECOND), random.u64(0..2 * expected));
                    running.push(Running { hold, ends, expected, actual, started: time.time });
                    assert!(running.len() <= 8);
                }
                Err(NoRoom { limit, room_from: RoomFrom::After(wait), .. }) => {
                    assert!(limit < 2 && wait > 0);
                    // Nothing changes until then except for what running requests give back.
                    let quantity = use_of(expected);
                    let later = now(at + wait);
                    let units = limits[limit].quantity().of(&quantity);
                    assert_eq!(limits[limit].room(units, later.time, later), None, "{limit} after {wait}");
                    // The bucket's clock went ahead.
                    at += wait;
                }
                Err(NoRoom { room_from: RoomFrom::AnEnd, .. }) => assert_eq!(running.len(), 8),
                Err(NoRoom { limit, .. }) => assert_eq!(limit, 2),
            }
            for request in &mut running {
                if random.u8(0..4) == 0 {
                    let more = request.expected + random.u64(0..500);
                    request.hold.grow(&use_of(more), time).unwrap();
                    owed += more - request.expected;
                    request.expected = more;
                }
            }
            // Each moment: the limit, and what running requests use beyond their estimates.
            let LimitStatus { used, held, .. } = limits[2].status(now(at));
            assert!(used.plus(held) <= tokens(300_000 + owed), "seed {seed}");
        }
        let end = now(at);
        for Running { hold, actual, started, .. } in running.drain(..) {
            settled.push((started, actual));
            hold.settle(&use_of(actual), end);
        }
        for limit in &limits {
            assert_eq!(limit.status(end).held, Units::default(), "seed {seed}");
        }
        let (begin, _) = limits[2].status(end).period.unwrap();
        let sum = settled.iter().filter(|(started, _)| *started >= begin).map(|(_, tokens)| tokens).sum();
        assert_eq!(limits[2].status(end).used, tokens(sum), "seed {seed}");
    }
}

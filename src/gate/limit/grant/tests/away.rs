//! Instances whose store is away while something else happens.

use std::collections::BTreeMap;

use super::*;

const HOUR: u64 = 3_600 * SECOND;

/// A store for each period.
#[derive(Default)]
struct Stores(BTreeMap<Timestamp, Store>);

impl Stores {
    fn exchange(&mut self, instance: &Instance, at: u64) {
        for ask in instance.limit.asks(now(at), true).into_iter().flatten() {
            let store = self.0.entry(ask.period.unwrap().0).or_default();
            let reply = store.reply(instance.who, false, &ask, at);
            instance.limit.reply(&ask, reply, now(at));
        }
    }

    /// The sum that all instances have spent, by period.
    fn spent(&self) -> Vec<i128> {
        self.0.values().map(|store| store.spent.values().sum()).collect()
    }
}

#[test]
fn period_that_ends_while_the_store_is_away_is_reported() {
    let bound = per_day(Units(100));
    let mut stores = Stores::default();
    let fleet = [0, 1].map(|who| Instance::new(who, Quantity::Requests, &bound, WhenAway::Local, 0));
    let take = |index: usize, at| fleet[index].take(1, at).map(|hold| hold.settle(&used(0), now(at)));
    for at in [0, RENEWAL, 2 * RENEWAL] {
        for (index, instance) in fleet.iter().enumerate() {
            let asks = (0..3).take_while(|_| take(index, at).is_err());
            asks.for_each(|_| stores.exchange(instance, at));
        }
    }
    fleet.iter().for_each(|instance| stores.exchange(instance, 3 * RENEWAL));
    assert_eq!(stores.spent(), [6]);
    fleet.iter().for_each(|instance| instance.fleet.record_outage());
    // The clock shows 01:00.
    let midnight = 23 * HOUR;
    (0..5).for_each(|_| take(0, midnight - 2).unwrap());
    let over_midnight = fleet[1].take(1, midnight - 1).unwrap();
    // Each has its half of the new period.
    let admitted: Vec<_> =
        (0..2).map(|index| (0..200).filter(|_| take(index, midnight + HOUR).is_ok()).count()).collect();
    assert_eq!(admitted, [50, 50]);
    over_midnight.settle(&used(0), now(midnight + HOUR));
    let mut at = midnight + 2 * HOUR;
    fleet.iter().for_each(|instance| instance.fleet.set_away(false));
    for _ in 0..3 {
        fleet.iter().for_each(|instance| stores.exchange(instance, at));
        at += RENEWAL;
    }
    assert_eq!(stores.spent(), [6 + 5 + 1, 100]);
    assert_eq!(take(0, at), Err(RoomFrom::AReply));
    stores.exchange(&fleet[0], at);
    assert!(matches!(take(0, at), Err(RoomFrom::Time(_))));
    // The next period is whole again.
    let next = midnight + 24 * HOUR;
    let asked = (0..3).find(|_| take(0, next).map_err(|_| stores.exchange(&fleet[0], next)).is_ok());
    assert!(asked.is_some());
}

#[test]
fn all_limits_are_asked_about_at_once_when_the_store_is_back() {
    let bound = per_day(Units(100));
    let one = Instance::new(0, Quantity::Requests, &bound, WhenAway::Local, 0);
    let mut store = Store::default();
    one.exchange(&mut store, 0);
    let is_asked = |at| one.limit.asks(now(at), true)[0].is_some();
    assert!(!is_asked(1));
    one.fleet.record_outage();
    one.fleet.set_away(false);
    // A renewal that is put off comes in a later round.
    assert!(one.limit.asks(now(1), false)[0].is_none());
    let [ask, _] = one.limit.asks(now(2), true);
    let ask = ask.expect("it may have lost what it knew");
    assert!(ask.was_away);
    let reply = store.reply(one.who, false, &ask, 2);
    one.limit.reply(&ask, reply, now(2));
    assert!(!is_asked(3));
}

#[test]
fn idle_limit_that_the_store_forgets_is_no_loss() {
    let rate = LimitBound::Rate(BucketRate { limit: Units(60), period: 60 * SECOND, burst: Units(60) });
    let instance = Instance::new(0, Quantity::Requests, &rate, WhenAway::Local, 0);
    let ask = |at| instance.limit.asks(now(at), true).into_iter().flatten().next().unwrap();
    assert!(!ask(0).is_known);
    let reply = Store::default().reply(instance.who, false, &ask(2 * RENEWAL), 2 * RENEWAL);
    instance.limit.reply(&ask(4 * RENEWAL), reply, now(4 * RENEWAL));
    assert!(ask(6 * RENEWAL).is_known, "a loss would be noticed");
    assert!(!ask(4 * RENEWAL + RATE_VALID).is_known);
}

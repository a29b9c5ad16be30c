use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;

fn calendar(period: Period, zone: &str) -> Calendar {
    Calendar { period, zone: TimeZone::get(zone).unwrap() }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A count with its calendar and a limit of 10.
struct Scene(Calendar, PeriodCount);

const LIMIT: Units = Units(10);

impl Scene {
    fn new(calendar: Calendar, now: &str) -> Self {
        let count = PeriodCount::new(&calendar, at(now));
        Self(calendar, count)
    }

    fn take(&mut self, want: u64, now: &str) -> Result<InPeriod, Timestamp> {
        self.take_begun(want, now, now)
    }

    fn take_begun(&mut self, want: u64, started: &str, now: &str) -> Result<InPeriod, Timestamp> {
        self.1.check(&self.0, LIMIT, want.into(), at(started), at(now))?;
        let place = self.1.place(&self.0, at(started), at(now));
        self.1.owe(place, want.into());
        Ok(place)
    }

    fn used(&mut self, now: &str) -> (u128, u128) {
        let (used, held, ..) = self.1.current(&self.0, at(now));
        (used.0, held.0)
    }
}

#[test]
fn clock_that_was_years_ahead_leaves_no_period_open() {
    let mut scene = Scene::new(calendar(Period::Day, "UTC"), "2026-11-30T10:00:00Z");
    scene.take(3, "2026-11-30T10:00:00Z").unwrap();
    scene.take(2, "2036-01-01T10:00:00Z").unwrap();
    // The clock is right again.
    scene.take(4, "2026-11-30T11:00:00Z").unwrap();
    assert_eq!(scene.take(4, "2026-11-30T11:00:00Z"), Err(at("2026-12-01T00:00:00Z")));
    scene.take(9, "2026-12-01T11:00:00Z").unwrap();
    assert_eq!(scene.take(9, "2026-12-01T12:00:00Z"), Err(at("2026-12-02T00:00:00Z")));
    scene.take(9, "2026-12-02T11:00:00Z").unwrap();
}

#[test]
fn refusal_says_when_the_period_ends() {
    for (period, zone, now, end) in [
        (Period::Day, "UTC", "2026-11-29T23:59:59Z", "2026-11-30T00:00:00Z"),
        // Days of 23 and 25 hours.
        (Period::Day, "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T22:00:00Z"),
        (Period::Day, "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        // Weeks begin on Monday.
        (Period::Week, "America/New_York", "2026-11-30T04:59:59Z", "2026-11-30T05:00:00Z"),
        (Period::Month, "Asia/Tokyo", "2026-11-30T14:59:59Z", "2026-11-30T15:00:00Z"),
        (Period::Month, "UTC", "2028-02-29T12:00:00Z", "2028-03-01T00:00:00Z"),
    ] {
        let mut scene = Scene::new(calendar(period, zone), now);
        scene.take(10, now).unwrap();
        assert_eq!(scene.take(1, now), Err(at(end)), "{zone} {now}");
        assert!(scene.take(1, end).is_ok());
    }
}

#[test]
fn request_over_midnight_counts_and_holds_only_yesterday() {
    let mut scene = Scene::new(calendar(Period::Day, "UTC"), "2026-11-29T23:59:00Z");
    let yesterday = scene.take(4, "2026-11-29T23:59:00Z").unwrap();
    assert_eq!(scene.used("2026-11-30T00:00:00Z"), (0, 0));
    scene.1.owe(yesterday, Units(3));
    scene.1.settle(yesterday, Units(7), Units(0), Units(6));
    assert_eq!(scene.used("2026-11-30T00:00:01Z"), (0, 0));
    assert_eq!(scene.1.last.unwrap().used, Units(6));
    // Admitted today, but begun yesterday.
    let late = scene.take_begun(4, "2026-11-29T23:59:59Z", "2026-11-30T00:00:02Z").unwrap();
    assert_eq!(late, yesterday);
    assert!(scene.take_begun(1, "2026-11-29T23:59:59Z", "2026-11-30T00:00:02Z").is_err());
    assert_eq!(scene.used("2026-11-30T00:00:02Z"), (0, 0));
}

#[test]
fn clock_that_steps_back_opens_no_period_again() {
    let mut scene = Scene::new(calendar(Period::Day, "UTC"), "2026-11-29T12:00:00Z");
    let first = scene.take(6, "2026-11-29T12:00:00Z").unwrap();
    scene.1.settle(first, Units(6), Units(0), Units(6));
    let second = scene.take(10, "2026-11-30T00:00:00Z").unwrap();
    scene.1.settle(second, Units(10), Units(0), Units(10));
    // Back to yesterday, which has 4 left: today is used up.
    assert_eq!(scene.take(1, "2026-11-29T23:30:00Z"), Err(at("2026-12-01T00:00:00Z")));
    // A day before both.
    assert_eq!(scene.take(1, "2026-11-20T00:00:00Z"), Err(at("2026-12-01T00:00:00Z")));
    assert_eq!(scene.used("2026-11-30T01:00:00Z"), (10, 0));
}

#[test]
fn last_count_is_kept_until_the_next_period_ends() {
    let mut scene = Scene::new(calendar(Period::Day, "UTC"), "2026-11-28T12:00:00Z");
    let old = scene.take(2, "2026-11-28T12:00:00Z").unwrap();
    let last = scene.take(3, "2026-11-29T12:00:00Z").unwrap();
    scene.take(1, "2026-11-30T12:00:00Z").unwrap();
    scene.1.settle(old, Units(2), Units(0), Units(9));
    scene.1.settle(last, Units(3), Units(0), Units(5));
    assert_eq!(scene.1.last.map(|last| (last.used, last.held)), Some((Units(5), Units(0))));
    assert_eq!(scene.used("2026-11-30T12:00:00Z"), (0, 1));
}

#[test]
fn request_for_more_than_the_limit_needs_all_of_it() {
    let mut scene = Scene::new(calendar(Period::Day, "UTC"), "2026-11-29T12:00:00Z");
    let small = scene.take(1, "2026-11-29T12:00:00Z").unwrap();
    assert!(scene.take(50, "2026-11-29T12:00:00Z").is_err());
    scene.1.settle(small, Units(1), Units(0), Units(0));
    assert!(scene.take(50, "2026-11-29T12:00:00Z").is_ok());
    assert!(scene.take(1, "2026-11-29T12:00:00Z").is_err());
}

/// The oracle: a list of all requests with their beginnings, summed by the day of the beginning.
#[test]
fn counts_agree_with_the_list_of_all_requests() {
    let mut random = fastrand::Rng::with_seed(3);
    for zone in ["UTC", "Europe/Berlin", "America/Sao_Paulo"] {
        let calendar = calendar(Period::Day, zone);
        let mut now = at("2026-10-20T00:00:00Z");
        let mut count = PeriodCount::new(&calendar, now);
        let mut running: Vec<(Timestamp, InPeriod, Units)> = Vec::new();
        let mut used: BTreeMap<Timestamp, u128> = BTreeMap::new();
        let day = |at: Timestamp| calendar.period.around(at, &calendar.zone).0;
        for _ in 0..5_000 {
            now += SignedDuration::from_mins(random.i64(0..12));
            let want = Units::from(random.u64(1..6));
            if random.bool() {
                if count.check(&calendar, Units(40), want, now, now).is_ok() {
                    let period = count.place(&calendar, now, now);
                    count.owe(period, want);
                    running.push((now, period, want));
                }
            } else if !running.is_empty() {
                let (started, period, held) = running.swap_remove(random.usize(..running.len()));
                let settled = Units::from(random.u64(0..8));
                count.settle(period, held, Units(0), settled);
                *used.entry(day(started)).or_default() += settled.0;
            }
            // No request of the test runs for longer than a day.
            running.retain(|(started, period, held)| {
                let is_young = *started + SignedDuration::from_hours(20) > now;
                if !is_young {
                    count.settle(*period, *held, Units(0), Units(0));
                }
                is_young
            });
            let (sum, held, begin, _) = count.current(&calendar, now);
            assert_eq!(sum.0, used.get(&begin).copied().unwrap_or(0), "{zone} {now}");
            let today = running.iter().filter(|(started, ..)| day(*started) == begin);
            assert_eq!(held.0, today.map(|(.., held)| held.0).sum::<u128>(), "{zone} {now}");
        }
    }
}

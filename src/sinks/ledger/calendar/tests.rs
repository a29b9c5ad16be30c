use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn days_have_23_and_25_hours_where_clocks_change() {
    let berlin = zone("Europe/Berlin");
    for (noon, begin, end) in [
        ("2026-03-28T12:00:00Z", "2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z"),
        ("2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ] {
        assert_eq!(Period::Day.around(at(noon), &berlin), (at(begin), at(end)));
    }
    let hours = Period::Hour.beginnings(at("2026-10-24T22:00:00Z"), at("2026-10-25T22:59:59Z"), &berlin);
    let labels: Vec<_> = hours.iter().map(|hour| Period::Hour.label(*hour, &berlin)).collect();
    assert_eq!(labels.len(), 25);
    assert_eq!(
        labels[1..5],
        ["01:00+02:00", "02:00+02:00", "02:00+01:00", "03:00+01:00"].map(|hour| format!("2026-10-25T{hour}"))
    );
    let hours = Period::Hour.beginnings(at("2026-03-28T23:00:00Z"), at("2026-03-29T21:59:59Z"), &berlin);
    assert_eq!(hours.len(), 23);
}

#[test]
fn beginnings_within_spans_are_those_of_the_whole_with_a_part() {
    for name in ["Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"] {
        let zone = zone(name);
        let day = |text: &str| (at(text), at(text) + Duration::from_hours(24) - Duration::from_micros(1));
        let spans = ["2026-10-24T00:00:00Z", "2026-10-25T00:00:00Z", "2026-12-31T00:00:00Z"].map(day);
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month] {
            let all = period.beginnings(spans[0].0, spans[2].1, &zone).into_iter();
            let has_part = |begin: &Timestamp| {
                let (begin, end) = period.around(*begin, &zone);
                spans.iter().any(|(first, last)| begin <= *last && *first < end)
            };
            let expected: Vec<_> = all.filter(has_part).collect();
            assert_eq!(period.beginnings_within(&spans, &zone), expected, "{name} {period:?}");
        }
    }
}

#[test]
fn weeks_begin_on_monday_and_months_on_the_first() {
    let tokyo = zone("Asia/Tokyo");
    // Thursday in Tokyo, Wednesday in UTC.
    let now = at("2026-07-29T16:00:00Z");
    for (period, begin, end, label) in [
        (Period::Day, "2026-07-29T15:00:00Z", "2026-07-30T15:00:00Z", "2026-07-30"),
        (Period::Week, "2026-07-26T15:00:00Z", "2026-08-02T15:00:00Z", "2026-07-27"),
        (Period::Month, "2026-06-30T15:00:00Z", "2026-07-31T15:00:00Z", "2026-07"),
        (Period::Year, "2025-12-31T15:00:00Z", "2026-12-31T15:00:00Z", "2026"),
    ] {
        let (found, after) = period.around(now, &tokyo);
        assert_eq!((found, after), (at(begin), at(end)), "{period:?}");
        assert_eq!(period.label(found, &tokyo), label);
    }
    assert_eq!(Period::Month.before(now, &tokyo), at("2026-05-31T15:00:00Z"));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn every_moment_is_in_its_period_and_periods_follow_each_other() {
    // Half an hour of daylight saving; a day that was skipped; clocks that go back at 00:01;
    // midnights that do not exist.
    for (name, from) in [
        ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
        ("Pacific/Apia", "2011-12-28T00:00:00Z"),
        ("America/St_Johns", "2010-11-05T00:00:00Z"),
        ("America/Sao_Paulo", "2018-11-02T00:00:00Z"),
        ("Europe/Berlin", "2026-10-23T00:00:00Z"),
        ("Asia/Kathmandu", "2026-01-01T00:00:00Z"),
    ] {
        let zone = zone(name);
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month] {
            let mut periods = Periods::new(period, &zone);
            let mut labels = Vec::new();
            for minute in 0..5 * 1440 {
                let now = at(from) + Duration::from_mins(minute);
                let (begin, end) = period.around(now, &zone);
                assert!(begin <= now && now < end, "{name} {period:?} {now}: {begin} {end}");
                assert_eq!(period.around(begin, &zone), (begin, end), "{name} {period:?} {now}");
                assert_eq!(periods.begin(nanoseconds(now)), nanoseconds(begin));
                let label = period.label(begin, &zone);
                if labels.last() != Some(&label) {
                    assert!(!labels.contains(&label), "{name}: {label} is there twice");
                    labels.push(label);
                }
            }
        }
    }
}

#[test]
fn steps_of_a_chart_begin_at_midnights_of_the_zone() {
    let berlin = zone("Europe/Berlin");
    let (since, until) = (at("2026-10-24T10:00:00Z"), at("2026-10-27T10:00:00Z"));
    let days = steps(since, until, Duration::from_hours(24), &berlin, 100);
    let expected =
        ["2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"];
    assert_eq!(days, expected.map(at));
    let hours =
        steps(at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z"), Duration::from_hours(3), &berlin, 100);
    assert_eq!(
        (hours.len(), *hours.last().unwrap()),
        (9, at("2026-10-25T22:00:00Z")),
        "the last one is short"
    );
    let weeks = steps(since, until, Duration::from_hours(7 * 24), &berlin, 100);
    assert_eq!(weeks, ["2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"].map(at));
}

#[test]
fn steps_in_utc_are_whole_ones_since_1970() {
    let (since, until) = (at("2026-07-30T10:07:00Z"), at("2026-07-31T10:07:00Z"));
    for minutes in [1, 5, 10, 30, 60, 180, 360, 1440] {
        let step = Duration::from_mins(minutes);
        let found = steps(since, until, step, &TimeZone::UTC, 2000);
        let seconds = i64::try_from(step.as_secs()).unwrap();
        let first = since.as_second().div_euclid(seconds) * seconds;
        let naive: Vec<_> = (0..)
            .map(|index| Timestamp::from_second(first + index * seconds).unwrap())
            .take_while(|at| *at < until)
            .collect();
        assert_eq!(found, naive, "{minutes}");
    }
    assert_eq!(steps(since, since, Duration::from_mins(60), &TimeZone::UTC, 10).len(), 1);
    assert_eq!(steps(since, until, Duration::from_mins(1), &TimeZone::UTC, 10).len(), 10);
}

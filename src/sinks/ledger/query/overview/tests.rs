use std::collections::BTreeMap;

use super::super::tests::ledger;
use super::super::{By, report};
use super::*;
use crate::sinks::ledger::support::records;

fn whole_minutes() -> Selection {
    let since = Timestamp::from_second(1_780_000_000 / 60 * 60).unwrap();
    let until = since + Duration::from_secs(400 * 977);
    Selection { until: Some(until), ..Selection::since(since) }
}

fn read_all(path: &Path, selection: &Selection, hours: u64, latest: usize) -> Overview {
    let spec = OverviewSpec { latest, ..OverviewSpec::new(Duration::from_hours(hours)) };
    overview(path, selection, &spec, &Prices::default(), &Bounds::default()).unwrap()
}

#[test]
fn overview_has_the_sums_of_reports() {
    let records = records(1000);
    let (_folder, path) = ledger(&records);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE usage_records SET outcome = 'timed_out' WHERE seq % 7 = 0", []).unwrap();
    let all = whole_minutes();
    for selection in [
        Selection { client: Some("client-1".to_owned()), ..all.clone() },
        Selection { model: Some("gpt-3".to_owned()), upstream: Some("azure".to_owned()), ..all.clone() },
        all,
    ] {
        let split = Some(By::Model);
        let spec = OverviewSpec { latest: 3, split, ..OverviewSpec::new(Duration::from_hours(1)) };
        let found = overview(&path, &selection, &spec, &Prices::default(), &Bounds::default()).unwrap();
        let groups =
            |by| report(&path, &selection, &[by], &Prices::default(), &Bounds::default()).unwrap().groups;
        let total = report(&path, &selection, &[], &Prices::default(), &Bounds::default()).unwrap().total;
        assert!(total.requests > 10, "there is something to compare");
        assert_eq!(found.total, total);
        assert_eq!(found.users, groups(By::User));
        assert_eq!(found.clients, groups(By::Client));
        assert_eq!(found.upstreams, groups(By::Upstream));
        assert_eq!(found.models, groups(By::Model));
        let hours: BTreeMap<String, Sums> =
            groups(By::Hour).into_iter().map(|group| (group.key[0].clone().unwrap(), group.sums)).collect();
        for (at, sums) in &found.times {
            let hour = at.strftime("%Y-%m-%dT%H:%MZ").to_string();
            assert_eq!(*sums, hours.get(&hour).cloned().unwrap_or_default(), "{hour}");
        }
        assert_eq!(found.endpoints, groups(By::Endpoint));
        assert_eq!(found.outcomes, groups(By::Outcome));
        let failed = Selection { outcome: Some(Selection::ALL_FAILED.to_owned()), ..selection.clone() };
        let failed = report(&path, &failed, &[], &Prices::default(), &Bounds::default()).unwrap().total;
        assert!(total.failed > 0 && failed.requests == total.failed);
        let sum = |steps: &[Sums]| {
            let mut all = Sums::default();
            steps.iter().for_each(|sums| all.add(sums));
            all
        };
        let models: Vec<_> =
            found.series.iter().map(|(name, steps)| (vec![name.clone()], sum(steps))).collect();
        let mut wanted: Vec<_> = groups(By::Model).into_iter().map(|group| (group.key, group.sums)).collect();
        wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(models, wanted);
        assert_eq!(found.latencies.iter().map(|step| step.rows).sum::<u64>(), found.first_token.rows);
        assert_eq!(found.histogram.iter().sum::<u64>(), found.first_token.rows);
        assert_eq!(found.latest.len(), 3);
    }
}

#[test]
fn latest_records_come_first_and_whole() {
    let records = records(50);
    let (_folder, path) = ledger(&records);
    let selection = Selection::since(Timestamp::UNIX_EPOCH);
    let found = read_all(&path, &selection, 9000, 20);
    let expected: Vec<_> =
        records.iter().rev().take(20).map(|row| serde_json::to_value(row).unwrap()).collect();
    let found: Vec<_> = found.latest.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn percentiles_are_values_that_occurred() {
    let mut samples = Samples::default();
    assert_eq!(Samples::default().finish(1).0, Percentiles::default());
    for millis in (1..=1000_u16).rev() {
        samples.add(usize::from(millis > 500), f64::from(millis));
    }
    let expected = Percentiles { rows: 1000, p50: 500.0, p95: 950.0, p99: 990.0, sampled: false };
    let (all, by_step, histogram) = samples.finish(2);
    assert_eq!(all, expected);
    let later = Percentiles { rows: 500, p50: 750.0, p95: 975.0, p99: 995.0, sampled: false };
    assert_eq!(by_step[1], later);
    assert_eq!((histogram[0], histogram[1], histogram.iter().sum()), (49, 50, 1000_u64));
    let mut one = Samples::default();
    one.add(0, 7.5);
    assert_eq!(one.finish(1).0, Percentiles { rows: 1, p50: 7.5, p95: 7.5, p99: 7.5, sampled: false });
}

#[test]
fn more_than_are_kept_are_sampled_evenly() {
    let mut samples = Samples::default();
    let rows = 2 * MOST_SAMPLES as u64;
    for row in 0..rows {
        samples.add(0, row as f64);
    }
    let (found, ..) = samples.finish(1);
    assert!(found.sampled && found.rows == rows);
    for (percentile, part) in [(found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)] {
        let off = (percentile / rows as f64 - part).abs();
        assert!(off < 0.005, "{part} is off by {off}");
    }
}

#[test]
fn overview_without_rows_has_empty_steps() {
    let (_folder, path) = ledger(&[]);
    let found = read_all(&path, &whole_minutes(), 24, 5);
    assert_eq!((found.total.requests, found.first_token.rows, found.latest.len()), (0, 0, 0));
    assert_eq!(found.times.len(), 6);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn halves_add_up_to_the_whole() {
    let records = records(3000);
    // Enough rows to be read by halves.
    let many: Vec<_> = (0..25).flat_map(|_| records.clone()).collect();
    let (_folder, path) = ledger(&many);
    let selection = Selection { until: Some(many[2990].started_at), ..Selection::since(many[10].started_at) };
    let found = read_all(&path, &selection, 24, 30);
    assert_eq!(found.total.requests, 2980 * 25);
    let (_folder, one) = ledger(&many[..3000]);
    let one = read_all(&one, &selection, 24, 30);
    let times_25 = |groups: &[crate::sinks::ledger::Group]| -> Vec<_> {
        let sum = |group: &crate::sinks::ledger::Group| {
            (0..25).fold(Sums::default(), |mut all, _| {
                all.add(&group.sums);
                all
            })
        };
        groups.iter().map(|group| (group.key.clone(), sum(group))).collect()
    };
    let plain = |groups: &[crate::sinks::ledger::Group]| -> Vec<_> {
        groups.iter().map(|group| (group.key.clone(), group.sums.clone())).collect()
    };
    for (many, one) in [
        (&found.users, &one.users),
        (&found.clients, &one.clients),
        (&found.models, &one.models),
        (&found.upstreams, &one.upstreams),
        (&found.outcomes, &one.outcomes),
    ] {
        assert_eq!(plain(many), times_25(one));
    }
    let requests =
        |overview: &Overview| overview.times.iter().map(|(_, sums)| sums.requests).collect::<Vec<_>>();
    assert_eq!(requests(&found), requests(&one).into_iter().map(|rows| rows * 25).collect::<Vec<_>>());
    assert_eq!(found.first_token.rows, one.first_token.rows * 25);
    assert_eq!(found.latest, one.latest, "of the last of the 25");
    let by = [By::Day, By::Model];
    let sums = |path| report(path, &selection, &by, &Prices::default(), &Bounds::default()).unwrap();
    assert_eq!(sums(&path).total, found.total);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn users_beyond_group_limit_equal_those_of_one_pass() {
    let mut records = records(52_000);
    // The second half has the values of the first in another order, and some more.
    for (number, record) in records.iter_mut().enumerate() {
        record.user = Some(format!("user-{}", number * 7919 % 10_700).into());
    }
    let (_folder, path) = ledger(&records);
    let selection = Selection::since(Timestamp::UNIX_EPOCH);
    let spec = OverviewSpec { latest: 5, ..OverviewSpec::new(Duration::from_hours(24 * 365)) };
    let (prices, bounds) = (Prices::default(), Bounds::default());
    let found = overview(&path, &selection, &spec, &prices, &bounds).unwrap();
    let one = whole(&path, &selection, &bounds, |transaction, range| {
        read_part(transaction, range, &selection, &spec, &prices)
    });
    assert!(found.users.len() == 10_001 && found.users[10_000].sums.requests > 0, "there are others");
    let users = |groups: &[crate::sinks::ledger::Group]| -> BTreeMap<_, _> {
        groups.iter().map(|group| (group.key.clone(), group.sums.requests)).collect()
    };
    assert_eq!(users(&found.users), users(&one.unwrap().finish(&prices).users));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn samples_of_halves_are_a_sample_of_the_whole() {
    let half = |from: usize, rows: usize| {
        let mut samples = Samples::default();
        (from..from + rows).for_each(|millis| samples.add(0, millis as f64));
        samples
    };
    // The first half has a quarter of the rows.
    let rows = 2 * MOST_SAMPLES;
    let mut samples = half(0, rows / 4);
    samples.add_all(half(rows / 4, rows - rows / 4));
    assert_eq!(samples.kept.len(), MOST_SAMPLES);
    let (found, ..) = samples.finish(1);
    assert_eq!((found.rows, found.sampled), (rows as u64, true));
    for (percentile, part) in [(found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)] {
        assert!((percentile / rows as f64 - part).abs() < 0.005, "{part}: {percentile}");
    }
}

//! The fleet's ledger gives the same results as the local ledger for the same rows.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::super::super::calendar::Period;
use super::super::ask::ask;
use super::super::report::spans;
use super::*;
use crate::llm::price::Currency;
use crate::sinks::ledger::columns::{COLUMNS, COUNT, RESERVED};
use crate::sinks::ledger::{Group, LedgerSource, Overview, OverviewSpec, Record};
use crate::support::tags::TagName;

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn reports_are_those_of_the_local_ledger() {
    let (_server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    let mut all = records(2000);
    for (row, count) in all.iter_mut().step_by(35).zip(1..) {
        row.count = Some(count);
    }
    shipping.write(&Batch::new(all.clone()));
    shipping.close();
    let at = |row: usize| all[row].started_at;
    let since = Selection::since;
    let mut selections = vec![
        since(Timestamp::UNIX_EPOCH),
        since(at(700)),
        // Between two microseconds.
        since(at(700) + Duration::from_nanos(500)),
        Selection { until: Some(at(900)), ..since(at(100)) },
        since(at(1999) + Duration::from_secs(1)),
    ];
    let named = Selection { client: Some("client-1".into()), ..since(at(3)) };
    selections.push(Selection {
        model: Some("gpt-2".into()),
        upstream: Some("azure".into()),
        ..named.clone()
    });
    selections.push(Selection { user: Some("nobody".into()), ..named.clone() });
    let [team, feature] = ["team", "feature"].map(|name| TagName::parse(name).unwrap());
    let tags = vec![(team, "a \"b\"".to_owned())];
    selections.push(Selection { tags: tags.clone(), ..since(at(100)) });
    selections.push(Selection { tags, attempts: true, ..since(at(100)) });
    selections.push(Selection { attempts: true, ..since(at(100)) });
    let of_attempts =
        Selection { model: Some("gpt \"x\"".into()), upstream: Some("openai".into()), ..named.clone() };
    selections.push(Selection { attempts: true, ..of_attempts });
    selections.push(named);
    for zone in ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"] {
        selections.push(Selection { zone: TimeZone::get(zone).unwrap(), ..since(at(100)) });
    }
    let bys: &[&[By]] = &[
        &[],
        &[By::Model],
        &[By::Day, By::Model],
        &[By::Hour],
        &[By::Month, By::Week, By::UsageSource],
        &[By::Provider, By::Status, By::Outcome],
        &By::ALL,
        &[By::Tag(team)],
        &[By::Tag(feature), By::Client, By::Tag(team)],
    ];
    let prices = prices(at(1000));
    for selection in &selections {
        for by in bys {
            for prices in [&Prices::default(), &prices] {
                let bounds = Bounds::default();
                let prices = &prices.clone().in_zone(&selection.zone);
                let local = query::report(&shipping.path(), selection, by, prices, &bounds).unwrap();
                let fleet = report(&settings, selection, by, prices, &bounds).unwrap();
                assert_eq!(without_nul(local), fleet, "{selection:?} by {by:?}");
            }
        }
    }
    let ids = ["00000000", "00000001", "unused"].map(str::to_owned);
    let local = LedgerSource::File(shipping.path());
    let fleet = LedgerSource::Fleet(Box::new(settings.clone()));
    for since in [Timestamp::UNIX_EPOCH, at(1995)] {
        let micros = |source: &LedgerSource| {
            let used = source.last_used(&ids, since, &Bounds::default()).unwrap();
            used.into_iter().map(|(id, at)| (id, at.as_microsecond())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(micros(&local), micros(&fleet), "{since}");
    }
    let total = report(&settings, &selections[0], &[], &prices, &Bounds::default()).unwrap().total;
    let paid = |currency: &str| total.cost.amount(Currency::parse(currency).unwrap()).is_some();
    assert!(paid("USD") && paid("EUR") && total.cost.unpriced > 0, "{total:?}");
    let few = Bounds { groups: Some(3), ..Bounds::default() };
    let error =
        report(&settings, &selections[0], &[By::Model, By::Client], &Prices::default(), &few).unwrap_err();
    assert!(error.is_bound(), "{error}");
    let past = Bounds { deadline: Some(Instant::now()), ..Bounds::default() };
    assert!(report(&settings, &selections[0], &[], &Prices::default(), &past).unwrap_err().is_bound());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn record_of_a_far_clock_costs_no_hour_without_records() {
    let (_server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    let mut all = records(200);
    let (first, far) = (all[0].started_at, "2201-03-29T00:59:59Z".parse().unwrap());
    all[199].started_at = far;
    shipping.write(&Batch::new(all));
    shipping.close();
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let selection = Selection { zone, ..Selection::since(Timestamp::UNIX_EPOCH) };
    let spans = ask(&settings, &Bounds::default(), async |moment| spans(&moment, &selection).await).unwrap();
    let hours = Period::Hour.beginnings_within(&spans, &selection.zone).len();
    assert!(hours < 200 * 25, "{hours}");
    for at in [first, far] {
        assert!(spans.iter().any(|(begin, end)| *begin <= at && at <= *end), "{at}: {spans:?}");
    }
    for by in [By::Hour, By::Day, By::Week, By::Month] {
        let (prices, bounds) = (Prices::default(), Bounds::default());
        let local = query::report(&shipping.path(), &selection, &[by], &prices, &bounds).unwrap();
        let fleet = report(&settings, &selection, &[by], &prices, &bounds).unwrap();
        assert_eq!(local, fleet, "{by}");
    }
}

/// Prices: some models have none, one is in another currency, one changes at `change`, and one
/// holds for a single upstream.
fn prices(change: Timestamp) -> Prices {
    let day = change.strftime("%Y-%m-%d");
    let text = format!(
        "[upstreams.openai]\napi_key = {{ value = \"k\" }}\n[upstreams.azure]\nurl = \"https://r\"\napi_key = {{ value = \"k\" }}\n\
         [[routes]]\nupstream = \"openai\"\n\
         [[prices]]\nmodel = \"gpt-1\"\ninput = 2\ncached_input = 0.5\noutput = 8.125\n\
         [[prices]]\nmodel = \"gpt-1\"\nfrom = \"{day}\"\ninput = 1\noutput = 3\n\
         [[prices]]\nmodel = \"gpt-2\"\nupstream = \"azure\"\ninput = 0.000001\noutput = 0\n\
         [[prices]]\nmodel = \"gpt\"\ninput = 7\noutput = 7\ncurrency = \"EUR\"\n\
         [[prices]]\nmodel = \"gpt-1\"\ninput = 5\noutput = 5\nabove_input_tokens = 300\ncache_write_1h = 6\n\
         [[prices]]\nmodel = \"gpt-1\"\ninput = 3\noutput = 3\ntier = \"flex\"\ncache_write_1h = 4\n\
         tool_calls = {{ web_search = 10, file_search = 2.5 }}\n\
         [[prices]]\nmodel = \"gpt-3\"\ninput = 1\noutput = 1\ntier = \"flex\"\ntool_calls = {{ web_search = 10, file_search = 0 }}\n"
    );
    config::from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings.prices
}

fn without_nul(mut report: Report) -> Report {
    for part in report.groups.iter_mut().flat_map(|group| &mut group.key).flatten() {
        *part = part.replace('\0', "\u{FFFD}");
    }
    report
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn fleet_ledger_of_version_1_is_read_before_it_is_migrated() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(20));
    shipping.close();
    let since = COLUMNS.iter().position(|(name, _)| *name == COUNT).unwrap();
    let dropped: Vec<_> = [&COLUMNS[since..], RESERVED]
        .concat()
        .iter()
        .map(|(name, _)| format!("DROP COLUMN \"{name}\""))
        .collect();
    server.sql(&format!(
        "ALTER TABLE usage_records {}; DROP TABLE streamgauge_keys; UPDATE streamgauge_ledger SET version = 1",
        dropped.join(", ")
    ));
    let place = LedgerSource::Fleet(Box::new(settings.clone()));
    let (all, bounds) = (Selection::since(Timestamp::UNIX_EPOCH), Bounds::default());
    let total = place.report(&all, &[], &Prices::default(), &bounds).unwrap().total;
    assert_eq!(total.requests, 20);
    let found = place.records(&all, 40, None, &bounds).unwrap().records;
    assert_eq!((found.len(), found[0].get(COUNT)), (20, &Value::Null));
    let team = TagName::parse("team").unwrap();
    let by_team = place.report(&all, &[By::Tag(team)], &Prices::default(), &bounds).unwrap();
    assert_eq!((by_team.groups.len(), &by_team.groups[0].key[..]), (1, &[None][..]));
    let tagged = Selection { tags: vec![(team, "a".to_owned())], ..all.clone() };
    assert_eq!(place.records(&tagged, 40, None, &bounds).unwrap().records.len(), 0);
    assert_eq!(migrate(&settings).unwrap().from, Some(1));
    assert_eq!(place.records(&all, 40, None, &bounds).unwrap().records.len(), 20);
    shipping.open(&settings);
    shipping.write(&batch(3));
    shipping.close();
    assert_eq!(count(&server), 23);
}

/// The local ledger and the fleet's, with the same rows.
fn both(count: usize) -> (Server, Ships, [LedgerSource; 2]) {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(count));
    shipping.close();
    let places = [LedgerSource::File(shipping.path()), LedgerSource::Fleet(Box::new(settings))];
    (server, shipping, places)
}

/// The record in PostgreSQL's form: no NUL, and times in microseconds.
fn as_shipped(record: &Record) -> Value {
    let mut value = serde_json::to_value(record).unwrap();
    let row = value.as_object_mut().unwrap();
    row.insert("instance".to_owned(), "gateway-1".into());
    let at: Timestamp = row["started_at"].as_str().unwrap().parse().unwrap();
    row["started_at"] = Timestamp::from_microsecond(at.as_microsecond()).unwrap().to_string().into();
    for text in row.values_mut() {
        if let Value::String(text) = text {
            *text = text.replace('\0', "\u{FFFD}");
        }
    }
    value
}

/// The overview without the latest records.
fn sums(overview: &Overview) -> Overview {
    let mut overview = Overview { latest: Vec::new(), ..overview.clone() };
    let groups: [&mut Vec<Group>; 4] =
        [&mut overview.users, &mut overview.clients, &mut overview.upstreams, &mut overview.models];
    for part in groups.into_iter().flatten().flat_map(|group| &mut group.key).flatten() {
        *part = part.replace('\0', "\u{FFFD}");
    }
    overview
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn overviews_are_those_of_the_local_ledger() {
    let (_server, _ships, [local, fleet]) = both(2000);
    let at = |row: usize| records(row + 1)[row].started_at;
    let day = Selection { until: Some(at(1500)), ..Selection::since(at(100)) };
    let named = Selection { client: Some("client-1".into()), upstream: Some("azure".into()), ..day.clone() };
    let nobody = Selection { user: Some("nobody".into()), ..day.clone() };
    let elsewhere = Selection { zone: TimeZone::get("Asia/Kathmandu").unwrap(), ..day.clone() };
    let bounds = Bounds::default();
    for (selection, rows) in [(day, 1400), (named, 186), (nobody, 0), (elsewhere, 1400)] {
        for (prices, step) in [(Prices::default(), 3600), (prices(at(1000)), 86_400)] {
            let step = Duration::from_secs(step);
            let spec = OverviewSpec { latest: 20, split: Some(By::Upstream), ..OverviewSpec::new(step) };
            let read = |place: &LedgerSource| place.overview(&selection, &spec, &prices, &bounds).unwrap();
            let (local, fleet) = (read(&local), read(&fleet));
            assert_eq!(local.total.requests, rows, "{selection:?}");
            assert_eq!(sums(&local), sums(&fleet), "{selection:?}");
            let latest: Vec<_> = local.latest.iter().map(as_shipped).collect();
            let shipped: Vec<_> =
                fleet.latest.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
            assert_eq!(latest, shipped, "{selection:?}");
        }
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn records_are_those_of_the_local_ledger() {
    let (_server, _ships, [local, fleet]) = both(300);
    let all = Selection { model: Some("gpt-1".into()), ..Selection::since(Timestamp::UNIX_EPOCH) };
    let bounds = Bounds::default();
    let [some, shipped] =
        [&local, &fleet].map(|place| place.records(&all, 40, None, &bounds).unwrap().records);
    assert_eq!(some.len(), 40);
    for (one, shipped) in some.iter().zip(&shipped) {
        let id = one.get("id").as_str().unwrap().parse().unwrap();
        let found = fleet.record(id, &bounds).unwrap().unwrap();
        assert_eq!(&found, shipped);
        assert_eq!(serde_json::to_value(&found).unwrap(), as_shipped(one));
        let mut names: Vec<_> = one.fields().map(|(name, _)| name).collect();
        names.push("instance");
        assert_eq!(found.fields().map(|(name, _)| name).collect::<Vec<_>>(), names, "in the same order");
    }
    assert_eq!(fleet.record(uuid::Uuid::now_v7(), &bounds).unwrap(), None);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn pages_one_behind_the_other_are_all_records() {
    let (_server, _ships, [_, fleet]) = both(600);
    let all = Selection::since(Timestamp::UNIX_EPOCH);
    let (mut ids, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = fleet.records(&all, 600, next.as_ref(), &Bounds::default()).unwrap();
        ids.extend(page.records.iter().map(|record| record.get("id").as_str().unwrap().to_owned()));
        pages += 1;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 600 && pages > 2, "{} records on {pages} pages", ids.len());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn abandoned_question_ends_on_the_server_too() {
    let (server, _ships, [_, fleet]) = both(10);
    let bounds = Bounds::default();
    let LedgerSource::Fleet(settings) = &fleet else { unreachable!("it is the fleet's") };
    let waiting = || server.number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
    with(settings, async |client| {
        // A change of the table blocks all readers.
        client.batch_execute("BEGIN; LOCK usage_records").await.unwrap();
        let all = Selection::since(Timestamp::UNIX_EPOCH);
        thread::scope(|scope| {
            let asks = scope.spawn(|| fleet.records(&all, 1, None, &bounds).unwrap_err());
            wait_for("the question", || waiting() == 1);
            bounds.given_up.store(true, Ordering::Relaxed);
            assert!(asks.join().unwrap().is_bound());
            wait_for("its end", || waiting() == 0);
        });
        client.batch_execute("COMMIT").await.unwrap();
    });
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn locked_version_table_is_silence_and_no_bound() {
    let (_server, settings) = migrated();
    let response = with(&settings, async |client| {
        client.batch_execute("BEGIN; LOCK TABLE streamgauge_ledger").await.unwrap();
        let bounds = Bounds { deadline: Some(Instant::now()), ..Bounds::default() };
        let all = Selection::since(Timestamp::UNIX_EPOCH);
        let ask = || report(&settings, &all, &[], &Prices::default(), &bounds);
        thread::scope(|scope| scope.spawn(ask).join().unwrap())
    });
    let error = response.unwrap_err();
    assert!(!error.is_bound(), "{error}");
    assert!(error.to_string().contains("the server did not respond within 10 s"), "{error}");
}

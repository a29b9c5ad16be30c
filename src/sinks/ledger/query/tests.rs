mod attempts;
mod files;
mod last_used;
mod prices;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::SOURCES;
use super::super::groups::{Estimated, Group, Key};
use super::super::store::Store;
use super::super::support::{batch, records};
use super::*;
use crate::llm::price::{Amount, Cost, Currency, INPUT_WITHOUT_CACHE, Price, Rate, Rates, Reported};
use crate::llm::usage::Usage;
use crate::record::{Outcome, UsageRecord, UsageSource};
use crate::sinks::ledger::Order;
use crate::support::tags::TagName;

pub(super) fn ledger(records: &[UsageRecord]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Store::open(&path).unwrap().write(&[records.to_vec().into()]).unwrap();
    (folder, path)
}

fn all(path: &Path, by: &[By]) -> Result<Report, LedgerError> {
    report(path, &Selection::since(Timestamp::UNIX_EPOCH), by, &Prices::default(), &Bounds::default())
}

/// Adds up the records themselves.
fn naive(records: &[UsageRecord], since: Timestamp, by: &[By]) -> Vec<Group> {
    naive_of(records.iter().filter(|row| row.started_at >= since), by, &Prices::default())
}

/// The cost of the record.
fn cost(row: &UsageRecord, prices: &Prices) -> Cost {
    let mut cost = Cost::default();
    let has_calls = row.tool_calls.is_some_and(|calls| !calls.is_empty()) && !prices.is_empty();
    if row.usage.input_tokens.is_none() && row.usage.output_tokens.is_none() && !has_calls {
        return cost;
    }
    match crate::record::cost(row, prices) {
        Some((currency, amount)) => cost.pay(currency, amount),
        None => cost.unpriced = row.requests(),
    }
    cost
}

/// Returns true if the request could have had tokens.
fn is_countable(row: &UsageRecord) -> bool {
    const ENDPOINTS: [&str; 3] = ["chat/completions", "messages", "embeddings"];
    let is_success = row.status.is_some_and(|status| (200..300).contains(&status))
        && row.method == Some(http::Method::POST)
        && row.outcome == crate::record::Outcome::Complete
        && row.endpoint.as_deref().is_some_and(|endpoint| ENDPOINTS.contains(&endpoint));
    is_success || row.usage_source != crate::record::UsageSource::None
}

fn is_failed(row: &UsageRecord) -> bool {
    !matches!(row.outcome, Outcome::Complete | Outcome::ClientDisconnected)
}

/// The difference between the cost of the record without a cache, and its cost.
fn saved(row: &UsageRecord, prices: &Prices, cost: &Cost) -> Option<Box<Cost>> {
    let mut plain = row.clone();
    let cached = plain.usage.cached_input_tokens.take()?;
    if row.endpoint.as_deref() == Some(INPUT_WITHOUT_CACHE) {
        *plain.usage.input_tokens.get_or_insert(0) += cached;
    }
    let (currency, paid) = cost.amounts().next()?;
    let (_, whole) = crate::record::cost(&plain, prices)?;
    let mut saved = Cost::default();
    saved.pay(currency, Amount::of_smallest(whole.smallest().checked_sub(paid.smallest())?));
    (whole > paid).then(|| Box::new(saved))
}

/// The teams of some of the clients.
fn teams() -> Teams {
    Arc::new(["client-1", "client-2"].map(|client| (client.to_owned(), "search".to_owned())).into())
}

fn team(client: &str) -> Option<&'static str> {
    teams().contains_key(client).then_some("search")
}

fn naive_of<'a>(records: impl Iterator<Item = &'a UsageRecord>, by: &[By], prices: &Prices) -> Vec<Group> {
    let mut groups: BTreeMap<Vec<(bool, Option<String>)>, Sums> = BTreeMap::new();
    for row in records {
        let part = |by: &By| match by {
            By::Model => row.model.as_deref().map(str::to_owned),
            By::Client => Some(row.client.to_string()),
            By::Team => team(&row.client).map(str::to_owned),
            By::Key => row.key_id.as_deref().map(str::to_owned),
            By::Upstream => row.upstream.as_deref().map(str::to_owned),
            By::Group => row.group_use.as_ref().map(|group| group.group.to_string()),
            By::Endpoint => row.endpoint.as_deref().map(str::to_owned),
            By::User => row.user.as_deref().map(str::to_owned),
            By::Day => Some(row.started_at.to_string()[..10].to_owned()),
            By::Hour => Some(format!("{}:00Z", &row.started_at.to_string()[..13])),
            By::Week => {
                let day = row.started_at.to_zoned(TimeZone::UTC).date();
                let since_monday = i64::from(day.weekday().to_monday_zero_offset());
                Some(day.saturating_sub(jiff::ToSpan::days(since_monday)).to_string())
            }
            By::Month => Some(row.started_at.to_string()[..7].to_owned()),
            By::Provider => row.provider.map(|provider| provider.as_str().to_owned()),
            By::Status => row.status.map(|status| status.to_string()),
            By::Outcome => Some(row.outcome.as_str().to_owned()),
            By::UsageSource => Some(row.usage_source.as_str().to_owned()),
            By::Tag(name) => row.tags.as_ref()?.get(name.as_str()).map(str::to_owned),
        };
        let key = by.iter().map(part).map(|part| (part.is_none(), part)).collect();
        let usage = &row.usage;
        let mut sources = [0; SOURCES.len()];
        sources[SOURCES.iter().position(|source| *source == row.usage_source.as_str()).unwrap()] =
            row.requests();
        let parts: Vec<_> = [usage.input_tokens, usage.output_tokens].into_iter().flatten().collect();
        let has_no_total = usage.total_tokens.is_none() && !parts.is_empty();
        let computed = has_no_total.then(|| parts.iter().sum());
        let cost = cost(row, prices);
        let estimated = (row.usage_source == UsageSource::Estimated).then(|| {
            let mut estimated = Estimated {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                total_tokens: usage.total_tokens.or(computed),
                ..Estimated::default()
            };
            cost.amounts().for_each(|(currency, amount)| estimated.cost.pay(currency, amount));
            Box::new(estimated)
        });
        groups.entry(key).or_default().add(&Sums {
            requests: row.requests(),
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            cache_write_input_tokens: usage.cache_write_input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            total_tokens: usage.total_tokens.or(computed),
            computed_total_tokens: computed,
            billed_seconds: usage.billed_seconds,
            sources,
            countable: if is_countable(row) { row.requests() } else { 0 },
            failed: if is_failed(row) { row.requests() } else { 0 },
            saved: saved(row, prices, &cost),
            cost,
            estimated,
            reported_cost: row.reported_cost.as_deref().and_then(Reported::parse),
        });
    }
    let group = |(key, sums): (Vec<(bool, Option<String>)>, _)| {
        let key: Key = key.into_iter().map(|(_, part)| part).collect();
        Group { key, sums }
    };
    groups.into_iter().map(group).collect()
}

#[test]
fn sums_are_those_of_the_records_themselves() {
    let mut records = records(2000);
    for (row, count) in records.iter_mut().step_by(35).zip(1..) {
        row.count = Some(count);
    }
    let (_folder, path) = ledger(&records);
    let all = By::ALL;
    for since in
        [Timestamp::UNIX_EPOCH, records[777].started_at, records[1999].started_at + Duration::from_secs(1)]
    {
        for by in [&all[..], &all[1..3], &all[3..4], &all[4..], &[]] {
            let selection = Selection { teams: teams(), ..Selection::since(since) };
            let found = report(&path, &selection, by, &Prices::default(), &Bounds::default()).unwrap();
            assert_eq!(found.groups, naive(&records, since, by), "by {by:?} since {since}");
            let total = naive(&records, since, &[]).pop().map(|group| group.sums).unwrap_or_default();
            assert_eq!(found.total, total, "by {by:?} since {since}");
        }
    }
}

#[test]
fn selection_takes_rows_with_all_named_values() {
    let records = records(2000);
    let (_folder, path) = ledger(&records);
    let (since, until) = (records[300].started_at, records[1500].started_at);
    let some = |text: &str| Some(text.to_owned());
    let tag = |name: &str, value: &str| (TagName::parse(name).unwrap(), value.to_owned());
    for (client, user, upstream, model, tags) in [
        (None, None, None, None, vec![]),
        (some("client-1"), None, None, None, vec![]),
        (some("client-1"), some("Zoë \"quoted\"\n\u{0}"), some("azure"), some("gpt-3"), vec![]),
        (None, None, None, some("gpt-3' OR 1 --"), vec![]),
        (None, None, None, None, vec![tag("team", "a \"b\"")]),
        (some("client-1"), None, None, None, vec![tag("team", "a \"b\""), tag("feature", "f1")]),
        (None, None, None, None, vec![tag("team", "' OR 1 --")]),
    ] {
        let selection = Selection {
            since,
            until: Some(until),
            client,
            user,
            upstream,
            model,
            tags,
            ..Selection::since(since)
        };
        let Selection { client, user, upstream, model, .. } = &selection;
        let chosen = records.iter().filter(|row| {
            let takes = |wanted: &Option<String>, value: Option<&str>| {
                wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
            };
            row.started_at >= since
                && row.started_at < until
                && takes(client, Some(&row.client))
                && takes(user, row.user.as_deref())
                && takes(upstream, row.upstream.as_deref())
                && takes(model, row.model.as_deref())
                && selection.tags.iter().all(|(name, value)| {
                    row.tags.as_ref().is_some_and(|tags| tags.get(name.as_str()) == Some(value))
                })
        });
        let found = report(&path, &selection, &[By::Day], &Prices::default(), &Bounds::default()).unwrap();
        assert_eq!(found.groups, naive_of(chosen, &[By::Day], &Prices::default()), "{selection:?}");
    }
}

#[test]
fn reached_bound_ends_reading_with_its_reason() {
    let (_folder, path) = ledger(&records(10_000));
    let ask = |bounds| {
        report(&path, &Selection::since(Timestamp::UNIX_EPOCH), &[By::Hour], &Prices::default(), &bounds)
    };
    let few = Bounds { groups: Some(3), ..Bounds::default() };
    let late = Bounds { deadline: Some(Instant::now()), ..Bounds::default() };
    let unwanted = Bounds::default();
    unwanted.given_up.store(true, Ordering::Relaxed);
    for (bounds, reason) in
        [(few, "more than 3 groups"), (late, "took too long"), (unwanted, "took too long")]
    {
        let error = ask(bounds).unwrap_err();
        assert!(error.is_bound() && error.to_string().contains(reason), "{error}");
    }
    let enough =
        Bounds { groups: Some(10_000), deadline: Some(Instant::now() + PATIENCE), ..Bounds::default() };
    assert_eq!(ask(enough).unwrap().total.requests, 10_000);
}

#[test]
fn rows_that_ended_out_of_order_count_by_their_start() {
    let mut records = records(50);
    records.reverse();
    let (_folder, path) = ledger(&records);
    let since = records[20].started_at;
    assert_eq!(
        report(&path, &Selection::since(since), &[By::Day], &Prices::default(), &Bounds::default())
            .unwrap()
            .groups,
        naive(&records, since, &[By::Day])
    );
}

#[test]
fn unknown_usage_source_is_an_error() {
    let (_folder, path) = ledger(&records(3));
    Connection::open(&path)
        .unwrap()
        .execute("UPDATE usage_records SET usage_source = 'guessed'", [])
        .unwrap();
    let error = all(&path, &[]).unwrap_err().to_string();
    assert!(error.ends_with("a row has the unknown usage_source \"guessed\""), "{error}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn grouping_time_of_100_000_rows_is_bounded() {
    let (_folder, path) = ledger(&records(100_000));
    // The optimised program reads a million rows a second (benches/ledger.rs); this one is not
    // optimised. The test measures the running time of this thread, since its machine may be busy
    // with other tests, and takes the best of some runs, since caches differ.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });
    let best = (0..5).map(|_| {
        let start = thread_time();
        let report = all(&path, &[By::Day, By::Model]).unwrap();
        assert_eq!(report.total.requests, 100_000);
        thread_time() - start
    });
    let best = best.min().unwrap();
    assert!(best < limit, "{best:?}");
}

/// The running time of this thread.
fn thread_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn days_and_prices_are_those_of_the_zone() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let mut records = records(60 * 24);
    // Every hour from a Saturday on, past the change of the clocks on Sunday.
    for (row, hour) in records.iter_mut().zip(0..) {
        row.started_at = "2026-10-24T00:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_hours(hour);
        row.model = Some("gpt-1".into());
        row.usage = Usage { input_tokens: Some(1_000_000), ..Usage::default() };
        (row.service_tier, row.tool_calls) = (None, None);
    }
    let (_folder, path) = ledger(&records);
    let selection = Selection { zone: berlin.clone(), ..Selection::since(Timestamp::UNIX_EPOCH) };
    let rates = |rate: &str| {
        let rate = Rate::parse(rate).unwrap();
        Rates::new(Currency::parse("USD").unwrap(), rate, rate)
    };
    let from = Some("2026-10-26".parse().unwrap());
    let prices = Prices::new([Price::new("*", rates("1")), Price { from, ..Price::new("*", rates("3")) }]);
    let report =
        |by: &[By], prices: &Prices| report(&path, &selection, by, prices, &Bounds::default()).unwrap();
    let days = report(&[By::Day], &prices.clone().in_zone(&berlin));
    let found: Vec<_> = days
        .groups
        .iter()
        .take(4)
        .map(|group| {
            let amount = group.sums.cost.amount(days.currencies[0]).unwrap();
            (group.key[0].as_deref().unwrap(), group.sums.requests, amount.to_string())
        })
        .collect();
    let expected = [
        ("2026-10-24", 22, "22"),
        ("2026-10-25", 25, "25"),
        ("2026-10-26", 24, "72"),
        ("2026-10-27", 24, "72"),
    ];
    assert_eq!(found, expected.map(|(day, requests, amount)| (day, requests, amount.to_owned())));
    let hours = report(&[By::Hour], &Prices::default());
    let keys: Vec<_> = hours.groups.iter().map(|group| group.key[0].as_deref().unwrap()).collect();
    assert_eq!(keys.len(), records.len());
    assert_eq!(keys[24..26], ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"], "in the order of time");
    let months = report(&[By::Month, By::Week], &Prices::default());
    let keys: Vec<_> = months.groups.iter().take(3).map(|group| joined(&group.key)).collect();
    assert_eq!(keys, ["2026-10 2026-10-19", "2026-10 2026-10-26", "2026-11 2026-10-26"]);
}

fn joined(key: &Key) -> String {
    key.iter().map(|part| part.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")
}

#[test]
fn groups_are_sorted_and_the_others_are_one_line() {
    let records = records(2000);
    let (_folder, path) = ledger(&records);
    let mut report = all(&path, &[By::Model, By::Client]).unwrap();
    let whole = report.clone();
    report.sort(&Order::list("-output, client").unwrap()).unwrap();
    let keys = |report: &Report| report.groups.iter().map(|group| group.key.clone()).collect::<Vec<_>>();
    let mut expected = whole.groups.clone();
    expected.sort_by_key(|group| {
        (
            group.sums.output_tokens.is_none(),
            std::cmp::Reverse(group.sums.output_tokens),
            group.key[1].clone(),
        )
    });
    assert_eq!(report.groups, expected);
    report.sort(&Order::list("model").unwrap()).unwrap();
    report.limit(4);
    let rest = report.rest.clone().unwrap();
    assert_eq!((report.groups.len(), rest.groups), (4, whole.groups.len() - 4));
    assert_eq!(keys(&report), keys(&whole)[..4]);
    let mut sum = rest.sums;
    report.groups.iter().for_each(|group| sum.add(&group.sums));
    assert_eq!(sum, whole.total);
    assert_eq!(report.total, whole.total);
    for (column, reason) in [("user", "not among what --by groups by"), ("cost", "no cost without")] {
        assert!(report.sort(&Order::list(column).unwrap()).unwrap_err().contains(reason), "{column}");
    }
    assert!(
        Order::list("moon")
            .unwrap_err()
            .contains("\"moon\" is not a column: write one of requests, input_tokens")
    );
}

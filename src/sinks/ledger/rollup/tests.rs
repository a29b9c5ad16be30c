//! Sums of hours give the same results as rows, whatever happens to the ledger.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Connection;

use super::rebuild;
use crate::llm::price::{Currency, Price, Prices, Rate, Rates};
use crate::llm::usage::ToolKind;
use crate::record::{Outcome, UsageRecord, UsageSource};
use crate::sinks::ledger::retention::Retention;
use crate::sinks::ledger::store::Store;
use crate::sinks::ledger::support::records;
use crate::sinks::ledger::{Bounds, By, Overview, OverviewSpec, Report, Selection, overview, report};
use crate::support::tags::TagName;

/// The beginning of an hour.
const BEGIN: i64 = 1_780_002_000;
const HOUR: i64 = 3600;
const DAYS: i64 = 4;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + second).unwrap()
}

/// Records of four days, approximately in their order.
fn random_records(count: usize, random: &mut fastrand::Rng) -> Vec<UsageRecord> {
    let mut all = records(count);
    random.shuffle(&mut all);
    let span = DAYS * 24 * HOUR;
    let mut starts: Vec<_> = (0..count).map(|_| random.i64(0..span)).collect();
    starts.sort_unstable();
    starts.chunks_mut(20).for_each(|chunk| random.shuffle(chunk));
    for (row, start) in all.iter_mut().zip(starts) {
        // Some are from a wrong clock, and some are at the beginning of an hour.
        let start = if random.u8(..) == 0 { random.i64(0..span) } else { start };
        let start = if random.u8(..) < 4 { start / HOUR * HOUR } else { start };
        row.started_at = at(start) + Duration::from_micros(if random.bool() { 0 } else { 1 });
        let usage = &mut row.usage;
        if usage.input_tokens.is_some() {
            usage.input_tokens = Some(random.u64(0..5) * 70_000 + random.u64(0..3));
            usage.cached_input_tokens = random.bool().then(|| random.u64(0..200_000));
            usage.cache_write_input_tokens = (random.u8(..) < 60).then(|| random.u64(0..9_000));
            usage.output_tokens = (random.u8(..) < 200).then(|| random.u64(0..900));
        }
        row.outcome = match random.u8(..) {
            0..20 => Outcome::UpstreamError,
            20..40 => Outcome::ClientDisconnected,
            _ => row.outcome,
        };
        row.time_to_first_token_ms = row.time_to_first_token_ms.map(|_| random.f64() * 3000.0);
        if random.u8(..) < 5 {
            row.usage_source = UsageSource::None;
            row.usage = Default::default();
            row.tool_calls = None;
        }
    }
    all
}

/// Prices with dates, tiers, tools, upstreams, and thresholds that are bounds of classes or not.
fn prices(random: &mut fastrand::Rng, zone: &TimeZone) -> Prices {
    let usd = Currency::parse(["USD", "EUR"][random.usize(..2)]).unwrap();
    let days: Vec<_> = (0..3).map(|day| at(day * 24 * HOUR).to_zoned(zone.clone()).date()).collect();
    let price = |random: &mut fastrand::Rng| {
        let mut rate = || Rate::parse(&format!("{}.{}", random.u8(..9), random.u8(..99))).unwrap();
        let mut rates = Rates::new(usd, rate(), rate());
        rates.cached_input = rate();
        let (hour, calls) = (rate(), rate());
        rates.cache_write_1h = random.bool().then_some(hour);
        rates.tool_calls[ToolKind::FileSearch as usize] = Some(calls);
        rates.tool_calls[ToolKind::WebSearch as usize] = random.bool().then_some(calls);
        Price {
            upstream: random.bool().then(|| "azure".to_owned()),
            from: random.bool().then(|| days[random.usize(..3)]),
            tier: (random.u8(..) < 60).then(|| "flex".to_owned()),
            above_input_tokens: random.bool().then(|| [128_000, 200_000, 8_192][random.usize(..3)]),
            ..Price::new(["gpt-*", "gpt-1", "*", "gpt"][random.usize(..4)], rates)
        }
    };
    let count = random.usize(..8);
    Prices::new((0..count).map(|_| price(random)).collect::<Vec<_>>()).in_zone(zone)
}

/// A selection with bounds on whole hours, or anywhere.
fn selection(random: &mut fastrand::Rng, is_whole: bool) -> Selection {
    let zones = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"];
    let zone = TimeZone::get(zones[if is_whole { random.usize(..2) } else { random.usize(..4) }]).unwrap();
    let mut bound = || {
        let second = random.i64(-HOUR..(DAYS * 24 + 1) * HOUR);
        at(if is_whole { second.div_euclid(HOUR) * HOUR } else { second })
    };
    let (one, other) = (bound(), bound());
    let mut some = |name: &str, few: u8| (random.u8(..) < few).then(|| name.to_owned());
    let mut selection = Selection {
        client: some("client-1", 60),
        user: some("Zoë \"quoted\"\n\u{0}", 30),
        upstream: some("azure", 60),
        model: some("gpt-3", 40),
        endpoint: some("messages", 20),
        outcome: some("failed", 40).or_else(|| some("complete", 40)),
        team: some("team", 30),
        zone,
        ..Selection::since(one.min(other))
    };
    selection.until = random.bool().then_some(one.max(other));
    selection.teams = Arc::new([("client-0".to_owned(), "team".to_owned())].into());
    if random.u8(..) < 40 {
        selection.tags = vec![(TagName::parse("team").unwrap(), "a \"b\"".to_owned())];
    }
    selection.attempts = random.bool();
    selection
}

fn random_by(random: &mut fastrand::Rng) -> Vec<By> {
    let mut all = By::ALL.to_vec();
    all.push(By::Tag(TagName::parse("feature").unwrap()));
    random.shuffle(&mut all);
    all.truncate(random.usize(..4));
    all
}

fn reported(path: &Path, selection: &Selection, by: &[By], prices: &Prices) -> Report {
    report(path, selection, by, prices, &Bounds::default()).unwrap()
}

/// Two ledgers with the same records: one whose rows are added up and deleted, and one that only has
/// rows.
struct Ledgers {
    _folder: tempfile::TempDir,
    path: PathBuf,
    rows: PathBuf,
    store: Store,
    rows_store: Store,
}

impl Ledgers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, rows) = (folder.path().join("a.db"), folder.path().join("rows.db"));
        let (store, rows_store) = (Store::open(&path).unwrap(), Store::open(&rows).unwrap());
        Self { _folder: folder, path, rows, store, rows_store }
    }

    fn write(&mut self, records: &[UsageRecord]) {
        self.store.write(&[Arc::new(records.to_vec())]).unwrap();
        self.rows_store.write(&[Arc::new(records.to_vec())]).unwrap();
    }

    /// Deletes the rows before a time, up to 500 a step.
    fn delete(&mut self, until: Timestamp) -> u64 {
        let retention = Retention { age: Duration::from_secs(1), unshipped: None };
        let mut deleted = 0;
        loop {
            let step = self.store.sweep(&retention, until).unwrap();
            deleted += step.deleted;
            if !step.more {
                return deleted;
            }
        }
    }
}

/// Compares overviews, whose percentiles of hours are near those of rows.
fn compare(mut found: Overview, mut expected: Overview, has_all_rows: bool) {
    let mut percentiles = vec![(found.first_token, expected.first_token)];
    percentiles.extend(found.latencies.iter().copied().zip(expected.latencies.iter().copied()));
    for (found, expected) in percentiles {
        assert_eq!(found.rows, expected.rows);
        for (one, other) in [(found.p50, expected.p50), (found.p95, expected.p95), (found.p99, expected.p99)]
        {
            assert!((one - other).abs() <= other / 64.0 + 0.001, "{one} is not near {other}");
        }
    }
    // A row whose clock was wrong may be missing from the latest ones.
    let latest = [&mut found, &mut expected].map(|overview| std::mem::take(&mut overview.latest).len());
    assert!(!has_all_rows || latest[0] == latest[1], "{latest:?}");
    (found.first_token, found.latencies) = (expected.first_token, expected.latencies.clone());
    assert_eq!(found, expected);
}

#[test]
#[expect(clippy::print_stdout, reason = "a failure is repeated with its seed")]
fn hours_give_the_results_of_rows_at_random() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ledgers = Ledgers::new();
    let all = random_records(3000, &mut random);
    let mut rest = all.as_slice();
    let (mut deleted, mut split, mut exact_without_rows) = (0, 0, 0);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(random.usize(1..700).min(rest.len()));
        rest = later;
        ledgers.write(now);
        for _ in 0..random.u8(..3) {
            ledgers.store.add_up(2_000).unwrap();
        }
        if random.u8(..) < 60 {
            let written = all.len() - rest.len();
            let newest = DAYS * 24 * HOUR * written as i64 / all.len() as i64;
            deleted += ledgers.delete(at(random.i64(0..newest.max(2) / 2)));
        }
        if random.u8(..) < 60 {
            let again = rebuild(&ledgers.path).unwrap();
            assert_eq!(rebuild(&ledgers.path).unwrap().changed, 0, "after {again:?}");
        }
        for _ in 0..12 {
            let is_whole = random.bool();
            let selection = selection(&mut random, is_whole);
            let prices = prices(&mut random, &selection.zone);
            let by = random_by(&mut random);
            let found = reported(&ledgers.path, &selection, &by, &prices);
            if found.coarse_until.is_some() {
                split += 1;
                assert!(deleted > 0, "all rows exist");
                continue;
            }
            exact_without_rows += u64::from(deleted > 0);
            assert_eq!(found, reported(&ledgers.rows, &selection, &by, &prices), "{selection:?} by {by:?}");
            let step = Duration::from_hours([1, 6, 24][random.usize(..3)]);
            let split = [None, Some(By::Model), Some(By::User)][random.usize(..3)];
            let selection = Selection {
                attempts: false,
                until: Some(selection.until.unwrap_or(at(DAYS * 24 * HOUR))),
                ..selection
            };
            let spec = OverviewSpec { latest: 7, latest_failed: random.bool(), split, step };
            let read = |path| overview(path, &selection, &spec, &prices, &Bounds::default()).unwrap();
            let found = read(&ledgers.path);
            if found.coarse_until.is_none() {
                compare(found, read(&ledgers.rows), deleted == 0);
            }
        }
    }
    println!("{deleted} rows deleted, {split} selections split hours, {exact_without_rows} were exact");
    if deleted > 0 {
        assert!(exact_without_rows > 0);
    }
}

#[test]
fn months_stay_readable_when_rows_are_gone() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut ledgers = Ledgers::new();
    ledgers.write(&random_records(2000, &mut random));
    let gone = at(DAYS * 12 * HOUR + 1000);
    assert!(ledgers.delete(gone) > 500);
    let prices = prices(&mut random, &TimeZone::UTC);
    let all = Selection::since(at(0));
    for by in [By::Day, By::Model, By::Status, By::Key] {
        assert_eq!(
            reported(&ledgers.path, &all, &[by], &prices),
            reported(&ledgers.rows, &all, &[by], &prices)
        );
    }
    // A bound within an hour of deleted rows takes the hour as a whole, and says so.
    let within = Selection::since(at(5 * HOUR + 60));
    let found = reported(&ledgers.path, &within, &[], &prices);
    assert_eq!(found.coarse_until, Some(at(6 * HOUR)));
    let whole = Selection::since(at(5 * HOUR));
    assert_eq!(found.total, reported(&ledgers.rows, &whole, &[], &prices).total);
    // Rebuilding keeps the hours whose rows are gone.
    let rebuilt = rebuild(&ledgers.path).unwrap();
    assert_eq!((rebuilt.kept, rebuilt.changed), (DAYS.unsigned_abs() * 12 + 1, 0));
    assert_eq!(reported(&ledgers.path, &all, &[], &prices), reported(&ledgers.rows, &all, &[], &prices));
}

#[test]
fn rebuilding_mends_sums_and_finds_rows_that_were_changed() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut ledgers = Ledgers::new();
    ledgers.write(&random_records(500, &mut random));
    while ledgers.store.add_up(2_000).unwrap() {}
    let (all, prices) = (Selection::since(at(-HOUR)), Prices::default());
    for change in [
        "DELETE FROM rollup_hours WHERE hour % 5 = 0",
        "UPDATE rollup_hours SET body = substr(body, 1, length(body) - 1) WHERE hour % 7 = 0",
        "UPDATE usage_records SET client = 'erased', user = NULL WHERE seq % 50 = 0",
        "UPDATE rollup SET seq = seq - 17",
    ] {
        Connection::open(&ledgers.path).unwrap().execute(change, []).unwrap();
        Connection::open(&ledgers.rows).unwrap().execute(change, []).unwrap();
        assert!(rebuild(&ledgers.path).unwrap().changed > 0 || change.contains("17"), "{change}");
        for by in [By::Client, By::Hour] {
            let found = reported(&ledgers.path, &all, &[by], &prices);
            assert_eq!(found, reported(&ledgers.rows, &all, &[by], &prices), "{change}");
        }
        assert_eq!(rebuild(&ledgers.path).unwrap().changed, 0, "{change}");
    }
}

#[test]
fn two_writers_add_each_row_once() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut ledgers = Ledgers::new();
    let mut other = Store::open(&ledgers.path).unwrap();
    for records in random_records(2000, &mut random).chunks(100) {
        ledgers.write(records);
        let store = if random.bool() { &mut other } else { &mut ledgers.store };
        store.add_up(2_000).unwrap();
    }
    let all = Selection::since(at(-HOUR));
    let prices = prices(&mut random, &TimeZone::UTC);
    let found = reported(&ledgers.path, &all, &[By::User, By::Day], &prices);
    assert_eq!(found, reported(&ledgers.rows, &all, &[By::User, By::Day], &prices));
}

#[test]
fn old_hours_are_deleted_only_without_rows() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut ledgers = Ledgers::new();
    ledgers.write(&random_records(1000, &mut random));
    while ledgers.store.add_up(2_000).unwrap() {}
    assert_eq!(ledgers.store.sweep_hours(at(48 * HOUR)).unwrap(), 0, "all rows exist");
    ledgers.delete(at(24 * HOUR));
    assert_eq!(ledgers.store.sweep_hours(at(12 * HOUR + 1)).unwrap(), 12);
    let all = Selection::since(at(-HOUR));
    let found = reported(&ledgers.path, &all, &[By::Day], &Prices::default());
    let kept = Selection::since(at(12 * HOUR));
    assert_eq!(found.groups, reported(&ledgers.rows, &kept, &[By::Day], &Prices::default()).groups);
}

const CRASH: &str = "STREAMGAUGE_TEST_CRASH";

/// Writes and adds up until it is killed.
fn write_for_ever(path: &Path) {
    let mut random = fastrand::Rng::new();
    let mut store = Store::open(path).unwrap();
    loop {
        store.write(&[Arc::new(random_records(300, &mut random))]).unwrap();
        store.add_up(2_000).unwrap();
    }
}

#[test]
fn sums_equal_rows_after_sigkill() {
    if let Some(path) = std::env::var_os(CRASH) {
        write_for_ever(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut records = 0;
    for _ in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sinks::ledger::rollup::tests::sums_equal_rows_after_sigkill"])
            .env(CRASH, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let count = || {
            let count = |connection: Connection| {
                connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get::<_, i64>(0))
            };
            Connection::open(&path).and_then(count).unwrap_or(0)
        };
        while count() < records + 900 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let all = Selection::since(at(-HOUR));
        let found = reported(&path, &all, &[By::Client, By::Day], &Prices::default());
        // The same file without sums.
        let rows = folder.path().join("rows.db");
        std::fs::remove_file(&rows).ok();
        crate::sinks::ledger::backup(&path, &rows).unwrap();
        let copy = Connection::open(&rows).unwrap();
        let hours: i64 = copy.query_row("SELECT count(*) FROM rollup_hours", [], |row| row.get(0)).unwrap();
        assert!(hours > 0);
        copy.execute_batch("DELETE FROM rollup_hours; UPDATE rollup SET seq = 0").unwrap();
        assert_eq!(found, reported(&rows, &all, &[By::Client, By::Day], &Prices::default()));
        records = count();
    }
}

//! The costs of the ledger: CPU time of its thread per record, the delay until a record is in the
//! file, and the time of a report on a million rows.
//!
//! `cargo bench --bench ledger -- latency` measures only the second, for a disk that other programs
//! keep busy, and `-- latency FOLDER` in that directory; `cost` and `reports` are the others.
//!
//! The figures are the system's accounts of the thread (`/proc/self/task/*/schedstat`), not the
//! clock's, so that the pauses in which batches gather do not count.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use streamgauge::llm::price::{Currency, Price, Prices, Rate, Rates};
use streamgauge::llm::provider::Provider;
use streamgauge::llm::usage::Usage;
use streamgauge::record::{CAPACITY, Journal, Lane, Outcome, UsageRecord, UsageSource};
use streamgauge::sinks::ledger::{Bounds, By, Ledger, OverviewSpec, Selection, overview, rebuild, report};
use uuid::Uuid;

const ROWS: usize = 1_000_000;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let folder = match arguments.get(1) {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.unwrap();
    match arguments.first().map(String::as_str) {
        Some("latency") => latency(folder.path()),
        Some("cost") => costs(folder.path()),
        Some("reports") => reports(folder.path()),
        Some(other) => panic!("{other} is none of cost, latency, reports"),
        None => [costs, latency, reports].iter().for_each(|measure| measure(folder.path())),
    }
}

fn costs(folder: &Path) {
    println!("CPU of the ledger's thread, µs per record:");
    for size in [10, 100, 1000, 5000] {
        let cost = cost(&folder.join(format!("{size}.db")), size, (100_000 / size).clamp(20, 50));
        println!("  {size:5} records a commit: {cost:.2}");
    }
}

fn reports(folder: &Path) {
    let path = folder.join("million.db");
    fill(&path);
    println!("{ROWS} rows, {} MB:", fs::metadata(&path).unwrap().len() >> 20);
    Connection::open(&path)
        .unwrap()
        .execute_batch("DELETE FROM rollup_hours; UPDATE rollup SET seq = 0")
        .unwrap();
    read(&path);
    let start = Instant::now();
    let rebuilt = rebuild(&path).unwrap();
    println!("added up to {} hours in {} ms:", rebuilt.hours, start.elapsed().as_millis());
    read(&path);
}

fn read(path: &Path) {
    let (free, prices) = (Prices::default(), prices());
    for (by, prices) in [
        (&[][..], &free),
        (&[By::Model], &free),
        (&[By::Day, By::Model], &free),
        (&[By::Day, By::Model], &prices),
        (&By::ALL, &free),
    ] {
        let best = (0..3).map(|_| {
            let start = Instant::now();
            let report =
                report(path, &Selection::since(Timestamp::UNIX_EPOCH), by, prices, &Bounds::default())
                    .unwrap();
            assert_eq!(report.total.requests, ROWS as u64);
            (start.elapsed(), report.groups.len())
        });
        let (time, groups) = best.min().unwrap();
        let priced = if prices.is_empty() { "" } else { ", with costs" };
        println!("  by {by:?}{priced}: {groups} groups in {} ms", time.as_millis());
    }
    let best = (0..3).map(|_| {
        let (start, all) = (Instant::now(), Selection::since(Timestamp::UNIX_EPOCH));
        let day = Duration::from_hours(24);
        let spec = OverviewSpec { latest: 20, ..OverviewSpec::new(day) };
        let overview = overview(path, &all, &spec, &Prices::default(), &Bounds::default()).unwrap();
        assert_eq!((overview.total.requests, overview.first_token.rows), (ROWS as u64, ROWS as u64));
        start.elapsed()
    });
    println!("  the dashboard's overview in {} ms", best.min().unwrap().as_millis());
}

/// Prices that change within the month, and differ by upstream.
fn prices() -> Prices {
    let price = |model: &str, upstream: Option<&str>, from: Option<&str>, rate: &str| {
        let rate = Rate::parse(rate).unwrap();
        Price {
            upstream: upstream.map(str::to_owned),
            from: from.map(|from| from.parse().unwrap()),
            ..Price::new(model, Rates::new(Currency::parse("USD").unwrap(), rate, rate))
        }
    };
    Prices::new([
        price("gpt-4.1*", None, None, "2.00"),
        price("gpt-4.1-mini*", None, Some("2026-06-10"), "0.40"),
        price("gpt-4.1-mini*", Some("azure"), Some("2026-06-20"), "0.50"),
    ])
}

/// One batch per commit: a commit every 100 ms, at the rate that fills it. Records come
/// approximately in the order of their starts, as usual if most requests take seconds.
fn cost(path: &Path, size: usize, commits: usize) -> f64 {
    let mut ledger = lane(path);
    let batches: Vec<_> = (0..commits).map(|commit| Arc::new(records(commit * size, size))).collect();
    let before = cpu();
    for batch in &batches {
        let start = Instant::now();
        ledger.push(batch);
        std::thread::sleep(Duration::from_millis(100).saturating_sub(start.elapsed()));
    }
    (cpu() - before) as f64 / 1e3 / (size * commits) as f64
}

/// The time from passing on a record to the moment at which another process reads it, at ten
/// batches a second: 80 ms of it are the gathering.
fn latency(folder: &Path) {
    const SIZE: usize = 1000;
    let path = &folder.join("latency.db");
    let mut ledger = lane(path);
    let reader = Connection::open(path).unwrap();
    let mut last = reader.prepare("SELECT coalesce(max(seq), 0) FROM usage_records").unwrap();
    let mut times: Vec<_> = (1..=200)
        .map(|number| {
            let batch = Arc::new(records(number * SIZE, SIZE));
            let start = Instant::now();
            ledger.push(&batch);
            while last.query_row([], |row| row.get::<_, i64>(0)).unwrap() < (number * SIZE) as i64 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let time = start.elapsed();
            std::thread::sleep(Duration::from_millis(100).saturating_sub(time));
            time
        })
        .collect();
    times.sort_unstable();
    let rank = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1].as_millis();
    let [p50, p90, p99, most] = [50, 90, 99, 100].map(rank);
    println!(
        "{SIZE} records every 100 ms are in the file after p50 {p50}, p90 {p90}, p99 {p99}, at most {most} ms"
    );
}

fn lane(path: &Path) -> Lane {
    let journal = Journal::new(1);
    Lane::spawn(Box::new(Ledger::open(path, None, &journal).unwrap()), &journal).unwrap()
}

fn fill(path: &Path) {
    let mut ledger = lane(path);
    for start in (0..ROWS).step_by(10_000) {
        let batch = Arc::new((start..start + 10_000).map(record).collect());
        while ledger.health().waiting() + 10_000 > CAPACITY {
            std::thread::sleep(Duration::from_millis(10));
        }
        ledger.push(&batch);
    }
}

/// Nanoseconds that the ledger's thread has run.
fn cpu() -> u64 {
    // A thread gets its name a moment after its start.
    let task = loop {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let is_ledger = |task: &std::path::PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "ledger")
        };
        if let Some(task) = tasks.into_iter().find(is_ledger) {
            break task;
        }
        std::thread::yield_now();
    };
    fs::read_to_string(task.join("schedstat")).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn records(first: usize, count: usize) -> Vec<UsageRecord> {
    let mut records: Vec<_> = (first..first + count).map(record).collect();
    records.chunks_mut(50).for_each(fastrand::shuffle);
    records
}

/// A month of streamed chat completions, of some models and clients.
fn record(number: usize) -> UsageRecord {
    let started =
        Timestamp::from_second(1_780_000_000).unwrap() + Duration::from_millis(number as u64 * 2592);
    let mut random = [0; 10];
    random[..8].copy_from_slice(&fastrand::u64(..).to_ne_bytes());
    let id = uuid::Builder::from_unix_timestamp_millis(started.as_millisecond() as u64, &random).into_uuid();
    UsageRecord {
        user: Some(format!("user-{}", number % 500).into()),
        upstream: Some(["openai", "azure"][number % 2].into()),
        provider: Some(Provider::OpenAi),
        method: Some(http::Method::POST),
        endpoint: Some("chat/completions".into()),
        model_requested: Some("gpt-4.1-mini".into()),
        model: Some(format!("gpt-4.1-mini-2025-04-{:02}", number % 7).into()),
        stream: true,
        status: Some(200),
        outcome: Outcome::Complete,
        usage_source: UsageSource::Reported,
        usage: Usage {
            input_tokens: Some(1200 + number as u64 % 100),
            output_tokens: Some(300),
            total_tokens: Some(1500 + number as u64 % 100),
            cached_input_tokens: Some(1024),
            reasoning_tokens: Some(0),
            ..Usage::default()
        },
        events: Some(302),
        request_bytes: 5000,
        response_bytes: 60_000,
        time_to_first_byte_ms: Some(312.25),
        time_to_first_token_ms: Some(401.5),
        time_to_first_event_ms: Some(398.75),
        time_to_last_event_ms: Some(3020.5),
        duration_ms: 3021.125,
        upstream_request_id: Some(format!("req_{}", Uuid::nil().simple()).into()),
        service_tier: Some("default".into()),
        ..UsageRecord::begun(id, started, format!("client-{}", number % 20).into())
    }
}

//! Where usage records are looked for.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// A sink that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    Sqlite,
    Jsonl,
}

/// The ids of the ledger's rows.
pub fn rows(path: &Path) -> Vec<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags(path, flags) else { return Vec::new() };
    let Ok(mut statement) = connection.prepare("SELECT id FROM usage_records") else {
        return Vec::new();
    };
    let Ok(ids) = statement.query_map([], |row| row.get(0)) else { return Vec::new() };
    ids.filter_map(Result::ok).collect()
}

/// The ids of JSON lines. A torn line has none.
pub fn lines(text: &[u8]) -> Vec<String> {
    let records =
        text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    records.filter_map(|record| Some(record["id"].as_str()?.to_owned())).collect()
}

/// The same of a file, which may not be there yet.
pub fn lines_of(path: &Path) -> Vec<String> {
    lines(&fs::read(path).unwrap_or_default())
}

/// Requests that the metrics count.
pub fn counted(metrics: &str) -> u64 {
    sum(metrics, "streamgauge_requests_total")
}

/// The sum of a counter over its labels.
pub fn sum(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.parse::<u64>().ok()
    });
    values.sum()
}

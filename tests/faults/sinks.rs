//! Reads usage records from sinks.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// A sink that the tests read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    Sqlite,
    Jsonl,
}

impl Sink {
    /// The label in metrics and in the log.
    fn label(self) -> &'static str {
        match self {
            Self::Sqlite => "ledger",
            Self::Jsonl => "jsonl",
        }
    }
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

/// The lines of a file, which may not exist yet.
pub fn lines_of(path: &Path) -> Vec<String> {
    lines(&fs::read(path).unwrap_or_default())
}

/// Requests that the metrics count.
pub fn counted(metrics: &str) -> u64 {
    sum(metrics, "streamgauge_requests_total")
}

/// Records that wait for a sink or that it is writing.
pub fn waiting(metrics: &str, sink: Sink) -> u64 {
    sum(metrics, &format!("streamgauge_sink_waiting{{sink=\"{}\"}}", sink.label()))
}

/// Records of a sink that the metrics count as lost.
pub fn lost(metrics: &str, sink: Sink) -> usize {
    let count = |result| {
        let labels = format!("{{sink=\"{}\",result=\"{result}\"}}", sink.label());
        sum(metrics, &format!("streamgauge_sink_records_total{labels}"))
    };
    usize::try_from(count("dropped") + count("failed")).unwrap()
}

/// The lost records by the log at the end.
pub fn lost_by_log(log: &str, sink: Sink) -> usize {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut told = lines.filter(|line| {
        line["message"] == "usage records were lost in this run" && line["label"] == sink.label()
    });
    let count = |line: &Value, name| usize::try_from(line[name].as_u64().unwrap()).unwrap();
    told.next().map_or(0, |line| count(&line, "dropped") + count(&line, "failed"))
}

/// The sum of a counter over its labels.
pub fn sum(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit(' ').next()?.parse::<u64>().ok()
    });
    values.sum()
}

//! The result for spreadsheets and scripts: RFC 4180 without a carriage return, a header line, a line per group.

use super::super::{Record, Report, SOURCES};
use super::json::{COUNTS, counts};
use serde_json::Value;

/// What is not known is an empty field.
pub fn write(report: &Report) -> String {
    let header = report.by.iter().map(|by| by.as_str().to_owned());
    let header = header
        .chain(COUNTS.map(str::to_owned))
        .chain(report.currencies.iter().map(|currency| format!("cost_{}", currency.as_str().to_lowercase())))
        .chain(["requests_without_price".to_owned()])
        .chain(SOURCES.map(|source| format!("requests_{source}")));
    let mut text = line(header);
    for group in &report.groups {
        let key = group.key.iter().map(|part| part.as_deref().map_or_else(String::new, field));
        let counts =
            counts(&group.sums).into_iter().map(|count| count.map_or_else(String::new, |n| n.to_string()));
        let sources = group.sums.sources.iter().map(u64::to_string);
        let cost = report.currencies.iter().map(|currency| {
            group.sums.cost.amount(*currency).map_or_else(String::new, |sum| sum.to_string())
        });
        let cost = cost.chain([group.sums.cost.unpriced.to_string()]);
        text += &line(key.chain(counts).chain(cost).chain(sources));
    }
    text
}

/// A line per record. All records have the same fields.
pub fn write_records(records: &[Record]) -> String {
    let Some(first) = records.first() else { return String::new() };
    let mut text = line(first.fields().map(|(name, _)| name.to_owned()));
    for record in records {
        text += &line(record.fields().map(|(_, value)| match value {
            Value::Null => String::new(),
            Value::String(text) => field(text),
            other => other.to_string(),
        }));
    }
    text
}

fn line(fields: impl Iterator<Item = String>) -> String {
    let mut line = fields.collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

/// In quotes where it would be read as something else: an empty one would look like an unknown one.
fn field(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

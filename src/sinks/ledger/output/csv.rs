//! The result for spreadsheets and scripts: RFC 4180 without a carriage return, with a header line
//! and a line per group.

use std::io;

use super::super::{Before, Key, Record, Report, SOURCES};
use super::json::{COMPUTED, COUNTABLE, COUNTS, ESTIMATED, FAILED, REPORTED_COST, counts};
use serde_json::Value;

/// Unknown values are empty fields.
pub fn write(report: &Report) -> String {
    super::text(|out| write_to(report, out)).expect("a vector takes everything")
}

/// Writes the same, a line at a time.
///
/// # Errors
/// Fails with the errors of `out`.
pub fn write_to(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let header = report.by.iter().map(|by| by.as_str().to_owned());
    let header = header
        .chain(COUNTS.map(str::to_owned))
        .chain(report.currencies.iter().map(|currency| format!("cost_{}", currency.as_str().to_lowercase())))
        .chain(["requests_without_price".to_owned()])
        .chain(SOURCES.map(|source| format!("requests_{source}")))
        .chain([COMPUTED, REPORTED_COST, COUNTABLE].map(str::to_owned))
        .chain(ESTIMATED.map(str::to_owned))
        .chain(
            report
                .currencies
                .iter()
                .map(|currency| format!("estimated_cost_{}", currency.as_str().to_lowercase())),
        )
        .chain([FAILED.to_owned()])
        .chain(report.before.iter().flat_map(|_| BEFORE.map(str::to_owned)))
        .chain(report.before.iter().flat_map(|_| before_costs(report)));
    out.write_all(line(header).as_bytes())?;
    for group in &report.groups {
        let key = group.key.iter().map(|part| part.as_deref().map_or_else(String::new, field));
        let counts =
            counts(&group.sums).into_iter().map(|count| count.map_or_else(String::new, |n| n.to_string()));
        let sources = group.sums.sources.iter().map(u64::to_string);
        let cost = report.currencies.iter().map(|currency| {
            group.sums.cost.amount(*currency).map_or_else(String::new, |sum| sum.to_string())
        });
        let cost = cost.chain([group.sums.cost.unpriced.to_string()]);
        let computed = group.sums.computed_total_tokens.map_or_else(String::new, |sum| sum.to_string());
        let reported = group.sums.reported_cost.map_or_else(String::new, |cost| cost.to_string());
        let last = [computed, reported, group.sums.countable.to_string()];
        let parts =
            group.sums.estimated_tokens().map(|count| count.map_or_else(String::new, |n| n.to_string()));
        let amounts = report.currencies.iter().map(|currency| {
            group.sums.estimated_cost(*currency).map_or_else(String::new, |sum| sum.to_string())
        });
        let last = last.into_iter().chain(parts).chain(amounts).chain([group.sums.failed.to_string()]);
        let last = last.chain(report.before.iter().flat_map(|before| earlier(before, &group.key, report)));
        out.write_all(line(key.chain(counts).chain(cost).chain(sources).chain(last)).as_bytes())?;
    }
    Ok(())
}

/// The columns of a comparison, before those of money.
const BEFORE: [&str; 2] = ["before_requests", "before_total_tokens"];

fn before_costs(report: &Report) -> impl Iterator<Item = String> {
    report.currencies.iter().map(|currency| format!("before_cost_{}", currency.as_str().to_lowercase()))
}

/// The sums of the earlier time with this key.
fn earlier(before: &Before, key: &Key, report: &Report) -> Vec<String> {
    let sums = before.groups.get(key);
    let requests = sums.map_or(0, |sums| sums.requests).to_string();
    let tokens = sums.and_then(|sums| sums.total_tokens).map_or_else(String::new, |sum| sum.to_string());
    let cost = report.currencies.iter().map(|currency| {
        sums.and_then(|sums| sums.cost.amount(*currency)).map_or_else(String::new, |sum| sum.to_string())
    });
    [requests, tokens].into_iter().chain(cost).collect()
}

/// The header line of records like this one. All records have the same fields.
pub fn records_header(record: &Record) -> String {
    line(record.fields().map(|(name, _)| name.to_owned()))
}

/// The line of a record.
pub fn record(record: &Record) -> String {
    line(record.fields().map(|(_, value)| match value {
        Value::Null => String::new(),
        Value::String(text) => field(text),
        Value::Object(_) | Value::Array(_) => field(&value.to_string()),
        other => other.to_string(),
    }))
}

/// The characters that begin a formula, also in full width, and those that spreadsheets skip before
/// one.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n'];

fn line(fields: impl Iterator<Item = String>) -> String {
    let mut line = fields.collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

/// Characters at which a spreadsheet may begin another cell, even inside of quotes: many split
/// lines at semicolons.
const DIVIDES: [char; 4] = [';', '\t', '\r', '\n'];

/// Quotes a field that would otherwise be read differently: an empty one looks like an unknown one.
/// A spreadsheet's formula gets an apostrophe before it, which makes it text (OWASP, CSV
/// injection), since clients choose the names of users and models.
fn field(text: &str) -> String {
    let is_number = text.parse().is_ok_and(f64::is_finite);
    let text: String = text
        .split_inclusive(DIVIDES)
        .map(|cell| if is_formula(cell) && !is_number { format!("'{cell}") } else { cell.to_owned() })
        .collect();
    if text.is_empty() || text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// A spreadsheet may take the quotes before it for those of the cell.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches('"').starts_with(FORMULA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_record_are_one_field() {
        let calls = serde_json::json!({"file_search": 1, "web_search": 2});
        let written = record(&Record::new(vec![("tool_calls".into(), calls), ("status".into(), 200.into())]));
        assert_eq!(written, "\"{\"\"file_search\"\":1,\"\"web_search\"\":2}\",200\n");
    }

    #[test]
    fn attempts_of_a_record_are_one_field() {
        let attempts = serde_json::json!([{"upstream": "a", "error": "x,=1+1"}, {"upstream": "b"}]);
        let written =
            record(&Record::new(vec![("attempts".into(), attempts), ("status".into(), 200.into())]));
        assert!(written.starts_with("\"[{\"\"") && written.ends_with("}]\",200\n"), "{written}");
    }

    #[test]
    fn field_is_never_a_spreadsheet_formula() {
        for (text, written) in [
            ("=1+1", "'=1+1"),
            (
                "=HYPERLINK(\"https://evil.example\",\"ada\")",
                "\"'=HYPERLINK(\"\"https://evil.example\"\",\"\"ada\"\")\"",
            ),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            ("\t=1", "'\t'=1"),
            ("\r=1", "\"'\r'=1\""),
            ("\n=1", "\"'\n'=1\""),
            ("ada;=1+1", "ada;'=1+1"),
            ("ada;\"=1+1\"", "\"ada;'\"\"=1+1\"\"\""),
            ("ada\t@SUM(A1);+1", "ada\t'@SUM(A1);'+1"),
            ("ada\n-2+3", "\"ada\n'-2+3\""),
            ("a;b=c; d", "a;b=c; d"),
            ("-1", "-1"),
            ("+1.5e3", "+1.5e3"),
            ("a=b", "a=b"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(field(text), written, "{text:?}");
        }
    }
}

//! The result as a table in Markdown (GitHub Flavored Markdown, section 4.10).

use jiff::Timestamp;

use super::table::{columns, lines, notes, range};
use crate::sinks::ledger::Report;

/// Characters that would begin markup, or end a cell.
const MARKUP: [char; 9] = ['\\', '|', '`', '*', '_', '<', '>', '[', ']'];

/// A line per group, the totals, and the sources of the counts.
pub(super) fn write(report: &Report, since: Timestamp, until: Option<Timestamp>) -> String {
    let range = range(since, until, &report.zone);
    if report.total.requests == 0 {
        return format!("no requests {range}\n");
    }
    let lines = lines(report);
    let columns = columns(report, &lines);
    let names = report.by.iter().map(|by| by.as_str().to_uppercase());
    let heads: Vec<_> = names.chain(columns.iter().map(|column| column.head.clone())).collect();
    let rule = report.by.iter().map(|_| "---").chain(columns.iter().map(|_| "---:"));
    let mut text = row(&heads) + &format!("| {} |\n", rule.collect::<Vec<_>>().join(" | "));
    for (place, line) in lines.iter().enumerate() {
        let cells = columns.iter().map(|column| column.cells[place].clone());
        text += &row(&line.names.iter().cloned().chain(cells).collect::<Vec<_>>());
    }
    text += &format!("\n{}\n", escaped(&range));
    for note in notes(report).lines() {
        text += &format!("\n{}\n", escaped(note));
    }
    text
}

fn row(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if MARKUP.contains(&character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

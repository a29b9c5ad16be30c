//! The result for people.

use jiff::{Timestamp, Unit};

use super::numbers::{grouped, name, percent};
use crate::ledger::{Report, SOURCES, Sums};

/// How wide a terminal is at least.
const WIDTH: usize = 80;

/// Names get at least this much of it, also where the line becomes wider then.
const MIN_NAME: usize = 8;

/// Between columns.
const GAP: &str = "  ";

/// The columns of sums. `REPORTED` is the share of requests whose counts the upstream reported to the end.
const SUMS: [&str; 6] = ["REQUESTS", "INPUT", "CACHED", "OUTPUT", "TOTAL", "REPORTED"];

/// A line per group, the totals, and how the counts are known.
pub(super) fn write(report: &Report, since: Timestamp) -> String {
    let since = since.round(Unit::Second).unwrap_or(since);
    if report.total.requests == 0 {
        return format!("no requests since {since}\n");
    }
    let mut lines =
        vec![(report.by.iter().map(|by| by.as_str().to_uppercase()).collect(), SUMS.map(str::to_owned))];
    for group in &report.groups {
        let names: Vec<_> =
            group.key.iter().map(|part| part.clone().unwrap_or_else(|| "-".to_owned())).collect();
        lines.push((names, cells(&group.sums)));
    }
    if !report.by.is_empty() {
        let mut names = vec![String::new(); report.by.len()];
        "all".clone_into(&mut names[0]);
        lines.push((names, cells(&report.total)));
    }
    let mut text = layout(&lines);
    text += &format!("\nsince {since}\nusage:");
    let known = SOURCES.into_iter().zip(report.total.sources).filter(|(_, rows)| *rows > 0);
    let known: Vec<_> =
        known.map(|(source, rows)| format!(" {source} {}", percent(rows, report.total.requests))).collect();
    text + &known.join(",") + "\n"
}

fn cells(sums: &Sums) -> [String; SUMS.len()] {
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    [
        grouped(sums.requests),
        count(sums.input_tokens),
        count(sums.cached_input_tokens),
        count(sums.output_tokens),
        count(sums.total_tokens),
        percent(sums.sources[0], sums.requests),
    ]
}

/// Names to the left, as wide as there is room; numbers to the right, as wide as they are.
fn layout(lines: &[(Vec<String>, [String; SUMS.len()])]) -> String {
    let width = |text: &String| text.chars().count();
    let numbers: [usize; SUMS.len()] =
        std::array::from_fn(|column| lines.iter().map(|(_, cells)| width(&cells[column])).max().unwrap_or(0));
    let columns = lines.first().map_or(0, |(names, _)| names.len());
    let mut names: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|(names, _)| width(&names[column])).max().unwrap_or(0))
        .collect();
    let room = WIDTH.saturating_sub(numbers.iter().sum::<usize>() + GAP.len() * (columns + SUMS.len() - 1));
    // The widest gives way first.
    while names.iter().sum::<usize>() > room
        && let Some(widest) = names.iter_mut().max().filter(|widest| **widest > MIN_NAME)
    {
        *widest -= 1;
    }
    let mut text = String::new();
    for (parts, cells) in lines {
        let parts = parts
            .iter()
            .zip(&names)
            .map(|(part, width)| format!("{:<width$}", name(part, *width), width = width));
        let cells = cells.iter().zip(numbers).map(|(cell, width)| format!("{cell:>width$}"));
        text += parts.chain(cells).collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    text
}

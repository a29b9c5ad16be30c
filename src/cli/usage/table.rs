//! The result for people.

use jiff::{Timestamp, Unit};

use crate::ledger::output::numbers::{grouped, name, percent};
use crate::ledger::{Report, Sums};
use crate::price::{Amount, Currency};

/// How wide a terminal is at least.
const WIDTH: usize = 80;

/// Names get at least this much of it, also where the line becomes wider then.
const MIN_NAME: usize = 8;

/// Between columns.
const GAP: &str = "  ";

/// A line per group, the totals, and how the counts are known. Where there are prices, a column for
/// each currency.
pub(super) fn write(report: &Report, since: Timestamp) -> String {
    let since = since.round(Unit::Second).unwrap_or(since);
    if report.total.requests == 0 {
        return format!("no requests since {since}\n");
    }
    let paid: Vec<_> = report.currencies.iter().map(|currency| Paid::of(report, *currency)).collect();
    let names = report.by.iter().map(|by| by.as_str().to_uppercase()).collect();
    let mut heads: Vec<_> = ["REQUESTS", "INPUT", "CACHED", "OUTPUT", "TOTAL"].map(str::to_owned).into();
    heads.extend(paid.iter().map(|paid| paid.currency.to_string()));
    // The share of the requests that could have had tokens whose counts the upstream reported to
    // the end.
    heads.push("REPORTED".to_owned());
    let mut lines = vec![(names, heads)];
    for group in &report.groups {
        let names = group.key.iter().map(|part| part.clone().unwrap_or_else(|| "-".to_owned())).collect();
        lines.push((names, cells(&group.sums, &paid)));
    }
    if !report.by.is_empty() {
        let mut names = vec![String::new(); report.by.len()];
        "all".clone_into(&mut names[0]);
        lines.push((names, cells(&report.total, &paid)));
    }
    let mut text = layout(&lines);
    text += &format!("\nsince {since}\nusage:");
    let known = report.total.known().into_iter().filter(|(_, rows)| *rows > 0);
    let known: Vec<_> =
        known.map(|(source, rows)| format!(" {source} {}", percent(rows, report.total.countable))).collect();
    text += &known.join(",");
    if report.total.countable < report.total.requests {
        let separator = if known.is_empty() { "" } else { ";" };
        let others = report.total.requests - report.total.countable;
        text += &format!("{separator} {} without tokens to count", grouped(others));
    }
    text.push('\n');
    if let Some(computed) = report.total.computed_total_tokens {
        text += &format!(
            "*TOTAL: {} of it are INPUT + OUTPUT, of requests whose service reported no total\n",
            grouped(computed)
        );
    }
    if let Some(cost) = report.total.reported_cost {
        text += &format!("reported by services as cost: {cost} USD, in no other sum\n");
    }
    let unpriced = report.total.cost.unpriced;
    if !paid.is_empty() && unpriced > 0 {
        let requests = if unpriced == 1 { "request" } else { "requests" };
        text += &format!(
            "without a price in [[prices]] for all of it, and in no sum of money: {} {requests}\n",
            grouped(unpriced)
        );
    }
    text
}

/// A column of money.
struct Paid {
    currency: Currency,
    /// As few as tell the amounts apart.
    decimals: usize,
}

impl Paid {
    fn of(report: &Report, currency: Currency) -> Self {
        let most = report.total.cost.amount(currency).map_or(0.0, Amount::to_f64);
        let decimals = match most {
            100.0.. => 2,
            0.01.. => 4,
            _ => 6,
        };
        Self { currency, decimals }
    }

    /// Only nothing is 0.
    fn cell(&self, sums: &Sums) -> String {
        let Some(amount) = sums.cost.amount(self.currency) else { return "-".to_owned() };
        let text = amount.rounded(self.decimals);
        if amount > Amount::default() && text.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            return format!("<0.{:0>decimals$}", 1, decimals = self.decimals);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        format!("{}.{fraction}", whole.parse().map_or_else(|_| whole.to_owned(), grouped))
    }
}

fn cells(sums: &Sums, paid: &[Paid]) -> Vec<String> {
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    let mut cells = vec![
        grouped(sums.requests),
        count(sums.input_tokens),
        count(sums.cached_input_tokens),
        count(sums.output_tokens),
        match sums.computed_total_tokens {
            Some(_) => format!("*{}", count(sums.total_tokens)),
            None => count(sums.total_tokens),
        },
    ];
    cells.extend(paid.iter().map(|paid| paid.cell(sums)));
    cells.push(percent(sums.reported(), sums.countable));
    cells
}

/// Names to the left, as wide as there is room; numbers to the right, as wide as they are.
fn layout(lines: &[(Vec<String>, Vec<String>)]) -> String {
    let width = |text: &String| text.chars().count();
    let (columns, sums) = lines.first().map_or((0, 0), |(names, cells)| (names.len(), cells.len()));
    let numbers: Vec<usize> = (0..sums)
        .map(|column| lines.iter().map(|(_, cells)| width(&cells[column])).max().unwrap_or(0))
        .collect();
    let mut names: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|(names, _)| width(&names[column])).max().unwrap_or(0))
        .collect();
    let room =
        WIDTH.saturating_sub(numbers.iter().sum::<usize>() + GAP.len() * (columns + sums).saturating_sub(1));
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
        let cells = cells.iter().zip(&numbers).map(|(cell, width)| format!("{cell:>width$}", width = width));
        text += parts.chain(cells).collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    text
}

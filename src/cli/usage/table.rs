//! The result for people.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

use super::layout::{Column, NameColumn, Rank, layout};
use crate::config::time_zone_name;
use crate::llm::price::{Amount, Currency};
use crate::sinks::ledger::output::numbers::{grouped, name, percent, width_of};
use crate::sinks::ledger::{Estimated, Group, Report, Rest, Sums};

/// A line per group, the totals, and the sources of the counts. With prices, there is a column for
/// each currency.
///
/// The table has `width` columns, as far as possible. `None`: names are whole, and every column
/// with a value is printed.
pub(super) fn write(
    report: &Report,
    since: Timestamp,
    until: Option<Timestamp>,
    width: Option<usize>,
) -> String {
    let range = range(since, until, &report.zone);
    if report.total.requests == 0 {
        return format!("no requests {range}\n");
    }
    let lines = lines(report);
    let names = report.by.iter().enumerate().map(|(place, by)| {
        let cells = lines.iter().map(|line| line.names[place].clone());
        NameColumn { head: by.as_str().to_uppercase(), cells: cells.collect(), names: report.groups.len() }
    });
    let (mut text, left_out) = layout(names.collect(), columns(report, &lines), width);
    let mut below = format!("{range}\n{}", notes(report));
    if !left_out.is_empty() {
        below += &format!("not shown in this width: {}\n", left_out.join(", "));
    }
    text.push('\n');
    below.lines().for_each(|line| wrap(&mut text, line, width.unwrap_or(usize::MAX)));
    text
}

/// Adds a line, in as many lines as it needs in this width; all but the first are indented.
fn wrap(text: &mut String, line: &str, width: usize) {
    let mut used = 0;
    for word in line.split(' ') {
        let needed = width_of(word);
        if used > 0 && used + 1 + needed > width {
            text.push_str("\n ");
            used = 1;
        }
        if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += needed;
    }
    text.push('\n');
}

/// `since ... until ...`, the end only if one was given, in the zone of the report.
pub(super) fn range(since: Timestamp, until: Option<Timestamp>, zone: &TimeZone) -> String {
    let is_utc = *zone == TimeZone::UTC;
    let text = |at: Timestamp| {
        let at = at.round(Unit::Second).unwrap_or(at);
        match is_utc {
            true => at.to_string(),
            false => at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }
    };
    let mut range = format!("since {}", text(since));
    if let Some(until) = until {
        range += &format!(" until {}", text(until));
    }
    if !is_utc {
        range += &format!(" ({})", time_zone_name(zone));
    }
    range
}

/// A line: its names, its sums, and those of the time before.
pub(super) struct Line<'a> {
    pub(super) names: Vec<String>,
    sums: &'a Sums,
    before: Option<&'a Sums>,
}

impl<'a> Line<'a> {
    fn of(group: &'a Group, report: &'a Report) -> Self {
        let part = |part: &Option<String>| part.as_deref().map_or_else(|| "-".to_owned(), name);
        let before = report.before.as_ref().and_then(|before| before.groups.get(&group.key));
        Self { names: group.key.iter().map(part).collect(), sums: &group.sums, before }
    }
}

pub(super) fn lines(report: &Report) -> Vec<Line<'_>> {
    let first = |text: String| {
        let mut names = vec![String::new(); report.by.len()];
        names.iter_mut().take(1).for_each(|name| name.clone_from(&text));
        names
    };
    let mut lines: Vec<_> = report.groups.iter().map(|group| Line::of(group, report)).collect();
    if let Some(Rest { groups, sums }) = &report.rest {
        let names = first(format!("and {} more", grouped(*groups as u64)));
        lines.push(Line { names, sums, before: None });
    }
    let before = report.before.as_ref().map(|before| &before.total);
    // Without groups, the total is the only line.
    match report.by.is_empty() {
        true => lines.iter_mut().for_each(|line| line.before = before),
        false => lines.push(Line { names: first("all".to_owned()), sums: &report.total, before }),
    }
    lines
}

pub(super) fn columns(report: &Report, lines: &[Line<'_>]) -> Vec<Column> {
    let total = &report.total;
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    let marked = |sums: &Sums, sum: fn(&Sums) -> Option<u64>, part: fn(&Estimated) -> Option<u64>| {
        let is_estimated = sums.estimated.as_deref().and_then(part).is_some_and(|tokens| tokens > 0);
        format!("{}{}", if is_estimated { "~" } else { "" }, count(sum(sums)))
    };
    let column = |head: &str, rank, cell: &dyn Fn(&Sums) -> String| Column {
        head: head.to_owned(),
        rank,
        cells: lines.iter().map(|line| cell(line.sums)).collect(),
    };
    let mut columns = vec![
        column("REQUESTS", Rank::Always, &|sums| grouped(sums.requests)),
        column("INPUT", Rank::Main, &|sums| marked(sums, |sums| sums.input_tokens, |part| part.input_tokens)),
        column("CACHED", Rank::Second, &|sums| count(sums.cached_input_tokens)),
    ];
    if total.cache_write_input_tokens.is_some_and(|tokens| tokens > 0) {
        columns.push(column("CACHE WRITE", Rank::Last, &|sums| count(sums.cache_write_input_tokens)));
    }
    columns.push(column("OUTPUT", Rank::Main, &|sums| {
        marked(sums, |sums| sums.output_tokens, |part| part.output_tokens)
    }));
    if total.reasoning_tokens.is_some_and(|tokens| tokens > 0) {
        columns.push(column("REASONING", Rank::Last, &|sums| count(sums.reasoning_tokens)));
    }
    columns.push(column("TOTAL", Rank::Always, &|sums| {
        let computed = if sums.computed_total_tokens.is_some() { "*" } else { "" };
        computed.to_owned() + &marked(sums, |sums| sums.total_tokens, |part| part.total_tokens)
    }));
    if total.billed_seconds.is_some_and(|seconds| seconds > 0.0) {
        let cell = |seconds: f64| format!("{seconds:.1}");
        columns.push(column("SECONDS", Rank::Last, &|sums| {
            sums.billed_seconds.map_or_else(|| "-".to_owned(), cell)
        }));
    }
    for currency in &report.currencies {
        let paid = Paid::of(report, *currency);
        columns.push(column(currency.as_str(), Rank::Always, &|sums| paid.cell(sums)));
    }
    if report.before.is_some() {
        columns.extend(compared(report, lines));
    }
    // The share of requests with reported and final counts among those that could have had tokens.
    columns.push(column("REPORTED", Rank::First, &|sums| percent(sums.reported(), sums.countable)));
    columns
}

/// The sums of the time before, and the change since: of the first currency, or of tokens.
fn compared(report: &Report, lines: &[Line<'_>]) -> [Column; 2] {
    let paid = report.currencies.first().map(|currency| Paid::of(report, *currency));
    let cell = |sums: &Sums| match &paid {
        Some(paid) => paid.cell(sums),
        None => sums.total_tokens.map_or_else(|| "-".to_owned(), grouped),
    };
    let size = |sums: &Sums| match report.currencies.first() {
        Some(currency) => sums.cost.amount(*currency).map_or(0.0, Amount::to_f64),
        None => sums.total_tokens.unwrap_or_default() as f64,
    };
    let change = |line: &Line<'_>| match line.before.map(size).filter(|before| *before > 0.0) {
        Some(before) => format!("{:+.0}%", (size(line.sums) / before - 1.0) * 100.0),
        None => "-".to_owned(),
    };
    let before = |line: &Line<'_>| line.before.map_or_else(|| "-".to_owned(), cell);
    let column = |head: &str, cells: Vec<_>| Column { head: head.to_owned(), rank: Rank::Always, cells };
    [
        column("BEFORE", lines.iter().map(before).collect()),
        column("CHANGE", lines.iter().map(change).collect()),
    ]
}

/// The sources of the counts, and the meaning of the marks.
pub(super) fn notes(report: &Report) -> String {
    let total = &report.total;
    let known = total.known().into_iter().filter(|(_, rows)| *rows > 0);
    let known: Vec<_> =
        known.map(|(source, rows)| format!(" {source} {}", percent(rows, total.countable))).collect();
    let mut text = format!("usage:{}", known.join(","));
    if total.countable < total.requests {
        let separator = if known.is_empty() { "" } else { ";" };
        let others = total.requests - total.countable;
        text += &format!("{separator} {} without tokens to count", grouped(others));
    }
    text.push('\n');
    if let Some(before) = &report.before {
        let of = report.currencies.first().map_or("TOTAL", |currency| currency.as_str());
        let range = range(before.since, Some(before.until), &report.zone);
        text += &format!("BEFORE: {of} {range}; CHANGE: of {of} since then\n");
    }
    if let Some(computed) = total.computed_total_tokens {
        text += &format!(
            "*TOTAL: {} of it are INPUT + OUTPUT, of requests whose service reported no total\n",
            grouped(computed)
        );
    }
    if let Some(estimated) = &total.estimated {
        text += &format!("~: estimated in part: {}\n", estimated_parts(total, estimated));
    }
    if let Some(cost) = total.reported_cost {
        text += &format!("reported by services as cost: ${cost}, in no other sum\n");
    }
    let unpriced = total.cost.unpriced;
    if !report.currencies.is_empty() && unpriced > 0 {
        let requests = if unpriced == 1 { "request" } else { "requests" };
        text += &format!(
            "without a price in [[prices]] for all of it, and in no sum of money: {} {requests}\n",
            grouped(unpriced)
        );
    }
    text
}

/// The estimated part of each sum, in tokens, not in requests.
fn estimated_parts(total: &Sums, estimated: &Estimated) -> String {
    let parts = [
        ("INPUT", estimated.input_tokens, total.input_tokens),
        ("OUTPUT", estimated.output_tokens, total.output_tokens),
        ("TOTAL", estimated.total_tokens, total.total_tokens),
    ];
    let parts = parts.into_iter().filter_map(|(name, part, whole)| Some((name, part?, whole?)));
    let parts: Vec<_> = parts
        .map(|(name, part, whole)| format!("{} of {name} ({})", grouped(part), percent(part, whole)))
        .collect();
    parts.join(", ")
}

/// A column of money.
struct Paid {
    currency: Currency,
    /// The smallest number that keeps the amounts distinguishable.
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

    /// 0 is printed only for nothing.
    fn cell(&self, sums: &Sums) -> String {
        let Some(amount) = sums.cost.amount(self.currency) else { return "-".to_owned() };
        let is_estimated =
            sums.estimated().cost.amount(self.currency).is_some_and(|part| part > Amount::default());
        let mark = if is_estimated { "~" } else { "" };
        let sign = self.currency.sign();
        let text = amount.rounded(self.decimals);
        if amount > Amount::default() && text.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            return format!("{mark}<{sign}0.{:0>decimals$}", 1, decimals = self.decimals);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        format!("{mark}{sign}{}.{fraction}", whole.parse().map_or_else(|_| whole.to_owned(), grouped))
    }
}

//! A reading as lines of a terminal.

use clap::ValueEnum as _;
use jiff::tz::TimeZone;

use super::StreamOrder;
use super::cells::{Line, Tone};
use super::numbers::{speed, time};
use super::reading::{Group, Limit, Reading};
use super::speed::Speeds;
use super::tables;
use crate::config;
use crate::sinks::ledger::output::numbers::grouped;
use crate::support::ListenAddress;

/// The part of the free lines that members and limits get each, if streams need the rest.
const PART: usize = 3;

/// From this part on, a limit is near.
const NEAR: f64 = 0.8;

/// Everything that a frame shows.
pub(super) struct View<'a> {
    address: &'a ListenAddress,
    reading: &'a Reading,
    speeds: &'a Speeds,
    order: StreamOrder,
    /// The reason for which there is no later reading.
    failure: Option<&'a str>,
    zone: TimeZone,
}

impl<'a> View<'a> {
    /// Shows times in the zone of the ledger's reports.
    pub(super) fn new(
        address: &'a ListenAddress,
        reading: &'a Reading,
        speeds: &'a Speeds,
        order: StreamOrder,
    ) -> Self {
        let named = reading.sums.as_ref().ok().and_then(|sums| config::time_zone(&sums.today.time_zone).ok());
        Self { address, reading, speeds, order, failure: None, zone: named.unwrap_or(TimeZone::UTC) }
    }

    #[must_use]
    pub(super) fn with_failure(self, failure: Option<&'a str>) -> Self {
        Self { failure, ..self }
    }
}

/// Everything, as text.
pub(super) fn text(view: &View<'_>, width: usize) -> String {
    let lines = body(view, width, None).into_iter();
    lines.map(|line| line.cut(width).text() + "\n").collect()
}

/// Exactly `height` lines of at most `width` columns. The last line names the keys, or says why the
/// others are old.
pub(super) fn frame(view: &View<'_>, width: usize, height: usize) -> Vec<Line> {
    let Some(above) = height.checked_sub(1) else { return Vec::new() };
    let mut lines = body(view, width, Some(above));
    lines.resize(above, Line::default());
    lines.push(match view.failure {
        Some(failure) => {
            let since = time(view.reading.at, view.reading.at, &view.zone);
            Line::of(&format!("no reading since {since}: {failure}; trying again"), Tone::Bad)
        }
        None => Line::of(&keys(view.order), Tone::Faint),
    });
    lines.into_iter().map(|line| line.cut(width)).collect()
}

fn keys(order: StreamOrder) -> String {
    let order = order.to_possible_value();
    let order = order.as_ref().map_or("", |value| value.get_name());
    format!("q quit   s order: {order}   r read now")
}

/// The lines for this height, at most; without one, all.
fn body(view: &View<'_>, width: usize, height: Option<usize>) -> Vec<Line> {
    let View { reading, zone, .. } = view;
    let mut lines = vec![header(view, width)];
    match &reading.sums {
        Ok(sums) => lines.extend(tables::sums(sums, width)),
        Err(reason) => lines.push(Line::of(reason, Tone::Faint)),
    }
    let streams = tables::sorted(&reading.running.streams, view.speeds, view.order);
    let members = tables::memberships(&reading.groups.groups);
    let limits: Vec<_> = reading.limits.limits.iter().collect();
    let wanted = [streams.len(), members.len(), limits.len()];
    // A section has an empty line, a title and the heads of its columns. The first one is always there.
    let above: usize = wanted.iter().map(|rows| if *rows > 0 { 3 } else { 0 }).sum();
    let above = lines.len() + if streams.is_empty() { above + 2 } else { above };
    let free = height.map(|height| height.saturating_sub(above));
    let [of_streams, of_members, of_limits] = free.map_or(wanted, |free| shares(wanted, free));

    lines.push(Line::default());
    lines.push(running(view));
    section(&mut lines, &streams, of_streams, |rows| tables::streams(rows, view.speeds, width));
    if !members.is_empty() {
        let bad = members.iter().filter(|(_, member)| !tables::is_well(member)).count();
        lines.push(Line::default());
        lines.push(title("Members of groups", members.len(), bad, "out or limited"));
        section(&mut lines, &members, of_members, |rows| tables::members(rows, reading.at, zone, width));
    }
    if !limits.is_empty() {
        let near = limits.iter().filter(|limit| limit.used_ratio >= NEAR).count();
        lines.push(Line::default());
        lines.push(title("Limits", limits.len() + reading.limits.unlisted, near, "near or above"));
        section(&mut lines, &limits, of_limits, |rows| tables::limits(rows, reading.at, zone, width));
    }
    lines.truncate(height.unwrap_or(usize::MAX));
    lines
}

fn header(view: &View<'_>, width: usize) -> Line {
    let View { address, reading, zone, .. } = view;
    let refused = if reading.status.refused.is_some() { ", a later one was refused" } else { "" };
    let address = address.to_string();
    let configuration = format!("configuration {}{refused}", reading.status.generation);
    let tone = if refused.is_empty() { Tone::Plain } else { Tone::Near };
    let now = format!("{} {}", time(reading.at, reading.at, zone), config::time_zone_name(zone));
    Line::of("streamgauge", Tone::Strong)
        .with(13, &address, Tone::Plain)
        .with(15 + address.len(), &configuration, tone)
        .with_end(&now, Tone::Plain, width)
}

fn running(view: &View<'_>) -> Line {
    let running = &view.reading.running;
    let mut text = match running.running {
        1 => "1 stream".to_owned(),
        all => format!("{} streams", grouped(all as u64)),
    };
    if running.running > 0 {
        text += &format!(", {} tokens/s", speed(view.speeds.sum(&running.streams)));
    }
    if running.running > running.streams.len() {
        text += &format!(" in the {} that are listed", grouped(running.streams.len() as u64));
    }
    let groups: usize = view.reading.groups.groups.iter().map(|group: &Group| group.waiting).sum();
    let limits: usize = view.reading.limits.limits.iter().map(|limit: &Limit| limit.waiting).sum();
    match groups + limits {
        0 => {}
        1 => text += ", 1 request waits",
        waiting => text += &format!(", {} requests wait", grouped(waiting as u64)),
    }
    Line::of("Running now", Tone::Strong).with(13, &text, Tone::Plain)
}

fn title(name: &str, all: usize, bad: usize, badly: &str) -> Line {
    let line = Line::of(name, Tone::Strong);
    let text = grouped(all as u64);
    let column = name.len() + 2;
    let line = line.with(column, &text, Tone::Plain);
    match bad {
        0 => line,
        bad => line.with(column + text.len() + 2, &format!("{} {badly}", grouped(bad as u64)), Tone::Near),
    }
}

/// Adds a table of as many rows as there is room for; the last line says how many there are more.
fn section<T>(lines: &mut Vec<Line>, rows: &[T], room: usize, table: impl Fn(&[T]) -> Vec<Line>) {
    if room == 0 {
        return;
    }
    if rows.len() <= room {
        lines.extend(table(rows));
        return;
    }
    let shown = room.saturating_sub(1);
    lines.extend(table(&rows[..shown]));
    lines.push(Line::of(&format!("and {} more", grouped((rows.len() - shown) as u64)), Tone::Faint));
}

/// Lines for streams, members and limits. The last two get a third each; what one does not need is
/// for the others.
fn shares(wanted: [usize; 3], free: usize) -> [usize; 3] {
    let [streams, members, limits] = wanted;
    let (mut of_members, mut of_limits) = (members.min(free / PART), limits.min(free / PART));
    let of_streams = streams.min(free - of_members - of_limits);
    of_members = members.min(free - of_streams - of_limits);
    of_limits = limits.min(free - of_streams - of_members);
    [of_streams, of_members, of_limits]
}

#[cfg(test)]
mod tests;

//! Limits and budgets: how much of each is used, and when it begins again.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::names::shown;
use super::numbers::{grouped, time};
use super::plot::share_bar;
use crate::gate::limit::{AppliedLimit, LimitRegistry, LimitStatus, Now, Quantity, Units};

/// The largest number of limits that are listed at once; the others are behind a fold.
const MOST_SHOWN: usize = 10;

/// From this part on, a limit is near.
const NEAR: f64 = 0.8;

/// The limits of this instance, and its clock.
#[derive(Clone)]
pub struct ShownLimits {
    pub registry: Arc<LimitRegistry>,
    pub now: fn() -> Now,
}

/// A limit with its count.
pub(in crate::admin) struct LimitLine {
    pub(in crate::admin) applied: AppliedLimit,
    pub(in crate::admin) status: LimitStatus,
    /// The used or held part.
    pub(in crate::admin) ratio: f64,
}

impl LimitLine {
    /// All limits, the fullest first.
    pub(in crate::admin) fn fullest_first(limits: &ShownLimits) -> Vec<Self> {
        let now = (limits.now)();
        let line = |applied: AppliedLimit| {
            let status = applied.status(now);
            Self { ratio: status.used_ratio(), applied, status }
        };
        let mut lines: Vec<_> = limits.registry.all().into_iter().map(line).collect();
        lines.sort_by(|one, other| other.ratio.total_cmp(&one.ratio));
        lines
    }
}

/// The limits, the fullest first. Empty without any.
pub(super) fn limits(limits: &ShownLimits, zone: &TimeZone) -> Markup {
    let (now, lines) = ((limits.now)(), LimitLine::fullest_first(limits));
    let near = lines.iter().filter(|line| line.ratio >= NEAR).count();
    let (first, others) = lines.split_at(lines.len().min(MOST_SHOWN));
    html! {
        @if !lines.is_empty() {
            section.card #limits aria-labelledby="limits-title" {
                div.card-head {
                    h2 #limits-title { "Limits and budgets " span.per { (grouped(lines.len() as u64)) } }
                    p.figure { @if near > 0 { strong { (near) } " near or above their limit" } @else { "none is near" } }
                }
                (table(first, now.time, zone))
                @if !others.is_empty() {
                    details.numbers #limits-others {
                        summary { (grouped(others.len() as u64)) " others, which are less used" }
                        (table(others, now.time, zone))
                    }
                }
            }
        }
    }
}

fn table(lines: &[LimitLine], now: Timestamp, zone: &TimeZone) -> Markup {
    html! {
        div.scroll role="group" aria-label="Limits" {
            table.sums {
                thead { tr {
                    th scope="col" { "Of" }
                    th scope="col" { "Counts" }
                    th.wide { span.sr { "Bar" } }
                    th.number scope="col" { "Used" }
                    th.number scope="col" { "Limit" }
                    th scope="col" { "Begins again" }
                } }
                tbody { @for line in lines { (row(line, now, zone)) } }
            }
        }
    }
}

fn row(line: &LimitLine, now: Timestamp, zone: &TimeZone) -> Markup {
    let LimitLine { applied, status, ratio } = line;
    let quantity = applied.limit.quantity();
    let percent = (ratio * 100.0).round();
    let waiting = applied.waiting();
    html! {
        tr {
            th.name scope="row" title=(applied.path()) { bdi { (shown(&applied.whose())) } }
            td { (applied.counts()) }
            td.wide {
                (share_bar((ratio.min(1.0) * 1e6) as u64, 1_000_000))
                span.share.worse[*ratio >= NEAR] { (format!("{percent:.0}%")) }
            }
            td.number { (amount(quantity, status.taken())) @if waiting > 0 { " " span.unknown { (grouped(waiting as u64)) " wait" } } }
            td.number { (amount(quantity, status.limit)) }
            td {
                @match status.period {
                    Some((_, end)) if end > now => (time(end, zone)),
                    Some(_) => "now",
                    None if quantity == Quantity::Concurrent => "as requests end",
                    None => "bit by bit",
                }
            }
        }
    }
}

fn amount(quantity: Quantity, units: Units) -> String {
    let text = quantity.text(units);
    match text.parse() {
        Ok(whole) => grouped(whole),
        Err(_) => text,
    }
}

//! The sums at a glance: a tile for each, with the change from the period before and its course.

use maud::{Markup, html};

use super::numbers::{compact, count, marked, maybe, millis, money, percent};
use crate::admin::query::PageQuery;
use crate::llm::price::Currency;
use crate::sinks::ledger::{Overview, Sums};

/// Changes up to this factor are shown in percent.
const MOST_TIMES: f64 = 10.0;

/// A change for the worse, for the better, or neither.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// More is neither good nor bad.
    Neutral,
    /// More is worse.
    Worse,
}

struct Tile<'a> {
    name: String,
    value: Markup,
    beside: Markup,
    /// The value now and before, for the change.
    change: Option<(f64, f64)>,
    direction: Direction,
    course: Vec<Option<f64>>,
    before: &'a str,
}

/// The tiles of `overview`, compared with the period `before`.
pub(super) fn tiles(query: &PageQuery, overview: &Overview, before: &Overview) -> Markup {
    let name = query.range.title_before();
    html! {
        @for currency in &overview.currencies { (cost(overview, before, *currency, name).render()) }
        @for tile in [requests(overview, before, name), input(overview, before, name), output(overview, before, name),
            errors(overview, before, name), first_token(overview, before, name)] { (tile.render()) }
    }
}

fn course(overview: &Overview, value: impl Fn(&Sums) -> Option<f64>) -> Vec<Option<f64>> {
    overview.times.iter().map(|(_, sums)| value(sums)).collect()
}

fn whole(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

fn cost<'a>(overview: &Overview, before: &Overview, currency: Currency, name: &'a str) -> Tile<'a> {
    let amount = |sums: &Sums| sums.cost.amount(currency).map(|amount| amount.to_f64());
    let unpriced = overview.total.cost.unpriced;
    Tile {
        name: format!("Cost, {currency}"),
        value: money(&overview.total, currency),
        beside: html! {
            @if unpriced > 0 { a href="#prices" { (compact(unpriced)) " requests without a price" } }
            @else { "every request has a price" }
            @if currency.as_str() == "USD" && let Some(cost) = overview.total.reported_cost {
                " · services report " data value=(cost) { "$" (cost) }
            }
        },
        change: amount(&overview.total).zip(amount(&before.total)),
        direction: Direction::Neutral,
        course: course(overview, |sums| Some(amount(sums).unwrap_or_default())),
        before: name,
    }
}

fn requests<'a>(overview: &Overview, before: &Overview, name: &'a str) -> Tile<'a> {
    let total = &overview.total;
    Tile {
        name: "Requests".to_owned(),
        value: count(total.requests),
        beside: html! {
            (percent(total.reported(), total.countable)) " with reported tokens"
            @if total.countable < total.requests { " · " (count(total.requests - total.countable)) " without tokens to count" }
        },
        change: Some((total.requests as f64, before.total.requests as f64)),
        direction: Direction::Neutral,
        course: course(overview, |sums| whole(Some(sums.requests))),
        before: name,
    }
}

fn input<'a>(overview: &Overview, before: &Overview, name: &'a str) -> Tile<'a> {
    let total = &overview.total;
    Tile {
        name: "Input tokens".to_owned(),
        value: marked(total.input_tokens, total.estimated().input_tokens),
        beside: html! {
            @match total.cached_input_tokens {
                None => "cached not reported",
                Some(cached) => {
                    (count(cached)) " cached"
                    @if let Some(share) = cached_share(total) { " (" (format!("{:.0}%", share * 100.0)) ")" }
                    @for (currency, amount) in total.saved.iter().flat_map(|saved| saved.amounts()) {
                        " · saved " data value=(amount) { (currency.sign()) (amount.rounded(2)) }
                        @if currency.sign().is_empty() { " " (currency) }
                    }
                }
            }
        },
        change: whole(total.input_tokens).zip(whole(before.total.input_tokens)),
        direction: Direction::Neutral,
        course: course(overview, |sums| whole(Some(sums.input_tokens.unwrap_or_default()))),
        before: name,
    }
}

/// The part of the input that was read from caches. Input that is reported without it is counted
/// as a part too.
pub(super) fn cached_share(sums: &Sums) -> Option<f64> {
    let (input, cached) = (sums.input_tokens?, sums.cached_input_tokens?);
    (input > 0 || cached > 0).then(|| cached as f64 / input.max(cached) as f64)
}

fn output<'a>(overview: &Overview, before: &Overview, name: &'a str) -> Tile<'a> {
    let total = &overview.total;
    Tile {
        name: "Output tokens".to_owned(),
        value: marked(total.output_tokens, total.estimated().output_tokens),
        beside: html! {
            @match total.reasoning_tokens {
                Some(tokens) => { (count(tokens)) " reasoning" },
                None => "reasoning not reported",
            }
        },
        change: whole(total.output_tokens).zip(whole(before.total.output_tokens)),
        direction: Direction::Neutral,
        course: course(overview, |sums| whole(Some(sums.output_tokens.unwrap_or_default()))),
        before: name,
    }
}

fn errors<'a>(overview: &Overview, before: &Overview, name: &'a str) -> Tile<'a> {
    let rate = |sums: &Sums| (sums.requests > 0).then(|| sums.failed as f64 / sums.requests as f64);
    let total = &overview.total;
    let upstream = overview.outcomes.iter().filter(|group| {
        let outcome = group.key.first().and_then(Option::as_deref);
        matches!(outcome, Some("upstream_error" | "truncated" | "timed_out"))
    });
    let of_upstreams: u64 = upstream.map(|group| group.sums.requests).sum();
    Tile {
        name: "Error rate".to_owned(),
        value: html! { data value=(total.failed) { (percent(total.failed, total.requests)) } },
        beside: html! { (count(total.failed)) " failed · " (count(of_upstreams)) " of them by upstreams" },
        change: rate(total).zip(rate(&before.total)),
        direction: Direction::Worse,
        course: course(overview, |sums| rate(sums)),
        before: name,
    }
}

fn first_token<'a>(overview: &Overview, before: &Overview, name: &'a str) -> Tile<'a> {
    let (now, then) = (overview.first_token, before.first_token);
    Tile {
        name: "First token, p95".to_owned(),
        value: if now.rows > 0 {
            html! { (millis(now.p95)) }
        } else {
            maybe(None)
        },
        beside: html! {
            @if now.rows > 0 { "median " (millis(now.p50)) " · p99 " (millis(now.p99)) } @else { "no streams" }
        },
        change: (now.rows > 0 && then.rows > 0).then_some((now.p95, then.p95)),
        direction: Direction::Worse,
        course: overview.latencies.iter().map(|step| (step.rows > 0).then_some(step.p95)).collect(),
        before: name,
    }
}

impl Tile<'_> {
    fn render(&self) -> Markup {
        html! {
            div.tile {
                dt { (self.name) }
                dd.value { (self.value) }
                dd.change { (self.change()) }
                dd.beside { (self.beside) }
                dd.course aria-hidden="true" { (sparkline(&self.course)) }
            }
        }
    }

    fn change(&self) -> Markup {
        let Some((now, before)) = self.change.filter(|(_, before)| *before > 0.0) else {
            return html! { span.unknown { "no comparison" } };
        };
        let factor = now / before;
        let percent = (factor - 1.0) * 100.0;
        let is_more = percent >= 0.5;
        let is_less = percent <= -0.5;
        let is_worse = self.direction == Direction::Worse && is_more;
        let is_better = self.direction == Direction::Worse && is_less;
        html! {
            span.worse[is_worse].better[is_better] title={ "compared with " (self.before) } {
                @if is_more {
                    "▲ " (increase(factor))
                    span.sr { " more than " (self.before) }
                } @else if is_less {
                    "▼ " (format!("{:.0}%", -percent)) span.sr { " less than " (self.before) }
                } @else {
                    "= as before"
                }
            }
        }
    }
}

/// The words for a factor above 1. A factor beyond 100 says that there was next to nothing before.
fn increase(factor: f64) -> String {
    match factor {
        factor if factor > 100.0 => "over 100×".to_owned(),
        factor if factor > MOST_TIMES => format!("{factor:.0}×"),
        factor => format!("{:.0}%", (factor - 1.0) * 100.0),
    }
}

/// A small picture of the course.
fn sparkline(values: &[Option<f64>]) -> Markup {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let width = 100.0 / values.len().saturating_sub(1).max(1) as f64;
    let mut line = String::new();
    for (index, value) in values.iter().enumerate() {
        let y = 23.0 - if most > 0.0 { value.unwrap_or_default() / most * 22.0 } else { 0.0 };
        line.push_str(&format!("{}{:.1} {y:.1}", if index == 0 { "M" } else { "L" }, index as f64 * width));
    }
    html! {
        svg.spark width="100%" height="24" viewBox="0 0 100 24" preserveAspectRatio="none" focusable="false" {
            path.area d={ (line) "L100 24L0 24Z" } {}
            path.stroke d=(line) {}
        }
    }
}

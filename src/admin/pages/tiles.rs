//! The totals, a tile for each.

use maud::{Markup, html};

use super::numbers::{compact, count, maybe, millis, percent};
use super::panels;
use crate::sinks::ledger::{Group, Overview, Sums};

pub(super) fn tiles(overview: &Overview) -> Markup {
    let Sums {
        requests,
        input_tokens,
        output_tokens,
        total_tokens,
        computed_total_tokens,
        cached_input_tokens,
        reasoning_tokens,
        countable,
        reported_cost,
        ..
    } = &overview.total;
    let is_complete =
        |group: &&Group| group.key.first().is_some_and(|name| name.as_deref() == Some("complete"));
    let complete = overview.outcomes.iter().find(is_complete).map_or(0, |group| group.sums.requests);
    let times = overview.first_token;
    html! {
        dl.tiles #tiles {
            (tile("Requests", &maybe(Some(*requests)), &html! { (percent(complete, *requests)) " complete" }))
            (tile("Total tokens", &maybe(*total_tokens), &html! {
                (percent(overview.total.reported(), *countable)) " of requests reported"
                @if countable < requests { " · " (count(requests - countable)) " without tokens to count" }
                @if let Some(computed) = computed_total_tokens {
                    " · " (count(*computed)) " computed as input + output"
                }
                @if let Some(estimated) = overview.total.estimated().total_tokens.filter(|part| *part > 0) {
                    " · " (count(estimated)) " estimated"
                }
            }))
            (tile("Input tokens", &maybe(*input_tokens), &part(*cached_input_tokens, "cached")))
            (tile("Output tokens", &maybe(*output_tokens), &part(*reasoning_tokens, "reasoning")))
            @if let Some(cost) = reported_cost {
                (tile("Reported cost, USD", &html! { data value=(cost) { (cost) } }, &html! { "as services say; in no other sum" }))
            }
            @for currency in &overview.currencies {
                (tile(&format!("Cost, {currency}"), &panels::money(&overview.total, *currency), &html! {
                    @match overview.total.cost.unpriced {
                        0 => "every request has a price",
                        some => { (compact(some)) " requests without a price" }
                    }
                }))
            }
            @if times.rows > 0 {
                (tile("First token, median", &html! { (millis(times.p50)) }, &html! { "p95 " (millis(times.p95)) " · p99 " (millis(times.p99)) }))
            } @else {
                (tile("First token, median", &maybe(None), &html! { "no streams" }))
            }
        }
    }
}

/// The share of tokens of one kind.
fn part(tokens: Option<u64>, kind: &str) -> Markup {
    html! {
        @match tokens {
            Some(tokens) => { (count(tokens)) " " (kind) },
            None => { (kind) " not reported" },
        }
    }
}

fn tile(name: &str, value: &Markup, beside: &Markup) -> Markup {
    html! {
        div.tile {
            dt { (name) }
            dd.value { (value) }
            dd.beside { (beside) }
        }
    }
}

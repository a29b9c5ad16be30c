//! The bar above the page: time and filters, as links and forms that need no script.

use std::collections::BTreeSet;

use jiff::Timestamp;
use maud::{Markup, html};

use super::names::{field_name, shown};
use super::numbers::time;
use super::{brand, dashboard::Instance};
use crate::admin::query::{FILTERS, PageQuery, Range, minute};
use crate::config::time_zone_name;
use crate::sinks::ledger::{By, Group, LedgerSource, Overview};
use crate::support::tags::TagName;

/// The largest number of names that a filter suggests.
const MOST_SUGGESTED: usize = 200;

/// Time zones that the form suggests.
const ZONES: [&str; 12] = [
    "UTC",
    "local",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Kyiv",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
];

/// The bar. `at` is the time of the numbers.
pub(super) fn bar(
    query: &PageQuery,
    at: Timestamp,
    overview: Option<&Overview>,
    instance: &Instance<'_>,
) -> Markup {
    html! {
        header.top {
            (brand())
            div.controls #controls data-nav {
                (ranges(query, at))
                (filters(query, overview))
                (compare(query))
            }
            div.state {
                p #state role="status" {}
                @if let Some(place @ LedgerSource::Fleet(_)) = instance.ledger {
                    p.updated #ledger title=(place) { "Whole fleet" }
                }
                p.updated #updated data-part { "As of " (time(at, &query.zone)) " " (time_zone_name(&query.zone)) }
                button.quiet #pause type="button" hidden { "Pause updates" }
                @if instance.has_keys { a href="keys" { "Keys" } }
                @if instance.has_login {
                    form method="post" action="logout" { button.quiet type="submit" { "Sign out" } }
                }
            }
            div #chosen data-nav { @if query.is_filtered() { (chips(query)) } }
        }
    }
}

fn ranges(query: &PageQuery, at: Timestamp) -> Markup {
    let (since, until) = query.range.bounds(at, &query.zone);
    let until = until.unwrap_or(at);
    let is_custom = matches!(query.range, Range::Custom(..));
    html! {
        details.menu #range {
            summary {
                span.sr { "Time: " }
                @if is_custom { (short(since, query)) " – " (short(until, query)) } @else { (query.range.title()) }
            }
            div.sheet {
                nav.choices aria-label="Time" {
                    @for range in Range::NAMED {
                        a href=(query.link(|query| query.range = range)) aria-current=[(range == query.range).then_some("page")] {
                            (range.title())
                        }
                    }
                }
                form.fields method="get" action="./" aria-label="Custom time" {
                    input type="hidden" name="range" value="custom";
                    (hidden(query, |name| !["range", "since", "until", "time_zone"].contains(&name)))
                    label { "From" input type="datetime-local" name="since" step="any" required value=(minute(since, &query.zone)); }
                    label { "Until" input type="datetime-local" name="until" step="any" required value=(minute(until, &query.zone)); }
                    label { "Time zone" input name="time_zone" list="zones" autocomplete="off" value=(time_zone_name(&query.zone)); }
                    datalist #zones { @for zone in ZONES { option value=(zone) {} } }
                    button type="submit" { "Show" }
                }
                form.fields method="get" action="./" aria-label="Time zone" {
                    (hidden(query, |name| name != "time_zone"))
                    label { "Only the time zone" input name="time_zone" list="zones" autocomplete="off" value=(time_zone_name(&query.zone)); }
                    button.quiet type="submit" { "Change" }
                }
            }
        }
    }
}

fn short(at: Timestamp, query: &PageQuery) -> String {
    at.to_zoned(query.zone.clone()).strftime("%b %-d, %H:%M").to_string()
}

fn filters(query: &PageQuery, overview: Option<&Overview>) -> Markup {
    let tags = tag_names(query, overview);
    let fields = FILTERS.iter().filter_map(|name| By::named(name)).chain(tags.into_iter().map(By::Tag));
    html! {
        details.menu #filters {
            summary { "Filter" @if query.is_filtered() { " (" (query.chosen().count()) ")" } }
            form.sheet.fields method="get" action="./" role="search" aria-label="Filters" {
                (hidden(query, |name| ["range", "since", "until", "time_zone", "compare", "chart", "split", "tab"].contains(&name)))
                @for by in fields {
                    label.active[query.value(by).is_some()] {
                        span { (field_name(by)) }
                        input type="search" name=(by) list={ (by.as_str().replace('.', "-")) "-names" } autocomplete="off"
                            placeholder="any" value=[query.value(by)];
                    }
                }
                button type="submit" { "Filter" }
                div #suggestions hidden {
                    @if let Some(overview) = overview { (suggestions(overview)) }
                }
            }
        }
    }
}

fn compare(query: &PageQuery) -> Markup {
    let to = query.link(|query| query.compare = !query.compare);
    html! {
        a.toggle href=(to) role="button" aria-pressed=(query.compare) title={ "Compare with " (query.range.title_before()) } {
            "Compare"
        }
    }
}

/// The filters that are set, each with a link that removes it.
fn chips(query: &PageQuery) -> Markup {
    html! {
        ul.chips aria-label="Filters" {
            @for (by, value) in query.chosen() {
                li {
                    a.chip href=(query.link(|query| query.set(by, None))) {
                        span.sr { "Remove the filter " }
                        (field_name(by)) ": " bdi.name { (shown(value)) } span aria-hidden="true" { " ×" }
                    }
                }
            }
            li { a.clear href=(query.link(PageQuery::clear)) { "Clear" } }
        }
    }
}

/// The tags of the rows, and those that are filtered by.
fn tag_names(query: &PageQuery, overview: Option<&Overview>) -> BTreeSet<TagName> {
    let found = overview.iter().flat_map(|overview| overview.tags.iter().map(|(name, _)| *name));
    found.chain(query.tags.iter().map(|(name, _)| *name)).collect()
}

/// The wanted parts of the query, for a form.
pub(super) fn hidden(query: &PageQuery, is_wanted: impl Fn(&str) -> bool) -> Markup {
    html! {
        @for (name, value) in query.pairs(|name| name != "page" && is_wanted(name)) {
            input type="hidden" name=(name) value=(value);
        }
    }
}

fn suggestions(overview: &Overview) -> Markup {
    html! {
        @for (name, groups) in [
            ("client", &overview.clients), ("user", &overview.users), ("upstream", &overview.upstreams),
            ("model", &overview.models), ("endpoint", &overview.endpoints), ("outcome", &overview.outcomes),
        ] { (names(name, groups)) }
        @for (name, groups) in &overview.tags { (names(&format!("tag-{name}"), groups)) }
    }
}

fn names(name: &str, groups: &[Group]) -> Markup {
    let names = groups.iter().filter_map(|group| group.key.first()?.as_deref());
    html! {
        datalist #{ (name) "-names" } { @for name in names.take(MOST_SUGGESTED) { option value=(name) {} } }
    }
}

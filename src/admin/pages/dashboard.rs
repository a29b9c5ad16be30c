//! The whole dashboard.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

use super::charts::{Columns, Step, columns};
use super::numbers::time;
use super::panels::{self, CLIENT, MODEL, TOKENS, UPSTREAM};
use super::tiles::tiles;
use super::{Depth, brand, document, members, records, running};
use crate::admin::Members;
use crate::admin::query::{FILTERS, PageQuery, Range, minute};
use crate::config::time_zone_name;
use crate::record::ActiveRequests;
use crate::sinks::ledger::{Estimated, Group, LedgerSource, Overview, Sums};
use crate::support::tags::TagName;

/// The largest number of names that a filter suggests.
const MOST_SUGGESTED: usize = 200;

/// The state of the data.
pub(super) enum State<'a> {
    /// Rows, or none.
    Read(&'a Overview),
    /// The reason for which the ledger could not be read.
    Failed(String),
    /// The mistake in the query.
    Wrong(&'a str),
}

/// The parts of the page that are of this instance.
pub(super) struct Instance<'a> {
    pub(super) ledger: Option<&'a LedgerSource>,
    pub(super) active: &'a ActiveRequests,
    pub(super) members: &'a Members,
}

/// The dashboard. The script replaces elements with `data-part` by those of a later reading of the
/// page. `kept` is the number of records that the ledger had received when this page was read; the
/// script compares it with the number from `/live`.
pub(super) fn page(
    query: &PageQuery,
    at: Timestamp,
    state: &State<'_>,
    kept: Option<u64>,
    instance: &Instance<'_>,
    (has_login, has_keys): (bool, bool),
) -> Markup {
    let Instance { ledger, active, members } = *instance;
    let members = members.states();
    let overview = match state {
        State::Read(overview) => Some(*overview),
        State::Failed(_) | State::Wrong(_) => None,
    };
    let body = html! {
        a.skip href="#content" { "Skip to the numbers" }
        header.top {
            (brand())
            div.state {
                p #state role="status" {}
                @if let Some(place @ LedgerSource::Fleet(_)) = ledger { p.updated #ledger title=(place) { "Whole fleet" } }
                p.updated #updated data-part { "As of " (time(at, &query.zone)) " " (time_zone_name(&query.zone)) }
                button.quiet #pause type="button" hidden { "Pause updates" }
                @if has_keys { a href="keys" { "Keys" } }
                @if has_login {
                    form method="post" action="logout" { button.quiet type="submit" { "Sign out" } }
                }
            }
        }
        (controls(query, at, overview))
        main #content tabindex="-1" data-kept=[kept] {
            h1.sr { "Usage" }
            section.card #running data-live="running" aria-label="Running now" { (running::table(active, &query.zone)) }
            section.card #members data-live="members" aria-label="Members of groups" hidden[members.is_empty()] {
                (members::table(&members, Timestamp::now(), &query.zone))
            }
            div #numbers data-part aria-label="Usage in the chosen time" role="group" {
                @match state {
                    State::Wrong(reason) => (failed("That time cannot be shown.", reason)),
                    State::Failed(reason) => (failed("There are no numbers to show.", reason)),
                    State::Read(overview) if overview.total.requests == 0 => (nothing(query)),
                    State::Read(overview) => (numbers(query, overview)),
                }
            }
        }
        (footer(query, ledger))
    };
    document(Depth::ROOT, "Usage · streamgauge", true, &body)
}

/// Period and filters: links and forms, which need no script.
fn controls(query: &PageQuery, at: Timestamp, overview: Option<&Overview>) -> Markup {
    let (since, until) = query.range.bounds(at);
    let is_custom = matches!(query.range, Range::Custom(..));
    html! {
        div.controls {
            nav.ranges aria-label="Time" {
                @for range in Range::LAST {
                    a href={ "./?" (query.with_range(range)) } aria-current=[(range == query.range).then_some("page")] {
                        (range.title())
                    }
                }
                details.custom #custom open[is_custom] {
                    summary.chosen[is_custom] { "Custom" }
                    form method="get" action="./" {
                        input type="hidden" name="range" value="custom";
                        (hidden_filters(query))
                        label { "From (" (time_zone_name(&query.zone)) ")" input type="datetime-local" name="since" required value=(minute(since, &query.zone)); }
                        label { "Until (" (time_zone_name(&query.zone)) ")" input type="datetime-local" name="until" required value=(minute(until.unwrap_or(at), &query.zone)); }
                        button type="submit" { "Show" }
                    }
                }
            }
            form.filters method="get" action="./" role="search" aria-label="Filters" {
                input type="hidden" name="range" value=(query.range.name());
                @if let Range::Custom(since, until) = query.range {
                    input type="hidden" name="since" value=(minute(since, &query.zone));
                    input type="hidden" name="until" value=(minute(until, &query.zone));
                }
                @for (place, name) in FILTERS.into_iter().enumerate() {
                    label.active[query.filters[place].is_some()] {
                        span { (capital(name)) }
                        input type="search" name=(name) list={ (name) "-names" } autocomplete="off" placeholder="any"
                            value=[query.filters[place].as_deref()];
                    }
                }
                @for name in tag_names(query, overview) {
                    label.active[query.tag(name).is_some()] {
                        span { (capital(name.as_str())) }
                        input type="search" name=(name.field()) list={ "tag-" (name) "-names" } autocomplete="off" placeholder="any"
                            value=[query.tag(name)];
                    }
                }
                button type="submit" { "Filter" }
                @if query.is_filtered() {
                    a.clear href={ "./?" (query.without_filters()) } { "Clear" }
                }
            }
            div #suggestions data-part {
                @if let Some(overview) = overview {
                    @for (name, groups) in FILTERS.into_iter().zip([&overview.clients, &overview.users, &overview.upstreams, &overview.models]) {
                        (suggestions(name, groups))
                    }
                    @for (name, groups) in &overview.tags { (suggestions(&format!("tag-{name}"), groups)) }
                }
            }
        }
    }
}

/// The tags of the rows, and those that are filtered by.
fn tag_names(query: &PageQuery, overview: Option<&Overview>) -> BTreeSet<TagName> {
    let found = overview.iter().flat_map(|overview| overview.tags.iter().map(|(name, _)| *name));
    found.chain(query.tags.iter().map(|(name, _)| *name)).collect()
}

fn hidden_filters(query: &PageQuery) -> Markup {
    html! {
        @for (name, value) in &query.tags { input type="hidden" name=(name.field()) value=(value); }
        @for (name, value) in FILTERS.iter().zip(&query.filters) {
            @if let Some(value) = value { input type="hidden" name=(name) value=(value); }
        }
    }
}

fn suggestions(name: &str, groups: &[Group]) -> Markup {
    let names = groups.iter().filter_map(|group| group.key.first()?.as_deref());
    html! {
        datalist #{ (name) "-names" } { @for name in names.take(MOST_SUGGESTED) { option value=(name) {} } }
    }
}

fn numbers(query: &PageQuery, overview: &Overview) -> Markup {
    let step = query.range.step();
    html! {
        (tiles(overview))
        div.grid {
            (tokens_over_time(query, overview, step))
            (requests_over_time(query, overview, step))
            (panels::tokens_per_user(query, overview))
            (panels::total_per_user(query, overview))
            (panels::breakdown("models", "By model", "Model", MODEL, &overview.models, query, &overview.currencies))
            (panels::breakdown("upstreams", "By upstream", "Upstream", UPSTREAM, &overview.upstreams, query, &overview.currencies))
            (panels::breakdown("clients", "By client", "Client", CLIENT, &overview.clients, query, &overview.currencies))
            @for (name, groups) in &overview.tags { (panels::tag(*name, groups, query, &overview.currencies)) }
            (panels::first_token(overview))
            (panels::outcomes(overview))
            (panels::sources(overview))
        }
        section.card #records aria-labelledby="records-title" {
            div.card-head {
                h2 #records-title { "Latest records" }
                p.links {
                    a href={ "records?" (query.data_query(&[("format", "csv"), ("limit", "10000")])) } download="records.csv" { "CSV" }
                    a href={ "records?" (query.data_query(&[("limit", "1000")])) } { "JSON" }
                }
            }
            (records::table(&overview.latest, &query.zone))
        }
    }
}

fn tokens_over_time(query: &PageQuery, overview: &Overview, step: Duration) -> Markup {
    let tokens =
        |sums: &Sums| [sums.input_tokens, sums.output_tokens].map(Option::unwrap_or_default).to_vec();
    let estimated = |sums: &Sums| {
        let Estimated { input_tokens, output_tokens, .. } = sums.estimated();
        [input_tokens, output_tokens].map(Option::unwrap_or_default).to_vec()
    };
    columns(&Columns {
        id: "tokens-over-time",
        title: "Tokens",
        parts: &TOKENS,
        per: &per(step),
        zone: &time_zone_name(&query.zone),
        steps: &steps(query, overview, step, tokens, estimated),
    })
}

fn requests_over_time(query: &PageQuery, overview: &Overview, step: Duration) -> Markup {
    columns(&Columns {
        id: "requests-over-time",
        title: "Requests",
        parts: &[("Requests", "plain")],
        per: &per(step),
        zone: &time_zone_name(&query.zone),
        steps: &steps(query, overview, step, |sums| vec![sums.requests], |_| Vec::new()),
    })
}

fn steps(
    query: &PageQuery,
    overview: &Overview,
    step: Duration,
    values: impl Fn(&Sums) -> Vec<u64>,
    estimated: impl Fn(&Sums) -> Vec<u64>,
) -> Vec<Step> {
    let day = Duration::from_hours(24);
    let whole = step * u32::try_from(overview.times.len()).unwrap_or(u32::MAX);
    let (short, long) = match (step, whole) {
        (step, _) if step >= day => ("%b %-d", "%Y-%m-%d"),
        (_, whole) if whole > 2 * day => ("%b %-d %H:%M", "%Y-%m-%d %H:%M"),
        _ => ("%H:%M", "%Y-%m-%d %H:%M"),
    };
    let step = |(at, sums): &(Timestamp, Sums)| {
        let at = at.to_zoned(query.zone.clone());
        let (short, long) = (at.strftime(short).to_string(), at.strftime(long).to_string());
        Step { short, long, values: values(sums), estimated: estimated(sums) }
    };
    overview.times.iter().map(step).collect()
}

/// The length of a step, in words.
fn per(step: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let seconds = step.as_secs();
    let (unit, name) =
        UNITS.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
    match seconds / unit {
        1 => name.to_owned(),
        many => format!("{many} {name}s"),
    }
}

/// No rows.
fn nothing(query: &PageQuery) -> Markup {
    let is_filtered = query.is_filtered();
    html! {
        section.card.nothing #nothing {
            h2 { "No requests in this time" }
            @if is_filtered {
                p { "No request matches all filters. " a href={ "./?" (query.without_filters()) } { "Clear the filters" } }
            } @else {
                p { "A request appears here when it has ended. Point an SDK's base URL at the proxy (" code { "server.listen" } ", with " code { "/v1" } " behind it), or choose a longer time." }
            }
        }
    }
}

/// An error, and its remedy.
fn failed(what: &str, reason: &str) -> Markup {
    html! {
        section.card.failed #failed role="alert" {
            h2 { (what) }
            p { (capital(reason)) }
            p { a href="./" { "To the last 24 hours" } }
        }
    }
}

fn footer(query: &PageQuery, ledger: Option<&LedgerSource>) -> Markup {
    let by = ("by", "day,client,user,upstream,model");
    html! {
        footer {
            p {
                "This selection: "
                a href={ "usage?" (query.data_query(&[by, ("format", "csv")])) } download="usage.csv" { "sums as CSV" } " · "
                a href={ "usage?" (query.data_query(&[by])) } { "sums as JSON" }
            }
            p {
                a href="config" { "Configuration" } " · " a href="metrics" { "Metrics" } " · " a href="readyz" { "Readiness" }
                " · streamgauge " (env!("CARGO_PKG_VERSION"))
            }
            @if let Some(place) = ledger { p { "Usage of " (place) "." } }
            p { "All times are " (time_zone_name(&query.zone)) ". Numbers are as upstreams reported them; ~ and hatching mark estimates. Hover for all digits." }
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::balance::HealthRegistry;
    use crate::support::Live;

    fn text(query: &PageQuery, state: &State<'_>) -> String {
        let health = HealthRegistry::new(std::time::Instant::now());
        let instance = Instance {
            ledger: Some(&LedgerSource::File("a.db".into())),
            active: &ActiveRequests::new(1),
            members: &Members { groups: Live::new(Vec::new()), health },
        };
        page(query, Timestamp::UNIX_EPOCH, state, Some(7), &instance, (true, true)).into_string()
    }

    #[test]
    fn page_states_say_what_to_do() {
        let plain = PageQuery::plain(&TimeZone::UTC);
        let empty = Overview::default();
        let filtered = PageQuery { filters: [None, Some("ada".to_owned()), None, None], ..plain.clone() };
        for (query, state, expected) in [
            (&plain, State::Read(&empty), "Point an SDK's base URL at the proxy"),
            (&filtered, State::Read(&empty), "Clear the filters"),
            (&plain, State::Failed("no ledger is kept: <b>".to_owned()), "No ledger is kept: &lt;b&gt;"),
            (&plain, State::Wrong("There is no range \"2y\"."), "That time cannot be shown."),
        ] {
            let text = text(query, &state);
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(text.contains("Usage of this instance, from a.db."), "{text}");
        }
    }

    #[test]
    fn page_satisfies_its_content_policy() {
        let overview = Overview {
            times: vec![(Timestamp::UNIX_EPOCH, Sums { requests: 1, ..Sums::default() })],
            ..Overview::default()
        };
        let overview = Overview { total: Sums { requests: 1, ..Sums::default() }, ..overview };
        let text = text(&PageQuery::plain(&TimeZone::UTC), &State::Read(&overview));
        for forbidden in
            [" style=", " onclick", " onload", "<style", "javascript:", "//cdn", "http://", "https://"]
        {
            assert!(!text.contains(forbidden), "{forbidden}");
        }
        assert_eq!(text.matches("<script").count(), text.matches("<script src=\"./assets/").count());
        // Another server may publish the pages below a path of its own.
        for absolute in ["href=\"/", "src=\"/", "action=\"/"] {
            assert!(!text.contains(absolute), "{absolute}: {text}");
        }
    }

    #[test]
    fn step_is_named_by_its_length() {
        for (seconds, name) in
            [(60, "minute"), (300, "5 minutes"), (3600, "hour"), (10_800, "3 hours"), (86_400, "day")]
        {
            assert_eq!(per(Duration::from_secs(seconds)), name);
        }
    }
}

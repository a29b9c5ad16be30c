//! The whole dashboard.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::bar::bar;
use super::chart::chart;
use super::footer::{footer, unpriced};
use super::limits::{ShownLimits, limits};
use super::names::capital;
use super::numbers::time;
use super::records::records;
use super::table::table;
use super::tiles::tiles;
use super::{Depth, document, members, running};
use crate::admin::Members;
use crate::admin::query::PageQuery;
use crate::config::reload::ReloadStatus;
use crate::llm::price::Prices;
use crate::record::ActiveRequests;
use crate::sinks::ledger::{LedgerSource, Overview, Teams};

/// The state of the data.
pub(super) enum State<'a> {
    /// Rows, or none, and those of the period before.
    Read(&'a Overview, &'a Overview),
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
    pub(super) limits: &'a ShownLimits,
    pub(super) prices: &'a Prices,
    pub(super) teams: &'a Teams,
    pub(super) status: &'a ReloadStatus,
    pub(super) has_login: bool,
    pub(super) has_keys: bool,
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
) -> Markup {
    let (groups, zone) = (instance.members.states(), &query.zone);
    let streams = running::Running::of(instance.active, query, instance.teams);
    let overview = match state {
        State::Read(overview, before) if overview.total.requests > 0 => Some((*overview, *before)),
        _ => None,
    };
    let body = html! {
        a.skip href="#content" { "Skip to the numbers" }
        (bar(query, at, overview.map(|(overview, _)| overview), instance))
        main #content tabindex="-1" data-kept=[kept] {
            h1.sr { "Usage" }
            div.tiles #tiles {
                dl #sums data-part {
                    @if let Some((overview, before)) = overview { (tiles(query, overview, before)) }
                }
                details.tile.now #now {
                    summary #now-tile data-live="tile" { (running::tile(&streams, &groups)) }
                    div.drawer {
                        section #running data-live="running" aria-label="Running now" { (running::table(&streams, zone)) }
                        section #members data-live="members" aria-label="Members of groups" hidden[groups.is_empty()] {
                            (members::table(&groups, Timestamp::now(), zone))
                        }
                    }
                }
            }
            div #numbers data-part aria-label="Usage in the chosen time" role="group" {
                @match state {
                    State::Wrong(reason) => (failed("That time cannot be shown.", reason)),
                    State::Failed(reason) => (failed("There are no numbers to show.", reason)),
                    State::Read(..) => {
                        @match overview {
                            None => (nothing(query)),
                            Some((overview, before)) => {
                                @if let Some(until) = overview.coarse_until { (coarse(until, zone)) }
                                (chart(query, at, overview, before, instance.teams))
                                (table(query, overview, before, instance.teams))
                                (records(query, &overview.latest, instance.prices))
                                @if !overview.currencies.is_empty() { (unpriced(overview)) }
                            }
                        }
                        (limits(instance.limits, zone))
                    }
                }
            }
        }
        div #end data-part { (footer(query, at, instance)) }
    };
    document(Depth::ROOT, "Usage · streamgauge", true, &body)
}

/// Hours of deleted records that the chosen time splits.
fn coarse(until: Timestamp, zone: &TimeZone) -> Markup {
    html! {
        p.hint #coarse {
            "Records of hours up to " (time(until, zone)) " are deleted, and only their sums are kept: an hour that "
            "the chosen time, a column or a change of prices splits counts as a whole."
        }
    }
}

/// No rows.
fn nothing(query: &PageQuery) -> Markup {
    html! {
        section.card.nothing #nothing {
            h2 { "No requests in this time" }
            @if query.is_filtered() {
                p { "No request matches all filters. " a href=(query.link(PageQuery::clear)) { "Clear the filters" } }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::balance::HealthRegistry;
    use crate::gate::limit::Now;
    use crate::sinks::ledger::{Group, Sums};
    use crate::support::Live;

    fn text(query: &PageQuery, state: &State<'_>) -> String {
        let health = HealthRegistry::new(std::time::Instant::now());
        let now = || Now { nanos: 0, time: Timestamp::UNIX_EPOCH };
        let instance = Instance {
            ledger: Some(&LedgerSource::File("a.db".into())),
            active: &ActiveRequests::new(1),
            members: &Members { groups: Live::new(Vec::new()), health },
            limits: &ShownLimits { registry: Arc::default(), now },
            prices: &Prices::default(),
            teams: &Teams::default(),
            status: &ReloadStatus::default(),
            has_login: true,
            has_keys: true,
        };
        page(query, Timestamp::UNIX_EPOCH, state, Some(7), &instance).into_string()
    }

    #[test]
    fn page_states_say_what_to_do() {
        let plain = PageQuery::plain(&TimeZone::UTC);
        let empty = Overview::default();
        let mut filtered = plain.clone();
        filtered.filters[1] = Some("ada".to_owned());
        for (query, state, expected) in [
            (&plain, State::Read(&empty, &empty), "Point an SDK's base URL at the proxy"),
            (&filtered, State::Read(&empty, &empty), "Clear the filters"),
            (&plain, State::Failed("no ledger is kept: <b>".to_owned()), "No ledger is kept: &lt;b&gt;"),
            (&plain, State::Wrong("There is no range \"2y\"."), "That time cannot be shown."),
        ] {
            let text = text(query, &state);
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(text.contains("Usage of this instance, from a.db"), "{text}");
        }
    }

    #[test]
    fn page_satisfies_its_content_policy() {
        let sums = Sums { requests: 1, total_tokens: Some(1), ..Sums::default() };
        let overview = Overview {
            times: vec![(Timestamp::UNIX_EPOCH, sums.clone())],
            users: vec![Group { key: vec![Some("<i>&".to_owned())], sums: sums.clone() }],
            series: vec![(Some("<i>&".to_owned()), vec![sums.clone()])],
            latencies: vec![Default::default()],
            total: sums,
            ..Overview::default()
        };
        for query in ["", "chart=latency", "split=user&compare=1", "chart=cached&tab=tag.x&failed=1"] {
            let query = PageQuery::parse(query, &TimeZone::UTC).unwrap();
            let text = text(&query, &State::Read(&overview, &overview));
            for forbidden in [
                " style=",
                " onclick",
                " onload",
                "<style",
                "javascript:",
                "//cdn",
                "http://",
                "https://",
                "<i>",
            ] {
                assert!(!text.contains(forbidden), "{forbidden}: {text}");
            }
            assert_eq!(text.matches("<script").count(), text.matches("<script src=\"./assets/").count());
            // Another server may publish the pages below a path of its own.
            for absolute in ["href=\"/", "src=\"/", "action=\"/"] {
                assert!(!text.contains(absolute), "{absolute}: {text}");
            }
        }
    }
}

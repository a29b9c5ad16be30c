//! The page as a whole.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

use super::charts::{Columns, Step, columns};
use super::numbers::time;
use super::panels::{self, CLIENT, MODEL, TOKENS, UPSTREAM};
use super::tiles::tiles;
use super::{Depth, brand, document, records, running};
use crate::admin::ask::{FILTERS, PageAsk, Range, minute};
use crate::config::time_zone_name;
use crate::ledger::{Estimated, Group, LedgerSource, Overview, Sums};
use crate::record::Boards;

/// Names that a filter suggests.
const MOST_SUGGESTED: usize = 200;

/// What there is to show.
pub(super) enum State<'a> {
    /// Rows, or none.
    Read(&'a Overview),
    /// Why they could not be read.
    Unread(String),
    /// What is wrong with the question.
    Wrong(&'a str),
}

/// The dashboard. What stands in an element with `data-part` is taken over by the script from a
/// later reading of the page. `kept` is how many records the ledger had been given when this one
/// was read, which the script compares with what it is told.
pub(super) fn page(
    ask: &PageAsk,
    at: Timestamp,
    state: &State<'_>,
    kept: Option<u64>,
    ledger: Option<&LedgerSource>,
    boards: &Boards,
    has_login: bool,
) -> Markup {
    let overview = match state {
        State::Read(overview) => Some(*overview),
        State::Unread(_) | State::Wrong(_) => None,
    };
    let body = html! {
        a.skip href="#content" { "Skip to the numbers" }
        header.top {
            (brand())
            div.state {
                p #state role="status" {}
                @if let Some(place @ LedgerSource::Fleet(_)) = ledger { p.updated #ledger title=(place) { "Whole fleet" } }
                p.updated #updated data-part { "As of " (time(at, &ask.zone)) " " (time_zone_name(&ask.zone)) }
                button.quiet #pause type="button" hidden { "Pause updates" }
                @if has_login {
                    form method="post" action="logout" { button.quiet type="submit" { "Sign out" } }
                }
            }
        }
        (controls(ask, at, overview))
        main #content tabindex="-1" data-kept=[kept] {
            h1.sr { "Usage" }
            section.card #running data-live="running" aria-label="Running now" { (running::table(boards, &ask.zone)) }
            div #numbers data-part aria-label="Usage in the chosen time" role="group" {
                @match state {
                    State::Wrong(reason) => (failed("That time cannot be shown.", reason)),
                    State::Unread(reason) => (failed("There are no numbers to show.", reason)),
                    State::Read(overview) if overview.total.requests == 0 => (nothing(ask)),
                    State::Read(overview) => (numbers(ask, overview)),
                }
            }
        }
        (footer(ask, ledger))
    };
    document(Depth::ROOT, "Usage · streamgauge", true, &body)
}

/// The time and the filters: links and forms, which need no script.
fn controls(ask: &PageAsk, at: Timestamp, overview: Option<&Overview>) -> Markup {
    let (since, until) = ask.range.bounds(at);
    let is_custom = matches!(ask.range, Range::Custom(..));
    html! {
        div.controls {
            nav.ranges aria-label="Time" {
                @for range in Range::LAST {
                    a href={ "./?" (ask.with_range(range)) } aria-current=[(range == ask.range).then_some("page")] {
                        (range.title())
                    }
                }
                details.custom #custom open[is_custom] {
                    summary.chosen[is_custom] { "Custom" }
                    form method="get" action="./" {
                        input type="hidden" name="range" value="custom";
                        (hidden_filters(ask))
                        label { "From (" (time_zone_name(&ask.zone)) ")" input type="datetime-local" name="since" required value=(minute(since, &ask.zone)); }
                        label { "Until (" (time_zone_name(&ask.zone)) ")" input type="datetime-local" name="until" required value=(minute(until.unwrap_or(at), &ask.zone)); }
                        button type="submit" { "Show" }
                    }
                }
            }
            form.filters method="get" action="./" role="search" aria-label="Filters" {
                input type="hidden" name="range" value=(ask.range.name());
                @if let Range::Custom(since, until) = ask.range {
                    input type="hidden" name="since" value=(minute(since, &ask.zone));
                    input type="hidden" name="until" value=(minute(until, &ask.zone));
                }
                @for (place, name) in FILTERS.into_iter().enumerate() {
                    label.active[ask.filters[place].is_some()] {
                        span { (capital(name)) }
                        input type="search" name=(name) list={ (name) "-names" } autocomplete="off" placeholder="any"
                            value=[ask.filters[place].as_deref()];
                    }
                }
                button type="submit" { "Filter" }
                @if ask.filters.iter().any(Option::is_some) {
                    a.clear href={ "./?" (PageAsk { filters: Default::default(), ..ask.clone() }.query()) } { "Clear" }
                }
            }
            div #suggestions data-part {
                @if let Some(overview) = overview {
                    @for (name, groups) in FILTERS.into_iter().zip([&overview.clients, &overview.users, &overview.upstreams, &overview.models]) {
                        (suggestions(name, groups))
                    }
                }
            }
        }
    }
}

fn hidden_filters(ask: &PageAsk) -> Markup {
    html! {
        @for (name, value) in FILTERS.iter().zip(&ask.filters) {
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

fn numbers(ask: &PageAsk, overview: &Overview) -> Markup {
    let step = ask.range.step();
    html! {
        (tiles(overview))
        div.grid {
            (tokens_over_time(ask, overview, step))
            (requests_over_time(ask, overview, step))
            (panels::tokens_per_user(ask, overview))
            (panels::total_per_user(ask, overview))
            (panels::breakdown("models", "By model", "Model", MODEL, &overview.models, ask, &overview.currencies))
            (panels::breakdown("upstreams", "By upstream", "Upstream", UPSTREAM, &overview.upstreams, ask, &overview.currencies))
            (panels::breakdown("clients", "By client", "Client", CLIENT, &overview.clients, ask, &overview.currencies))
            (panels::first_token(overview))
            (panels::outcomes(overview))
            (panels::sources(overview))
        }
        section.card #records aria-labelledby="records-title" {
            div.card-head {
                h2 #records-title { "Latest records" }
                p.links {
                    a href={ "records?" (ask.data_query(&[("format", "csv"), ("limit", "10000")])) } download="records.csv" { "CSV" }
                    a href={ "records?" (ask.data_query(&[("limit", "1000")])) } { "JSON" }
                }
            }
            (records::table(&overview.latest, &ask.zone))
        }
    }
}

fn tokens_over_time(ask: &PageAsk, overview: &Overview, step: Duration) -> Markup {
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
        zone: &time_zone_name(&ask.zone),
        steps: &steps(ask, overview, step, tokens, estimated),
    })
}

fn requests_over_time(ask: &PageAsk, overview: &Overview, step: Duration) -> Markup {
    columns(&Columns {
        id: "requests-over-time",
        title: "Requests",
        parts: &[("Requests", "plain")],
        per: &per(step),
        zone: &time_zone_name(&ask.zone),
        steps: &steps(ask, overview, step, |sums| vec![sums.requests], |_| Vec::new()),
    })
}

fn steps(
    ask: &PageAsk,
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
        let at = at.to_zoned(ask.zone.clone());
        let (short, long) = (at.strftime(short).to_string(), at.strftime(long).to_string());
        Step { short, long, values: values(sums), estimated: estimated(sums) }
    };
    overview.times.iter().map(step).collect()
}

/// How long a step is, in words.
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
fn nothing(ask: &PageAsk) -> Markup {
    let is_filtered = ask.filters.iter().any(Option::is_some);
    html! {
        section.card.nothing #nothing {
            h2 { "No requests in this time" }
            @if is_filtered {
                p { "Nothing has all that the filters name. " a href={ "./?" (PageAsk { filters: Default::default(), ..ask.clone() }.query()) } { "Clear the filters" } }
            } @else {
                p { "A request is here as soon as it has ended. Point an SDK's base URL at the proxy (" code { "server.listen" } ", with " code { "/v1" } " behind it), or choose a longer time." }
            }
        }
    }
}

/// What went wrong, and what is left to do.
fn failed(what: &str, reason: &str) -> Markup {
    html! {
        section.card.failed #failed role="alert" {
            h2 { (what) }
            p { (capital(reason)) }
            p { a href="./" { "To the last 24 hours" } }
        }
    }
}

fn footer(ask: &PageAsk, ledger: Option<&LedgerSource>) -> Markup {
    let by = ("by", "day,client,user,upstream,model");
    html! {
        footer {
            p {
                "This selection: "
                a href={ "usage?" (ask.data_query(&[by, ("format", "csv")])) } download="usage.csv" { "sums as CSV" } " · "
                a href={ "usage?" (ask.data_query(&[by])) } { "sums as JSON" }
            }
            p {
                a href="config" { "Configuration" } " · " a href="metrics" { "Metrics" } " · " a href="readyz" { "Readiness" }
                " · streamgauge " (env!("CARGO_PKG_VERSION"))
            }
            @if let Some(place) = ledger { p { "Usage of " (place) "." } }
            p { "All times are " (time_zone_name(&ask.zone)) ". Numbers are as upstreams reported them; ~ and hatching mark what is estimated. Hover for all digits." }
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

    fn text(ask: &PageAsk, state: &State<'_>) -> String {
        page(
            ask,
            Timestamp::UNIX_EPOCH,
            state,
            Some(7),
            Some(&LedgerSource::File("a.db".into())),
            &Boards::new(1),
            true,
        )
        .into_string()
    }

    #[test]
    fn page_states_say_what_to_do() {
        let plain = PageAsk::plain(&TimeZone::UTC);
        let empty = Overview::default();
        let filtered = PageAsk { filters: [None, Some("ada".to_owned()), None, None], ..plain.clone() };
        for (ask, state, expected) in [
            (&plain, State::Read(&empty), "Point an SDK's base URL at the proxy"),
            (&filtered, State::Read(&empty), "Clear the filters"),
            (&plain, State::Unread("no ledger is kept: <b>".to_owned()), "No ledger is kept: &lt;b&gt;"),
            (&plain, State::Wrong("There is no range \"2y\"."), "That time cannot be shown."),
        ] {
            let text = text(ask, &state);
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
        let text = text(&PageAsk::plain(&TimeZone::UTC), &State::Read(&overview));
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

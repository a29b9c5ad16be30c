//! Names with their sums and bars: users, models, upstreams, clients; outcomes, usage sources,
//! times to the first token.

use maud::{Markup, html};

use super::charts::{bar, legend};
use super::numbers::{compact, grouped, marked, maybe, millis, percent};
use crate::admin::query::PageQuery;
use crate::llm::price::{Amount, Currency};
use crate::sinks::ledger::{Group, Overview, Percentiles, Sums};
use crate::support::tags::TagName;

/// The largest number of names that are listed; the others share one line.
const MOST_NAMES: usize = 12;

/// The two kinds of tokens that every service bills.
pub(super) const TOKENS: [(&str, &str); 2] = [("Input", "input"), ("Output", "output")];

/// A line of a panel.
struct Line<'a> {
    /// `None`: all others together.
    name: Option<Option<&'a str>>,
    others: usize,
    sums: Sums,
}

/// The largest groups by total tokens, then by requests; then all others as one line.
fn lines(groups: &[Group]) -> Vec<Line<'_>> {
    let mut sorted: Vec<_> = groups.iter().collect();
    sorted.sort_by(|a, b| size(&b.sums).cmp(&size(&a.sums)).then_with(|| a.key.cmp(&b.key)));
    let shown = if sorted.len() <= MOST_NAMES + 1 { sorted.len() } else { MOST_NAMES };
    let (shown, others) = sorted.split_at(shown);
    let mut lines: Vec<_> = shown
        .iter()
        .map(|group| Line {
            name: Some(group.key.first().and_then(Option::as_deref)),
            others: 0,
            sums: group.sums.clone(),
        })
        .collect();
    if !others.is_empty() {
        let mut sums = Sums::default();
        others.iter().for_each(|group| sums.add(&group.sums));
        lines.push(Line { name: None, others: others.len(), sums });
    }
    lines
}

fn size(sums: &Sums) -> (u64, u64) {
    (total(sums), sums.requests)
}

fn total(sums: &Sums) -> u64 {
    sums.total_tokens.unwrap_or_default()
}

/// The total, marked if a part of it is computed.
fn marked_total(sums: &Sums) -> Markup {
    html! {
        @if let Some(computed) = sums.computed_total_tokens {
            abbr title={ (grouped(computed)) " of it are input + output, where the service reported no total" } { "*" }
        }
        (marked(sums.total_tokens, sums.estimated().total_tokens))
    }
}

fn parts(sums: &Sums) -> [u64; 2] {
    [sums.input_tokens.unwrap_or_default(), sums.output_tokens.unwrap_or_default()]
}

/// The filter of a panel's names.
#[derive(Clone, Copy)]
pub(super) enum Filter {
    /// An index in [`FILTERS`](crate::admin::query::FILTERS).
    Field(usize),
    Tag(TagName),
}

impl Filter {
    /// The query of the page with this value.
    fn query(self, query: &PageQuery, value: &str) -> String {
        match self {
            Self::Field(filter) => query.with_filter(filter, Some(value)),
            Self::Tag(name) => query.with_tag(name, Some(value)),
        }
    }

    /// The value on this page.
    fn value(self, query: &PageQuery) -> Option<&str> {
        match self {
            Self::Field(filter) => query.filters[filter].as_deref(),
            Self::Tag(name) => query.tag(name),
        }
    }
}

/// A name that links to the page filtered by it.
fn name(query: &PageQuery, filter: Filter, line: &Line<'_>) -> Markup {
    html! {
        @match line.name {
            None => span.others { (grouped(line.others as u64)) " others" },
            Some(None) => span.unknown { "not named" },
            Some(Some(name)) if filter.value(query) == Some(name) => span { (name) },
            Some(Some(name)) => a href={ "./?" (filter.query(query, name)) } { (name) },
        }
    }
}

/// Prompt and completion tokens of each user, as stacked bars.
pub(super) fn tokens_per_user(query: &PageQuery, overview: &Overview) -> Markup {
    let lines = lines(&overview.users);
    let most = lines.iter().map(|line| parts(&line.sums).iter().sum()).max().unwrap_or_default();
    panel(
        "user-tokens",
        "Prompt and completion tokens per user",
        Some(&legend(&TOKENS)),
        &html! {
            table.bars {
                thead { tr {
                    th scope="col" { "User" }
                    th.wide { span.sr { "Bar" } }
                    th.number scope="col" { "Input" }
                    th.number scope="col" { "Output" }
                } }
                tbody { @for line in &lines {
                    @let [input, output] = parts(&line.sums);
                    tr {
                        th.name scope="row" { (name(query, USER, line)) }
                        td.wide { (bar(&[("input", input), ("output", output)], most)) }
                        td.number { (marked(line.sums.input_tokens, line.sums.estimated().input_tokens)) }
                        td.number { (marked(line.sums.output_tokens, line.sums.estimated().output_tokens)) }
                    }
                } }
            }
        },
    )
}

/// All tokens of each user, and their share.
pub(super) fn total_per_user(query: &PageQuery, overview: &Overview) -> Markup {
    let lines = lines(&overview.users);
    let most = lines.iter().map(|line| total(&line.sums)).max().unwrap_or_default();
    let all = total(&overview.total);
    panel(
        "user-totals",
        "Total tokens per user",
        None,
        &html! {
            table.bars {
                thead { tr {
                    th scope="col" { "User" }
                    th.wide { span.sr { "Bar" } }
                    th.number scope="col" { "Total" }
                    th.number scope="col" { "Share" }
                } }
                tbody { @for line in &lines {
                    tr {
                        th.name scope="row" { (name(query, USER, line)) }
                        td.wide { (bar(&[("total", total(&line.sums))], most)) }
                        td.number { (marked_total(&line.sums)) }
                        td.number { (percent(total(&line.sums), all)) }
                    }
                } }
            }
        },
    )
}

/// The values of a tag. Requests without it are in no line.
pub(super) fn tag(tag: TagName, groups: &[Group], query: &PageQuery, currencies: &[Currency]) -> Markup {
    let (id, title) = (format!("tag-{tag}"), format!("By {tag}"));
    breakdown(&id, &title, tag.as_str(), Filter::Tag(tag), groups, query, currencies)
}

/// Indices into [`FILTERS`](crate::admin::query::FILTERS).
pub(super) const CLIENT: Filter = Filter::Field(0);
pub(super) const USER: Filter = Filter::Field(1);
pub(super) const UPSTREAM: Filter = Filter::Field(2);
pub(super) const MODEL: Filter = Filter::Field(3);

/// Requests, tokens and cost by one field.
pub(super) fn breakdown(
    id: &str,
    title: &str,
    column: &str,
    filter: Filter,
    groups: &[Group],
    query: &PageQuery,
    currencies: &[Currency],
) -> Markup {
    let lines = lines(groups);
    let most = lines.iter().map(|line| parts(&line.sums).iter().sum()).max().unwrap_or_default();
    panel(
        id,
        title,
        None,
        &html! {
            table.bars.many {
                thead { tr {
                    th scope="col" { (column) }
                    th.wide { span.sr { "Bar" } }
                    th.number scope="col" { "Requests" }
                    th.number scope="col" { "Input" }
                    th.number scope="col" { "Output" }
                    @for currency in currencies { th.number scope="col" { (currency) } }
                } }
                tbody { @for line in &lines {
                    @let [input, output] = parts(&line.sums);
                    tr {
                        th.name scope="row" { (name(query, filter, line)) }
                        td.wide { (bar(&[("input", input), ("output", output)], most)) }
                        td.number { (maybe(Some(line.sums.requests))) }
                        td.number { (marked(line.sums.input_tokens, line.sums.estimated().input_tokens)) }
                        td.number { (marked(line.sums.output_tokens, line.sums.estimated().output_tokens)) }
                        @for currency in currencies { td.number { (money(&line.sums, *currency)) } }
                    }
                } }
            }
        },
    )
}

/// The cost in one currency. Empty if no price is known, which differs from 0.
pub(super) fn money(sums: &Sums, currency: Currency) -> Markup {
    match sums.cost.amount(currency) {
        Some(amount) => {
            let value = amount.to_f64();
            let decimals = if value >= 10_000.0 {
                0
            } else if value >= 0.095 {
                2
            } else {
                4
            };
            let text = amount.rounded(decimals);
            let (whole, rest) =
                text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
            let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
            let part = sums.estimated().cost.amount(currency).filter(|part| *part > Amount::default());
            html! {
            @if let Some(part) = part {
                abbr title={ "estimated tokens cost " (part) " " (currency) " of it" } { "~" }
            }
            data value=(amount) title={ (amount) " " (currency) } { (currency.sign()) (whole) @if let Some(rest) = rest { "." (rest) } } }
        }
        None => maybe(None),
    }
}

/// The outcomes of requests.
pub(super) fn outcomes(overview: &Overview) -> Markup {
    let name = |group: &Group| group.key.first().cloned().flatten().unwrap_or_default();
    let rows: Vec<_> = overview.outcomes.iter().map(|group| (name(group), group.sums.requests)).collect();
    let mut rows: Vec<_> = rows.iter().map(|(outcome, rows)| (outcome.as_str(), *rows)).collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    shares("outcomes", "Outcomes", "Outcome", &rows, overview.total.requests)
}

/// Sources of the counts, for requests that could have had tokens.
pub(super) fn sources(overview: &Overview) -> Markup {
    let rows = overview.total.known().into_iter().filter(|(_, rows)| *rows > 0);
    shares("sources", "Usage sources", "Source", &rows.collect::<Vec<_>>(), overview.total.countable)
}

fn shares(id: &str, title: &str, column: &str, rows: &[(&str, u64)], all: u64) -> Markup {
    panel(
        id,
        title,
        None,
        &html! {
            table.bars {
                thead { tr {
                    th scope="col" { (column) }
                    th.wide { span.sr { "Bar" } }
                    th.number scope="col" { "Requests" }
                    th.number scope="col" { "Share" }
                } }
                tbody { @for (name, rows) in rows {
                    tr {
                        th scope="row" { span.badge.(name) { (name.replace('_', " ")) } }
                        td.wide { (bar(&[("plain", *rows)], all)) }
                        td.number { (maybe(Some(*rows))) }
                        td.number { (percent(*rows, all)) }
                    }
                } }
            }
        },
    )
}

/// Times to the first token.
pub(super) fn first_token(overview: &Overview) -> Markup {
    let Percentiles { rows, p50, p95, p99, sampled } = overview.first_token;
    panel(
        "first-token",
        "Time to first token",
        None,
        &html! {
            @if rows == 0 {
                p.empty { "No stream in this time." }
            } @else {
                table.bars {
                    thead { tr {
                        th scope="col" { "Percentile" }
                        th.wide { span.sr { "Bar" } }
                        th.number scope="col" { "Time" }
                    } }
                    tbody { @for (name, value) in [("p50", p50), ("p95", p95), ("p99", p99)] {
                        tr {
                            th scope="row" { (name) }
                            td.wide { (bar(&[("plain", (value * 1e3) as u64)], (p99 * 1e3) as u64)) }
                            td.number { (millis(value)) }
                        }
                    } }
                }
                p.hint {
                    "Over " (compact(rows)) @if rows == 1 { " stream" } @else { " streams" }
                    @if sampled { ", from a random sample of 1,048,576" } "."
                }
            }
        },
    )
}

/// A titled card.
fn panel(id: &str, title: &str, beside: Option<&Markup>, body: &Markup) -> Markup {
    html! {
        section.card #(id) aria-labelledby={ (id) "-title" } {
            div.card-head {
                h2 #{ (id) "-title" } { (title) }
                @if let Some(beside) = beside { (beside) }
            }
            div.scroll #{ (id) "-scroll" } role="group" aria-label=(title) { (body) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, tokens: u64) -> Group {
        let sums = Sums { requests: 1, total_tokens: Some(tokens), ..Sums::default() };
        Group { key: vec![Some(name.to_owned())], sums }
    }

    #[test]
    fn panel_names_the_largest_and_sums_the_others_in_one_line() {
        let groups: Vec<_> = (0..40).map(|number| group(&format!("u{number:02}"), number)).collect();
        let lines = lines(&groups);
        assert_eq!(lines.len(), MOST_NAMES + 1);
        assert_eq!((lines[0].name, lines[0].sums.total_tokens), (Some(Some("u39")), Some(39)));
        let others = &lines[MOST_NAMES];
        assert_eq!((others.name, others.others, others.sums.requests), (None, 28, 28));
        assert_eq!(others.sums.total_tokens, Some((0..28).sum()));
        assert_eq!(
            super::lines(&groups[..MOST_NAMES + 1]).len(),
            MOST_NAMES + 1,
            "one other is named as well"
        );
    }

    #[test]
    fn names_are_escaped_in_pages_and_links() {
        let user = group("<b>&\"", 1);
        let overview = Overview { users: vec![user], ..Overview::default() };
        let text = total_per_user(&PageQuery::plain(&jiff::tz::TimeZone::UTC), &overview).into_string();
        assert!(
            text.contains(r#"href="./?range=24h&amp;user=%3Cb%3E%26%22">&lt;b&gt;&amp;&quot;</a>"#),
            "{text}"
        );
    }
}

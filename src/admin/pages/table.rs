//! One table with tabs: the sums by user, model, client and so on, with every row, sorted, searched
//! and page by page.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::bar::hidden;
use super::names::{field_name, fields_name, shown};
use super::numbers::{count, grouped, marked, maybe, money, percent};
use super::plot::share_bar;
use super::table_rows::{Row, rows};
use crate::admin::query::{PageQuery, TABS};
use crate::sinks::ledger::{By, Order, Overview, Report, Sums, Teams};

/// The number of rows on a page.
const PER_PAGE: usize = 25;

/// A column that has its name in the URL.
struct Column {
    /// The name of `usage --sort`.
    sort: String,
    head: String,
}

/// The table of the tab that the query chooses.
pub(super) fn table(query: &PageQuery, overview: &Overview, before: &Overview, teams: &Teams) -> Markup {
    let by = query.tab.unwrap_or_else(|| first_tab(overview));
    let all = rows(by, overview, before, teams);
    let number = all.len();
    let found = found(query, by, overview, all);
    let pages = found.len().div_ceil(PER_PAGE).max(1);
    let page = query.page.min(pages);
    let first = (page - 1) * PER_PAGE;
    let on_page = &found[first..found.len().min(first + PER_PAGE)];
    let csv = query.data_query(&[("by", by.as_str()), ("format", "csv")]);
    html! {
        section.card #table aria-labelledby="table-title" {
            div.card-head {
                h2 #table-title { (fields_name(by)) " " span.per { (grouped(number as u64)) } }
                p.links { a href={ "usage?" (csv) } download={ (by) ".csv" } { "CSV" } }
            }
            div.table-bar {
                (tabs(query, by, overview, teams))
                form.search method="get" action="./#table" role="search" aria-label={ "Search " (fields_name(by).to_lowercase()) } {
                    (hidden(query, |name| name != "search"))
                    input type="search" name="search" aria-label={ "Part of the " (field_name(by).to_lowercase()) } placeholder="Search"
                        autocomplete="off" value=[query.search.as_deref()];
                    button.quiet type="submit" { "Search" }
                }
            }
            div.scroll #table-scroll role="group" aria-labelledby="table-title" {
                table.sums {
                    thead { (head(query, by, overview)) }
                    tbody {
                        @for row in on_page { (line(query, by, overview, row)) }
                        @if on_page.is_empty() { tr { td.empty colspan="12" { "No name has “" (shown(query.search.as_deref().unwrap_or_default())) "” in it." } } }
                    }
                }
            }
            @if pages > 1 { (pager(query, page, pages, first + 1, first + on_page.len(), found.len())) }
        }
    }
}

/// Users, or models if no request names its user.
fn first_tab(overview: &Overview) -> By {
    match overview.users.iter().any(|group| group.key.first().is_some_and(Option::is_some)) {
        true => By::User,
        false => By::Model,
    }
}

/// The rows with the searched text, in the chosen order.
fn found(query: &PageQuery, by: By, overview: &Overview, mut rows: Vec<Row>) -> Vec<Row> {
    if let Some(search) = query.search.as_deref().map(str::to_lowercase) {
        rows.retain(|row| row.name().is_some_and(|name| name.to_lowercase().contains(&search)));
    }
    let usual = if overview.currencies.is_empty() {
        "-total_tokens".to_owned()
    } else {
        cost_columns(overview)[0].clone()
    };
    let sort = query.sort.clone().unwrap_or(usual);
    let mut report = Report {
        by: vec![by],
        groups: rows.iter().map(|row| row.group.clone()).collect(),
        rest: None,
        total: Sums::default(),
        before: None,
        currencies: overview.currencies.clone(),
        zone: TimeZone::UTC,
        coarse_until: None,
    };
    // Requests decide among equal sums; a column that does not exist leaves the order of names.
    let orders = Order::list(&format!("{sort},-requests")).unwrap_or_default();
    if report.sort(&orders).is_err() {
        return rows;
    }
    let mut by_key: HashMap<_, _> = rows.into_iter().map(|row| (row.group.key.clone(), row)).collect();
    report.groups.iter().filter_map(|group| by_key.remove(&group.key)).collect()
}

/// The names of the columns of money, each from the largest down.
fn cost_columns(overview: &Overview) -> Vec<String> {
    overview.currencies.iter().map(|currency| format!("-cost_{}", currency.as_str().to_lowercase())).collect()
}

fn tabs(query: &PageQuery, present: By, overview: &Overview, teams: &Teams) -> Markup {
    let tags = overview.tags.iter().map(|(name, _)| By::Tag(*name));
    let fields = TABS.into_iter().filter(|by| *by != By::Team || !teams.is_empty());
    html! {
        nav.switch aria-label="Table" {
            @for by in fields.chain(tags) {
                a href={ (query.link(|query| { query.tab = Some(by); query.sort = None; query.search = None; })) "#table" } data-swap
                    aria-current=[(by == present).then_some("true")] { (fields_name(by)) }
            }
        }
    }
}

fn columns(by: By, overview: &Overview) -> Vec<Column> {
    let column = |sort: &str, head: &str| Column { sort: sort.to_owned(), head: head.to_owned() };
    let mut columns = vec![column(by.as_str(), &field_name(by))];
    for (sort, currency) in cost_columns(overview).iter().zip(&overview.currencies) {
        columns.push(column(sort, currency.as_str()));
    }
    columns.extend([
        column("-requests", "Requests"),
        column("-failed_requests", "Failed"),
        column("-input_tokens", "Input"),
        column("-cached_input_tokens", "Cached"),
        column("-output_tokens", "Output"),
        column("-total_tokens", "Total"),
    ]);
    columns
}

fn head(query: &PageQuery, by: By, overview: &Overview) -> Markup {
    let sort = query.sort.as_deref();
    html! {
        tr {
            @for (place, column) in columns(by, overview).iter().enumerate() {
                @let reversed = match column.sort.strip_prefix('-') { Some(name) => name.to_owned(), None => format!("-{}", column.sort) };
                @let is_present = sort == Some(&*column.sort);
                @let is_reversed = sort == Some(&*reversed);
                @let next = if is_present { &reversed } else { &column.sort };
                @let direction = if is_present == column.sort.starts_with('-') { "descending" } else { "ascending" };
                th.number[place > 0] scope="col" aria-sort=[(is_present || is_reversed).then_some(direction)] {
                    a href={ (query.link(|query| query.sort = Some(next.clone()))) "#table" } data-swap { (column.head) }
                }
                @if place == 0 { th.wide { span.sr { "Share" } } }
            }
            @if query.compare { th.number scope="col" { "Change" } }
        }
    }
}

fn line(query: &PageQuery, by: By, overview: &Overview, row: &Row) -> Markup {
    let sums = &row.group.sums;
    let (part, whole) = share(overview, sums);
    html! {
        tr {
            th.name scope="row" { (name(query, by, row.name())) }
            td.wide { (share_bar(part, whole)) span.share { (percent(part, whole)) } }
            @for currency in &overview.currencies { td.number { (money(sums, *currency)) } }
            td.number { (count(sums.requests)) }
            td.number { @if sums.failed > 0 { span title={ (percent(sums.failed, sums.requests)) " of its requests" } { (count(sums.failed)) } } @else { "0" } }
            td.number { (marked(sums.input_tokens, sums.estimated().input_tokens)) }
            td.number { (maybe(sums.cached_input_tokens)) }
            td.number { (marked(sums.output_tokens, sums.estimated().output_tokens)) }
            td.number {
                @if let Some(computed) = sums.computed_total_tokens {
                    abbr title={ (grouped(computed)) " of it are input + output, where the service reported no total" } { "*" }
                }
                (marked(sums.total_tokens, sums.estimated().total_tokens))
            }
            @if query.compare { td.number { (row.change(overview)) } }
        }
    }
}

/// The part of the whole that a bar shows: of the cost in the first currency, else of all tokens.
fn share(overview: &Overview, sums: &Sums) -> (u64, u64) {
    let size = |sums: &Sums| match overview.currencies.as_slice() {
        [currency] => {
            let amount = sums.cost.amount(*currency).unwrap_or_default();
            u64::try_from(amount.smallest() / 1_000_000).unwrap_or(u64::MAX)
        }
        _ => sums.total_tokens.unwrap_or_default(),
    };
    let (part, whole) = (size(sums), size(&overview.total));
    if whole == 0 { (sums.requests, overview.total.requests) } else { (part, whole) }
}

/// A name that links to the page filtered by it.
fn name(query: &PageQuery, by: By, name: Option<&str>) -> Markup {
    html! {
        @match name {
            None => span.unknown { "not named" },
            Some(name) if query.value(by) == Some(name) => bdi { (shown(name)) },
            Some(name) => a href=(query.link(|query| query.set(by, Some(name)))) title=(shown(name)) { bdi { (shown(name)) } },
        }
    }
}

fn pager(query: &PageQuery, page: usize, pages: usize, first: usize, last: usize, all: usize) -> Markup {
    let to = |page: usize| query.link(|query| query.page = page) + "#table";
    html! {
        nav.pager aria-label="Pages of the table" {
            @if page > 1 { a href=(to(page - 1)) data-swap rel="prev" { "‹ Previous" } }
            span { (grouped(first as u64)) "–" (grouped(last as u64)) " of " (grouped(all as u64)) }
            @if page < pages { a href=(to(page + 1)) data-swap rel="next" { "Next ›" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::ledger::Group;

    fn overview(users: usize) -> Overview {
        let group = |number: usize| {
            let sums = Sums { requests: 1, total_tokens: Some(number as u64), ..Sums::default() };
            Group { key: vec![Some(format!("u{number:03}"))], sums }
        };
        let users: Vec<_> = (0..users).map(group).collect();
        let mut total = Sums::default();
        users.iter().for_each(|group| total.add(&group.sums));
        Overview { users, total, ..Overview::default() }
    }

    fn page(query: &str, overview: &Overview) -> String {
        let query = PageQuery::parse(query, &TimeZone::UTC).unwrap();
        table(&query, overview, &Overview::default(), &Teams::default()).into_string()
    }

    #[test]
    fn every_row_is_on_some_page_in_the_chosen_order() {
        let overview = overview(60);
        let first = page("", &overview);
        assert!(first.contains("u059") && first.contains("u035") && !first.contains("u034"), "{first}");
        assert!(first.contains("1–25 of 60"), "{first}");
        let last = page("page=3&sort=user", &overview);
        assert!(last.contains("u059") && last.contains("u050") && !last.contains("u049"), "{last}");
        let beyond = page("page=99", &overview);
        assert!(beyond.contains("51–60 of 60"), "{beyond}");
        let found = page("search=U01", &overview);
        assert!(found.contains("u010") && found.contains("u019") && !found.contains("u020"), "{found}");
        assert!(page("search=nothing", &overview).contains("No name has"));
    }

    #[test]
    fn names_are_escaped_in_rows_and_links() {
        let sums = Sums { requests: 1, ..Sums::default() };
        let users = vec![Group { key: vec![Some("<b>&\"".to_owned())], sums: sums.clone() }];
        let text = page("", &Overview { users, total: sums, ..Overview::default() });
        assert!(text.contains("user=%3Cb%3E%26%22") && text.contains("&lt;b&gt;&amp;&quot;"), "{text}");
        assert!(!text.contains("<b>&"), "{text}");
    }
}

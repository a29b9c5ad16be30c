//! The large chart: the quantity, how it is split, and its course.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use maud::{Markup, html};

use super::names::{field_name, shown};
use super::numbers::{compact, millis};
use super::plot::{Form, Plot, Series, Step};
use super::scale::{Unit, text};
use super::split::{Split, split};
use super::tiles::cached_share;
use crate::admin::query::{Metric, PageQuery, Range, SPLITS, minute};
use crate::config::time_zone_name;
use crate::llm::price::Currency;
use crate::sinks::ledger::{By, Overview, Percentiles, Sums, Teams};

/// The largest number of labels of the axis of times.
const MOST_LABELS: usize = 8;

/// The chart of the metric that the query chooses.
pub(super) fn chart(
    query: &PageQuery,
    at: Timestamp,
    overview: &Overview,
    before: &Overview,
    teams: &Teams,
) -> Markup {
    let metric = chosen(query, overview);
    let step = query.range.step(at, &query.zone);
    let steps = steps(query, at, overview, step);
    let series = series(query, metric, overview, teams);
    let (unit, form) = (unit(metric, overview), form(metric));
    let earlier =
        (query.compare && form == Form::Columns).then(|| earlier(metric, before, steps.len(), unit));
    let plot = Plot {
        id: "chart",
        title: title(metric),
        unit,
        form,
        steps_are: &format!("From ({})", time_zone_name(&query.zone)),
        steps: &steps,
        series: &series,
        before: earlier.as_deref(),
    };
    html! {
        section.card #chart aria-labelledby="chart-title" {
            div.card-head {
                h2 #chart-title { (title(metric)) " " span.per { "per " (per(step)) } }
                (metrics(query, metric, overview))
            }
            @if metric != Metric::Latency { (splits(query, overview)) }
            (plot.render())
            @if metric == Metric::Latency { (histogram(overview)) }
        }
    }
}

/// The metric of the query, or the first that has numbers.
fn chosen(query: &PageQuery, overview: &Overview) -> Metric {
    let has_cost = overview.total.cost.amounts().next().is_some();
    match query.metric {
        Some(Metric::Cost(_)) if overview.currencies.is_empty() => Metric::Tokens,
        Some(metric) => metric,
        None if has_cost => Metric::Cost(None),
        None => Metric::Tokens,
    }
}

fn title(metric: Metric) -> &'static str {
    match metric {
        Metric::Cost(_) => "Cost",
        Metric::Tokens => "Tokens",
        Metric::Requests => "Requests",
        Metric::Errors => "Failed requests",
        Metric::Latency => "Time to first token",
        Metric::Cached => "Cached share of the input",
    }
}

fn currency(metric: Metric, overview: &Overview) -> Option<Currency> {
    match metric {
        Metric::Cost(Some(currency)) => Some(currency),
        Metric::Cost(None) => {
            let paid = |currency: &&Currency| overview.total.cost.amount(**currency).is_some();
            overview.currencies.iter().find(paid).or_else(|| overview.currencies.first()).copied()
        }
        _ => None,
    }
}

fn unit(metric: Metric, overview: &Overview) -> Unit {
    match metric {
        Metric::Cost(_) => currency(metric, overview).map_or(Unit::Count, Unit::Money),
        Metric::Latency => Unit::Time,
        Metric::Cached => Unit::Share,
        Metric::Tokens | Metric::Requests | Metric::Errors => Unit::Count,
    }
}

fn form(metric: Metric) -> Form {
    if matches!(metric, Metric::Latency | Metric::Cached) { Form::Lines } else { Form::Columns }
}

/// The links that change the metric.
fn metrics(query: &PageQuery, present: Metric, overview: &Overview) -> Markup {
    let costs: Vec<_> = match overview.currencies.as_slice() {
        [] => Vec::new(),
        [_] => vec![(Metric::Cost(None), "Cost".to_owned())],
        many => many.iter().map(|one| (Metric::Cost(Some(*one)), format!("Cost, {one}"))).collect(),
    };
    let others = [
        (Metric::Tokens, "Tokens"),
        (Metric::Requests, "Requests"),
        (Metric::Errors, "Errors"),
        (Metric::Latency, "Latency"),
        (Metric::Cached, "Cached"),
    ];
    let all = costs.into_iter().chain(others.map(|(metric, name)| (metric, name.to_owned())));
    let is_present = |metric: Metric| {
        metric == present
            || (currency(metric, overview).is_some()
                && currency(metric, overview) == currency(present, overview))
    };
    html! {
        nav.switch aria-label="Quantity" {
            @for (metric, name) in all {
                a href={ (query.link(|query| query.metric = Some(metric))) "#chart" } data-swap
                    aria-current=[is_present(metric).then_some("true")] { (name) }
            }
        }
    }
}

/// The links that change the split.
fn splits(query: &PageQuery, overview: &Overview) -> Markup {
    let tags = overview.tags.iter().map(|(name, _)| By::Tag(*name));
    let fields = SPLITS.into_iter().chain(tags).map(Some);
    html! {
        nav.splits aria-label="Split" {
            span { "by" }
            @for by in [None].into_iter().chain(fields) {
                a href={ (query.link(|query| query.split = by)) "#chart" } data-swap
                    aria-current=[(by == query.split).then_some("true")] {
                    (by.map_or_else(|| "none".to_owned(), |by| field_name(by).to_lowercase()))
                }
            }
        }
    }
}

/// A number of sums, for the chart.
fn value(metric: Metric, unit: Unit, sums: &Sums) -> Option<f64> {
    let whole = |number: Option<u64>| Some(number.unwrap_or_default() as f64);
    match (metric, unit) {
        (Metric::Cost(_), Unit::Money(currency)) => {
            Some(sums.cost.amount(currency).map_or(0.0, |amount| amount.to_f64()))
        }
        (Metric::Tokens, _) => whole(sums.total_tokens),
        (Metric::Requests, _) => whole(Some(sums.requests)),
        (Metric::Errors, _) => whole(Some(sums.failed)),
        (Metric::Cached, _) => cached_share(sums),
        _ => None,
    }
}

/// The estimated part of that number.
fn estimated(metric: Metric, unit: Unit, sums: &Sums) -> f64 {
    let Some(estimated) = sums.estimated.as_deref() else { return 0.0 };
    match (metric, unit) {
        (Metric::Cost(_), Unit::Money(currency)) => {
            estimated.cost.amount(currency).map_or(0.0, |amount| amount.to_f64())
        }
        (Metric::Tokens, _) => estimated.total_tokens.unwrap_or_default() as f64,
        _ => 0.0,
    }
}

/// The values of the period before, step by step from its beginning.
fn earlier(metric: Metric, before: &Overview, steps: usize, unit: Unit) -> Vec<f64> {
    let values = before.times.iter().map(|(_, sums)| value(metric, unit, sums).unwrap_or_default());
    values.take(steps).collect()
}

fn series(query: &PageQuery, metric: Metric, overview: &Overview, teams: &Teams) -> Vec<Series> {
    let unit = unit(metric, overview);
    let size = |sums: &Sums| match metric {
        Metric::Cached => sums.input_tokens.unwrap_or_default() as f64,
        _ => value(metric, unit, sums).unwrap_or_default(),
    };
    match (metric, query.split) {
        (Metric::Latency, _) => percentiles(overview),
        (_, Some(by)) => {
            let parts = split(by, overview, teams, &size);
            parts.into_iter().map(|part| of_part(query, by, metric, unit, part)).collect()
        }
        (Metric::Tokens, None) => vec![
            plain(
                "Input",
                "input",
                overview,
                |sums| Some(sums.input_tokens? as f64),
                |sums| sums.estimated().input_tokens.unwrap_or_default() as f64,
            ),
            plain(
                "Output",
                "output",
                overview,
                |sums| Some(sums.output_tokens? as f64),
                |sums| sums.estimated().output_tokens.unwrap_or_default() as f64,
            ),
        ],
        (Metric::Requests, None) => vec![
            plain("Succeeded", "plain", overview, |sums| Some((sums.requests - sums.failed) as f64), |_| 0.0),
            plain("Failed", "bad", overview, |sums| Some(sums.failed as f64), |_| 0.0),
        ],
        (Metric::Errors, None) => {
            vec![plain("Failed", "bad", overview, |sums| Some(sums.failed as f64), |_| 0.0)]
        }
        (metric, None) => vec![plain(
            title(metric),
            "total",
            overview,
            |sums| value(metric, unit, sums),
            |sums| estimated(metric, unit, sums),
        )],
    }
}

/// The series of one number.
fn plain(
    name: &str,
    class: &str,
    overview: &Overview,
    value: impl Fn(&Sums) -> Option<f64>,
    estimated: impl Fn(&Sums) -> f64,
) -> Series {
    Series {
        name: name.to_owned(),
        class: class.to_owned(),
        values: overview.times.iter().map(|(_, sums)| value(sums)).collect(),
        estimated: overview.times.iter().map(|(_, sums)| estimated(sums)).collect(),
        link: None,
        whole: None,
    }
}

fn of_part(query: &PageQuery, by: By, metric: Metric, unit: Unit, part: Split) -> Series {
    let Split { name, steps, place } = part;
    let mut whole = Sums::default();
    steps.iter().for_each(|sums| whole.add(sums));
    Series {
        class: place.map_or_else(|| "rest".to_owned(), |place| format!("s{}", place + 1)),
        values: steps.iter().map(|sums| value(metric, unit, sums)).collect(),
        estimated: steps.iter().map(|sums| estimated(metric, unit, sums)).collect(),
        link: name
            .as_ref()
            .ok()
            .and_then(Option::as_deref)
            .map(|name| query.link(|query| query.set(by, Some(name)))),
        name: match &name {
            Ok(Some(name)) => shown(name),
            Ok(None) => "not named".to_owned(),
            Err(others) => format!("{others} others"),
        },
        whole: value(metric, unit, &whole).map(|value| html! { (text(value, unit)) }),
    }
}

fn percentiles(overview: &Overview) -> Vec<Series> {
    let line = |name: &str, class: &str, value: fn(&Percentiles) -> f64| Series {
        name: name.to_owned(),
        class: class.to_owned(),
        values: overview.latencies.iter().map(|step| (step.rows > 0).then(|| value(step))).collect(),
        estimated: Vec::new(),
        link: None,
        whole: (overview.first_token.rows > 0).then(|| html! { (millis(value(&overview.first_token))) }),
    };
    vec![
        line("p99", "s3", |step| step.p99),
        line("p95", "s2", |step| step.p95),
        line("p50", "s1", |step| step.p50),
    ]
}

/// The number of streams by their time to the first token.
fn histogram(overview: &Overview) -> Markup {
    let bounds = Overview::CLASSES;
    let name = |class: usize| match (class.checked_sub(1).map(|below| bounds[below]), bounds.get(class)) {
        (None, Some(above)) => format!("below {}", millis(*above)),
        (Some(from), Some(above)) => format!("{} to {}", millis(from), millis(*above)),
        (Some(from), None) => format!("from {}", millis(from)),
        (None, None) => String::new(),
    };
    let step = |class: usize| Step {
        label: (class % 2 == 1).then(|| millis(bounds[class - 1]).replace(".00", "")),
        name: name(class),
        link: None,
        span: None,
        is_partial: false,
    };
    let steps: Vec<_> = (0..overview.histogram.len()).map(step).collect();
    let series = [Series {
        name: "Streams".to_owned(),
        class: "plain".to_owned(),
        values: overview.histogram.iter().map(|count| Some(*count as f64)).collect(),
        estimated: Vec::new(),
        link: None,
        whole: None,
    }];
    let plot = Plot {
        id: "histogram",
        title: "Streams by time to first token",
        unit: Unit::Count,
        form: Form::Columns,
        steps_are: "Time",
        steps: &steps,
        series: &series,
        before: None,
    };
    html! {
        h3 { "Streams by time to first token " span.per { (compact(overview.first_token.rows)) " streams" } }
        (plot.render())
    }
}

fn steps(query: &PageQuery, at: Timestamp, overview: &Overview, step: Duration) -> Vec<Step> {
    let (since, until) = query.range.bounds(at, &query.zone);
    let until = until.unwrap_or(at);
    let day = Duration::from_hours(24);
    let begins: Vec<_> = overview.times.iter().map(|(begin, _)| *begin).collect();
    let labels = labels(&begins, step, query);
    let whole = begins.iter().zip(labels).enumerate().map(|(index, (begin, label))| {
        let end = begins.get(index + 1).copied().or_else(|| begin.checked_add(step).ok()).unwrap_or(until);
        let (from, to) = ((*begin).max(since), end.min(until));
        let form = if step >= day { "%a %Y-%m-%d" } else { "%a %Y-%m-%d %H:%M" };
        let span = (minute(from, &query.zone), minute(to.max(from), &query.zone));
        let can_zoom = step > Duration::from_secs(60) && to > from;
        Step {
            label,
            name: begin.to_zoned(query.zone.clone()).strftime(form).to_string(),
            link: can_zoom.then(|| query.link(|query| query.range = Range::Custom(from, to))),
            span: Some(span),
            is_partial: *begin < since || end > until,
        }
    });
    whole.collect()
}

/// The labels of steps at whole units of time: full hours, midnights, Mondays.
fn labels(begins: &[Timestamp], step: Duration, query: &PageQuery) -> Vec<Option<String>> {
    const MINUTES: [i64; 10] = [5, 10, 15, 30, 60, 120, 180, 360, 720, 1440];
    const DAYS: [i64; 7] = [1, 2, 7, 14, 28, 84, 364];
    let day = Duration::from_hours(24);
    let zoned: Vec<_> = begins.iter().map(|begin| begin.to_zoned(query.zone.clone())).collect();
    let minutes = |place: usize| i64::from(zoned[place].hour()) * 60 + i64::from(zoned[place].minute());
    let is_midnight = |place: usize| zoned[place].time() == Time::midnight() || step >= day;
    // Days since a Monday.
    let civil_days = |place: usize| {
        let offset = i64::from(zoned[place].offset().seconds());
        (zoned[place].timestamp().as_second() + offset).div_euclid(86_400) - 4
    };
    let fits = |is_labelled: &dyn Fn(usize) -> bool| {
        (0..zoned.len()).filter(|place| is_labelled(*place)).count() <= MOST_LABELS
    };
    let by_minutes = |every: i64| move |place: usize| minutes(place) % every == 0;
    let by_days =
        |every: i64| move |place: usize| is_midnight(place) && civil_days(place).rem_euclid(every) == 0;
    let every_minutes = MINUTES.into_iter().filter(|_| step < day).find(|every| fits(&by_minutes(*every)));
    let every_days = DAYS.into_iter().find(|every| fits(&by_days(*every))).unwrap_or(DAYS[DAYS.len() - 1]);
    let label = |place: usize| {
        let is_labelled = match every_minutes {
            Some(every) => by_minutes(every)(place),
            None => by_days(every_days)(place),
        };
        let form = if is_midnight(place) { "%b %-d" } else { "%H:%M" };
        is_labelled.then(|| zoned[place].strftime(form).to_string())
    };
    (0..zoned.len()).map(label).collect()
}

/// The length of a step, in words.
fn per(step: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    let seconds = step.as_secs();
    let (unit, name) =
        UNITS.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
    match seconds / unit {
        1 => name.to_owned(),
        many => format!("{many} {name}s"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn step_is_named_by_its_length() {
        for (seconds, name) in
            [(60, "minute"), (300, "5 minutes"), (3600, "hour"), (10_800, "3 hours"), (604_800, "week")]
        {
            assert_eq!(per(Duration::from_secs(seconds)), name);
        }
    }

    #[test]
    fn axis_has_few_labels_at_whole_units() {
        let query = PageQuery::plain(&TimeZone::get("Europe/Berlin").unwrap());
        let first: Timestamp = "2026-10-18T22:00:00Z".parse().unwrap();
        for (step, count, wanted) in [
            (3600, 25, vec!["Oct 19", "06:00", "12:00", "18:00", "Oct 20"]),
            (86_400, 14, vec!["Oct 20", "Oct 22", "Oct 24", "Oct 26", "Oct 28", "Oct 30"]),
            (6 * 3600, 28, vec!["Oct 19", "Oct 20", "Oct 21", "Oct 22", "Oct 23", "Oct 24", "Oct 25"]),
            (300, 12, vec!["Oct 19", "00:10", "00:20", "00:30", "00:40", "00:50"]),
        ] {
            let begins: Vec<_> = (0..count).map(|index| first + Duration::from_secs(step * index)).collect();
            // Midnights of the zone, beyond the change of its clocks.
            let begins = match step {
                86_400 => crate::support::calendar::Period::Day.beginnings(first, begins[13], &query.zone),
                _ => begins,
            };
            let labels = labels(&begins, Duration::from_secs(step), &query);
            let found: Vec<_> = labels.into_iter().flatten().collect();
            assert_eq!(found[..wanted.len().min(found.len())], wanted, "{step}");
            assert!(found.len() <= MOST_LABELS, "{step}");
        }
    }
}

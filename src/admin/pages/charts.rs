//! Columns over time, as SVG in the width of its container: horizontal lengths are in percent,
//! vertical ones in pixels, so that text keeps its size.

use maud::{Markup, html};

use super::numbers::{compact, grouped};

/// The height of the columns in pixels, and the space above for the top label.
const HEIGHT: f64 = 150.0;
const ABOVE: f64 = 16.0;

/// The space below for the times.
const BELOW: f64 = 22.0;

/// The fraction of its step that a column fills.
const FILL: f64 = 0.72;

pub(super) struct Step {
    /// The column's beginning, as on the axis.
    pub(super) short: String,
    /// The column's beginning, as in the table.
    pub(super) long: String,
    /// The values of the parts, from the bottom up.
    pub(super) values: Vec<u64>,
    /// The estimated part of each value, whose area is hatched.
    pub(super) estimated: Vec<u64>,
}

pub(super) struct Columns<'a> {
    /// The prefix of its ids.
    pub(super) id: &'a str,
    /// The title.
    pub(super) title: &'a str,
    /// The names of the parts, and their classes in the style sheet.
    pub(super) parts: &'a [(&'a str, &'a str)],
    /// The unit of a column.
    pub(super) per: &'a str,
    /// The name of the time zone.
    pub(super) zone: &'a str,
    pub(super) steps: &'a [Step],
}

/// Renders the chart, with its numbers in a table to unfold.
pub(super) fn columns(chart: &Columns<'_>) -> Markup {
    let Columns { id, title, parts, per, steps, .. } = chart;
    let totals: Vec<u64> = steps.iter().map(|step| step.values.iter().sum()).collect();
    let (sum, most) = (totals.iter().sum::<u64>(), totals.iter().copied().max().unwrap_or_default());
    let top = nice(most);
    let width = 100.0 / steps.len().max(1) as f64;
    let height = |value: u64| value as f64 / top as f64 * HEIGHT;
    let floor = ABOVE + HEIGHT;
    let has_estimates = steps.iter().any(|step| step.estimated.iter().any(|part| *part > 0));
    html! {
        figure.card.chart #(id) aria-labelledby={ (id) "-title" } {
            div.card-head {
                h2 #{ (id) "-title" } { (title) " " span.per { "per " (per) } }
                @if parts.len() > 1 { (legend(parts)) }
                @if has_estimates { span.per { "hatched: estimated" } }
            }
            div.plot {
            svg.columns role="img" width="100%" height=(floor + BELOW)
                aria-label={ (title) ", per " (per) ": " (grouped(sum)) " in all, at most " (grouped(most)) ". The table below has the numbers." } {
                @if has_estimates { (hatch(id)) }
                @for (share, label) in [(0.0, true), (0.5, top > 1), (1.0, true)] {
                    @let y = floor - share * HEIGHT;
                    line.rule x1="0" x2="100%" y1=(px(y)) y2=(px(y)) {}
                    @if label && share > 0.0 {
                        text.axis x="-8" y=(px(y + 4.0)) text-anchor="end" { (compact((top as f64 * share) as u64)) }
                    }
                }
                @for (index, step) in steps.iter().enumerate() {
                    @let left = index as f64 * width;
                    g.column {
                        title { (step.long) ": " (describe(parts, step)) }
                        rect.hit x=(pc(left)) width=(pc(width)) y="0" height=(px(floor)) {}
                        @for (place, ((_, class), (from, to))) in parts.iter().zip(spans(&step.values)).enumerate() {
                            @if to > from {
                                // A positive value is visible, however small.
                                @let tall = (height(to) - height(from)).max(1.0);
                                rect class=(class) x=(pc(left + width * (1.0 - FILL) / 2.0)) width=(pc(width * FILL))
                                    y=(px(floor - height(from) - tall)) height=(px(tall)) {}
                                @let estimated = step.estimated.get(place).copied().unwrap_or_default().min(to - from);
                                @if estimated > 0 {
                                    rect fill={ "url(#" (id) "-hatch)" } x=(pc(left + width * (1.0 - FILL) / 2.0)) width=(pc(width * FILL))
                                        y=(px(floor - height(from) - tall)) height=(px(height(estimated).max(1.0))) {}
                                }
                            }
                        }
                    }
                }
                @for (place, index) in ticks(steps.len()).into_iter().enumerate() {
                    @let middle = (index as f64 + 0.5) * width;
                    text.axis.minor[place % 2 == 1] x=(pc(middle)) y=(px(floor + 16.0))
                        text-anchor=(anchor(middle)) { (steps[index].short) }
                }
            }
            }
            (table(chart, &totals))
        }
    }
}

/// The pattern over estimated parts. Each chart has its own, as ids are unique in the page.
fn hatch(id: &str) -> Markup {
    html! {
        defs {
            pattern id={ (id) "-hatch" } width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect.hatch width="3" height="6" {}
            }
        }
    }
}

/// The legend.
pub(super) fn legend(parts: &[(&str, &str)]) -> Markup {
    html! {
        ul.legend {
            @for (name, class) in parts {
                li { svg.swatch width="10" height="10" aria-hidden="true" focusable="false" {
                    rect class=(class) width="10" height="10" rx="2" {}
                } (name) }
            }
        }
    }
}

fn table(chart: &Columns<'_>, totals: &[u64]) -> Markup {
    let Columns { id, title, parts, steps, zone, .. } = chart;
    html! {
        details.numbers #{ (id) "-numbers" } {
            summary { "Numbers" }
            div.scroll role="group" aria-label={ (title) ": table" } {
                table {
                    thead { tr {
                        th scope="col" { "From (" (zone) ")" }
                        @for (name, _) in *parts { th.number scope="col" { (name) } }
                        @if parts.len() > 1 { th.number scope="col" { "Sum" } }
                    } }
                    tbody {
                        // The latest first, without empty steps.
                        @for (step, total) in steps.iter().zip(totals).rev().filter(|(_, total)| **total > 0) {
                            tr {
                                th scope="row" { (step.long) }
                                @for value in &step.values { td.number { (grouped(*value)) } }
                                @if parts.len() > 1 { td.number { (grouped(*total)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A bar of parts beside a table with its numbers, so screen readers skip it.
pub(super) fn bar(parts: &[(&str, u64)], whole: u64) -> Markup {
    let share = |value: u64| if whole == 0 { 0.0 } else { value as f64 / whole as f64 * 100.0 };
    let values: Vec<u64> = parts.iter().map(|(_, value)| *value).collect();
    html! {
        svg.bar width="100%" height="10" aria-hidden="true" focusable="false" {
            rect.track width="100%" height="10" rx="3" {}
            @for ((class, _), (from, to)) in parts.iter().zip(spans(&values)) {
                @if to > from {
                    rect class=(class) x=(pc(share(from))) width=(pc((share(to) - share(from)).max(0.4))) height="10" rx="2" {}
                }
            }
        }
    }
}

/// Start and end of each stacked value.
fn spans(values: &[u64]) -> impl Iterator<Item = (u64, u64)> + '_ {
    values.iter().scan(0_u64, |top, value| {
        let from = *top;
        *top = from.saturating_add(*value);
        Some((from, *top))
    })
}

fn describe(parts: &[(&str, &str)], step: &Step) -> String {
    let told = parts.iter().zip(&step.values).enumerate().map(|(place, ((name, _), value))| {
        let estimated = match step.estimated.get(place) {
            Some(1..) => format!(" ({} estimated)", grouped(step.estimated[place])),
            _ => String::new(),
        };
        format!("{} {}{estimated}", grouped(*value), name.to_lowercase())
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The smallest of 1, 2, 4, 6, 8 or 10 times a power of ten that is not less than `most`, so that
/// its half is round too.
fn nice(most: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 4, 6, 8] {
            match power.checked_mul(step) {
                Some(top) if top >= most => return top,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The labelled steps of the axis: five at most.
fn ticks(steps: usize) -> Vec<usize> {
    match steps {
        0 => Vec::new(),
        1..=5 => (0..steps).collect(),
        _ => (0..5).map(|tick| tick * (steps - 1) / 4).collect(),
    }
}

/// A label near an end of the axis stays inside.
fn anchor(middle: f64) -> &'static str {
    match middle {
        ..8.0 => "start",
        ..92.0 => "middle",
        _ => "end",
    }
}

fn pc(value: f64) -> String {
    format!("{value:.3}%")
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_at_a_round_number() {
        for (most, top) in [(0, 1), (1, 1), (3, 4), (41, 60), (60, 60), (81, 100), (1_999_999, 2_000_000)] {
            assert_eq!(nice(most), top, "{most}");
        }
        assert!(nice(u64::MAX) >= u64::MAX / 2);
    }

    #[test]
    fn axis_labels_its_ends_and_at_most_five_steps() {
        for steps in 0..100 {
            let ticks = ticks(steps);
            assert!(ticks.len() <= 5 && ticks.is_sorted_by(|a, b| a < b));
            assert_eq!(ticks.first().copied(), (steps > 0).then_some(0));
            assert_eq!(ticks.last().copied(), steps.checked_sub(1));
        }
    }

    #[test]
    fn columns_stack_up_to_the_top() {
        let steps: Vec<_> = [[0, 0], [30, 10], [0, 1]]
            .into_iter()
            .map(|values| Step {
                short: "s".into(),
                long: "<l>".into(),
                values: values.to_vec(),
                estimated: vec![values[0] / 2],
            })
            .collect();
        let chart = Columns {
            id: "x",
            title: "Tokens",
            parts: &[("In", "in"), ("Out", "out")],
            per: "hour",
            zone: "UTC",
            steps: &steps,
        };
        let text = columns(&chart).into_string();
        assert!(text.contains(r#"class="in" x="38.000%" width="24.000%" y="53.5" height="112.5""#), "{text}");
        assert!(text.contains(r#"class="out" x="38.000%" width="24.000%" y="16.0" height="37.5""#), "{text}");
        assert_eq!(text.matches("class=\"in\" x").count(), 1, "nothing is drawn of nothing");
        assert!(text.contains("&lt;l&gt;: 30 in (15 estimated), 10 out"), "{text}");
        let hatched = r##"fill="url(#x-hatch)" x="38.000%" width="24.000%" y="53.5" height="56.2""##;
        assert!(text.contains(hatched) && text.contains("hatched: estimated"), "{text}");
    }

    #[test]
    fn empty_bar_has_no_parts() {
        assert!(!bar(&[("in", 0)], 0).into_string().contains("class=\"in\""));
    }
}

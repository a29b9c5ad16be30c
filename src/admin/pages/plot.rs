//! A chart over time, as SVG in the width of its container: horizontal lengths are in percent,
//! vertical ones in pixels, so that text keeps its size. Each step is a link over the picture,
//! which shows its numbers when it is pointed at or focused.

use maud::{Markup, html};

use super::scale::{Scale, Unit, text, tick};

/// The height of the plot in pixels, and the space above for the highest label.
const HEIGHT: f64 = 220.0;
const ABOVE: f64 = 10.0;

/// The space below for the times.
const BELOW: f64 = 22.0;

/// The fraction of its step that a column fills.
const FILL: f64 = 0.74;

/// The width of the coordinates of lines, which are stretched to that of the container.
const WIDTH: f64 = 1000.0;

/// The form of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Values on top of each other.
    Columns,
    Lines,
}

pub(super) struct Step {
    /// The label on the axis, if the step has one.
    pub(super) label: Option<String>,
    /// The name in the table and above the numbers.
    pub(super) name: String,
    /// The page of this step alone.
    pub(super) link: Option<String>,
    /// The times that the step contains, for a selection by dragging.
    pub(super) span: Option<(String, String)>,
    /// The selected time has a part of the step only.
    pub(super) is_partial: bool,
}

pub(super) struct Series {
    pub(super) name: String,
    /// The class in the style sheet.
    pub(super) class: String,
    /// The values of the steps. `None`: unknown.
    pub(super) values: Vec<Option<f64>>,
    /// The estimated part of each value, whose area is hatched. May be empty.
    pub(super) estimated: Vec<f64>,
    /// The page of this series alone.
    pub(super) link: Option<String>,
    /// The sum, or another number that describes the whole.
    pub(super) whole: Option<Markup>,
}

pub(super) struct Plot<'a> {
    /// The prefix of its ids.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) unit: Unit,
    pub(super) form: Form,
    /// The name of the first column of the table.
    pub(super) steps_are: &'a str,
    pub(super) steps: &'a [Step],
    pub(super) series: &'a [Series],
    /// The values of the period before: those of all series together.
    pub(super) before: Option<&'a [f64]>,
}

impl Plot<'_> {
    /// The sum of a step.
    fn sum(&self, step: usize) -> f64 {
        self.series.iter().filter_map(|series| series.values.get(step).copied().flatten()).sum()
    }

    fn most(&self) -> f64 {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let most = match self.form {
            Form::Lines => values.fold(0.0, f64::max),
            Form::Columns => (0..self.steps.len()).map(|step| self.sum(step)).fold(0.0, f64::max),
        };
        self.before.into_iter().flatten().copied().fold(most, f64::max)
    }

    /// The picture, its legend, and its numbers in a table to unfold.
    pub(super) fn render(&self) -> Markup {
        let scale = Scale::of(self.most(), self.unit);
        html! {
            div.plot {
                (self.picture(&scale))
                @if self.steps.iter().any(|step| step.link.is_some()) { (self.hits()) }
            }
            (self.legend())
            (self.table())
        }
    }

    fn picture(&self, scale: &Scale) -> Markup {
        let floor = ABOVE + HEIGHT;
        let height = |value: f64| value / scale.top * HEIGHT;
        let width = 100.0 / self.steps.len().max(1) as f64;
        html! {
            svg.columns role="img" width="100%" height=(floor + BELOW)
                aria-label={ (self.title) ": at most " (text(self.most(), self.unit)) ". The table below has the numbers." } {
                @if self.has_estimates() { (hatch(self.id)) }
                line.zero x1="0" x2="100%" y1=(px(floor)) y2=(px(floor)) {}
                @for value in &scale.ticks {
                    @let y = floor - height(*value);
                    line.rule x1="0" x2="100%" y1=(px(y)) y2=(px(y)) {}
                    text.axis x="-8" y=(px(y + 4.0)) text-anchor="end" { (tick(*value, self.unit, scale)) }
                }
                text.axis x="-8" y=(px(floor + 4.0)) text-anchor="end" { "0" }
                @if self.form == Form::Columns {
                    @for index in 0..self.steps.len() { (self.column(index, index as f64 * width, width, &height)) }
                }
                svg.lines y=(px(ABOVE)) width="100%" height=(px(HEIGHT)) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) }
                    preserveAspectRatio="none" {
                    @if self.form == Form::Lines {
                        @for series in self.series {
                            path.line.(series.class) d=(path(&series.values, &height)) {}
                        }
                    }
                    @if let Some(before) = self.before {
                        @let values: Vec<_> = before.iter().copied().map(Some).collect();
                        path.line.before d=(path(&values, &height)) {}
                    }
                }
                @for (place, (index, label)) in self.labels().enumerate() {
                    @let middle = (index as f64 + 0.5) * width;
                    text.axis.minor[place % 2 == 1] x=(pc(middle)) y=(px(floor + 16.0)) text-anchor=(anchor(middle)) { (label) }
                }
            }
        }
    }

    fn labels(&self) -> impl Iterator<Item = (usize, &str)> {
        self.steps.iter().enumerate().filter_map(|(index, step)| Some((index, step.label.as_deref()?)))
    }

    fn column(&self, index: usize, left: f64, width: f64, height: &impl Fn(f64) -> f64) -> Markup {
        let floor = ABOVE + HEIGHT;
        let (x, wide) = (pc(left + width * (1.0 - FILL) / 2.0), pc(width * FILL));
        let parts = self.series.iter().scan(0.0, |top, series| {
            let value = series.values.get(index).copied().flatten().unwrap_or_default();
            let from = std::mem::replace(top, *top + value);
            let estimated = series.estimated.get(index).copied().unwrap_or_default();
            Some((&series.class, from, value, estimated.min(value)))
        });
        html! {
            g.column.partial[self.steps[index].is_partial] {
                @for (class, from, value, estimated) in parts.filter(|(_, _, value, _)| *value > 0.0) {
                    // A positive value is visible, however small.
                    @let tall = height(value).max(1.0);
                    @let y = px(floor - height(from) - tall);
                    rect class=(class) x=(x) width=(wide) y=(y) height=(px(tall)) {}
                    @if estimated > 0.0 {
                        rect fill={ "url(#" (self.id) "-hatch)" } x=(x) width=(wide) y=(y) height=(px(height(estimated).max(1.0))) {}
                    }
                }
            }
        }
    }

    /// The links over the steps, in whose order a script moves the focus.
    fn hits(&self) -> Markup {
        let half = self.steps.len() / 2;
        html! {
            div.hits {
                @for (index, step) in self.steps.iter().enumerate() {
                    a.hit.right[index >= half] href=[step.link.as_deref()]
                        data-since=[step.span.as_ref().map(|(since, _)| since)]
                        data-until=[step.span.as_ref().map(|(_, until)| until)] {
                        span.tip { (self.tip(index)) }
                    }
                }
            }
        }
    }

    fn tip(&self, index: usize) -> Markup {
        let shown =
            |series: &&Series| series.values.get(index).copied().flatten().is_some_and(|value| value != 0.0);
        let shown: Vec<_> = self.series.iter().filter(shown).collect();
        html! {
            span.tip-head { (self.steps[index].name) @if self.steps[index].is_partial { " (in part)" } }
            @if shown.is_empty() { span.tip-line { "nothing" } }
            @for series in &shown {
                span.tip-line {
                    (swatch(&series.class)) span.tip-name { (series.name) " " }
                    b { (text(series.values[index].unwrap_or_default(), self.unit)) }
                    @let estimated = series.estimated.get(index).copied().unwrap_or_default();
                    @if estimated > 0.0 { " (~" (text(estimated, self.unit)) " estimated)" }
                }
            }
            @if shown.len() > 1 && self.form == Form::Columns {
                span.tip-line { span.tip-name { "Sum " } b { (text(self.sum(index), self.unit)) } }
            }
            @if let Some(before) = self.before.and_then(|before| before.get(index)) {
                span.tip-line { span.tip-name { "Period before " } b { (text(*before, self.unit)) } }
            }
        }
    }

    fn has_estimates(&self) -> bool {
        self.series.iter().any(|series| series.estimated.iter().any(|part| *part > 0.0))
    }

    /// Returns true if the series have names, also if there is only one.
    fn is_split(&self) -> bool {
        self.series.len() > 1 || self.series.iter().any(|series| series.link.is_some())
    }

    fn legend(&self) -> Markup {
        html! {
            @if self.is_split() || self.before.is_some() || self.has_estimates() {
                ul.legend {
                    @for series in self.series {
                        li {
                            (swatch(&series.class))
                            @match &series.link {
                                Some(link) => a href=(link) { bdi { (series.name) } },
                                None => bdi { (series.name) },
                            }
                            @if let Some(whole) = &series.whole { " " b { (whole) } }
                        }
                    }
                    @if self.before.is_some() { li { span.dashes aria-hidden="true" {} "period before" } }
                    @if self.has_estimates() { li { "hatched: estimated" } }
                }
            }
        }
    }

    fn table(&self) -> Markup {
        let Self { id, title, steps, series, .. } = self;
        let has_sum = series.len() > 1 && self.form == Form::Columns;
        let is_shown = |index: &usize| {
            series
                .iter()
                .any(|series| series.values.get(*index).copied().flatten().is_some_and(|value| value != 0.0))
        };
        html! {
            details.numbers #{ (id) "-numbers" } {
                summary { "Numbers" }
                div.scroll role="group" aria-label={ (title) ": table" } {
                    table {
                        thead { tr {
                            th scope="col" { (self.steps_are) }
                            @for series in *series { th.number scope="col" { bdi { (series.name) } } }
                            @if has_sum { th.number scope="col" { "Sum" } }
                        } }
                        tbody {
                            // The latest first, without empty steps.
                            @for index in (0..steps.len()).rev().filter(is_shown) {
                                tr {
                                    th scope="row" { (steps[index].name) }
                                    @for series in *series {
                                        td.number { (series.values.get(index).copied().flatten().map_or_else(|| "–".to_owned(), |value| text(value, self.unit))) }
                                    }
                                    @if has_sum { td.number { (text(self.sum(index), self.unit)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A bar of a part of the whole, beside its number, so screen readers skip it.
pub(super) fn share_bar(part: u64, whole: u64) -> Markup {
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    html! {
        svg.bar width="100%" height="8" aria-hidden="true" focusable="false" {
            rect.track width="100%" height="8" rx="3" {}
            @if part > 0 { rect.total width=(pc(share.clamp(0.4, 100.0))) height="8" rx="3" {} }
        }
    }
}

/// The path of a line, with gaps where no value is known. A value between two gaps is a dot.
fn path(values: &[Option<f64>], height: &impl Fn(f64) -> f64) -> String {
    let width = WIDTH / values.len().max(1) as f64;
    let mut path = String::new();
    let mut is_open = false;
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_open = false;
            continue;
        };
        let (x, y) = ((index as f64 + 0.5) * width, HEIGHT - height(*value));
        let point = if is_open { format!("L{x:.1} {y:.1}") } else { format!("M{x:.1} {y:.1}h0") };
        path.push_str(&point);
        is_open = true;
    }
    path
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

fn swatch(class: &str) -> Markup {
    html! {
        svg.swatch width="10" height="10" aria-hidden="true" focusable="false" {
            rect class=(class) width="10" height="10" rx="2" {}
        }
    }
}

/// A label near an end of the axis stays inside.
fn anchor(middle: f64) -> &'static str {
    match middle {
        ..4.0 => "start",
        ..96.0 => "middle",
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

    fn step(name: &str) -> Step {
        let link = Some("./?range=custom".to_owned());
        Step { label: None, name: name.to_owned(), link, span: None, is_partial: name == "last" }
    }

    fn series(name: &str, values: [f64; 3]) -> Series {
        Series {
            name: name.to_owned(),
            class: "s1".to_owned(),
            values: values.into_iter().map(|value| (value > 0.0).then_some(value)).collect(),
            estimated: values.map(|value| value / 2.0).to_vec(),
            link: None,
            whole: None,
        }
    }

    #[test]
    fn columns_stack_up_to_the_top() {
        let steps = [step("first"), step("<b>"), step("last")];
        let series = [series("In", [0.0, 30.0, 0.0]), series("Out", [0.0, 10.0, 1.0])];
        let plot = Plot {
            id: "x",
            title: "Tokens",
            unit: Unit::Count,
            form: Form::Columns,
            steps_are: "From",
            steps: &steps,
            series: &series,
            before: None,
        };
        let text = plot.render().into_string();
        assert!(text.contains(r#"class="s1" x="37.667%" width="24.667%" y="65.0" height="165.0""#), "{text}");
        assert!(text.contains(r#"class="s1" x="37.667%" width="24.667%" y="10.0" height="55.0""#), "{text}");
        assert_eq!(text.matches("class=\"s1\" x").count(), 3, "nothing is drawn of nothing");
        assert!(text.contains("column partial") && text.contains("last (in part)"), "{text}");
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b><"), "{text}");
        assert!(text.contains("~15 estimated") && text.contains("url(#x-hatch)"), "{text}");
    }

    #[test]
    fn line_has_gaps_and_dots() {
        let values = [Some(1.0), Some(2.0), None, Some(1.0)];
        let drawn = path(&values, &|value| value * 100.0);
        assert_eq!(drawn, "M125.0 120.0h0L375.0 20.0M875.0 120.0h0");
    }
}

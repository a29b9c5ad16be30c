//! The ratios as a picture: a bar for each peer and workload, and a line for equal costs.

use std::fmt::Write as _;

use super::page::is_in_picture;
use super::report::Figures;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 300.0;
/// The position of a ratio of 1; the right edge is a ratio of 2.
const ONE: f64 = LABELS + (WIDTH - LABELS - 60.0) / 2.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;
/// The colours of nginx, HAProxy, Envoy and Caddy, distinguishable in grey as well.
const COLOURS: [&str; 4] = ["#2f7d5b", "#3465a4", "#c17d11", "#75507b"];

/// An SVG that is legible on white and on black.
pub(crate) fn draw(figures: &Figures) -> String {
    let names = figures.peers.iter().skip(1).map(|(name, _)| name.as_str());
    let peers: Vec<_> = names.filter(|name| is_in_picture(name)).collect();
    let mut y = 64.0;
    let mut rows = String::new();
    for workload in figures.workloads() {
        let top = y;
        for (place, peer) in peers.iter().enumerate() {
            let Some(ratio) = figures.ratio(workload, &figures.peers[0].0, peer) else { continue };
            let at = |ratio: f64| LABELS + (ONE - LABELS) * ratio.min(2.0);
            let (middle, colour) = (y + BAR / 2.0, COLOURS[place % COLOURS.len()]);
            writeln!(
                rows,
                r#"<rect x="{LABELS}" y="{y}" width="{:.1}" height="{BAR}" fill="{colour}"/>
<line x1="{:.1}" x2="{:.1}" y1="{middle}" y2="{middle}" stroke="currentColor"/>
<text x="{:.1}" y="{:.1}">{:.2}</text>"#,
                at(ratio.median) - LABELS,
                at(ratio.least),
                at(ratio.most),
                at(ratio.most.max(ratio.median)) + 5.0,
                y + BAR - 2.0,
                ratio.median
            )
            .unwrap();
            y += BAR + 2.0;
        }
        let label = top + (y - top) / 2.0 + 2.0;
        writeln!(
            rows,
            r#"<text x="{}" y="{label:.1}" text-anchor="end">{}</text>"#,
            LABELS - 8.0,
            workload.what
        )
        .unwrap();
        y += GAP;
    }
    let mut key = String::new();
    for (place, peer) in peers.iter().enumerate() {
        let x = LABELS + 110.0 * place as f64;
        let colour = COLOURS[place % COLOURS.len()];
        writeln!(key, r#"<rect x="{x}" y="34" width="{BAR}" height="{BAR}" fill="{colour}"/><text x="{}" y="45">÷ {peer}</text>"#, x + 18.0)
            .unwrap();
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {:.0}" font-family="sans-serif" font-size="12" role="img" aria-label="Cost of streamgauge over the cost of other proxies">
<style>svg{{color:#222;background:#fff}}text{{fill:currentColor}}@media(prefers-color-scheme:dark){{svg{{color:#ddd;background:#111}}}}</style>
<text x="8" y="20" font-size="14">Cost of streamgauge ÷ cost of the other proxy. Left of the line streamgauge costs less; thin lines are the range of the rounds.</text>
{key}{rows}<line x1="{ONE}" x2="{ONE}" y1="54" y2="{:.0}" stroke="currentColor" stroke-dasharray="4 3"/>
</svg>
"##,
        y + 4.0,
        y - 4.0
    )
}

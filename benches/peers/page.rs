//! The summary for `docs/performance.md`: ratios, latencies, and the workloads in which streamgauge
//! costs more.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::proxies::{GROUP, LITELLM, NGINX, NGINX_LOG, NO_LEDGER};
use super::report::{Figures, Spread, short};
use super::workloads::Workload;

const BEGIN: &str = "<!-- figures of benches/peers -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// The mark of a page with the main figures only.
const MAIN: &str = "<!-- main figures of benches/peers -->\n";

/// The workloads and the peers of the main figures.
const MAIN_WORKLOADS: [&str; 3] = ["requests", "streams", "burst"];
const MAIN_PEERS: [&str; 4] = ["nginx", "HAProxy", "Envoy", "Caddy"];

/// Puts the summary, or the main figures, between the marks of the page.
///
/// # Panics
/// The file has no marks.
pub(crate) fn write(path: &Path, figures: &Figures) {
    let page = fs::read_to_string(path).unwrap();
    let summary = || {
        let parts = [costs(figures), latencies(figures), dearer(figures), figures.conditions()];
        parts.join("\n")
    };
    let (begin, text) = if page.contains(MAIN) { (MAIN, main_costs(figures)) } else { (BEGIN, summary()) };
    let (before, rest) = page.split_once(begin).expect("the page has no mark where the figures begin");
    let (_, after) = rest.split_once(END).expect("the page has no mark where the figures end");
    fs::write(path, format!("{before}{begin}\n{text}\n{END}{after}")).unwrap();
}

/// A column of ratios: its title, the peer whose cost it is, and the peer to which it is compared.
fn columns(figures: &Figures) -> Vec<(String, &str, &str)> {
    let ours = figures.peers[0].0.as_str();
    let has = |name: &str| figures.peers.iter().any(|(peer, _)| peer == name);
    let mut columns = Vec::new();
    let others = figures.peers.iter().skip(1).filter(|(peer, _)| ![NO_LEDGER, GROUP].contains(&&**peer));
    for (peer, _) in others {
        columns.push((format!("÷ {peer}"), ours, peer.as_str()));
        if peer == NGINX && has(NO_LEDGER) {
            columns.push((format!("{NO_LEDGER} ÷ {NGINX}"), NO_LEDGER, NGINX));
        }
    }
    if has(GROUP) {
        columns.push((format!("{GROUP} ÷ without"), GROUP, ours));
    }
    columns
}

/// The ratios of CPU time, a line for each workload.
pub(crate) fn costs(figures: &Figures) -> String {
    table("workload", figures, figures.workloads(), &columns(figures))
}

/// The same of the main workloads and peers.
fn main_costs(figures: &Figures) -> String {
    let mut columns = columns(figures);
    columns.retain(|(title, _, theirs)| title.starts_with('÷') && MAIN_PEERS.contains(theirs));
    let workloads = figures.workloads().filter(|workload| MAIN_WORKLOADS.contains(&workload.name));
    table("CPU of the proxy", figures, workloads, &columns)
}

fn table(
    title: &str,
    figures: &Figures,
    workloads: impl Iterator<Item = &'static Workload>,
    columns: &[(String, &str, &str)],
) -> String {
    let mut text = format!("| {title} | {} |", figures.peers[0].0);
    columns.iter().for_each(|(title, ..)| text += &format!(" {title} |"));
    text += &format!("\n|---|---|{}\n", "---|".repeat(columns.len()));
    for workload in workloads {
        let cost = figures.cost(workload, &figures.peers[0].0).unwrap_or_default();
        write!(text, "| {} | {cost} |", workload.what).unwrap();
        for (_, ours, theirs) in columns {
            let ratio = figures.ratio(workload, ours, theirs).map(|ratio| bold_if_less(ratio.median));
            write!(text, " {} |", ratio.unwrap_or_default()).unwrap();
        }
        text.push('\n');
    }
    text
}

/// The 99th percentiles, a line for each workload that has some.
pub(crate) fn latencies(figures: &Figures) -> String {
    let peers: Vec<_> = figures.peers.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = format!("| p99 of latency, µs | {} |\n|---|", peers.join(" | "));
    text += &format!("{}\n", "---|".repeat(peers.len()));
    for workload in figures.workloads() {
        let p99 = |peer: &&str| {
            let values = figures.of(workload, peer)?.values().filter_map(|m| Some(m.latency?[1]));
            Spread::of(values.collect()).map(|spread| short(spread.median))
        };
        let p99: Vec<_> = peers.iter().map(|peer| p99(peer).unwrap_or_default()).collect();
        if p99.iter().any(|value| !value.is_empty()) {
            writeln!(text, "| {} | {} |", workload.what, p99.join(" | ")).unwrap();
        }
    }
    text
}

/// The workloads that cost more than with a peer.
fn dearer(figures: &Figures) -> String {
    let line = |workload: &'static Workload| {
        let more = columns(figures).into_iter().filter_map(|(title, ours, theirs)| {
            let Spread { median, least, most } = figures.ratio(workload, ours, theirs)?;
            let title = title.trim_start_matches("÷ ");
            (median > 1.0).then(|| format!("{title} {median:.2} ({least:.2} to {most:.2})"))
        });
        let more: Vec<_> = more.collect();
        (!more.is_empty()).then(|| format!("* {}: {}\n", workload.what, more.join(", ")))
    };
    let lines: String = figures.workloads().filter_map(line).collect();
    if lines.is_empty() {
        return "No workload costs more than with a peer.\n".to_owned();
    }
    format!("Dearer than a peer, with the range of the rounds:\n\n{lines}")
}

/// The peers of the picture: those that do every kind of work without a log.
pub(crate) fn is_in_picture(peer: &str) -> bool {
    ![NO_LEDGER, GROUP, NGINX_LOG, LITELLM].contains(&peer)
}

fn bold_if_less(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 0.1 => format!("**{ratio:.4}**"),
        ratio if ratio < 1.0 => format!("**{ratio:.2}**"),
        ratio => format!("{ratio:.2}"),
    }
}

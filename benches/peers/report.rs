//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::proxies::Peer;
use super::workloads::{Measured, Start, Unit, WORKLOADS, Workload};

/// What stands in the place of a proxy's name where there was none.
pub(crate) const DIRECT: &str = "no proxy";

/// All rounds of all.
pub(crate) struct Figures {
    /// Name and version, streamgauge first.
    pub(crate) peers: Vec<(String, String)>,
    rounds: usize,
    seconds: f64,
    /// By workload and peer, in the order of rounds.
    measured: BTreeMap<(&'static str, String), Vec<Measured>>,
    pub(crate) start: Option<Start>,
}

/// The middle of the rounds, and their range.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, least: values[0], most: values[values.len() - 1] }
    }
}

impl Figures {
    pub(crate) fn new(peers: &[Peer], rounds: usize, seconds: f64) -> Self {
        let peers = peers.iter().map(|peer| (peer.name().to_owned(), peer.version())).collect();
        Self { peers, rounds, seconds, measured: BTreeMap::new(), start: None }
    }

    pub(crate) fn add(&mut self, workload: &Workload, peer: &str, measured: Measured) {
        self.measured.entry((workload.name, peer.to_owned())).or_default().push(measured);
    }

    /// The workloads that were measured.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        WORKLOADS.iter().filter(|workload| self.of(workload, &self.peers[0].0).is_some())
    }

    fn of(&self, workload: &Workload, peer: &str) -> Option<&Vec<Measured>> {
        self.measured.get(&(workload.name, peer.to_owned()))
    }

    /// A figure of one peer over the rounds.
    pub(crate) fn spread(
        &self,
        workload: &Workload,
        peer: &str,
        figure: impl Fn(&Measured) -> f64,
    ) -> Option<Spread> {
        Some(Spread::of(self.of(workload, peer)?.iter().map(figure).collect()))
    }

    /// streamgauge's cost over the peer's, round by round.
    pub(crate) fn ratio(&self, workload: &Workload, peer: &str) -> Option<Spread> {
        let (ours, theirs) = (self.of(workload, &self.peers[0].0)?, self.of(workload, peer)?);
        Some(Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours.cost / theirs.cost).collect()))
    }

    /// For people in a hurry: a line for each workload.
    fn summary(&self) -> String {
        let ours = &self.peers[0].0;
        let mut text = format!("| workload | {ours} |");
        let others = || self.peers.iter().skip(1).map(|(name, _)| name);
        others().for_each(|peer| text += &format!(" ÷ {peer} |"));
        text += " p99 of latency: ours";
        others().for_each(|peer| text += &format!(" / {peer}"));
        text += " |\n|---|---|";
        others().for_each(|_| text += "---|");
        text += "---|\n";
        for workload in self.workloads() {
            text += &format!("| {} | {} |", workload.what, self.cost(workload, ours).unwrap_or_default());
            for peer in others() {
                let ratio = self.ratio(workload, peer).map(|ratio| bold_if_less(ratio.median));
                text += &format!(" {} |", ratio.unwrap_or_default());
            }
            let p99 = |(peer, _): &(String, String)| {
                let rounds = self.of(workload, peer)?;
                let values: Vec<_> = rounds.iter().filter_map(|m| Some(m.latency?[1])).collect();
                (!values.is_empty()).then(|| short(Spread::of(values).median))
            };
            let p99: Vec<_> =
                self.peers.iter().map(|peer| p99(peer).unwrap_or_else(|| "–".to_owned())).collect();
            let p99 = if p99[0] == "–" { String::new() } else { p99.join(" / ") + " µs" };
            text += &format!(" {p99} |\n");
        }
        text
    }

    /// What a peer's cost is, in words.
    fn cost(&self, workload: &Workload, peer: &str) -> Option<String> {
        let cost = self.spread(workload, peer, |measured| measured.cost)?;
        Some(match workload.unit {
            Unit::IdleStream => format!("{:.1} KB", cost.median / 1024.0),
            unit => format!("{} µs/{}", short(cost.median), unit.name()),
        })
    }

    /// For people.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let programs: Vec<_> = self.peers.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(
            text,
            "{}; {}; {} interleaved rounds of {} s; medians (range of the rounds).\n",
            programs.join(", "),
            machine(),
            self.rounds,
            self.seconds
        )
        .unwrap();
        text += &self.summary();
        text += "\n| workload | proxy | cost | ours ÷ theirs | per second | latency: p50 / p99 / p99.9 | first byte: p50 / p99 / p99.9 | memory | errors |\n";
        text += "|---|---|---|---|---|---|---|---|---|\n";
        for workload in self.workloads() {
            for (place, (peer, _)) in self.peers.iter().enumerate() {
                let Some(rounds) = self.of(workload, peer) else { continue };
                let what = if place == 0 { workload.what } else { "" };
                let cost = self.cost(workload, peer).expect("it was measured");
                let ratio = match self.ratio(workload, peer) {
                    Some(ratio) if place > 0 => {
                        format!("**{:.2}** ({:.2}–{:.2})", ratio.median, ratio.least, ratio.most)
                    }
                    _ => String::new(),
                };
                let median = |figure: fn(&Measured) -> f64| {
                    self.spread(workload, peer, figure).map_or(0.0, |s| s.median)
                };
                let rate =
                    if workload.unit == Unit::IdleStream { "".to_owned() } else { short(median(|m| m.rate)) };
                let latency = in_words(rounds, |measured| measured.latency);
                let first = in_words(rounds, |measured| measured.first_byte);
                let memory = median(|m| m.memory as f64) / 1e6;
                let errors: u64 = rounds.iter().map(|m| m.errors).sum();
                writeln!(
                    text,
                    "| {what} | {peer} | {cost} | {ratio} | {rate} | {latency} | {first} | {memory:.1} MB | {errors} |"
                )
                .unwrap();
            }
            if let Some(rounds) = self.of(workload, DIRECT) {
                let latency = in_words(rounds, |measured| measured.latency);
                let first = in_words(rounds, |measured| measured.first_byte);
                writeln!(text, "|  | {DIRECT} |  |  |  | {latency} | {first} |  |  |").unwrap();
            }
        }
        if let Some(Start { first_answer, idle, binary }) = &self.start {
            let first = Spread::of(first_answer.clone());
            writeln!(
                text,
                "\nstreamgauge alone: {:.1} ms from its start to the first answered request ({:.1}–{:.1}), {:.1} MB resident \
                 when idle, {:.1} MB of program.",
                first.median,
                first.least,
                first.most,
                *idle as f64 / 1e6,
                *binary as f64 / 1e6
            )
            .unwrap();
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let rounds = |rounds: &[Measured]| -> Vec<Value> {
            let one = |m: &Measured| {
                json!({"cost": m.cost, "per_second": m.rate, "busy": m.busy, "latency_us": m.latency, "first_byte_us": m.first_byte,
                       "errors": m.errors, "memory_bytes": m.memory})
            };
            rounds.iter().map(one).collect()
        };
        let workloads: Vec<_> = self
            .workloads()
            .map(|workload| {
                let of = |peer: &str| Some((peer.to_owned(), json!(rounds(self.of(workload, peer)?))));
                let names = self.peers.iter().map(|(name, _)| name.as_str()).chain([DIRECT]);
                let peers: serde_json::Map<_, _> = names.filter_map(of).collect();
                json!({"name": workload.name, "what": workload.what, "unit": workload.unit.name(), "rounds": peers})
            })
            .collect();
        let start = self.start.as_ref().map(|start| {
            json!({"first_answer_ms": start.first_answer, "idle_bytes": start.idle, "binary_bytes": start.binary})
        });
        let peers: serde_json::Map<_, _> =
            self.peers.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
        let all = json!({"versions": peers, "machine": machine(), "seconds": self.seconds, "workloads": workloads, "start": start});
        serde_json::to_string_pretty(&all).unwrap() + "\n"
    }
}

/// A ratio, in bold where ours costs less.
fn bold_if_less(ratio: f64) -> String {
    if ratio < 1.0 { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}

/// The medians of times over the rounds.
fn in_words(rounds: &[Measured], times: impl Fn(&Measured) -> Option<[f64; 3]>) -> String {
    let at = |place: usize| {
        let values: Vec<_> = rounds.iter().filter_map(|measured| Some(times(measured)?[place])).collect();
        (!values.is_empty()).then(|| short(Spread::of(values).median))
    };
    match (at(0), at(1), at(2)) {
        (Some(p50), Some(p99), Some(p999)) => format!("{p50} / {p99} / {p999} µs"),
        _ => String::new(),
    }
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The processor, the kernel and the day.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let said = |program: &str, argument: &str| {
        let output =
            Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    format!("{model}, Linux {}, {}", said("uname", "-r"), said("date", "+%Y-%m-%d"))
}

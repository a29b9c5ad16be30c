//! The measurements, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::page;
use super::workloads::{Measured, Start, Unit, WORKLOADS, Workload};

/// The name for measurements without a proxy.
pub(crate) const DIRECT: &str = "no proxy";

/// The measurements of one proxy and workload, by round.
pub(crate) type Rounds = BTreeMap<usize, Measured>;

/// All rounds of all workloads.
pub(crate) struct Figures {
    /// Name and version, streamgauge first.
    pub(crate) peers: Vec<(String, String)>,
    pub(crate) seconds: f64,
    /// The measurements by workload and peer.
    measured: BTreeMap<(&'static str, String), Rounds>,
    /// The peers without figures, and the reasons.
    left_out: Vec<(String, String)>,
    pub(crate) start: Option<Start>,
}

/// The median of the rounds, and their range.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let (&least, &most) = (values.first()?, values.last()?);
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, least, most })
    }
}

impl Figures {
    pub(crate) fn new(seconds: f64) -> Self {
        let (peers, measured, left_out) = Default::default();
        Self { peers, seconds, measured, left_out, start: None }
    }

    pub(crate) fn add(&mut self, workload: &Workload, peer: &str, round: usize, measured: Measured) {
        self.measured.entry((workload.name, peer.to_owned())).or_default().insert(round, measured);
    }

    /// Notes that a peer has no figures, or no more of them.
    pub(crate) fn leave_out(&mut self, peer: &str, reason: String) {
        eprintln!("{peer} is left out: {reason}");
        self.left_out.push((peer.to_owned(), reason));
    }

    /// The workloads that were measured.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        WORKLOADS.iter().filter(|workload| self.of(workload, &self.peers[0].0).is_some())
    }

    pub(crate) fn of(&self, workload: &Workload, peer: &str) -> Option<&Rounds> {
        self.measured.get(&(workload.name, peer.to_owned()))
    }

    /// A figure of one peer over the rounds.
    fn spread(&self, workload: &Workload, peer: &str, figure: impl Fn(&Measured) -> f64) -> Option<Spread> {
        Spread::of(self.of(workload, peer)?.values().map(figure).collect())
    }

    /// One cost over another, round by round.
    pub(crate) fn ratio(&self, workload: &Workload, ours: &str, theirs: &str) -> Option<Spread> {
        let (ours, theirs) = (self.of(workload, ours)?, self.of(workload, theirs)?);
        let ratios = ours.iter().filter_map(|(round, ours)| Some(ours.cost / theirs.get(round)?.cost));
        Spread::of(ratios.collect())
    }

    /// A peer's cost in words.
    pub(crate) fn cost(&self, workload: &Workload, peer: &str) -> Option<String> {
        let cost = self.spread(workload, peer, |measured| measured.cost)?;
        Some(match workload.unit {
            Unit::IdleStream => format!("{:.1} KB", cost.median / 1024.0),
            unit => format!("{} µs/{}", short(cost.median), unit.name()),
        })
    }

    /// The programs, the machine, the rounds and the peers without figures.
    pub(crate) fn conditions(&self) -> String {
        let programs: Vec<_> = self.peers.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let rounds = |workload| self.of(workload, &self.peers[0].0).map_or(0, Rounds::len);
        let (least, most) = (self.workloads().map(rounds).min(), self.workloads().map(rounds).max());
        let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
        let rounds = match (least, most) {
            (1, 1) => "1 round".to_owned(),
            (least, most) if least == most => format!("{most} interleaved rounds"),
            _ => format!("{least} to {most} interleaved rounds"),
        };
        let mut text = format!(
            "{}; {}; {rounds} of {} s; medians (range of the rounds).\n",
            programs.join(", "),
            machine(),
            self.seconds
        );
        for (peer, reason) in &self.left_out {
            writeln!(text, "\n{peer} is left out: {reason}.").unwrap();
        }
        if let Some(Start { first_response, idle, binary }) = &self.start
            && let Some(first) = Spread::of(first_response.clone())
        {
            writeln!(
                text,
                "\nstreamgauge alone: {:.1} ms from its start to the first response ({:.1}–{:.1}), {:.1} MB resident when \
                 idle, {:.1} MB of program.",
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

    /// The report for people.
    pub(crate) fn markdown(&self) -> String {
        let mut text = [self.conditions(), page::costs(self), page::latencies(self)].join("\n");
        text += "\n| workload | proxy | cost | ours ÷ theirs | per second | latency: p50 / p99 / p99.9 | first byte: p50 / p99 / p99.9 | memory | errors |\n";
        text += "|---|---|---|---|---|---|---|---|---|\n";
        for workload in self.workloads() {
            for (place, (peer, _)) in self.peers.iter().enumerate() {
                let Some(rounds) = self.of(workload, peer) else { continue };
                let what = if place == 0 { workload.what } else { "" };
                let cost = self.cost(workload, peer).expect("it was measured");
                let ratio = match self.ratio(workload, &self.peers[0].0, peer) {
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
                let errors: u64 = rounds.values().map(|m| m.errors).sum();
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
        text
    }

    /// The report in JSON.
    pub(crate) fn json(&self) -> String {
        let rounds = |rounds: &Rounds| -> Vec<Value> {
            let one = |m: &Measured| {
                json!({"cost": m.cost, "per_second": m.rate, "busy": m.busy, "latency_us": m.latency, "first_byte_us": m.first_byte,
                       "errors": m.errors, "memory_bytes": m.memory})
            };
            rounds.values().map(one).collect()
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
            json!({"first_response_ms": start.first_response, "idle_bytes": start.idle, "binary_bytes": start.binary})
        });
        let peers: serde_json::Map<_, _> =
            self.peers.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
        let all = json!({"versions": peers, "machine": machine(), "seconds": self.seconds, "workloads": workloads, "start": start});
        serde_json::to_string_pretty(&all).unwrap() + "\n"
    }
}

/// The medians of times over the rounds.
fn in_words(rounds: &Rounds, times: impl Fn(&Measured) -> Option<[f64; 3]>) -> String {
    let at = |place: usize| {
        let values = rounds.values().filter_map(|measured| Some(times(measured)?[place]));
        Spread::of(values.collect()).map(|spread| short(spread.median))
    };
    match (at(0), at(1), at(2)) {
        (Some(p50), Some(p99), Some(p999)) => format!("{p50} / {p99} / {p999} µs"),
        _ => String::new(),
    }
}

/// Three significant digits.
pub(crate) fn short(value: f64) -> String {
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

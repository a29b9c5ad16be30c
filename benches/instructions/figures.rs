//! The figures: their file, and their comparison.

use std::collections::BTreeMap;
use std::fs;

use super::{ABOVE, ALLOCATIONS, ELSEWHERE, MOST_ABOVE, Measured, callgrind};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/figures.txt");

/// The number of runs of each path, of which the least is taken: it has the least of occasional
/// work on the thread, such as a timer's tick and waking the records' writer.
const RUNS: usize = 5;

/// The machine of the figures, and those of each path.
pub(crate) struct Figures {
    machine: String,
    by_path: BTreeMap<String, Figure>,
}

/// The figures of a path, each per event, body or request.
#[derive(Clone, Copy, Default)]
struct Figure {
    instructions: u64,
    allocations: f64,
}

impl Figures {
    /// Counts each path.
    pub(crate) fn count(paths: &[Measured]) -> Self {
        let count = |&Measured { name, times, .. }: &Measured| {
            let runs: Vec<_> = (0..RUNS).map(|_| callgrind::run(name)).collect();
            let instructions = runs.iter().map(|run| run.instructions).min().unwrap() / times as u64;
            let allocations = runs.iter().map(|run| run.allocations).min().unwrap() as f64 / times as f64;
            (name.to_owned(), Figure { instructions, allocations })
        };
        Self { machine: callgrind::machine(), by_path: paths.iter().map(count).collect() }
    }

    /// The figures in the file.
    pub(crate) fn committed() -> Self {
        let text = fs::read_to_string(FILE).unwrap();
        let (machine, lines) = text.split_once('\n').unwrap();
        let figure = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [name, instructions, allocations] = words[..] else { panic!("{line}: three words are due") };
            let (instructions, allocations) = (instructions.parse().unwrap(), allocations.parse().unwrap());
            (name.to_owned(), Figure { instructions, allocations })
        };
        Self { machine: machine.to_owned(), by_path: lines.lines().map(figure).collect() }
    }

    /// Writes the file.
    pub(crate) fn write(&self) {
        let line = |(name, Figure { instructions, allocations }): (&String, &Figure)| {
            format!("{name:12} {instructions:8} {allocations:6.1}\n")
        };
        let lines: String = self.by_path.iter().map(line).collect();
        let text = format!("{}\n{lines}", self.machine);
        fs::write(FILE, &text).unwrap();
        print!("{text}");
    }

    /// Prints both. Returns true if they are equal within the tolerances.
    pub(crate) fn compare(&self, committed: &Self, paths: &[Measured]) -> bool {
        let is_elsewhere = self.machine != committed.machine;
        if is_elsewhere {
            println!("the figures were taken with {}\nthese come from {}", committed.machine, self.machine);
        }
        println!("{:12} {:>9} {:>9}  instructions, allocations", "", "committed", "counted");
        let mut same = true;
        for &Measured { name, tolerance, .. } in paths {
            let tolerance = if is_elsewhere { ELSEWHERE } else { tolerance };
            let counted = self.by_path[name];
            let committed = committed.by_path.get(name).copied().unwrap_or_default();
            let percent = (counted.instructions as f64 / committed.instructions as f64 - 1.0) * 100.0;
            let more = counted.allocations - committed.allocations;
            let verdict = match percent {
                _ if more.abs() > ALLOCATIONS => format!("  {more:+.1} allocations"),
                _ if percent.abs() <= tolerance => String::new(),
                _ if percent > 0.0 => format!("  DEARER by more than {tolerance} %"),
                _ => format!("  CHEAPER by more than {tolerance} %: to be held, take the figures anew"),
            };
            same &= verdict.is_empty();
            println!(
                "{name:12} {:9} {:9}  {percent:+.2} % of {tolerance} %  {:6.1} {:6.1}{verdict}",
                committed.instructions, counted.instructions, committed.allocations, counted.allocations
            );
        }
        for (name, other) in ABOVE {
            let [above, below] = [name, other].map(|name| self.by_path[name].instructions as f64);
            println!("{name} costs {:+.2} % more than {other}", (above / below - 1.0) * 100.0);
        }
        for (name, other, most) in MOST_ABOVE {
            let [above, below] = [name, other].map(|name| self.by_path[name].instructions as i64);
            let more = above - below;
            let verdict = if more > most { "  DEARER" } else { "" };
            same &= more <= most;
            println!("{name} costs {more} more than {other}, and may cost {most}{verdict}");
        }
        same
    }
}

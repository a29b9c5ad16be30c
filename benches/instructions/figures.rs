//! The figures: their file, and their comparison.

use std::collections::BTreeMap;
use std::fs;

use super::{ELSEWHERE, Measured, callgrind};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/figures.txt");

/// The number of runs of each path, of which the least is taken: it has the least of occasional
/// work on the thread, such as a timer's tick and waking the records' writer.
const RUNS: usize = 5;

/// The machine of the figures, and the instructions of each path.
pub(crate) struct Figures {
    machine: String,
    by_path: BTreeMap<String, u64>,
}

impl Figures {
    /// Counts each path.
    pub(crate) fn count(paths: &[Measured]) -> Self {
        let count = |&Measured { name, times, .. }: &Measured| {
            let least = (0..RUNS).map(|_| callgrind::run(name)).min().unwrap();
            (name.to_owned(), least / times as u64)
        };
        Self { machine: callgrind::machine(), by_path: paths.iter().map(count).collect() }
    }

    /// The figures in the file.
    pub(crate) fn committed() -> Self {
        let text = fs::read_to_string(FILE).unwrap();
        let (machine, lines) = text.split_once('\n').unwrap();
        let figure = |line: &str| {
            let (name, figure) = line.split_once(' ').unwrap();
            (name.to_owned(), figure.trim().parse().unwrap())
        };
        Self { machine: machine.to_owned(), by_path: lines.lines().map(figure).collect() }
    }

    /// Writes the file.
    pub(crate) fn write(&self) {
        let lines: String =
            self.by_path.iter().map(|(name, figure)| format!("{name:12} {figure:8}\n")).collect();
        let text = format!("{}\n{lines}", self.machine);
        fs::write(FILE, &text).unwrap();
        print!("{text}");
    }

    /// Prints both. Returns true if they are equal within the tolerance.
    pub(crate) fn compare(&self, committed: &Self, paths: &[Measured]) -> bool {
        let is_elsewhere = self.machine != committed.machine;
        if is_elsewhere {
            println!("the figures were taken with {}\nthese come from {}", committed.machine, self.machine);
        }
        println!("{:12} {:>9} {:>9}  instructions", "", "committed", "counted");
        let mut same = true;
        for &Measured { name, tolerance, .. } in paths {
            let tolerance = if is_elsewhere { ELSEWHERE } else { tolerance };
            let counted = self.by_path[name];
            let committed = *committed.by_path.get(name).unwrap_or(&0);
            let percent = (counted as f64 / committed as f64 - 1.0) * 100.0;
            let verdict = match percent {
                _ if percent.abs() <= tolerance => String::new(),
                _ if percent > 0.0 => format!("  DEARER by more than {tolerance} %"),
                _ => format!("  CHEAPER by more than {tolerance} %: to be held, take the figures anew"),
            };
            same &= verdict.is_empty();
            println!("{name:12} {committed:9} {counted:9}  {percent:+.2} % of {tolerance} %{verdict}");
        }
        same
    }
}

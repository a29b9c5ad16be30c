//! Counts the instructions of the hot paths, and compares them with committed figures.
//!
//! ```text
//! cargo bench --profile instructions --bench instructions                 # compares; fails if a figure has moved
//! cargo bench --profile instructions --bench instructions -- --retake     # writes figures.txt again
//! ```
//!
//! Callgrind counts the instructions of the thread that runs a path, without the kernel's. Unlike
//! times they repeat: exactly without sockets, and to 0.2 % through the whole proxy. The figures of
//! `figures.txt` are instructions per event, body or request; those of `request` and `event`
//! include the work of the client and the service on the proxy's thread, a tenth and a seventh.
//!
//! A path fails if it costs more than its tolerance allows. `event` fails by an allocation (1.2 %)
//! or a copy (2.4 %) of each event, `request` by a clone of the headers (1.9 %) but not by one
//! allocation (0.2 %); the meter alone by an allocation in each push (8.7 %). It fails too if it
//! costs less by more, so that gains are kept. Then correct the change, or commit the new figures
//! with it. `callgrind_annotate target/tmp/PATH.callgrind` shows the functions.
//!
//! Allocations are calls of the C library's allocator on that thread. A path fails if it makes one
//! more or less than in `figures.txt`.
//!
//! Figures depend on the compiler, the C library and valgrind, whose CPU is always the same except
//! for AVX2. `figures.txt` names those of its figures. With others the tolerance is [`ELSEWHERE`],
//! which is printed; take the figures there with the code before the change, and compare again.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod callgrind;
mod choices;
mod content;
mod figures;
mod proxied;
mod pure;

use std::process::ExitCode;

use clap::Parser;

use figures::Figures;

/// The tolerance in percent: for paths that repeat exactly,
const EXACT: f64 = 0.5;
/// through sockets, which involve timers and waking other threads (0.2 % between runs),
const PROXIED: f64 = 1.0;
/// and with another compiler, C library or valgrind than that of the figures.
const ELSEWHERE: f64 = 10.0;

/// The tolerance in allocations: buffers grow now and then.
const ALLOCATIONS: f64 = 0.5;

/// Paths whose cost above that of another one is printed: a request to a group of one upstream, and
/// one to the upstream itself. The aim is 5 %.
const ABOVE: [(&str, &str); 1] = [("group", "request")];

/// The most instructions of a path above those of another: of a request under three limits above
/// one of a client without, for which the aim is 2,500, and of an event.
const MOST_ABOVE: [(&str, &str, i64); 2] = [("limits", "client", 3_000), ("limits-event", "event", 60)];

/// A path that is counted.
struct Measured {
    name: &'static str,
    /// The tolerance in percent.
    tolerance: f64,
    /// The number of events, bodies or requests of a run.
    times: usize,
    /// Calls [`callgrind::counted`] once.
    run: fn(usize),
}

const PATHS: [Measured; 12] = [
    Measured { name: "meter-16k", tolerance: EXACT, times: 400, run: pure::meter_16k },
    Measured { name: "meter-event", tolerance: EXACT, times: 400, run: pure::meter_event },
    Measured { name: "meter-body", tolerance: EXACT, times: 400, run: pure::meter_body },
    Measured { name: "body-edit", tolerance: EXACT, times: 400, run: pure::body_edit },
    Measured { name: "choose-16", tolerance: EXACT, times: 4000, run: choices::among_16 },
    Measured { name: "choose-100", tolerance: EXACT, times: 4000, run: choices::among_100 },
    Measured { name: "request", tolerance: PROXIED, times: 1000, run: proxied::requests },
    Measured { name: "group", tolerance: PROXIED, times: 1000, run: proxied::requests_to_a_group },
    Measured { name: "client", tolerance: PROXIED, times: 1000, run: proxied::requests_of_a_client },
    Measured { name: "limits", tolerance: PROXIED, times: 1000, run: proxied::requests_under_limits },
    Measured { name: "event", tolerance: PROXIED, times: 400, run: proxied::events },
    Measured { name: "limits-event", tolerance: PROXIED, times: 400, run: proxied::events_under_limits },
];

/// Instruction counts of the hot paths
#[derive(Parser)]
struct Args {
    /// Write the figures instead of comparing them
    #[arg(long)]
    retake: bool,
    /// Run a path in this process
    #[arg(long, hide = true)]
    path: Option<String>,
    /// Passed by cargo to benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(name) = args.path {
        let path = PATHS.iter().find(|path| path.name == name).unwrap_or_else(|| panic!("no path {name}"));
        (path.run)(path.times);
        return ExitCode::SUCCESS;
    }
    callgrind::install();
    let counted = Figures::count(&PATHS);
    if args.retake {
        counted.write();
        return ExitCode::SUCCESS;
    }
    if counted.compare(&Figures::committed(), &PATHS) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

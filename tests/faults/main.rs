//! The fault matrix: the program's behaviour while something around it is broken.
//!
//! Each cell is a test of its own, named `fault::phase`. It starts the real program with all sinks,
//! causes one fault, sends requests, and compares the result with the row of
//! [`expected`](matrix::expected): requests were served completely, each has one record in each
//! healthy sink, `/readyz` is right, and the process ends in time with its status.
//!
//! | module | what it is |
//! |---|---|
//! | `matrix` | the table: one row per fault, one column per phase, a sentence per deviation |
//! | `phases` | the five phases, and what each checks |
//! | `scene` | the program, its clients and its upstream |
//! | `sinks` | where records are looked for |
//! | `causes` | how each fault is brought about |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the modules of a test program are for it alone")]

mod causes;
#[path = "../harness/mod.rs"]
mod harness;
mod matrix;
mod phases;
mod scene;
mod sinks;

use matrix::Fault;
use phases::Phase;

/// A module per fault, with a test per phase.
macro_rules! cells {
    ($($module:ident: $fault:ident,)*) => {
        $(mod $module {
            use crate::{Fault, Phase, phases::run};

            #[test]
            fn stream() {
                run(Fault::$fault, Phase::Stream);
            }

            #[test]
            fn request() {
                run(Fault::$fault, Phase::Request);
            }

            #[test]
            fn drain() {
                run(Fault::$fault, Phase::Drain);
            }

            #[test]
            fn sigterm() {
                run(Fault::$fault, Phase::Sigterm);
            }

            #[test]
            fn second_sigterm() {
                run(Fault::$fault, Phase::SecondSigterm);
            }
        })*

        /// The faults with tests.
        const TESTED: &[Fault] = &[$(Fault::$fault),*];
    };
}

cells! {
    nothing: Nothing,
    stderr_closed: StderrClosed,
    stderr_full: StderrFull,
    stderr_unread: StderrUnread,
    stdout_unread: StdoutUnread,
    fifo_stuck: FifoStuck,
    disk_full: DiskFull,
    sqlite_locked: SqliteLocked,
    postgres_hung: PostgresHung,
    collector_hung: CollectorHung,
    resolver_silent: ResolverSilent,
    clock_ahead: ClockAhead,
    start_ahead: StartAhead,
    clock_back: ClockBack,
    descriptors_used_up: DescriptorsUsedUp,
    sink_panics_once: SinkPanicsOnce,
    sink_panics_always: SinkPanicsAlways,
}

#[test]
fn every_row_of_the_matrix_has_tests() {
    assert_eq!(TESTED, Fault::ALL);
}

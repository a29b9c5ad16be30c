//! The table: the expected behaviour of the program under each fault, in each phase.

use std::fmt;
use std::time::Duration;

use crate::sinks::Sink;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault: the row that shows that the other rows' deviations come from their faults.
    Nothing,
    /// The reader of standard error has closed it.
    StderrClosed,
    /// Standard error is a file on a full disk (`/dev/full`).
    StderrFull,
    /// Standard error is a full pipe whose reader does not read.
    StderrUnread,
    /// `jsonl = "-"` into a full pipe whose reader does not read.
    StdoutUnread,
    /// `jsonl` is a full FIFO whose reader does not read.
    FifoStuck,
    /// The ledger and the JSON lines are on a full file system.
    DiskFull,
    /// Another process holds the ledger's write lock.
    SqliteLocked,
    /// PostgreSQL accepts connections and does not respond.
    PostgresHung,
    /// The OpenTelemetry collector accepts connections and does not respond.
    CollectorHung,
    /// The name server does not respond for the name of one upstream.
    ResolverSilent,
    /// The clock is set 100 days ahead.
    ClockAhead,
    /// The program is restarted with the clock 100 days ahead.
    StartAhead,
    /// The clock is set back by a day.
    ClockBack,
    /// No file can be opened and no connection accepted: the process has as many as its limit
    /// allows.
    DescriptorsUsedUp,
    /// The thread of a sink panics once.
    SinkPanicsOnce,
    /// The thread of a sink panics at each batch.
    SinkPanicsAlways,
}

impl Fault {
    pub const ALL: &[Self] = &[
        Self::Nothing,
        Self::StderrClosed,
        Self::StderrFull,
        Self::StderrUnread,
        Self::StdoutUnread,
        Self::FifoStuck,
        Self::DiskFull,
        Self::SqliteLocked,
        Self::PostgresHung,
        Self::CollectorHung,
        Self::ResolverSilent,
        Self::ClockAhead,
        Self::StartAhead,
        Self::ClockBack,
        Self::DescriptorsUsedUp,
        Self::SinkPanicsOnce,
        Self::SinkPanicsAlways,
    ];
}

/// The expected behaviour of one cell.
#[derive(Clone, Copy, Debug)]
pub enum Cell {
    /// Every request is served whole and has its record in every sink, the process is ready, and
    /// ends within [`SOON`] with status 0.
    Holds,
    /// [`Cell::Holds`] with these deviations, and the reason for them.
    Except(&'static [Deviation], &'static str),
}

/// A difference from [`Cell::Holds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// This sink misses records, and the process reports how many.
    Misses(Sink),
    /// This sink has its records after the fault has ended: while the process runs, or after its
    /// next start.
    Later(Sink),
    /// Clients that connect are served after the fault has ended.
    ConnectsLater,
    /// The process ends within this time.
    Within(Duration),
    /// The process exits with this status.
    Exit(i32),
    /// The process drains and ends by itself.
    EndsItself,
}

/// The time within which the process ends: after a signal if nothing runs, after the end of running
/// work, after a second signal.
pub const SOON: Duration = Duration::from_secs(3);

impl Cell {
    pub fn deviations(self) -> &'static [Deviation] {
        match self {
            Self::Holds => &[],
            Self::Except(deviations, _) => deviations,
        }
    }

    pub fn has(self, deviation: Deviation) -> bool {
        self.deviations().contains(&deviation)
    }

    pub fn within(self) -> Duration {
        let within = self.deviations().iter().find_map(|deviation| match deviation {
            Deviation::Within(within) => Some(*within),
            _ => None,
        });
        within.unwrap_or(SOON)
    }

    pub fn exit(self) -> i32 {
        let exit = self.deviations().iter().find_map(|deviation| match deviation {
            Deviation::Exit(status) => Some(*status),
            _ => None,
        });
        exit.unwrap_or(0)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("everything holds"),
            Self::Except(deviations, why) => write!(f, "everything holds except {deviations:?}: {why}"),
        }
    }
}

use Cell::{Except, Holds};
use Deviation::{ConnectsLater, EndsItself, Exit, Later, Misses, Within};
use Sink::{Jsonl, Sqlite};

/// The time within which the process ends if a sink cannot write: its grace of eight seconds, and
/// some.
const GRACE: Duration = Duration::from_secs(10);

const NOBODY_READS: &str = "lines wait for the reader of a pipe; those that still wait at the end are \
                            counted as lost, and the exit status says so";
const FIFO_UNREAD: &str = "a FIFO whose reader reads nothing for a second loses records, which are counted";
const NO_ROOM: &str = "a full disk takes nothing: rows wait for room, lines are lost and counted";
const FOREIGN_LOCK: &str =
    "rows wait for the lock; at the end they go to a spill file, which the next start reads";
const PEER_SILENT: &str = "the last batch is tried for its grace period";
const NO_DESCRIPTOR: &str = "a connection is accepted as soon as there is a descriptor for it";
const PANIC_IN_HAND: &str = "the records in the hand of a thread that panics are lost and counted";
const BROKEN_SINK: &str = "a sink's thread is started again three times a minute; after that the \
                           process drains and exits with 1";

/// One row per fault, one column per phase: stream, request, drain, SIGTERM, second SIGTERM.
pub fn expected(fault: Fault) -> [Cell; 5] {
    match fault {
        Fault::Nothing => [Holds, Holds, Holds, Holds, Holds],
        Fault::StderrClosed => [Holds, Holds, Holds, Holds, Holds],
        Fault::StderrFull => [Holds, Holds, Holds, Holds, Holds],
        Fault::StderrUnread => [Holds, Holds, Holds, Holds, Holds],
        Fault::StdoutUnread => {
            let ending = Except(&[Misses(Jsonl), Exit(1), Within(GRACE)], NOBODY_READS);
            let cut = Except(&[Misses(Jsonl), Exit(1)], NOBODY_READS);
            let running = Except(&[Later(Jsonl)], NOBODY_READS);
            [running, running, ending, ending, cut]
        }
        Fault::FifoStuck => [Except(&[Misses(Jsonl)], FIFO_UNREAD); 5],
        Fault::DiskFull => {
            let running = Except(&[Later(Sqlite), Misses(Jsonl)], NO_ROOM);
            let ending = Except(&[Misses(Sqlite), Misses(Jsonl), Within(GRACE)], NO_ROOM);
            [running, running, ending, ending, Except(&[Misses(Sqlite), Misses(Jsonl)], NO_ROOM)]
        }
        Fault::SqliteLocked => {
            let running = Except(&[Later(Sqlite)], FOREIGN_LOCK);
            let ending = Except(&[Later(Sqlite), Within(GRACE)], FOREIGN_LOCK);
            [running, running, ending, ending, running]
        }
        Fault::PostgresHung | Fault::CollectorHung => {
            let ending = Except(&[Within(GRACE)], PEER_SILENT);
            [Holds, Holds, ending, ending, Holds]
        }
        Fault::ResolverSilent => [Holds, Holds, Holds, Holds, Holds],
        Fault::ClockAhead | Fault::StartAhead | Fault::ClockBack => [Holds, Holds, Holds, Holds, Holds],
        Fault::DescriptorsUsedUp => {
            let running = Except(&[ConnectsLater], NO_DESCRIPTOR);
            [running, running, Holds, Holds, Holds]
        }
        Fault::SinkPanicsOnce => [Except(&[Misses(Jsonl)], PANIC_IN_HAND); 5],
        Fault::SinkPanicsAlways => [Except(&[Misses(Jsonl), EndsItself, Exit(1)], BROKEN_SINK); 5],
    }
}

//! Schedules the additions to the sums of hours, and the deletion of old sums.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::store::Store;
use super::sweep::Believed;
use crate::support::{Live, OutageNotice};

/// The interval at which new rows are added to the sums of their hours, and the number of rows from
/// which on that is done earlier: reports read rows that are not in the sums yet.
const INTERVAL: Duration = Duration::from_secs(60);
const MANY: usize = 20_000;

/// The time of the first addition after the start.
const FIRST: Duration = Duration::from_secs(5);

/// The number of rows that one step adds at first, the bounds of that number, and the time that a
/// step is to take: records wait for it, and may not wait longer than a crash may lose.
const ROWS: usize = 100;
const LEAST_ROWS: usize = 50;
const MOST_ROWS: usize = 2_000;
const STEP: Duration = Duration::from_millis(4);

/// The pause after a step that leaves rows, as a multiple of its time.
const PAUSE: u32 = 10;

/// The interval at which old sums are deleted. Never at the start.
const SWEEP: Duration = Duration::from_hours(1);

/// Keeps the sums of a ledger's hours up to date.
pub(super) struct Summing {
    name: String,
    /// Rows that were written since all rows were in the sums.
    waiting: usize,
    /// The number of rows that the next step adds.
    rows: usize,
    /// The last step has left rows.
    is_behind: bool,
    next: Instant,
    outage: OutageNotice,
    /// The retention of sums, which reloads change.
    retention: Option<Arc<Live<Option<Duration>>>>,
    next_sweep: Instant,
}

impl Summing {
    pub(super) fn begin(name: &str) -> Self {
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            waiting: 0,
            rows: ROWS,
            is_behind: false,
            next: now + FIRST,
            outage: OutageNotice::default(),
            retention: None,
            next_sweep: now + SWEEP,
        }
    }

    /// Counts rows that were written.
    pub(super) fn count(&mut self, written: usize) {
        self.waiting += written;
    }

    /// Deletes sums that are older than the retention that `retention` has at the time.
    pub(super) fn keep_for(&mut self, retention: Arc<Live<Option<Duration>>>) {
        self.retention = Some(retention);
    }

    /// Adds some rows, if it is time. Returns the time of the next call.
    pub(super) fn step(&mut self, store: &mut Store) -> Instant {
        let now = Instant::now();
        if now < self.next && (self.is_behind || self.waiting < MANY) {
            return self.next;
        }
        self.is_behind = false;
        match store.add_up(self.rows) {
            Ok(true) => {
                let took = now.elapsed();
                (self.rows, self.is_behind) = (rows_after(self.rows, took), true);
                self.next = now + took * (PAUSE + 1);
                return self.next;
            }
            Ok(false) => _ = self.outage.record_success(),
            Err(reason) if self.outage.record_failure(()) => {
                tracing::warn!(ledger = self.name, %reason, "the sums of hours cannot be brought up to date now; reports read the records instead");
            }
            Err(_) => {}
        }
        (self.waiting, self.next) = (0, now + INTERVAL);
        self.next
    }

    /// Deletes old sums, if it is time. `clock` is that of retention; without one no record is
    /// deleted, and sums stay with their records.
    pub(super) fn sweep(&mut self, store: &mut Store, clock: Option<Believed>) {
        let now = Instant::now();
        let age = self.retention.as_ref().and_then(|retention| *retention.load());
        let Some((age, clock)) = age.zip(clock).filter(|_| self.next_sweep <= now) else { return };
        self.next_sweep = now + SWEEP;
        let Ok(until) = clock.retention_time(Timestamp::now()).checked_sub(age) else { return };
        match store.sweep_hours(until) {
            Ok(0) => {}
            Ok(hours) => tracing::info!(
                ledger = self.name, hours, before = %until,
                "sums of hours that are older than ledger.rollup_retention were deleted"
            ),
            Err(reason) => {
                tracing::warn!(ledger = self.name, %reason, "old sums of hours cannot be deleted now");
            }
        }
    }
}

/// The number of rows of the step after one of `rows` that took this long.
fn rows_after(rows: usize, took: Duration) -> usize {
    match took {
        _ if took > STEP => (rows / 2).max(LEAST_ROWS),
        _ if took < STEP / 4 => (rows * 2).min(MOST_ROWS),
        _ => rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_as_many_rows_as_its_time_allows() {
        // Microseconds for a row, and the number of rows to which the steps come.
        for (cost, rows) in [(0.1, 2_000), (2.0, 800), (20.0, 100), (1_000.0, 50)] {
            let took = |rows: usize| Duration::from_secs_f64(rows as f64 * cost / 1e6);
            let last = (0..20).fold(ROWS, |rows, _| rows_after(rows, took(rows)));
            assert_eq!(last, rows, "{cost} µs a row");
        }
    }
}

//! Schedules the deletion of old records, bounds it, and logs it.
//!
//! The first sweep is a minute after the start. Each deletes at most the records that started
//! within one [`Limits::step`] after the oldest one, so that a mistake costs little before an
//! operator sees it in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::clock::{Change, Clock, Limits};
use super::error::Reason;
use super::retention::{self, Retention};
use super::store::Store;
use crate::record::Journal;
use crate::support::OutageNotice;

/// The interval of sweeps.
const SWEEP: Duration = Duration::from_secs(60);

/// The interval at which the clock is stored and deletions are logged.
const REPORT: Duration = Duration::from_hours(1);

/// The time of retention's clock, for the sweeps of PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Believed(Arc<AtomicI64>);

impl Believed {
    fn new(clock: &Clock) -> Self {
        Self(Arc::new(AtomicI64::new(clock.believed.as_second())))
    }

    /// The time by which records may be deleted.
    pub(super) fn retention_time(&self, now: Timestamp) -> Timestamp {
        let believed = Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap_or(Timestamp::MIN);
        believed.min(now)
    }
}

/// Deletes old rows of a ledger.
#[derive(Debug)]
pub(super) struct Sweeper {
    name: String,
    /// `None`: the sweeper only keeps the clock, for the fleet's ledger.
    retention: Option<Retention>,
    limits: Limits,
    clock: Clock,
    believed: Believed,
    ticked: Instant,
    stored: Instant,
    /// The time of the next step.
    next: Instant,
    /// The limit of starts for the current sweep.
    until: Option<Timestamp>,
    deleted: u64,
    /// The time at which deletions were last logged.
    said: Option<Instant>,
    /// Rows must be deleted before they are shipped.
    loss: OutageNotice,
}

impl Sweeper {
    /// A sweeper for a ledger whose records are kept as `retention` says, or elsewhere for `age`.
    ///
    /// # Errors
    /// Fails if the ledger cannot be read or written.
    pub(super) fn begin(
        name: &str,
        store: &mut Store,
        retention: Option<Retention>,
        age: Duration,
        now: Timestamp,
    ) -> Result<Self, Reason> {
        let started = Instant::now();
        let clock = store.clock()?.unwrap_or(Clock::at(now));
        let mut sweeper = Self {
            name: name.to_owned(),
            retention,
            limits: Limits::of(age),
            clock,
            believed: Believed::new(&clock),
            ticked: started,
            stored: started,
            next: started + SWEEP,
            until: None,
            deleted: 0,
            said: None,
            loss: OutageNotice::default(),
        };
        sweeper.tick(now, started);
        // Stored before the first record of a clock that may be wrong.
        store.keep_clock(sweeper.clock)?;
        Ok(sweeper)
    }

    pub(super) fn believed(&self) -> Believed {
        self.believed.clone()
    }

    /// Uses another retention from the next sweep on, and the clock as an `age` allows.
    pub(super) fn change(&mut self, retention: Option<Retention>, age: Duration) {
        (self.retention, self.limits, self.until) = (retention, Limits::of(age), None);
    }

    #[cfg(test)]
    pub(super) fn retention(&self) -> Option<Retention> {
        self.retention
    }

    /// The time of the next call of [`Self::sweep`].
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Deletes one step, if it is due at `started`. `now` is the system's time.
    pub(super) fn sweep(&mut self, store: &mut Store, journal: &Journal, now: Timestamp, started: Instant) {
        if started < self.next {
            return;
        }
        let more = self.step(store, journal, now, started).unwrap_or_else(|reason| {
            tracing::warn!(ledger = self.name, %reason, "old usage records cannot be deleted now");
            false
        });
        if !more {
            self.until = None;
            self.next = started + SWEEP;
            self.say(false);
        }
    }

    /// Stores the clock, and logs deletions that were not logged yet.
    pub(super) fn end(&mut self, store: &mut Store) {
        self.say(true);
        // The next process believes the stored clock.
        if let Err(reason) = store.keep_clock(self.clock) {
            tracing::debug!(ledger = self.name, %reason, "the ledger's clock was not stored");
        }
    }

    /// Returns true if this sweep has more to delete.
    fn step(
        &mut self,
        store: &mut Store,
        journal: &Journal,
        now: Timestamp,
        started: Instant,
    ) -> Result<bool, Reason> {
        let until = match self.until {
            Some(until) => until,
            None => match self.begin_sweep(store, now, started)? {
                Some(until) => *self.until.insert(until),
                None => return Ok(false),
            },
        };
        let Some(retention) = &self.retention else { return Ok(false) };
        let step = store.sweep(retention, until)?;
        self.deleted += step.deleted;
        if step.lost > 0 {
            if let Some(shipping) = journal.health().shipping.get() {
                shipping.deleted.fetch_add(step.lost, Ordering::Relaxed);
            }
            if self.loss.record_failure(()) {
                tracing::error!(
                    ledger = self.name,
                    "usage records that were never shipped to PostgreSQL are being deleted: they are older than ledger.retention, and more \
                     than ledger.postgres.max_waiting wait"
                );
            }
        } else if !step.more {
            self.loss.record_success();
        }
        Ok(step.more)
    }

    /// The limit of starts for a sweep that begins now. `None`: no record may be deleted.
    fn begin_sweep(
        &mut self,
        store: &mut Store,
        now: Timestamp,
        started: Instant,
    ) -> Result<Option<Timestamp>, Reason> {
        self.tick(now, started);
        if started.duration_since(self.stored) >= REPORT {
            store.keep_clock(self.clock)?;
            self.stored = started;
        }
        let Some(retention) = self.retention else { return Ok(None) };
        let Some(oldest) = retention::oldest(store.connection()?)? else { return Ok(None) };
        Ok(until(oldest, self.clock.retention_time(now), retention.age, self.limits))
    }

    fn tick(&mut self, now: Timestamp, started: Instant) {
        let elapsed = started.duration_since(self.ticked);
        self.ticked = started;
        let change = self.clock.tick(now, elapsed, self.limits);
        self.believed.0.store(self.clock.believed.as_second(), Ordering::Relaxed);
        let ledger = &self.name;
        let hours = |time: SignedDuration| time.as_hours().unsigned_abs();
        match change {
            None => {}
            Some(Change::Doubted(off)) if off.is_positive() => tracing::warn!(
                ledger,
                hours = hours(off),
                "the system's clock is ahead of the ledger's, as after a long stop or if it is wrong: no usage record is deleted until \
                 the process has run for {} h with this clock",
                self.limits.trial.as_secs().div_ceil(3600)
            ),
            Some(Change::Doubted(off)) => tracing::warn!(
                ledger,
                hours = hours(off),
                "the system's clock is behind the ledger's: no usage record is deleted until it is correct"
            ),
            Some(Change::Agrees) => {
                tracing::info!(ledger, "the system's clock and the ledger's agree again");
            }
            Some(Change::Believed) => tracing::warn!(
                ledger,
                "the system's clock has held, and old usage records are deleted by it from now on"
            ),
        }
    }

    fn say(&mut self, is_end: bool) {
        let is_due = is_end || self.said.is_none_or(|said| said.elapsed() >= REPORT);
        if self.deleted == 0 || !is_due {
            return;
        }
        let before = self.retention.and_then(|retention| self.clock.believed.checked_sub(retention.age).ok());
        tracing::info!(
            ledger = self.name,
            records = self.deleted,
            before = before.map(tracing::field::display),
            "usage records that are older than ledger.retention were deleted"
        );
        (self.deleted, self.said) = (0, Some(Instant::now()));
    }
}

/// The limit of starts for one sweep at `now`: records that are older than `age`, but at most one
/// step of time of them. `None` if there are none.
fn until(oldest: Timestamp, now: Timestamp, age: Duration, limits: Limits) -> Option<Timestamp> {
    let limit = now.checked_sub(age).ok().filter(|limit| *limit > oldest)?;
    Some(limit.min(oldest.checked_add(limits.step).unwrap_or(Timestamp::MAX)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::sink::Batch;
    use super::super::support::{count_at, records};
    use super::*;

    #[test]
    fn sweep_goes_no_further_than_one_step_of_time() {
        let day = Duration::from_hours(24);
        let limits = Limits::of(90 * day);
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let limit = now - 90 * day;
        assert_eq!(until(now - 300 * day, now, 90 * day, limits), Some(now - 299 * day));
        assert_eq!(until(limit - day / 2, now, 90 * day, limits), Some(limit));
        assert_eq!(until(limit, now, 90 * day, limits), None, "what is exactly as old as allowed stays");
        assert_eq!(until(now, Timestamp::MIN, 90 * day, limits), None);
    }

    const DAY: Duration = Duration::from_hours(24);
    const AGE: Duration = Duration::from_hours(90 * 24);

    /// Records an hour apart that end before a time, the oldest first.
    fn hourly(count: usize, last: Timestamp) -> Batch {
        let mut records = records(count);
        for (row, hours) in records.iter_mut().rev().zip(0..) {
            row.started_at = last - hours * Duration::from_hours(1);
        }
        Batch::new(records)
    }

    fn begin(path: &Path, now: Timestamp) -> (Store, Sweeper) {
        let mut store = Store::open(path).unwrap();
        let retention = Retention { age: AGE, unshipped: None };
        let sweeper = Sweeper::begin("a.db", &mut store, Some(retention), AGE, now).unwrap();
        (store, sweeper)
    }

    /// Advances some minutes, on a clock that says `now` at the first of them.
    fn run(store: &mut Store, sweeper: &mut Sweeper, now: Timestamp, minutes: u32) {
        let journal = Journal::new(1);
        let begin = sweeper.next();
        for minute in 0..minutes {
            let passed = SWEEP * minute;
            // All steps of the sweep.
            loop {
                sweeper.sweep(store, &journal, now + passed, begin + passed);
                if sweeper.next() > begin + passed {
                    break;
                }
            }
        }
    }

    #[test]
    fn first_sweep_comes_a_minute_after_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let (_store, sweeper) = begin(&folder.path().join("a.db"), Timestamp::now());
        assert!(sweeper.next() >= start + SWEEP);
    }

    #[test]
    fn old_rows_go_a_day_of_them_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let now = Timestamp::now();
        let (mut store, mut sweeper) = begin(&path, now);
        store.write(&[hourly(100 * 24, now)]).unwrap();
        run(&mut store, &mut sweeper, now, 1);
        assert_eq!(count_at(&path), 99 * 24);
        run(&mut store, &mut sweeper, now + SWEEP, 20);
        assert!((90 * 24..=90 * 24 + 1).contains(&count_at(&path)), "{}", count_at(&path));
    }

    #[test]
    fn start_with_a_clock_ahead_and_requests_under_it_keeps_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let now = Timestamp::now();
        let (mut store, sweeper) = begin(&path, now);
        store.write(&[hourly(80 * 24, now)]).unwrap();
        drop((store, sweeper));
        let ahead = now + 100 * DAY;
        for _ in 0..3 {
            let (mut store, mut sweeper) = begin(&path, ahead);
            store.write(&[hourly(30, ahead)]).unwrap();
            run(&mut store, &mut sweeper, ahead, 60);
        }
        let (mut store, mut sweeper) = begin(&path, now + Duration::from_hours(4));
        run(&mut store, &mut sweeper, now + Duration::from_hours(4), 60);
        assert_eq!(count_at(&path), 80 * 24 + 90);
    }

    #[test]
    fn ledger_without_clock_takes_time_of_newest_row_in_company() {
        let now = Timestamp::now();
        for (others, believed) in [(vec![], now), (vec![now + 200 * DAY], now)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            let mut store = Store::open(&path).unwrap();
            store.write(&[hourly(80 * 24, now)]).unwrap();
            others.iter().for_each(|at| store.write(&[hourly(1, *at)]).unwrap());
            let clock = store.clock().unwrap().unwrap();
            assert_eq!(clock.believed.as_microsecond(), believed.as_microsecond());
            drop(store);
            let (mut store, mut sweeper) = begin(&path, now + 100 * DAY);
            run(&mut store, &mut sweeper, now + 100 * DAY, 60);
            assert_eq!(count_at(&path), 80 * 24 + others.len());
        }
    }
}

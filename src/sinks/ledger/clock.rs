//! The clock of retention: the system's clock, unless it has jumped.
//!
//! If the system's clock is wrong, every record looks old. New records have the wrong time too, so
//! the records cannot tell. The running time of this process can: `Instant` advances at its own
//! speed, whatever the clock is set to. A difference of up to [`Limits::step`] is accepted
//! immediately. A larger one is doubted: retention continues with the previous time plus the
//! running time, until the new time has held for [`Limits::trial`] of running time. A restart does
//! not end the trial, since its state is in the ledger.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const DAY: Duration = Duration::from_hours(24);

/// The limits of trust in a clock, derived from the retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// A larger difference is doubted. Also the most time by which one sweep may advance its
    /// deletions.
    pub(super) step: Duration,
    /// The time for which a doubted clock must hold.
    pub(super) trial: Duration,
}

impl Limits {
    /// The limits for records that are kept for `age`.
    pub(super) fn of(age: Duration) -> Self {
        Self { step: DAY.min(age / 10), trial: DAY.min(age) }
    }
}

/// The time of retention, and a doubted time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) believed: Timestamp,
    pub(super) doubted: Option<Doubted>,
}

/// A clock on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubted {
    /// The doubted time.
    pub(super) at: Timestamp,
    /// The running time for which it has held.
    pub(super) held: Duration,
}

/// The change that a tick made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The system's clock is ahead of the believed time by this much, or behind it, and is on trial
    /// from now on.
    Doubted(SignedDuration),
    /// The system's clock agrees again.
    Agrees,
    /// The doubted clock has held for the whole trial.
    Believed,
}

impl Clock {
    /// Creates a clock that is believed to be right.
    pub(super) fn at(believed: Timestamp) -> Self {
        Self { believed, doubted: None }
    }

    /// Takes the system's time, `elapsed` of running time after the last tick.
    pub(super) fn tick(&mut self, now: Timestamp, elapsed: Duration, limits: Limits) -> Option<Change> {
        let expected = later(self.believed, elapsed);
        let agrees = |with: Timestamp| now.duration_since(with).unsigned_abs() <= limits.step;
        if agrees(expected) || agrees(self.believed) {
            self.believed = now;
            return self.doubted.take().map(|_| Change::Agrees);
        }
        self.believed = expected;
        let held = match self.doubted {
            Some(Doubted { at, held }) if agrees(later(at, elapsed)) || agrees(at) => held + elapsed,
            _ => {
                self.doubted = Some(Doubted { at: now, held: Duration::ZERO });
                return Some(Change::Doubted(now.duration_since(expected)));
            }
        };
        if held >= limits.trial {
            *self = Self::at(now);
            return Some(Change::Believed);
        }
        self.doubted = Some(Doubted { at: now, held });
        None
    }

    /// The time by which records may be deleted: the earlier of the believed time and the system's,
    /// so that nothing is deleted after the clock has gone back.
    pub(super) fn retention_time(&self, now: Timestamp) -> Timestamp {
        self.believed.min(now)
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    /// Limits for 90 days, and the time at which tests begin.
    fn start() -> (Limits, Timestamp) {
        (Limits::of(90 * DAY), "2026-11-29T12:00:00Z".parse().unwrap())
    }

    /// Ticks every minute with a clock that is `offset` ahead of the true time. Returns the
    /// changes, and the minutes after which they occurred.
    fn run(clock: &mut Clock, from: Timestamp, offset: Duration, minutes: u32) -> Vec<(u32, Change)> {
        let changes = (0..=minutes).filter_map(|minute| {
            let elapsed = if minute == 0 { Duration::ZERO } else { MINUTE };
            let change = clock.tick(from + offset + MINUTE * minute, elapsed, start().0);
            change.map(|change| (minute, change))
        });
        changes.collect()
    }

    #[test]
    fn right_clock_is_followed_across_restarts() {
        let (limits, now) = start();
        let mut clock = Clock::at(now);
        assert_eq!(run(&mut clock, now, Duration::ZERO, 60), []);
        assert_eq!(clock.believed, now + HOUR);
        // Down for a night.
        assert_eq!(clock.tick(now + 17 * HOUR, Duration::ZERO, limits), None);
        assert_eq!(clock.retention_time(now + 17 * HOUR), now + 17 * HOUR);
    }

    #[test]
    fn clock_ahead_moves_retention_by_running_time_only() {
        let (_, now) = start();
        let mut clock = Clock::at(now);
        let ahead = 100 * DAY;
        let changes = run(&mut clock, now, ahead, 600);
        assert_eq!(changes, [(0, Change::Doubted(SignedDuration::from_hours(2400)))]);
        assert_eq!(clock.retention_time(now + ahead + 10 * HOUR), now + 10 * HOUR);
        // Corrected.
        let changes = run(&mut clock, now + 10 * HOUR, Duration::ZERO, 1);
        assert_eq!(changes, [(0, Change::Agrees)]);
    }

    #[test]
    fn clock_that_holds_for_the_trial_is_believed() {
        let (limits, now) = start();
        let mut clock = Clock::at(now);
        let ahead = 30 * DAY;
        run(&mut clock, now, ahead, 600);
        // The next tick is that of a process that was started an hour later.
        let changes = run(&mut clock, now + 11 * HOUR, ahead, 14 * 60);
        assert_eq!(changes, [(14 * 60, Change::Believed)]);
        assert_eq!(clock, Clock::at(now + ahead + 25 * HOUR));
        assert_eq!(limits.trial, 24 * HOUR);
    }

    #[test]
    fn second_jump_begins_the_trial_again() {
        let (limits, now) = start();
        let mut clock = Clock::at(now);
        run(&mut clock, now, 100 * DAY, 23 * 60);
        let other = now + 50 * DAY;
        assert!(matches!(clock.tick(other, MINUTE, limits), Some(Change::Doubted(_))));
        assert_eq!(clock.doubted.unwrap().held, Duration::ZERO);
    }

    #[test]
    fn clock_behind_deletes_nothing_when_put_right() {
        let (limits, now) = start();
        let mut clock = Clock::at(now);
        let behind = now - 400 * DAY;
        assert!(matches!(clock.tick(behind, MINUTE, limits), Some(Change::Doubted(_))));
        assert_eq!(clock.retention_time(behind), behind);
        assert_eq!(clock.tick(now + MINUTE, MINUTE, limits), Some(Change::Agrees));
        // One day behind is within the accepted difference.
        let mut clock = Clock::at(now);
        assert_eq!(clock.tick(now - DAY, Duration::ZERO, limits), None);
        assert_eq!(clock.retention_time(now - DAY), now - DAY);
        assert_eq!(clock.tick(now, MINUTE, limits), None);
    }

    #[test]
    fn limits_of_a_short_retention_are_short() {
        let limits = Limits::of(HOUR);
        assert_eq!((limits.step, limits.trial), (6 * MINUTE, HOUR));
        let (_, now) = start();
        let mut clock = Clock::at(now);
        assert!(matches!(clock.tick(now + HOUR, Duration::ZERO, limits), Some(Change::Doubted(_))));
    }
}

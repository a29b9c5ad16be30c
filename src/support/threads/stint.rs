//! Short stints of threads that only handle records, on a core that a worker wants too.
//!
//! At a low priority such a thread displaces no worker when it wakes up. But once its turn has come,
//! it runs until the next tick of the system's timer (4 ms, often), and the worker's requests wait
//! that long. So it sleeps for a moment after each stint, whereupon the worker goes on.
//!
//! After each sleep the thread waits for its turn again, for as long as others want the core. So
//! that records are not late on a machine with much other work, stints become longer the longer the
//! thread has been at work.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// The shortest stint, as far as the work consists of small steps.
const STINT: Duration = Duration::from_micros(250);

/// The part of the time at work that a stint may take, if that is more: 1 ms after 64 ms.
const SHARE: u32 = 64;

/// The sleep between two stints. Linux adds 50 µs, which it may use to wake threads together.
const PAUSE: Duration = Duration::from_micros(50);

thread_local! {
    /// `None`: this thread makes no pauses.
    static WORK: Cell<Option<Work>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Work {
    began: Instant,
    /// The begin of the stint.
    stint: Instant,
}

/// Begins work with a first stint, after which this thread pauses.
pub fn begin_stint() {
    let now = Instant::now();
    WORK.set(Some(Work { began: now, stint: now }));
}

/// Pauses if the stint is over. Must be called between small steps, of some microseconds each. Does
/// nothing on a thread that has not [begun a stint](begin_stint). Returns true after a pause.
pub fn pause_if_due() -> bool {
    let Some(Work { began, stint }) = WORK.get() else { return false };
    let now = Instant::now();
    let length = STINT.max(now.duration_since(began) / SHARE);
    let is_due = now.duration_since(stint) >= length;
    if is_due {
        pause();
    }
    is_due
}

/// Ends the stint, before a step that may take as long as one.
pub fn pause() {
    if let Some(work) = WORK.get() {
        thread::sleep(PAUSE);
        WORK.set(Some(Work { stint: Instant::now(), ..work }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work_for_a_stint() {
        let start = Instant::now();
        while start.elapsed() < STINT {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn thread_pauses_after_its_stint_if_it_has_begun_one() {
        let paused = thread::spawn(|| {
            work_for_a_stint();
            let without = pause_if_due();
            begin_stint();
            work_for_a_stint();
            (without, pause_if_due())
        });
        assert_eq!(paused.join().unwrap(), (false, true));
    }

    #[test]
    fn stint_becomes_longer_with_time_at_work() {
        let paused = thread::spawn(|| {
            let now = Instant::now();
            let began = now.checked_sub(Duration::from_secs(3600)).unwrap_or(now);
            WORK.set(Some(Work { began, stint: now }));
            work_for_a_stint();
            pause_if_due()
        });
        assert!(!paused.join().unwrap(), "the stint may take a minute by now");
    }
}

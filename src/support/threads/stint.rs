//! Short stints of threads that only handle records, on a core that a worker wants too.
//!
//! At a low priority such a thread displaces no worker when it wakes up. But once its turn has come,
//! it runs until the next tick of the system's timer (4 ms, often), and the worker's requests wait
//! that long. So it sleeps for a moment after each stint, whereupon the worker goes on.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// The longest stint, as far as the work consists of small steps.
const STINT: Duration = Duration::from_micros(250);

/// The sleep between two stints. Linux adds 50 µs, which it may use to wake threads together.
const PAUSE: Duration = Duration::from_micros(50);

thread_local! {
    /// The begin of the stint. `None`: this thread makes no pauses.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Begins a stint, after which this thread pauses.
pub fn begin_stint() {
    BEGAN.set(Some(Instant::now()));
}

/// Pauses if the stint is over. Must be called between small steps, of some microseconds each. Does
/// nothing on a thread that has not [begun a stint](begin_stint). Returns true after a pause.
pub fn pause_if_due() -> bool {
    let is_due = BEGAN.get().is_some_and(|began| began.elapsed() >= STINT);
    if is_due {
        pause();
    }
    is_due
}

/// Ends the stint, before a step that may take as long as one.
pub fn pause() {
    if BEGAN.get().is_some() {
        thread::sleep(PAUSE);
        begin_stint();
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
}

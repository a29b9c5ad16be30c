//! Short stints of a thread of the background, on a core that a worker wants too.
//!
//! At its low priority such a thread displaces no worker when it wakes up. But once its turn has
//! come, it runs until the next tick of the system's timer, often 4 ms, and requests wait that long.
//! So it sleeps after each stint, whereupon the worker continues.

use std::thread;
use std::time::{Duration, Instant};

/// The length of a stint, as far as the work consists of small steps.
const STINT: Duration = Duration::from_micros(250);

/// The sleep between two stints.
const PAUSE: Duration = Duration::from_millis(1);

/// The time after which the rest of the work is done in one piece: after each sleep the thread waits
/// for its turn again, for as long as others want the core.
const PATIENCE: Duration = Duration::from_millis(25);

/// The stints of one piece of work. The default has no pauses.
#[derive(Debug, Default)]
pub struct Stints(Option<Running>);

#[derive(Debug)]
struct Running {
    /// The end of the present stint.
    due: Instant,
    /// No pause begins from here on.
    end: Instant,
}

impl Stints {
    /// Begins the first stint.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self(Some(Running { due: now + STINT, end: now + PATIENCE }))
    }

    /// Pauses if the stint is over. Must be called between steps of some microseconds.
    pub fn pause_if_due(&mut self) {
        if self.0.as_ref().is_some_and(|running| running.due <= Instant::now()) {
            self.pause();
        }
    }

    /// Ends the stint before a step that may take as long as one.
    pub fn pause(&mut self) {
        let Some(running) = &mut self.0 else { return };
        if running.end <= Instant::now() {
            self.0 = None;
            return;
        }
        thread::sleep(PAUSE);
        running.due = Instant::now() + STINT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elapsed_in(work: impl FnOnce()) -> Duration {
        let start = Instant::now();
        work();
        start.elapsed()
    }

    #[test]
    fn pause_comes_after_a_stint_and_not_before() {
        let mut stints = Stints::begin();
        while stints.0.as_ref().unwrap().due > Instant::now() {
            std::hint::spin_loop();
        }
        assert!(elapsed_in(|| stints.pause_if_due()) >= PAUSE);
        stints.0.as_mut().unwrap().due = Instant::now() + PATIENCE;
        let due = stints.0.as_ref().unwrap().due;
        stints.pause_if_due();
        assert_eq!(stints.0.as_ref().unwrap().due, due, "the next stint runs");
    }

    #[test]
    fn late_work_and_work_without_stints_is_not_paused() {
        let mut stints = Stints::begin();
        while stints.0.is_some() {
            stints.pause();
        }
        stints.pause_if_due();
        let mut none = Stints::default();
        none.pause();
        assert!(none.0.is_none() && stints.0.is_none());
    }
}

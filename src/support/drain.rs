//! Stops a process in steps: it leaves, then drains, then cuts.
//!
//! *Leave*: requests are served as before, and probes say that the process is about to stop.
//! *Drain*: no connection is accepted, keep-alive connections are closed after their request, and
//! running work finishes. *Cut*: running work is dropped, and its records say so.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

/// The phases in the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// Serves as before, but new clients are asked to go elsewhere.
    Leaving,
    /// Running work may finish.
    Draining,
    /// Running work is dropped.
    Cut,
}

/// The moment at which the drain cuts what still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainEnd {
    /// The configured time after the drain began.
    #[default]
    Timeout,
    At(Instant),
    /// The drain waits for the last request.
    Never,
}

/// The process-wide switch. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    end: watch::Sender<DrainEnd>,
    /// The time at which the cut was requested.
    cut: OnceLock<Instant>,
    /// Held while the phase changes, for threads that wait without a runtime.
    changing: Mutex<()>,
    changed: Condvar,
}

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(Shared {
            phase: watch::Sender::new(Phase::Running),
            end: watch::Sender::new(DrainEnd::default()),
            cut: OnceLock::new(),
            changing: Mutex::new(()),
            changed: Condvar::new(),
        }))
    }
}

impl Stop {
    /// Announces the drain, unless it has begun.
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
    }

    /// Begins the drain, unless it has begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Cuts all running work immediately.
    pub fn cut(&self) {
        self.0.cut.get_or_init(Instant::now);
        self.advance(Phase::Cut);
    }

    /// Sets the moment at which the drain cuts, also while it runs.
    pub fn end_drain(&self, end: DrainEnd) {
        self.0.end.send_replace(end);
    }

    /// The moment at which the drain cuts, as set so far.
    pub fn drain_ends(&self) -> DrainEnd {
        *self.0.end.borrow()
    }

    /// Waits for the end of a drain that begins now, with `timeout` as the configured time.
    /// Cancel-safe.
    pub async fn drain_end(&self, timeout: Duration) {
        // `sleep` accepts any time.
        let configured = sleep(timeout).deadline();
        let mut end = self.0.end.subscribe();
        loop {
            let at = match *end.borrow_and_update() {
                DrainEnd::Timeout => Some(configured),
                DrainEnd::At(at) => Some(at.into()),
                DrainEnd::Never => None,
            };
            tokio::select! {
                () = sleep_until(at.unwrap_or(configured)), if at.is_some() => return,
                // The sender lives as long as `self`.
                _ = end.changed() => {}
            }
        }
    }

    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// The time at which the cut began.
    pub fn cut_since(&self) -> Option<Instant> {
        self.0.cut.get().copied()
    }

    /// Waits until `phase` is reached or passed. Cancel-safe.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Like [`Stop::reached`], without a runtime.
    pub fn wait(&self, phase: Phase) {
        let changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.changed.wait_while(changing, |()| self.phase() < phase));
    }

    fn advance(&self, phase: Phase) {
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_only_goes_forward() {
        let stop = Stop::default();
        stop.cut();
        stop.drain();
        assert_eq!(stop.phase(), Phase::Cut);
        stop.reached(Phase::Draining).await;
    }

    #[tokio::test(start_paused = true)]
    async fn end_of_a_drain_can_be_moved_while_it_runs() {
        const HOUR: Duration = Duration::from_secs(3600);
        let (stop, begun) = (Stop::default(), tokio::time::Instant::now());
        stop.drain_end(HOUR).await;
        assert_eq!(begun.elapsed(), HOUR);
        stop.end_drain(DrainEnd::Never);
        let begun = tokio::time::Instant::now();
        let shortened = async {
            sleep(HOUR * 24).await;
            stop.end_drain(DrainEnd::At((tokio::time::Instant::now() + HOUR).into_std()));
        };
        tokio::join!(stop.drain_end(Duration::ZERO), shortened);
        assert_eq!(begun.elapsed(), HOUR * 25);
    }
}

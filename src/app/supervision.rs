//! The thread that reports the state of the process to the supervisor.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::config::reload::Reload;
use crate::record::ActiveRequests;
use crate::support::drain::{Phase, Stop};
use crate::support::pulse::Pulse;
use crate::support::supervisor::{Supervisor, watchdog_interval};
use crate::support::threads::{Thread, Threads};

/// The interval at which the status is sent, if it has changed.
const STATUS: Duration = Duration::from_secs(1);

/// The supervisor, and its watchdog.
#[derive(Default)]
pub(super) struct Supervision {
    pub(super) supervisor: Supervisor,
    /// The interval of the watchdog, and the pulse of the workers.
    watchdog: Option<(Duration, Arc<Pulse>)>,
}

/// The facts of the status.
pub(super) struct Facts {
    pub(super) stop: Stop,
    pub(super) active: ActiveRequests,
    pub(super) reload: Reload,
}

impl Supervision {
    pub(super) fn new(supervisor: Supervisor, workers: usize) -> Self {
        let watchdog = watchdog_interval().filter(|_| supervisor.exists());
        Self { supervisor, watchdog: watchdog.map(|interval| (interval, Arc::new(Pulse::new(workers)))) }
    }

    /// The pulse that workers confirm. `None` if there is no watchdog.
    pub(super) fn pulse(&self) -> Option<Arc<Pulse>> {
        self.watchdog.as_ref().map(|(_, pulse)| Arc::clone(pulse))
    }

    /// Starts the thread, if there is a supervisor.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub(super) fn spawn(self, facts: Facts, threads: &Threads) -> io::Result<Option<Supervising>> {
        if !self.supervisor.exists() {
            return Ok(None);
        }
        let (ended, end) = mpsc::channel::<()>();
        let thread = threads.spawn("supervisor", move || {
            let mut told = String::new();
            // Twice in each interval, as systemd recommends.
            let period = self.watchdog.as_ref().map_or(STATUS, |(interval, _)| (*interval / 2).min(STATUS));
            let mut next = Instant::now();
            loop {
                match end.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
                next = Instant::now() + period;
                if let Some((_, pulse)) = &self.watchdog
                    && pulse.beat()
                {
                    self.supervisor.send("WATCHDOG=1");
                }
                let status = facts.status();
                if status != told {
                    self.supervisor.send(format_args!("STATUS={status}"));
                    told = status;
                }
            }
        })?;
        Ok(Some(Supervising { _ended: ended, _thread: thread }))
    }
}

impl Facts {
    fn status(&self) -> String {
        let running = self.active.count();
        match self.stop.phase() {
            Phase::Running => {
                format!("{running} requests running, configuration {}", self.reload.status().generation)
            }
            Phase::Leaving => format!("{running} requests running, about to stop"),
            Phase::Draining | Phase::Cut => format!("finishing {running} requests"),
        }
    }
}

/// The running thread. Dropping it ends the thread.
pub(super) struct Supervising {
    _ended: Sender<()>,
    _thread: Thread,
}

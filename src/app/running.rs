//! What runs, until it is told to stop; and the stop, which has a deadline.

use std::io;
use std::time::Duration;

use super::Addresses;
use super::ledger_use::Mark;
use super::reload::Reloading;
use crate::drain::{Phase, Stop};
use crate::listener::Balance;
use crate::record::{Estimator, RefusalCounter, Reopener, Writer};
use crate::reload::Reload;
use crate::threads::{Deadline, Thread, Threads};

/// What the sinks have in any case: an attempt at a locked ledger takes half a second, and what
/// cannot be written is spilled after it.
const SINKS: Duration = Duration::from_secs(1);

/// How long the end may take after the drain, whatever any sink does: the sinks write what waits,
/// and the ledger ships it. What is not written by then is counted, said and given up. A
/// [cut](Stop::cut) leaves a second. Container runtimes kill after ten seconds.
const GRACE: Duration = Duration::from_secs(8);

/// Threads at work. Dropping it cuts what runs; [`Running::finish`] waits for the drain.
pub struct Running {
    pub(super) addresses: Addresses,
    pub(super) balance: Balance,
    pub(super) stop: Stop,
    pub(super) drain_timeout: Duration,
    pub(super) threads: Threads,
    pub(super) workers: Vec<Thread>,
    /// It outlives the workers: the drain can be watched.
    pub(super) admin: Option<(Stop, Thread)>,
    /// Opens the JSON-lines file again.
    pub(super) reopener: Option<Reopener>,
    /// Tells other processes that the ledger is in use.
    pub(super) _ledger_mark: Option<Mark>,
    /// How a reload is requested, and what became of it.
    pub(super) reload: Reload,
    /// The thread that reloads; `None`: nothing can change.
    pub(super) reloading: Option<Reloading>,
    /// Hands what refusals share to the writer.
    pub(super) refusals: Option<RefusalCounter>,
    /// Hands its records to the writer.
    pub(super) estimator: Estimator,
    /// Ended last, when no worker is left to write a record.
    pub(super) writer: Writer,
    /// The end was waited for; what has not ended by now is waited for no longer.
    pub(super) is_over: bool,
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What each worker carries now: its connections, and once more those with a request running.
    pub fn loads(&self) -> Vec<usize> {
        self.balance.loads()
    }

    /// The switch that drains or cuts it. A thread that cannot be started again drains it too.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// What opens the JSON-lines file again; `None`: there is none.
    pub fn reopener(&self) -> Option<Reopener> {
        self.reopener.clone()
    }

    /// Where reloads are requested.
    pub fn reload(&self) -> &Reload {
        &self.reload
    }

    /// The threads, those included that ended unexpectedly.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Waits until the workers have ended and every record is written. They end only when
    /// [`Running::stop`] says so, and from then on it takes no longer than `drain_timeout` and
    /// eight seconds; after a cut, about one, or two where estimates are slow.
    ///
    /// # Errors
    /// A thread ended unexpectedly, did not end in time, or did not write every record.
    pub fn finish(mut self) -> io::Result<()> {
        self.stop.wait(Phase::Draining);
        let deadline = Deadline::after(self.drain_timeout + GRACE).until_cut(&self.stop);
        self.end(&deadline)
    }

    fn end(&mut self, deadline: &Deadline) -> io::Result<()> {
        self.is_over = true;
        let mut late = Vec::new();
        for worker in self.workers.drain(..) {
            if !worker.wait(deadline) {
                late.push(worker.name());
            }
        }
        let deadline = &deadline.clone().within(GRACE);
        if let Some((stop, thread)) = self.admin.take() {
            stop.cut();
            if !thread.wait(deadline) {
                late.push(thread.name());
            }
        }
        self.refusals = None;
        self.reloading = None;
        if !self.estimator.end(deadline) {
            late.push("estimates".to_owned());
        }
        let are_written = self.writer.end(&deadline.clone().at_least(SINKS));
        if let Some((name, reason)) = self.threads.fatal() {
            return Err(io::Error::other(format!("the thread {name} ended unexpectedly: {reason}")));
        }
        if !late.is_empty() {
            return Err(io::Error::other(format!("not ended in time: {}", late.join(", "))));
        }
        if !are_written {
            return Err(io::Error::other("not every usage record was written before the end"));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.stop.cut();
        if let Err(error) = self.end(&Deadline::after(GRACE)) {
            tracing::error!(%error, "a thread ended badly");
        }
    }
}

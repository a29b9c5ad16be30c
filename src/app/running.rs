//! The running threads, and their stop with a deadline.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Addresses;
use super::keyring::KeyThread;
use super::ledger_use::Mark;
use super::reload::Reloading;
use super::resident::ResidentWatch;
use super::supervision::Supervising;
use crate::config::reload::Reload;
use crate::record::{Estimator, RefusalCounter, Writer};
use crate::server::Balance;
use crate::sinks::alerts::Alerts;
use crate::sinks::jsonl::Switch;
use crate::sinks::ledger::ShippingEnd;
use crate::sinks::redis::GrantExchange;
use crate::support::Live;
use crate::support::drain::{Phase, Stop};
use crate::support::memory::Memory;
use crate::support::threads::{Deadline, Thread, Threads};
use crate::upstream::Identities;

/// The shortest time for the sinks: an attempt at a locked ledger takes half a second, and records
/// that cannot be written are spilled after it.
const SINKS: Duration = Duration::from_secs(1);

/// The longest time for the end after the drain: the sinks write the waiting records, and the
/// ledger ships them. Records that are not written by then are counted, reported and lost. A
/// [cut](Stop::cut) leaves a second. Container runtimes kill after ten seconds.
const GRACE: Duration = Duration::from_secs(8);

/// The running threads. Dropping this cuts running work; [`Running::finish`] waits for the drain.
pub struct Running {
    pub(super) addresses: Addresses,
    pub(super) balance: Balance,
    pub(super) stop: Stop,
    pub(super) drain_timeout: Arc<Live<Duration>>,
    pub(super) stop_delay: Arc<Live<Duration>>,
    pub(super) upgrade_drain: Arc<Live<Option<Duration>>>,
    pub(super) shipping_end: ShippingEnd,
    pub(super) threads: Threads,
    pub(super) workers: Vec<Thread>,
    /// Outlives the workers, so that the drain can be observed.
    pub(super) admin: Option<(Stop, Thread)>,
    /// Reopens the JSON-lines file.
    pub(super) jsonl: Switch,
    /// Marks the ledger as used, for other processes.
    pub(super) _ledger_mark: Option<Arc<Mark>>,
    /// Ended when the reloads have ended too.
    pub(super) _alerts: Arc<Mutex<Alerts>>,
    /// Gets the tokens of upstreams, for as long as there are workers.
    pub(super) _identities: Arc<Mutex<Identities>>,
    /// The requests and outcomes of reloads.
    pub(super) reload: Reload,
    /// The thread that reloads. `None` if nothing can change.
    pub(super) reloading: Option<Reloading>,
    /// The thread that takes over stored keys. `None` if none can change.
    pub(super) taking_keys: Option<KeyThread>,
    /// Writes the records that refusals share.
    pub(super) refusals: Option<RefusalCounter>,
    /// Passes estimated records to the writer.
    pub(super) estimator: Estimator,
    /// Ended last, after the workers that write records.
    pub(super) writer: Writer,
    /// Shares the limits of clients; ended when all they have counted is known. `None`: they are not
    /// shared.
    pub(super) exchange: Option<GrantExchange>,
    /// Tells the supervisor about the state until the end.
    pub(super) supervising: Option<Supervising>,
    pub(super) memory: Memory,
    /// Counts memory that no part of the budget counts. `None` if it does not matter.
    pub(super) resident: Option<ResidentWatch>,
    /// True after the end was waited for, so that `Drop` does not wait again.
    pub(super) is_over: bool,
}

impl Running {
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The load of each worker: its connections, plus those with a running request.
    pub fn loads(&self) -> Vec<usize> {
        self.balance.loads()
    }

    /// The stop, which drains or cuts. It drains too after a thread that cannot be restarted has
    /// ended.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The time between the signal to stop and the drain, as configured now.
    pub fn stop_delay(&self) -> &Arc<Live<Duration>> {
        &self.stop_delay
    }

    /// The longest drain, as configured now.
    pub fn drain_timeout(&self) -> &Arc<Live<Duration>> {
        &self.drain_timeout
    }

    /// The longest drain after another process has taken over, as configured now.
    pub fn upgrade_drain(&self) -> &Arc<Live<Option<Duration>>> {
        &self.upgrade_drain
    }

    /// Ends the shipping of rows before the end of the process.
    pub fn shipping_end(&self) -> &ShippingEnd {
        &self.shipping_end
    }

    /// Reopens the JSON-lines file, if there is one.
    pub fn jsonl(&self) -> Switch {
        self.jsonl.clone()
    }

    /// Counts also the memory that no part of the budget counts, if there is a limit. For a process
    /// that does nothing else.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn watch_memory(&mut self) -> io::Result<()> {
        self.resident = ResidentWatch::spawn(&self.memory, &self.threads)?;
        Ok(())
    }

    pub fn reload(&self) -> &Reload {
        &self.reload
    }

    /// The threads, including those that ended unexpectedly.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Waits until the workers have ended and every record is written. The workers end only after
    /// [`Running::stop`] drains or cuts. From then on this takes at most `drain_timeout`, or the
    /// time until the [end of the drain](Stop::end_drain) that was set, and eight seconds; after a
    /// cut, about one second, or two if estimates are slow.
    ///
    /// # Errors
    /// Fails if a thread ended unexpectedly, did not end in time, or did not write every record.
    pub fn finish(mut self) -> io::Result<()> {
        self.stop.wait(Phase::Draining);
        let deadline = Deadline::after(*self.drain_timeout.load() + GRACE);
        let deadline = deadline.until_cut(&self.stop).after_drain(GRACE);
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
        (self.reloading, self.taking_keys) = (None, None);
        if !self.estimator.end(deadline) {
            late.push("estimates".to_owned());
        }
        self.exchange = None;
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
            tracing::error!(%error, "a thread failed");
        }
    }
}

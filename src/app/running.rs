//! What runs, until it is told to stop.

use std::io;
use std::thread::JoinHandle;

use super::Addresses;
use crate::drain::Stop;
use crate::listener::Balance;
use crate::record::{Estimator, RefusalCounter, Reopener, Writer};
use crate::tls::Rotation;

/// Threads at work. Dropping it cuts what runs; [`Running::finish`] waits for the drain.
pub struct Running {
    pub(super) addresses: Addresses,
    pub(super) balance: Balance,
    pub(super) stop: Stop,
    pub(super) workers: Vec<JoinHandle<io::Result<()>>>,
    /// It outlives the workers: the drain can be watched.
    pub(super) admin: Option<(Stop, JoinHandle<io::Result<()>>)>,
    /// Opens the JSON-lines file again.
    pub(super) reopener: Option<Reopener>,
    /// Puts changed certificates in the place of earlier ones.
    pub(super) _rotation: Rotation,
    /// Hands what refusals share to the writer.
    pub(super) _refusals: RefusalCounter,
    /// Hands its records to the writer.
    pub(super) _estimator: Estimator,
    /// Dropped last, when no worker is left to write a record: everything is on disk then.
    pub(super) _writer: Writer,
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

    /// The switch that drains or cuts it.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// What opens the JSON-lines file again; `None`: there is none.
    pub fn reopener(&self) -> Option<Reopener> {
        self.reopener.clone()
    }

    /// Waits until the workers have ended and every record is written. They end only when [`Running::stop`] says so.
    ///
    /// # Errors
    /// A worker could not run, or panicked.
    pub fn finish(mut self) -> io::Result<()> {
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for worker in self.workers.drain(..) {
            result = result.and(worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked"))));
        }
        if let Some((stop, thread)) = self.admin.take() {
            stop.cut();
            result = result
                .and(thread.join().unwrap_or_else(|_| Err(io::Error::other("the admin server panicked"))));
        }
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cut();
        if let Err(error) = self.join() {
            tracing::error!(%error, "a thread ended badly");
        }
    }
}

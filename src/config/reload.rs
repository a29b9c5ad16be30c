//! Reloads of the configuration: their requests and their outcomes.
//!
//! `app` runs the thread that reloads; signals, the admin pages and metrics use only this module.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::support::{SharedCount, SharedGuard};

/// The reloads of one process. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// `None` before the thread starts, and after it ends.
    requests: Mutex<Option<Sender<ReloadRequest>>>,
    /// Those of [`ReloadKind::LookAtKeys`], which have a thread of their own.
    key_requests: Mutex<Option<Sender<ReloadRequest>>>,
    taken: AtomicU64,
    refused: AtomicU64,
    /// Configurations in use by a running request, including the present one.
    in_use: SharedCount,
    status: Mutex<ReloadStatus>,
    /// The latest stored keys, if they were refused.
    refused_keys: Mutex<Option<Refused>>,
}

/// Requests one reading from the reloading thread, which sends the response to the sender.
#[derive(Debug)]
pub struct ReloadRequest {
    pub kind: ReloadKind,
    pub reply: oneshot::Sender<ReloadOutcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadKind {
    /// Reads the configuration and puts it in use.
    Reload,
    /// Compares the files, as the thread does by itself every two seconds.
    Look,
    /// Compares the file of stored keys, as the thread does by itself every second.
    LookAtKeys,
    /// Compares what limits have counted with the ledger, as the thread does by itself every ten
    /// minutes.
    CompareLimits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The configuration is the one in use, or [`ReloadKind::Look`] has found a change for the
    /// first time.
    Unchanged,
    /// The configuration serves new requests.
    Taken {
        /// Keys whose old value stays in use until a restart.
        needs_restart: Vec<&'static str>,
        /// Busy workers that keep the earlier configuration until they are idle.
        late_workers: usize,
    },
    /// The earlier configuration stays in use, because of these mistakes.
    Refused(String),
}

/// The configuration in use, and one that was refused after it.
#[derive(Clone, Debug, Default)]
pub struct ReloadStatus {
    /// The number of configurations that were in use; the first one is 1.
    pub generation: u64,
    pub taken_at: Timestamp,
    /// The latest configuration, if it was refused.
    pub refused: Option<Refused>,
    /// Keys whose value in the file takes effect at the next start.
    pub needs_restart: Vec<&'static str>,
    /// The configuration without its secrets.
    pub effective: Arc<serde_json::Value>,
}

#[derive(Clone, Debug)]
pub struct Refused {
    pub at: Timestamp,
    /// All mistakes, one a line.
    pub mistakes: String,
}

impl Reload {
    /// Requests one reading. The receiver fails if the process is stopping. `None` if this process
    /// has no file to reload.
    pub fn request(&self, kind: ReloadKind) -> Option<oneshot::Receiver<ReloadOutcome>> {
        let (reply, outcome) = oneshot::channel();
        let requests = match kind {
            ReloadKind::LookAtKeys => &self.0.key_requests,
            _ => &self.0.requests,
        };
        lock(requests).as_ref()?.send(ReloadRequest { kind, reply }).ok()?;
        Some(outcome)
    }

    /// The status, with the mistakes of refused keys behind those of the configuration.
    pub fn status(&self) -> ReloadStatus {
        let mut status = lock(&self.0.status).clone();
        if let Some(Refused { at, mistakes }) = lock(&self.0.refused_keys).clone() {
            status.refused = Some(match status.refused {
                None => Refused { at, mistakes },
                Some(first) => {
                    Refused { at: first.at.max(at), mistakes: format!("{}\n{mistakes}", first.mistakes) }
                }
            });
        }
        status
    }

    /// The number of changed configurations put in use, and the number of refused ones.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.taken.load(Ordering::Relaxed), self.0.refused.load(Ordering::Relaxed))
    }

    /// The number of configurations in use: the present one, and those of running requests.
    pub fn in_use(&self) -> usize {
        self.0.in_use.get()
    }

    /// Counts a configuration for as long as the result lives.
    pub fn begin_generation(&self) -> SharedGuard {
        self.0.in_use.enter()
    }

    /// Sends requests to `requests` from now on.
    pub fn connect(&self, requests: Sender<ReloadRequest>) {
        *lock(&self.0.requests) = Some(requests);
    }

    /// Stops taking requests.
    pub fn disconnect(&self) {
        *lock(&self.0.requests) = None;
    }

    /// Like [`Self::connect`], for [`ReloadKind::LookAtKeys`].
    pub fn connect_keys(&self, requests: Sender<ReloadRequest>) {
        *lock(&self.0.key_requests) = Some(requests);
    }

    /// Stops taking requests for stored keys.
    pub fn disconnect_keys(&self) {
        *lock(&self.0.key_requests) = None;
    }

    /// Records that a configuration is in use from now on.
    pub fn record_taken(&self, effective: serde_json::Value, needs_restart: Vec<&'static str>) {
        let mut status = lock(&self.0.status);
        *lock(&self.0.refused_keys) = None;
        if status.generation > 0 {
            self.0.taken.fetch_add(1, Ordering::Relaxed);
        }
        *status = ReloadStatus {
            generation: status.generation + 1,
            taken_at: Timestamp::now(),
            refused: None,
            needs_restart,
            effective: Arc::new(effective),
        };
    }

    /// Records that the files are again those of the configuration in use.
    pub fn record_unchanged(&self) {
        lock(&self.0.status).refused = None;
        self.record_keys_taken();
    }

    pub fn record_refused(&self, mistakes: String) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        lock(&self.0.status).refused = Some(Refused { at: Timestamp::now(), mistakes });
    }

    /// Records that the stored keys are in use.
    pub fn record_keys_taken(&self) {
        *lock(&self.0.refused_keys) = None;
    }

    /// Records that the latest stored keys were refused, and the earlier ones stay in use.
    pub fn record_keys_refused(&self, mistakes: String) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        *lock(&self.0.refused_keys) = Some(Refused { at: Timestamp::now(), mistakes });
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

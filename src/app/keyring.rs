//! The stored keys in use. A thread of their own takes over changed ones, and nothing else of the
//! configuration: a key is revoked also while another file is refused, or while a reload reads a
//! large ledger. The keys are in a file, or in a table of the fleet's database. While that cannot be
//! read, the last known ones stay in use.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::reload::or_refusal;
use crate::config::reload::{Reload, ReloadKind, ReloadOutcome, ReloadRequest};
use crate::config::{
    Files, KeyPlace, KeyStorage, KeyStore, KeysFile, LoadedKeys, Settings, StoredKey, load_keys_again,
    warn_of_table,
};
use crate::gate::LiveKeys;
use crate::record::Journal;
use crate::sinks::ledger::postgres::KeyTable;
use crate::support::threads::{Thread, Threads, fault};
use crate::support::{Live, OutageNotice};

/// The interval at which the file is compared with the contents that were read, or the table is
/// read, so that a new or a revoked key takes effect within two seconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// The interval while no stored key can change. A new configuration ends it.
const REST: Duration = Duration::from_secs(3600);

/// The time for which a changed file must stay the same. Commands and Kubernetes replace it as a
/// whole; an editor may write it in steps.
const SETTLED: Duration = Duration::from_millis(100);

/// The time that the start waits for the keys of the table.
const FIRST: Duration = Duration::from_secs(2);

/// The stored keys of a process. Clones are the same.
#[derive(Clone)]
pub(super) struct Keyring(Arc<Inner>);

struct Inner {
    live: Arc<LiveKeys>,
    place: Arc<Live<KeyPlace>>,
    reload: Reload,
    /// The fleet's table, if it has the keys.
    table: Option<Arc<dyn KeyStore>>,
    journal: Journal,
    state: Mutex<State>,
}

struct State {
    /// The configuration in use, with the stored keys in use.
    settings: Settings,
    /// Its files, with the file of keys as it was read. `None`: no file is read again.
    files: Option<Files>,
    /// The number of times that stored keys were taken over without the rest.
    taken: u64,
    /// The latest file of stored keys, if it was refused.
    refused: Option<RefusedKeys>,
    /// The table cannot be read, for this reason.
    outage: OutageNotice<String>,
}

/// A file of stored keys that was refused.
struct RefusedKeys {
    file: KeysFile,
    mistakes: String,
}

/// The stored keys at the beginning of a reload.
pub(super) struct Reading(u64);

impl Keyring {
    /// The stored keys of the first configuration. Those of a table are not known yet.
    pub(super) fn new(settings: &Settings, reload: &Reload, journal: &Journal) -> Self {
        let live = Arc::new(LiveKeys::default());
        live.replace(settings.keys.stored.iter().map(StoredKey::live));
        let outage = OutageNotice::default();
        let state = State { settings: settings.clone(), files: None, taken: 0, refused: None, outage };
        let database = settings.ledger.postgres.as_ref();
        let table = database.filter(|_| settings.keys.storage == KeyStorage::Table).map(KeyTable::shared);
        if table.is_some() {
            journal.health().key_store_up.get_or_init(AtomicBool::default);
        }
        Self(Arc::new(Inner {
            live,
            place: Live::new(KeyPlace::of(settings, table.as_ref())),
            reload: reload.clone(),
            table,
            journal: journal.clone(),
            state: Mutex::new(state),
        }))
    }

    /// The keys as requests look them up.
    pub(super) fn live(&self) -> &Arc<LiveKeys> {
        &self.0.live
    }

    /// The place of stored keys, for the pages that change them.
    pub(super) fn place(&self) -> &Arc<Live<KeyPlace>> {
        &self.0.place
    }

    /// Reads the file of keys again when it changes. `files` are those of the configuration in use.
    pub(super) fn follow(&self, files: Files) {
        self.state().files = Some(files);
    }

    /// Brings the files of the configuration in use up to date before they are read.
    pub(super) fn begin_reading(&self, files: &mut Files) -> Reading {
        let state = self.state();
        if let Some(in_use) = &state.files {
            files.take_keys_of(in_use);
        }
        Reading(state.taken)
    }

    /// Uses the stored keys of a new configuration. If others were taken over since the beginning of
    /// `reading`, those stay, since a revoked key must not come back. Those of a table always stay:
    /// no configuration has them.
    pub(super) fn adopt(&self, settings: &mut Settings, files: &mut Files, Reading(before): Reading) {
        let mut state = self.state();
        if self.0.table.is_some() {
            settings.keys.stored.clone_from(&state.settings.keys.stored);
        }
        let is_older = state.taken != before || !files.has_read_keys();
        if is_older && state.settings.keys.storage == settings.keys.storage {
            settings.keys.stored.clone_from(&state.settings.keys.stored);
            if let Some(in_use) = &state.files {
                files.take_keys_of(in_use);
            }
        }
        state.settings = settings.clone();
        state.files = state.files.is_some().then(|| files.clone());
        state.refused = None;
        self.put_in_use(&state);
        // The thread may watch from now on. No outcome is waited for.
        let _ = self.0.reload.request(ReloadKind::LookAtKeys);
    }

    fn put_in_use(&self, state: &State) {
        self.0.live.replace(state.settings.keys.stored.iter().map(StoredKey::live));
        self.0.place.replace(KeyPlace::of(&state.settings, self.0.table.as_ref()));
    }

    /// Takes over a changed file if it is watched.
    pub(super) fn look(&self) -> ReloadOutcome {
        let mut state = self.state();
        if state.watches() { self.take_over_in(&mut state) } else { ReloadOutcome::Unchanged }
    }

    /// Takes over a changed file. A refused one is reported once.
    pub(super) fn take_over(&self) -> ReloadOutcome {
        self.take_over_in(&mut self.state())
    }

    fn take_over_in(&self, state: &mut State) -> ReloadOutcome {
        let Some(files) = state.files.as_ref().filter(|_| state.has_stored_keys()) else {
            return ReloadOutcome::Unchanged;
        };
        let Some(found) = files.changed_keys() else {
            if state.refused.take().is_some() {
                self.0.reload.record_keys_taken();
            }
            return ReloadOutcome::Unchanged;
        };
        if let Some(RefusedKeys { file, mistakes }) = &state.refused
            && *file == found
        {
            return ReloadOutcome::Refused(mistakes.clone());
        }
        thread::sleep(SETTLED);
        if files.changed_keys().as_ref() != Some(&found) {
            return ReloadOutcome::Unchanged;
        }
        let read = || load_keys_again(&state.settings, files).map_err(|mistakes| mistakes.to_string());
        match or_refusal(read) {
            Ok(LoadedKeys { stored, warnings, files }) => {
                (state.files, state.refused) = (Some(files), None);
                self.0.reload.record_keys_taken();
                self.take(state, stored, &warnings)
            }
            Err(mistakes) => {
                tracing::error!("the stored keys are refused, and the earlier ones stay in use:\n{mistakes}");
                self.0.reload.record_keys_refused(mistakes.clone());
                state.refused = Some(RefusedKeys { file: found, mistakes: mistakes.clone() });
                ReloadOutcome::Refused(mistakes)
            }
        }
    }

    /// Takes over the keys of the table if they have changed. The database may be away for long: the
    /// state is not locked while it is read.
    fn poll(&self, table: &dyn KeyStore) -> ReloadOutcome {
        let read = table.keys();
        if let Some(up) = self.0.journal.health().key_store_up.get() {
            up.store(read.is_ok(), Ordering::Relaxed);
        }
        let mut state = self.state();
        match read {
            Ok(stored) => {
                if state.outage.record_success() {
                    tracing::info!("the stored keys can be read again");
                }
                if stored == state.settings.keys.stored {
                    return ReloadOutcome::Unchanged;
                }
                let warnings = warn_of_table(&state.settings, &stored);
                self.take(&mut state, stored, &warnings)
            }
            Err(error) => {
                let reason = error.to_string();
                if state.outage.record_failure(reason.clone()) {
                    let keys = state.settings.keys.stored.len();
                    tracing::warn!(
                        reason,
                        keys,
                        "the stored keys cannot be read; the last known ones stay in use"
                    );
                }
                ReloadOutcome::Refused(reason)
            }
        }
    }

    /// Uses these keys from now on.
    fn take(&self, state: &mut State, stored: Vec<StoredKey>, warnings: &[String]) -> ReloadOutcome {
        state.settings.keys.stored = stored;
        state.taken += 1;
        self.put_in_use(state);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(keys = state.settings.keys.stored.len(), "the stored keys are in use");
        ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 }
    }

    /// Starts the thread, unless no stored key can change. Waits for the keys of a table for at most
    /// [`FIRST`], so that a restart refuses none of them.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub(super) fn spawn(&self, threads: &Threads) -> io::Result<Option<KeyThread>> {
        if self.state().files.is_none() && self.0.table.is_none() {
            return Ok(None);
        }
        let (requests, received) = mpsc::channel();
        self.0.reload.connect_keys(requests);
        let keyring = self.clone();
        let (known, are_known) = mpsc::channel::<()>();
        let mut known = Some(known);
        let thread = threads.spawn("keys", move || {
            fault::strike("keys");
            if let Some(table) = &keyring.0.table {
                keyring.poll(&**table);
            }
            // Ends the wait.
            drop(known.take());
            keyring.run(&received);
            Ok(())
        })?;
        let _ = are_known.recv_timeout(FIRST);
        Ok(Some(KeyThread { reload: self.0.reload.clone(), _thread: thread }))
    }

    fn run(&self, requests: &Receiver<ReloadRequest>) {
        let look = || match &self.0.table {
            Some(table) => self.poll(&**table),
            None => self.look(),
        };
        loop {
            let is_watched = self.0.table.is_some() || self.state().watches();
            match requests.recv_timeout(if is_watched { INTERVAL } else { REST }) {
                // The requester may have left.
                Ok(request) => _ = request.reply.send(look()),
                Err(RecvTimeoutError::Timeout) => _ = look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns true if the file of stored keys is looked at without a request.
    fn watches(&self) -> bool {
        self.settings.server.watch && self.has_stored_keys()
    }

    /// Returns true if stored keys may change.
    fn has_stored_keys(&self) -> bool {
        self.settings.keys.file().is_some() && !self.settings.clients.is_empty()
    }
}

/// The thread that takes over stored keys. Dropping it ends the thread, without waiting for a
/// running reading.
#[derive(Debug)]
pub(super) struct KeyThread {
    reload: Reload,
    _thread: Thread,
}

impl Drop for KeyThread {
    fn drop(&mut self) {
        self.reload.disconnect_keys();
    }
}

//! Takes over a changed file of stored keys, and nothing else of the configuration: a key is revoked
//! also while another file is refused.

use std::thread;
use std::time::Duration;

use super::{Reloader, or_refusal};
use crate::config::reload::ReloadOutcome;
use crate::config::{KeyPlace, KeysFile, LoadedKeys, load_keys_again};

/// The interval at which the file is compared with the contents that were read, so that a new or a
/// revoked key takes effect within two seconds.
pub(super) const KEYS_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which a changed file must stay the same. Commands and Kubernetes replace it as a
/// whole; an editor may write it in steps.
const SETTLED: Duration = Duration::from_millis(100);

/// A file of stored keys that was refused.
pub(super) struct RefusedKeys {
    file: KeysFile,
    mistakes: String,
}

impl Reloader {
    /// Returns true if the file of stored keys is looked at without a request.
    pub(super) fn watches_keys(&self) -> bool {
        self.settings.server.watch && self.has_stored_keys()
    }

    /// Returns true if stored keys may change.
    fn has_stored_keys(&self) -> bool {
        self.source.is_some() && self.settings.keys.file.is_some() && !self.settings.clients.is_empty()
    }

    /// Takes over a changed file if it is watched.
    pub(super) fn look_at_keys(&mut self) -> ReloadOutcome {
        if self.watches_keys() { self.take_over_keys() } else { ReloadOutcome::Unchanged }
    }

    /// Takes over a changed file. A refused one is reported once.
    pub(super) fn take_over_keys(&mut self) -> ReloadOutcome {
        let Some(source) = self.source.as_ref().filter(|_| self.has_stored_keys()) else {
            return ReloadOutcome::Unchanged;
        };
        let Some(found) = source.files.changed_keys() else {
            if self.refused_keys.take().is_some() {
                self.reload.show_refused(self.refused.clone());
            }
            return ReloadOutcome::Unchanged;
        };
        if let Some(RefusedKeys { file, mistakes }) = &self.refused_keys
            && *file == found
        {
            return ReloadOutcome::Refused(mistakes.clone());
        }
        thread::sleep(SETTLED);
        if source.files.changed_keys().as_ref() != Some(&found) {
            return ReloadOutcome::Unchanged;
        }
        let read = || load_keys_again(&self.settings, &source.files).map_err(|mistakes| mistakes.to_string());
        match or_refusal(read) {
            Ok(loaded) => self.put_keys_in_use(loaded),
            Err(mistakes) => {
                tracing::error!("the stored keys are refused, and the earlier ones stay in use:\n{mistakes}");
                let all = self.refused.iter().chain([&mistakes]).map(String::as_str).collect::<Vec<_>>();
                self.reload.record_refused(all.join("\n"));
                self.refused_keys = Some(RefusedKeys { file: found, mistakes: mistakes.clone() });
                ReloadOutcome::Refused(mistakes)
            }
        }
    }

    fn put_keys_in_use(&mut self, loaded: LoadedKeys) -> ReloadOutcome {
        let LoadedKeys { stored, warnings, files } = loaded;
        self.settings.keys.stored = stored;
        self.keys.stored.replace(self.settings.keys.table());
        self.key_place.replace(KeyPlace::of(&self.settings));
        if let Some(source) = &mut self.source {
            source.files = files;
        }
        self.refused_keys = None;
        self.reload.show_refused(self.refused.clone());
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(keys = self.settings.keys.stored.len(), "the stored keys are in use");
        ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 }
    }
}

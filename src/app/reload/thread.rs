//! The thread that reloads, on request and when files change.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Reloader;
use crate::app::limits::{Comparison, counted};
use crate::config::reload::{Reload, ReloadKind, ReloadOutcome, ReloadRequest};
use crate::support::drain::Phase;
use crate::support::threads::{Thread, Threads, fault};

/// The interval at which the files are compared with the contents that were read.
const INTERVAL: Duration = Duration::from_secs(2);

impl Reloader {
    /// Starts the thread, unless nothing can change.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub(in crate::app) fn spawn(mut self, threads: &Threads) -> io::Result<Option<Reloading>> {
        if self.source.is_none() && self.watch.is_empty() && !self.has_periods() {
            return Ok(None);
        }
        let (requests, received) = mpsc::channel();
        let reload = self.reload.clone();
        reload.connect(requests);
        let thread = threads.spawn("configuration", move || {
            self.run(&received);
            Ok(())
        })?;
        Ok(Some(Reloading { reload, _thread: thread }))
    }

    fn run(&mut self, requests: &Receiver<ReloadRequest>) {
        let mut next = Instant::now() + INTERVAL;
        loop {
            match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
                // Dropping the reply tells the requester that no reading follows.
                Ok(ReloadRequest { kind: ReloadKind::Reload, .. }) if self.is_stopping() => {}
                Ok(ReloadRequest { kind, reply }) => {
                    let outcome = match kind {
                        ReloadKind::Reload => self.reload_all(),
                        ReloadKind::Look => self.look(),
                        ReloadKind::LookAtKeys => self.keyring.look(),
                        ReloadKind::CompareLimits => {
                            Comparison::begin(self.shared.limits.all()).end(&self.settings);
                            ReloadOutcome::Unchanged
                        }
                    };
                    // The requester may have left.
                    let _ = reply.send(outcome);
                }
                Err(RecvTimeoutError::Timeout) => {
                    fault::strike("configuration");
                    next = Instant::now() + INTERVAL;
                    self.look();
                    let limits = &self.shared.limits;
                    self.inheritance.look(limits, &self.settings, Instant::now());
                    self.comparisons.look(|| limits.all(), &self.settings, Instant::now());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Returns true if limits have to be compared with the ledger.
    fn has_periods(&self) -> bool {
        self.shared.limits.all().iter().any(|applied| counted(applied).is_some())
    }

    fn is_stopping(&self) -> bool {
        self.journal.threads().stop().phase() != Phase::Running
    }

    /// Reads the configuration, and then the certificates, whose settings it may have changed.
    fn reload_all(&mut self) -> ReloadOutcome {
        self.supervisor.send_reloading();
        let outcome = self.reload(true);
        self.supervisor.send("READY=1");
        if matches!(outcome, ReloadOutcome::Refused(_)) {
            // A key is revoked also while the rest is refused.
            self.keyring.take_over();
        }
        // Certificate and key are not being written one after the other: the operator says so.
        self.watch.look(true);
        self.watch.look(false);
        outcome
    }

    /// Takes over what changed in the files, the certificates last: their settings may have changed
    /// too.
    fn look(&mut self) -> ReloadOutcome {
        if !self.settings.server.watch {
            return ReloadOutcome::Unchanged;
        }
        let of_keys = self.keyring.look();
        let outcome = self.look_at_configuration();
        self.watch.look(self.suspect.is_some() && self.refused.is_none());
        if outcome == ReloadOutcome::Unchanged { of_keys } else { outcome }
    }

    /// Takes over changed files. Editors write in steps, so that a change counts when two
    /// consecutive comparisons have found it. While a configuration is refused it is read at each
    /// comparison: a file that it names, and that is not watched, may have been added.
    fn look_at_configuration(&mut self) -> ReloadOutcome {
        let Some(source) = self.source.as_ref().filter(|source| !source.files.is_empty()) else {
            return ReloadOutcome::Unchanged;
        };
        if self.is_stopping() {
            return ReloadOutcome::Unchanged;
        }
        let found = source.files.now();
        if found == source.files && self.refused.is_none() {
            self.suspect = None;
            return ReloadOutcome::Unchanged;
        }
        if self.suspect.as_ref() != Some(&found) {
            self.suspect = Some(found);
            return ReloadOutcome::Unchanged;
        }
        self.reload(false)
    }
}

/// The thread that reloads. Dropping it ends the thread, without waiting for a running reading.
#[derive(Debug)]
pub(in crate::app) struct Reloading {
    reload: Reload,
    _thread: Thread,
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.reload.disconnect();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;
    use crate::app::reload::Source;
    use crate::config::{self, Loaded, Sources};
    use crate::record::{CAPACITY, Journal};
    use crate::support::flow::StreamMetricsRegistry;
    use crate::support::threads::Deadline;

    const SOON: Duration = Duration::from_secs(20);

    fn text(tables: &str) -> String {
        format!(
            "{tables}\n[ledger]\npath = \"\"\n[upstreams.up]\nprovider = \"other\"\nurl = \"http://h/v1\"\n\
             api_key = \"none\"\ndefault_model = \"m\"\n"
        )
    }

    fn reloader(loaded: &Loaded, threads: &Threads) -> Reloader {
        let journal = Journal::with_threads(CAPACITY, threads.clone());
        Reloader::new(&loaded.settings, None, &Arc::new(StreamMetricsRegistry::new(1)), &journal).unwrap()
    }

    #[test]
    fn no_thread_starts_where_no_file_can_change() {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let tls = |certificate: &str, key: &str| {
            let loaded = config::from_text(&text(&format!(
                "[server.tls]\ncertificate = {{ {certificate} }}\nprivate_key = {{ {key} }}"
            )));
            let threads = Threads::default();
            reloader(&loaded.unwrap(), &threads).spawn(&threads).unwrap().map(|_| threads)
        };
        let data = |pem: &str| format!("data = \"{}\"", BASE64.encode(pem));
        assert!(tls(&data(&certificate), &data(&key)).is_none());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate.pem");
        fs::write(&path, &certificate).unwrap();
        let threads = tls(&format!("file = \"{}\"", path.display()), &data(&key)).expect("a file can change");
        assert_eq!(threads.statuses()[0].name, "configuration");
    }

    #[test]
    fn dropping_the_guard_ends_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.toml");
        fs::write(&path, text("")).unwrap();
        let sources = Sources { file: Some(path), ..Sources::default() };
        let loaded = config::load(&sources).unwrap();
        let threads = Threads::default();
        let mut reloader = reloader(&loaded, &threads);
        reloader.source = Some(Source { sources, files: loaded.files, sets_log_level: false });
        let reload = reloader.reload.clone();
        let reloading = reloader.spawn(&threads).unwrap().expect("a file can change");
        let outcome = reload.request(ReloadKind::Reload).expect("the thread runs").blocking_recv();
        assert_eq!(outcome, Ok(ReloadOutcome::Unchanged));
        let thread = reloading._thread.clone();
        drop(reloading);
        assert!(thread.wait(&Deadline::after(SOON)), "it still runs");
        assert!(reload.request(ReloadKind::Reload).is_none());
    }
}

//! Decides which of several processes ships the rows of one file.
//!
//! During an upgrade two processes write to the file, and one of them ships the rows of both. Both
//! could: the server recognises rows by their ids. But they would do the work twice.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::file::PRIVATE;
use super::super::repair::with;

/// A lock of flock(2) on an empty file beside the ledger. Dropping it lets another process ship.
#[derive(Debug)]
pub(super) struct ShipLock {
    path: PathBuf,
    held: Option<File>,
    /// The wait was logged.
    has_waited: bool,
}

impl ShipLock {
    pub(super) fn beside(ledger: &Path) -> Self {
        Self { path: with(ledger, "-ship"), held: None, has_waited: false }
    }

    /// Returns true if this process has the lock. Where files cannot be locked, every process ships.
    pub(super) fn take(&mut self) -> bool {
        if self.held.is_some() {
            return true;
        }
        let opened =
            OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(&self.path);
        let Ok(file) = opened.inspect_err(|error| {
            tracing::debug!(%error, file = %self.path.display(), "other processes may ship the same rows");
        }) else {
            return true;
        };
        let is_taken = flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
        if !is_taken {
            self.held = Some(file);
        } else if !std::mem::replace(&mut self.has_waited, true) {
            tracing::info!(
                file = %self.path.display(),
                "another process ships the rows of this ledger; this one begins when that ends"
            );
        }
        !is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_passes_to_another_process_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("usage.db");
        let [mut first, mut second] = [ShipLock::beside(&ledger), ShipLock::beside(&ledger)];
        assert!(first.take() && first.take() && !second.take());
        drop(first);
        assert!(second.take());
        let mut elsewhere = ShipLock::beside(Path::new("/nowhere/usage.db"));
        assert!(elsewhere.take(), "without a file every process ships");
    }
}

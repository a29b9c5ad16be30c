//! Detects another process that writes to the same ledger.
//!
//! SQLite lets several processes write to one file, and a restart may overlap with the process
//! before it. The records of two proxies that run at the same time by mistake would be added up, so
//! a start warns.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Marks the ledger as used by this process until it is dropped.
///
/// The file stays open until then: closing it would release SQLite's own locks of this process
/// (fcntl(2)). The mark is a lock of flock(2), which is independent of those.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    /// The process whose place this one takes.
    predecessor: Option<u32>,
}

impl Mark {
    /// Marks the ledger if no other process writes to it any more. Returns false if one has it marked,
    /// or if the predecessor runs: that one may have no mark, since its own predecessor had it. A file
    /// system without such locks has no marks.
    pub(super) fn take(&self) -> bool {
        !self.predecessor.is_some_and(is_running) && try_lock(&self.file)
    }
}

/// Returns true if there is a process of this id that has not ended (proc(5), `/proc/[pid]/stat`).
fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name may contain anything, also parentheses.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Marks the ledger. The warning names the process that had marked it before. `None` if there is
/// none, or if the file system has no such locks.
/// The process whose place this one takes, `predecessor`, is expected to have it marked.
pub(super) fn mark(path: &Path, predecessor: Option<u32>) -> (Option<Mark>, Option<String>) {
    let Ok(file) = File::open(path) else { return (None, None) };
    let is_other = || {
        // Some sandboxes hide the holder.
        let holder = holder(&file);
        predecessor.is_none_or(|predecessor| holder.is_some_and(|holder| holder != predecessor))
    };
    let warning = (!try_lock(&file) && is_other()).then(|| {
        let who = holder(&file).map_or_else(|| "another process".to_owned(), |id| format!("the process {id}"));
        format!(
            "ledger.path: {who} writes to {} too, and reports count the records of both; unless this process replaces \
             it, give each its own file",
            path.display()
        )
    });
    (Some(Mark { file, predecessor }), warning)
}

/// Locks the file. Returns false if another process has it locked.
fn try_lock(file: &File) -> bool {
    !flock(file, FlockOperation::NonBlockingLockExclusive)
        .is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK)
}

/// The process that has the lock, by `/proc/locks` (proc(5)).
fn holder(file: &File) -> Option<u32> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip_while(|field| *field != "FLOCK");
        let id = fields.nth(3)?.parse().ok()?;
        fields.next()?.ends_with(&inode).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_user_of_a_ledger_is_told_of_the_first() {
        let ledger = tempfile::NamedTempFile::new().unwrap();
        let (first, warning) = mark(ledger.path(), None);
        assert_eq!(warning, None);
        assert_eq!(mark(ledger.path(), Some(std::process::id())).1, None, "it is expected");
        let (second, warning) = mark(ledger.path(), None);
        let warning = warning.expect("it is marked");
        assert!(warning.contains(&format!("the process {}", std::process::id())), "{warning}");
        let [first, second] = [first.unwrap(), second.unwrap()];
        assert!(first.take() && !second.take());
        drop(first);
        assert!(second.take());
        drop(second);
        assert_eq!(mark(ledger.path(), None).1, None);
    }

    #[test]
    fn ledger_is_not_taken_while_a_predecessor_runs_unmarked() {
        let ledger = tempfile::NamedTempFile::new().unwrap();
        let mut predecessor = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (mark, warning) = mark(ledger.path(), Some(predecessor.id()));
        let mark = mark.unwrap();
        assert!(warning.is_none() && !mark.take());
        predecessor.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !mark.take() {
            assert!(std::time::Instant::now() < end, "it has ended, and is not waited for yet");
            std::thread::yield_now();
        }
        predecessor.wait().unwrap();
        assert!(mark.take());
    }
}

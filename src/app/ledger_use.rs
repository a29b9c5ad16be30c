//! Whether another process writes to the same ledger.
//!
//! SQLite lets several processes write to one file, and a restart may overlap with the process
//! before it. Two proxies that run side by side by mistake would be counted as one, so a start says
//! it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Marks the ledger as used by this process, as long as it lives.
///
/// The file stays open until then: closing it would release the locks that SQLite has on it in this
/// process (fcntl(2)). The mark is flock(2)'s, which has nothing to do with those.
#[derive(Debug)]
pub(super) struct Mark(#[expect(dead_code, reason = "held, never read")] File);

/// Marks the ledger, and says who had marked it before. `None`, where the file system has no such
/// locks, or nobody had.
pub(super) fn mark(path: &Path) -> (Option<Mark>, Option<String>) {
    let Ok(file) = File::open(path) else { return (None, None) };
    let is_taken = flock(&file, FlockOperation::NonBlockingLockExclusive)
        .is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK);
    let warning = is_taken.then(|| {
        let who = holder(&file).map_or_else(|| "another process".to_owned(), |id| format!("the process {id}"));
        format!(
            "ledger.path: {who} writes to {} too, and reports count the records of both; unless this process replaces \
             it, give each its own file",
            path.display()
        )
    });
    (Some(Mark(file)), warning)
}

/// The process that has the lock, as Linux tells (proc(5), `/proc/locks`).
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
        let (first, warning) = mark(ledger.path());
        assert_eq!(warning, None);
        let (second, warning) = mark(ledger.path());
        let warning = warning.expect("it is marked");
        assert!(warning.contains(&format!("the process {}", std::process::id())), "{warning}");
        drop((first, second));
        assert_eq!(mark(ledger.path()).1, None);
    }
}

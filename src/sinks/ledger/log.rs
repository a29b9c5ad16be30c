//! Detects that another program has truncated, replaced or deleted the write-ahead log (`-wal`),
//! and restores its commits.
//!
//! SQLite trusts its index of the log (`-shm`) and reads zeros in a truncated part of the log,
//! which a checkpoint would copy into the file. So the log is checked before each commit and each
//! checkpoint, which costs a few system calls. Commits that are not in the file yet stay in memory,
//! within [`MOST_UNCOPIED`], and are written again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::error::Reason;
use super::file::{Identity, identity};
use super::repair::with;
use super::sink::Batch;

/// The largest number of records that stay in memory until they are copied into the file; at some
/// 600 bytes each about 20 MB. A log that is copied in time has fewer. Beyond it, the oldest are
/// lost and counted if the log is truncated.
const MOST_UNCOPIED: usize = 32_768;

/// The bytes before each page of the log, and before the first one
/// (sqlite.org/fileformat.html#the_wal_file_format).
const FRAME_HEADER: u64 = 24;
const HEADER: u64 = 32;

/// The beginning of the log, in either byte order of its checksums.
const MAGIC: [u32; 2] = [0x377f_0682, 0x377f_0683];

/// The state of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The log is complete.
    Whole,
    /// The log or its index is no longer at its path. The open file has all of it.
    Moved,
    /// Parts of the log are missing.
    Cut,
}

/// Checks the log of a connection.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    log: PathBuf,
    index: PathBuf,
    /// The identities of the log and its index.
    files: (Option<Identity>, Option<Identity>),
}

impl Watch {
    /// Begins to watch the log of the ledger at `path`. A new connection has no log before it
    /// reads.
    pub(super) fn begin(path: &Path) -> Self {
        let mut watch = Self { log: with(path, "-wal"), index: with(path, "-shm"), files: (None, None) };
        watch.files = watch.identities();
        watch
    }

    pub(super) fn look(&self, connection: &Connection) -> rusqlite::Result<State> {
        if self.identities() != self.files {
            return Ok(State::Moved);
        }
        Ok(if self.is_cut(connection)? { State::Cut } else { State::Whole })
    }

    /// Returns true if the log is shorter than its index says, or begins with other bytes.
    pub(super) fn is_cut(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let pages: i64 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get("log"))?;
        let pages = u64::try_from(pages).unwrap_or(0);
        // SQLite takes no locks on the log itself, so it may be opened and closed.
        Ok(pages > 0 && File::open(&self.log).and_then(|log| holds(&log, pages)).is_ok_and(|holds| !holds))
    }

    /// Checks the log before a new connection to the ledger at `path` reads it. Other programs that
    /// have the file open may still trust a truncated log; SQLite restarts it after the last of
    /// them has closed it.
    ///
    /// # Errors
    /// Fails if the log was truncated, or if the file cannot be read. Closing the connection then
    /// copies nothing.
    pub(super) fn check(path: &Path, connection: &Connection) -> Result<(), Reason> {
        copy_no_more(connection, true);
        let watch = Self::begin(path);
        match watch.is_cut(connection) {
            Ok(false) => {
                copy_no_more(connection, false);
                Ok(())
            }
            Ok(true) => Err(Reason::LogCut),
            Err(error) if watch.explains(&error) => Err(Reason::LogCut),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns true if the log causes the error: SQLite reads beyond its end, or zeros.
    fn explains(&self, error: &rusqlite::Error) -> bool {
        let Ok(log) = File::open(&self.log) else { return false };
        let length = log.metadata().map_or(0, |log| log.len());
        match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) => length < HEADER || !holds(&log, 0).unwrap_or(true),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                length >= HEADER && !holds(&log, 0).unwrap_or(true)
            }
            _ => false,
        }
    }

    fn identities(&self) -> (Option<Identity>, Option<Identity>) {
        (identity(&self.log), identity(&self.index))
    }
}

/// Sets whether closing the connection leaves the log uncopied, also if it is the last one.
pub(super) fn copy_no_more(connection: &Connection, is_so: bool) {
    if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_so) {
        tracing::debug!(%error, "closing the ledger may copy its log");
    }
}

/// Returns true if the log begins correctly, and has this many pages.
fn holds(log: &File, pages: u64) -> io::Result<bool> {
    let length = log.metadata()?.len();
    if length < HEADER {
        return Ok(false);
    }
    let mut header = [0; 12];
    log.read_exact_at(&mut header, 0)?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Ok(MAGIC.contains(&word(0)) && length >= HEADER + pages * (u64::from(word(8)) + FRAME_HEADER))
}

/// A place in the log: the number of its restarts, and its length in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) round: u64,
    pub(super) pages: u64,
}

/// Batches that are committed to the log, and perhaps not copied yet.
#[derive(Debug, Default)]
pub(super) struct Uncopied {
    /// Each batch with the log's end after its commit.
    batches: VecDeque<(Place, Batch)>,
    records: usize,
}

impl Uncopied {
    /// Keeps batches whose commit ends at `place`.
    pub(super) fn keep(&mut self, batches: &[Batch], place: Place) {
        for batch in batches {
            self.records += batch.len();
            self.batches.push_back((place, Batch::clone(batch)));
        }
        while self.records > MOST_UNCOPIED {
            self.forget_first();
        }
    }

    /// Forgets the batches in the file: those of all rounds before `copied`, and those of this
    /// round up to it.
    pub(super) fn forget(&mut self, copied: Place) {
        while self.batches.front().is_some_and(|(place, _)| *place <= copied) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, batch)) = self.batches.pop_front() {
            self.records -= batch.len();
        }
    }

    /// Restarts the count of rounds, after the connection has ended. The next connection counts
    /// from its first round, which all kept batches precede; they are in the file when the second
    /// round begins.
    pub(super) fn begin_anew(&mut self) {
        self.batches.iter_mut().for_each(|(place, _)| *place = Place { round: 0, pages: u64::MAX });
    }

    pub(super) fn batches(&self) -> Vec<Batch> {
        self.batches.iter().map(|(_, batch)| Batch::clone(batch)).collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::super::support::batch;
    use super::*;

    fn place(round: u64, pages: u64) -> Place {
        Place { round, pages }
    }

    #[test]
    fn batches_are_kept_until_they_are_copied() {
        let mut uncopied = Uncopied::default();
        uncopied.keep(&[batch(1), batch(2)], place(0, 5));
        uncopied.keep(&[batch(4)], place(0, 9));
        uncopied.keep(&[batch(8)], place(1, 3));
        uncopied.forget(place(0, 4));
        assert_eq!(uncopied.len(), 15);
        uncopied.forget(place(0, 5));
        assert_eq!(uncopied.len(), 12);
        uncopied.forget(place(1, 2));
        assert_eq!(uncopied.len(), 8, "the round before is over");
        uncopied.forget(place(1, 3));
        assert_eq!((uncopied.len(), uncopied.batches().len()), (0, 0));
    }

    #[test]
    fn uncopied_records_are_bounded() {
        let mut uncopied = Uncopied::default();
        for pages in 0..40 {
            uncopied.keep(&[batch(1000)], place(0, pages));
        }
        assert_eq!(uncopied.len(), 32_000);
        assert_eq!(uncopied.batches.front().unwrap().0, place(0, 8), "the oldest go");
    }
}

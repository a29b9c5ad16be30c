//! Inspects the ledger's path before SQLite opens it.
//!
//! Only a ledger is ever moved aside: a file that begins like a SQLite database and has our
//! `application_id` on its first page (sqlite.org/fileformat.html#the_database_header). Any other
//! file belongs to another program, and `ledger.path` is a mistake.

use std::fs::{self, File, FileType};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::error::{LedgerError, Reason};
use super::schema::APPLICATION_ID;

/// The beginning of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The offset of the `application_id` in the header, big-endian.
const ID_AT: usize = 68;

/// The permissions of new files: records contain the names of users and models. Existing files keep
/// theirs.
pub(super) const PRIVATE: u32 = 0o600;

/// The length of the header's beginning that is read.
const HEADER: usize = ID_AT + 4;

/// An existing file that may be opened as a ledger. It stays open as long as SQLite has the file
/// open: closing any descriptor of a file releases all locks that the process has on it (fcntl(2)),
/// including SQLite's.
#[derive(Debug)]
pub(super) struct Existing {
    file: File,
    identity: Identity,
}

/// Identifies a file by device and inode.
pub(super) type Identity = (u64, u64);

/// The identity of the file at the path.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The reason for which the file at the path is never opened as a ledger. `None` if it may be
/// opened or does not exist.
pub fn refusal(path: &Path) -> Option<LedgerError> {
    Existing::find(path).err().map(|reason| LedgerError::new(path, reason))
}

impl Existing {
    /// Inspects the path. `None` if a new ledger may be created there.
    ///
    /// # Errors
    /// Fails if the path has something that is not a SQLite database, or that cannot be read.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, Reason> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // If no file can be created, SQLite reports the reason.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(kind) = unfit(metadata.file_type()) {
            return Err(Reason::NotALedger(kind));
        }
        let file = File::open(path).map_err(Reason::Unreadable)?;
        let existing = Self { file, identity: (metadata.dev(), metadata.ino()) };
        let begins = existing.header()?;
        if begins.is_empty() || begins.starts_with(MAGIC) {
            return Ok(Some(existing));
        }
        Err(Reason::NotALedger("a file of another kind"))
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns true if the file was deleted: no directory has a link to it.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// Returns true if the first page identifies the file as a ledger.
    pub(super) fn is_ledger(&self) -> bool {
        let header = self.header().unwrap_or_default();
        let id =
            header.get(ID_AT..HEADER).and_then(|id| <[u8; 4]>::try_from(id).ok()).map(u32::from_be_bytes);
        header.starts_with(MAGIC) && id.map(i64::from) == Some(APPLICATION_ID)
    }

    fn header(&self) -> Result<Vec<u8>, Reason> {
        let mut header = [0; HEADER];
        let mut length = 0;
        while length < HEADER {
            match self.file.read_at(&mut header[length..], length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Reason::Unreadable(error)),
            }
        }
        Ok(header[..length].to_vec())
    }
}

/// The kind of thing at the path, unless it is a file or a link to one.
fn unfit(kind: FileType) -> Option<&'static str> {
    let kinds = [
        (kind.is_dir(), "a folder"),
        (kind.is_fifo(), "a pipe"),
        (kind.is_socket(), "a socket"),
        (!kind.is_file(), "a device"),
    ];
    kinds.into_iter().find_map(|(is_so, name)| is_so.then_some(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(path: &Path) -> String {
        match Existing::find(path) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(existing)) => format!("a database, a ledger: {}", existing.is_ledger()),
            Err(reason) => reason.to_string(),
        }
    }

    #[test]
    fn file_without_sqlite_header_is_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(found(&path), "nothing");
        let ledger = [MAGIC, &[0; ID_AT - MAGIC.len()], b"SGgl"].concat();
        let other = [MAGIC, &[0; HEADER]].concat();
        for (content, expected) in [
            (&b""[..], "a database, a ledger: false"),
            (MAGIC, "a database, a ledger: false"),
            (&other, "a database, a ledger: false"),
            (&ledger[..HEADER - 1], "a database, a ledger: false"),
            (&ledger, "a database, a ledger: true"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(found(&path), expected, "{content:?}");
        }
        for content in [&b"[server]\n"[..], b"sk-1", &MAGIC[..15], &[0; 4096]] {
            fs::write(&path, content).unwrap();
            assert!(found(&path).starts_with("is a file of another kind"), "{}", found(&path));
        }
    }

    #[test]
    fn links_are_what_they_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let link = |to: &str, name: &str| {
            let path = folder.path().join(name);
            symlink(to, &path).unwrap();
            path
        };
        assert!(found(&link("/dev/null", "device")).starts_with("is a device"));
        assert!(found(&link("/", "folder")).starts_with("cannot be opened: it is a folder"));
        assert_eq!(found(&link("gone", "gone-link")), "nothing");
    }
}

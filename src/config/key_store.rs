//! The store of keys, as commands, the admin port and a running process use it.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use super::key_file::folder;
use super::settings::StoredKey;

/// The longest wait for another command that holds the lock. A command holds it for milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A change of the stored keys.
pub type KeyChange<'a> = dyn FnMut(&mut Vec<StoredKey>) -> Result<(), StoreError> + 'a;

/// The store of keys: a file, or the table of a fleet. Its calls block.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// The name in messages.
    fn name(&self) -> String;

    /// All keys.
    ///
    /// # Errors
    /// Fails if they cannot be read.
    fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Changes the keys, and calls `change` at most once. Two commands at the same time change them
    /// one after the other.
    ///
    /// # Errors
    /// Fails if the keys cannot be read or written, or with the error of `change`.
    fn apply(&self, change: &mut KeyChange<'_>) -> Result<(), StoreError>;
}

/// A change that was not made. The keys are as they were before.
#[derive(Debug)]
pub enum StoreError {
    /// The file has mistakes, or cannot be read.
    Unread(String),
    /// The change itself is not possible.
    Refused(String),
    /// The file, or one beside it, cannot be written.
    Unwritten(PathBuf, io::Error),
    /// The table of this name cannot be read or written.
    Table(String, String),
    /// Another command holds the lock.
    Locked(PathBuf),
}

impl dyn KeyStore + '_ {
    /// Like [`KeyStore::apply`], with a result.
    ///
    /// # Errors
    /// Fails like [`KeyStore::apply`].
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<StoredKey>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (mut change, mut done) = (Some(change), None);
        self.apply(&mut |keys| {
            let change = change.take().expect("a store calls a change once");
            done = Some(change(keys)?);
            Ok(())
        })?;
        Ok(done.expect("a store calls a change before it succeeds"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::Table(name, reason) => write!(f, "{name}: {reason}"),
            Self::Locked(path) => {
                write!(f, "another `streamgauge keys` has locked {} for {PATIENCE:?}", path.display())
            }
            Self::Unwritten(path, error) => {
                write!(f, "cannot write {}: {error}; the keys are as they were", path.display())?;
                match error.kind() {
                    ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => write!(
                        f,
                        ". Run this as a user who may write the folder {}, or name a file elsewhere: `file` in [keys]",
                        folder(path).display()
                    ),
                    ErrorKind::NotFound => match fs::read_link(path) {
                        Ok(target) => {
                            write!(f, ". It is a symlink to {}, which must exist", target.display())
                        }
                        Err(_) => write!(f, ". The folder {} must exist", folder(path).display()),
                    },
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Error for StoreError {}

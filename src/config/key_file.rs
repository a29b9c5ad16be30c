//! Changes the file of stored keys: under a lock, and as a whole. A process that reads it meanwhile
//! sees the keys before or after a change.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::files::Files;
use super::key_store::{KeyChange, KeyStore, PATIENCE, StoreError};
use super::settings::StoredKey;
use super::stored_keys::load;

/// The mode of a new file: its owner may read and write it.
const PRIVATE: u32 = 0o600;

const PAUSE: Duration = Duration::from_millis(10);

/// The first lines of the file.
const HEADER: &str = "\
# Keys of clients, by their SHA-256 digests. `streamgauge keys` writes this file, and keeps no comments.
";

/// The file of stored keys.
#[derive(Clone, Debug)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl KeyStore for KeyFile {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    /// The keys in the file; none if it is missing.
    fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        load(&self.0, &mut Files::default()).map_err(|mistakes| StoreError::Unread(mistakes.to_string()))
    }

    fn apply(&self, change: &mut KeyChange<'_>) -> Result<(), StoreError> {
        // A symlink stays, and the file that it leads to is replaced.
        let path = match fs::canonicalize(&self.0) {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound && !self.0.is_symlink() => self.0.clone(),
            Err(error) => return Err(StoreError::Unwritten(self.0.clone(), error)),
        };
        let unwritten = |error| StoreError::Unwritten(path.clone(), error);
        // Before anything is written: after the new name there is no way back.
        let parent = File::open(folder(&path)).map_err(unwritten)?;
        let _lock = take(&beside(&path, ".lock"))?;
        let mut keys = self.keys()?;
        change(&mut keys)?;
        let new = beside(&path, ".new");
        let written = write(&new, &path, &text(&keys)).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| {
            // The file may not exist.
            let _ = fs::remove_file(&new);
            unwritten(error)
        })?;
        // A power failure cannot undo the change once the folder is on the disk. It is in force
        // without that, and not all filesystems can do it.
        let _ = parent.sync_all();
        Ok(())
    }
}

/// Takes the lock, which ends with the file.
fn take(path: &Path) -> Result<File, StoreError> {
    let unwritten = |error| StoreError::Unwritten(path.to_owned(), error);
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(path);
    let file = options.map_err(unwritten)?;
    let model = fs::metadata(folder(path)).map_err(unwritten)?;
    give(&file, &model).map_err(unwritten)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(unwritten(error)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(StoreError::Locked(path.to_owned()));
            }
            Err(fs::TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
}

/// Writes a file with the owner and the mode of the one that it replaces. A new one belongs to the
/// owner of its folder, so that a command of root leaves a file that the service can read.
pub(super) fn write(new: &Path, replaced: &Path, text: &str) -> io::Result<()> {
    // One of a command that was killed, since this one has the lock.
    let _ = fs::remove_file(new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(new)?;
    let mode = match fs::metadata(replaced) {
        Ok(model) => {
            own(&file, &model).map_err(|error| {
                let (uid, gid) = (model.uid(), model.gid());
                io::Error::other(format!("it would not belong to user {uid} and group {gid} any more ({error}); run this as that user or as root"))
            })?;
            model.mode() & 0o777
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            give(&file, &fs::metadata(folder(replaced))?)?;
            PRIVATE
        }
        Err(error) => return Err(error),
    };
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Gives a file of root to the owner of its folder, so that the service can use it.
fn give(file: &File, folder: &Metadata) -> io::Result<()> {
    if file.metadata()?.uid() == ROOT { own(file, folder) } else { Ok(()) }
}

/// Gives a file the owner and the group of the model.
fn own(file: &File, model: &Metadata) -> io::Result<()> {
    let ids = |file: &Metadata| (file.uid(), file.gid());
    if ids(&file.metadata()?) == ids(model) {
        return Ok(());
    }
    fchown(file, Some(model.uid()), Some(model.gid()))
}

const ROOT: u32 = 0;

fn text(keys: &[StoredKey]) -> String {
    let mut text = HEADER.to_owned();
    for StoredKey { client, digest, created, until, cut, .. } in keys {
        let times = [("created", created), ("until", until)];
        let times = times.into_iter().filter_map(|(name, at)| Some((name, at.as_ref()?.to_string())));
        let values = [("client", client.clone()), ("sha256", digest.to_hex())].into_iter().chain(times);
        text += "\n[[keys]]\n";
        text.extend(values.map(|(name, value)| format!("{name} = {}\n", toml::Value::from(value))));
        if *cut {
            text += "cut = true\n";
        }
    }
    text
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;

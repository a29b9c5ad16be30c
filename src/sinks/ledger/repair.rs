//! Moves an unreadable file aside, with its companions. It is kept, since tools may still save some
//! of its rows.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// The files that SQLite keeps beside a database. The log belongs to its file: a new file must not
/// get an old log.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Renames `path` and its companions to `<path>.corrupt-<time>`, and returns the new name.
///
/// # Errors
/// Fails if the directory does not allow it. Files renamed before the failure stay renamed.
pub(super) fn move_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let aside = new_name(path, "corrupt", now)?;
    // The log goes first: if the process ended in between, the next one would find the damaged file
    // again.
    for companion in COMPANIONS {
        match fs::rename(with(path, companion), with(&aside, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Renames `path` to `<path>.<why>-<time>`, and returns the new name.
pub(super) fn move_to_new_name(path: &Path, why: &str, now: Timestamp) -> io::Result<PathBuf> {
    let name = new_name(path, why, now)?;
    fs::rename(path, &name)?;
    Ok(name)
}

/// A name that no file has.
fn new_name(path: &Path, why: &str, now: Timestamp) -> io::Result<PathBuf> {
    let suffix = format!(".{why}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut name = with(path, &suffix);
    for number in 2.. {
        if !fs::exists(&name)? {
            break;
        }
        name = with(path, &format!("{suffix}-{number}"));
    }
    Ok(name)
}

/// The path with `suffix` appended to its name.
pub(super) fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_file_moves_aside_with_companions_and_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let now: Timestamp = "2026-07-30T22:12:32.5Z".parse().unwrap();
        for (round, name) in
            ["a.db.corrupt-20260730T221232Z", "a.db.corrupt-20260730T221232Z-2"].iter().enumerate()
        {
            fs::write(&path, format!("file {round}")).unwrap();
            fs::write(with(&path, "-wal"), format!("log {round}")).unwrap();
            let aside = move_aside(&path, now).unwrap();
            assert_eq!(aside, folder.path().join(name));
            assert_eq!(fs::read_to_string(&aside).unwrap(), format!("file {round}"));
            assert_eq!(fs::read_to_string(with(&aside, "-wal")).unwrap(), format!("log {round}"));
            assert!(!path.exists() && !with(&path, "-wal").exists());
        }
    }
}

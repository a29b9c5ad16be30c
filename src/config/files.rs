//! The files of a configuration, with the contents that were read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::support::secret::Secret;
use crate::support::whole_file::{read_any, read_regular};

/// The largest configuration file. A file with a thousand upstreams has 1 MB.
pub(super) const MAX_CONFIGURATION: usize = 4 << 20;

/// The largest file of a secret.
const MAX_SECRET: usize = 64 << 10;

/// The configuration file and the files of its secrets. [`crate::tls::Watch`] reads the files of
/// certificates again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The configuration file, of any kind.
    origin: Option<PathBuf>,
    /// Regular files.
    contents: Vec<(PathBuf, Contents)>,
    /// The secrets from pipes, which can be read only once.
    pipes: BTreeMap<PathBuf, Secret>,
    /// A reload: no further pipe is read.
    is_reload: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Sha256([u8; digest::SHA256_OUTPUT_LEN]),
    Unreadable(io::ErrorKind),
}

/// The text of a secret's file.
pub(super) struct SecretText {
    pub(super) text: String,
    /// The file is a pipe that has just been read.
    pub(super) is_pipe: bool,
}

impl Files {
    /// The files of a reload before it reads any: none, except the pipes that were read already.
    pub(super) fn before_reload(&self) -> Self {
        Self { pipes: self.pipes.clone(), is_reload: true, ..Self::default() }
    }

    pub(super) fn origin(&self) -> Option<&Path> {
        self.origin.as_deref()
    }

    /// Adds the configuration file with its contents.
    pub(super) fn add_origin(&mut self, path: &Path, contents: &[u8]) {
        self.origin = Some(path.to_owned());
        if fs::metadata(path).is_ok_and(|file| file.is_file()) {
            self.contents.push((path.to_owned(), Contents::of(contents)));
        }
    }

    /// Reads the file of a secret and adds it.
    pub(super) fn read_secret(&mut self, path: &Path) -> io::Result<SecretText> {
        if let Some(secret) = self.pipes.get(path) {
            return Ok(SecretText { text: secret.expose().to_owned(), is_pipe: false });
        }
        let (bytes, is_regular) = match self.is_reload {
            true => (read_regular(path, MAX_SECRET)?, true),
            false => read_any(path, MAX_SECRET)?,
        };
        let contents = Contents::of(&bytes);
        let text = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        if is_regular {
            self.contents.push((path.to_owned(), contents));
        } else {
            self.pipes.insert(path.to_owned(), Secret::new(text.clone()));
        }
        Ok(SecretText { text, is_pipe: !is_regular })
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.contents.extend(others.contents);
        self.pipes.extend(others.pipes);
    }

    /// Returns the same files with their present contents.
    pub fn now(&self) -> Self {
        let contents = self.contents.iter().map(|(path, _)| (path.clone(), Contents::read(path))).collect();
        Self { contents, ..self.clone() }
    }

    /// Returns true if both have the same files with the same contents.
    pub fn has_contents_of(&self, other: &Self) -> bool {
        self.origin == other.origin && self.contents == other.contents && self.pipes == other.pipes
    }

    /// Returns true if no file can change.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        Self::Sha256(digest.as_ref().try_into().expect("a SHA-256 digest has SHA256_OUTPUT_LEN bytes"))
    }

    fn read(path: &Path) -> Self {
        match read_regular(path, MAX_CONFIGURATION) {
            Ok(bytes) => Self::of(&bytes),
            Err(error) => Self::Unreadable(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_when_contents_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let mut files = Files::default();
        files.add_origin(Path::new("/dev/null"), b"");
        assert_eq!(files.read_secret(&path).unwrap().text, "one");
        assert_eq!(files.contents.len(), 1, "a device cannot change");
        assert_eq!(files.now(), files);
        fs::write(&path, "two").unwrap();
        let changed = files.now();
        assert_ne!(changed, files);
        fs::remove_file(&path).unwrap();
        assert_ne!(changed.now(), changed);
        fs::write(&path, "one").unwrap();
        assert_eq!(changed.now(), files);
    }

    #[test]
    fn reload_keeps_the_secret_of_a_pipe_and_reads_no_other_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"sk-1").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader)));
        let mut files = Files::default();
        let secret = files.read_secret(&path).unwrap();
        assert_eq!((secret.text.as_str(), secret.is_pipe), ("sk-1", true));
        assert!(files.is_empty());
        let mut reload = files.before_reload();
        let secret = reload.read_secret(&path).unwrap();
        assert_eq!((secret.text.as_str(), secret.is_pipe), ("sk-1", false));
        assert!(Files::default().before_reload().read_secret(&path).is_err());
    }

    #[test]
    fn secret_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, vec![b'a'; MAX_SECRET]).unwrap();
        assert!(Files::default().read_secret(&path).is_ok());
        fs::write(&path, vec![b'a'; MAX_SECRET + 1]).unwrap();
        let error = Files::default().read_secret(&path).err().unwrap();
        assert_eq!(error.to_string(), "it has more than 64 KiB");
    }
}

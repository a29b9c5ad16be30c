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
    /// The file of stored keys, which may be missing. It changes apart from the others.
    keys: Option<KeysFile>,
    /// A reload: there were stored keys before it.
    had_keys: bool,
    /// A reload: no further pipe is read.
    is_reload: bool,
}

/// The file of stored keys with its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysFile {
    path: PathBuf,
    contents: Contents,
    has_keys: bool,
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
        Self { pipes: self.pipes.clone(), is_reload: true, had_keys: self.has_keys(), ..Self::default() }
    }

    /// The same files before the stored keys alone are read again.
    pub(super) fn before_keys(&self) -> Self {
        Self { had_keys: self.has_keys(), ..self.clone() }
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

    /// Reads the file of prices and adds it, also if it is missing. `None` then.
    pub(super) fn read_prices(&mut self, path: &Path) -> io::Result<Option<String>> {
        let (contents, text) = match read_regular(path, MAX_CONFIGURATION) {
            Ok(bytes) => {
                let contents = Contents::of(&bytes);
                let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
                (contents, Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Contents::Unreadable(error.kind()), None)
            }
            Err(error) => return Err(error),
        };
        self.contents.push((path.to_owned(), contents));
        Ok(text)
    }

    /// Reads the file of stored keys. `None` if it is missing, or has nothing but space.
    pub(super) fn read_keys(&mut self, path: &Path) -> io::Result<Option<String>> {
        let (contents, text) = match read_regular(path, MAX_CONFIGURATION) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
                (Contents::of(text.as_bytes()), Some(text).filter(|text| !text.trim_ascii().is_empty()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Contents::Unreadable(error.kind()), None)
            }
            Err(error) => return Err(error),
        };
        self.keys = Some(KeysFile { path: path.to_owned(), contents, has_keys: false });
        Ok(text)
    }

    /// Records that there are keys in the file that was read.
    pub(super) fn note_keys(&mut self) {
        self.keys.as_mut().expect("the file was read").has_keys = true;
    }

    /// Returns true if keys were in use before this reading.
    pub(super) fn had_keys(&self) -> bool {
        self.had_keys
    }

    fn has_keys(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.has_keys)
    }

    /// The file of stored keys with its present contents, if they differ from those that were read.
    pub fn changed_keys(&self) -> Option<KeysFile> {
        let keys = self.keys.as_ref()?;
        let contents = Contents::read(&keys.path);
        (contents != keys.contents).then(|| KeysFile { contents, ..keys.clone() })
    }

    /// Returns true if the file of stored keys was read.
    pub fn has_read_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Replaces the file of stored keys by the one of `others`.
    pub fn take_keys_of(&mut self, others: &Self) {
        self.keys.clone_from(&others.keys);
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.contents.extend(others.contents);
        self.pipes.extend(others.pipes);
        self.keys = others.keys;
    }

    /// Returns the same files with their present contents.
    pub fn now(&self) -> Self {
        let contents = self.contents.iter().map(|(path, _)| (path.clone(), Contents::read(path))).collect();
        Self { contents, ..self.clone() }
    }

    /// Returns true if both have the same files with the same contents.
    pub fn has_contents_of(&self, other: &Self) -> bool {
        self.origin == other.origin
            && self.contents == other.contents
            && self.pipes == other.pipes
            && self.keys == other.keys
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

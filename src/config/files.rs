//! The files that a configuration was read from, by their contents.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

/// The most of a file that is compared. A configuration of a thousand upstreams has 1 MB.
const MAX_BYTES: usize = 16 << 20;

/// The configuration file and the files of its secrets. Those of certificates are read again by
/// [`crate::tls::Watch`]. A pipe is not among them, since it can be read once only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Contents)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Sha256([u8; digest::SHA256_OUTPUT_LEN]),
    Unreadable(io::ErrorKind),
}

impl Files {
    /// Adds a file with the contents that were read.
    pub(super) fn add(&mut self, path: &Path, contents: &[u8]) {
        if fs::metadata(path).is_ok_and(|file| file.is_file()) {
            self.0.push((path.to_owned(), Contents::of(contents)));
        }
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The same files with their present contents.
    pub fn now(&self) -> Self {
        Self(self.0.iter().map(|(path, _)| (path.clone(), Contents::read(path))).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, &bytes[..bytes.len().min(MAX_BYTES)]);
        Self::Sha256(digest.as_ref().try_into().expect("a SHA-256 digest has SHA256_OUTPUT_LEN bytes"))
    }

    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_BYTES as u64).read_to_end(&mut bytes)) {
            Ok(_) => Self::of(&bytes),
            Err(error) => Self::Unreadable(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_when_contents_do_and_pipes_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let mut files = Files::default();
        files.add(&path, b"one");
        files.add(Path::new("/dev/null"), b"");
        assert_eq!(files.0.len(), 1);
        assert_eq!(files.now(), files);
        fs::write(&path, "two").unwrap();
        let changed = files.now();
        assert_ne!(changed, files);
        fs::remove_file(&path).unwrap();
        assert_ne!(changed.now(), changed);
        fs::write(&path, "one").unwrap();
        assert_eq!(changed.now(), files);
    }
}

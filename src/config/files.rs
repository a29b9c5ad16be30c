//! The files that a configuration was read from, by what was in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

/// The configuration file and the files of its secrets. Those of certificates are read again by
/// [`crate::tls::Watch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Contents)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Sha256([u8; digest::SHA256_OUTPUT_LEN]),
    Unreadable(io::ErrorKind),
}

impl Files {
    /// Adds what was read.
    pub(super) fn add(&mut self, path: &Path, contents: &[u8]) {
        self.0.push((path.to_owned(), Contents::of(contents)));
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The same files as they are now.
    pub fn now(&self) -> Self {
        let now = |path: &PathBuf| match fs::read(path) {
            Ok(contents) => Contents::of(&contents),
            Err(error) => Contents::Unreadable(error.kind()),
        };
        Self(self.0.iter().map(|(path, _)| (path.clone(), now(path))).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        Self::Sha256(digest.as_ref().try_into().expect("a SHA-256 digest has SHA256_OUTPUT_LEN bytes"))
    }
}

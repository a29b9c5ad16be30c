//! The place of a PEM text.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pem;
use crate::support::secret::Secret;
use crate::support::whole_file;

/// The largest number of bytes of a file that are read. The roots of a whole system are about 0.25
/// MB.
const MAX_BYTES: usize = 8 << 20;

/// A file that may change, or a fixed text.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that is read each time.
    File(PathBuf),
    Text {
        /// The name for messages, such as `the variable NAME`.
        name: Arc<str>,
        /// PEM, possibly a key.
        text: Arc<Secret>,
    },
}

impl Source {
    /// A text from `name`: PEM, or the base64 of PEM.
    ///
    /// # Errors
    /// Fails if the text is neither. The message does not repeat it.
    pub fn text(name: &str, text: &str) -> Result<Self, String> {
        Ok(Self::Text { name: name.into(), text: Arc::new(Secret::new(decode(text)?)) })
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text { .. } => None,
        }
    }

    /// The present text. Bytes that are not UTF-8 are replaced, since PEM may have any text around
    /// it.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn read(&self) -> Result<Secret, String> {
        let path = match self {
            Self::Text { text, .. } => return Ok(Secret::clone(text)),
            Self::File(path) => path,
        };
        let bytes = self.bytes().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
            io::ErrorKind::FileTooLarge => format!(
                "{} has more than {} MiB: that is not a certificate or a key",
                path.display(),
                MAX_BYTES >> 20
            ),
            _ => format!("cannot read {}: {error}", path.display()),
        })?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(format!("{} is empty", path.display()));
        }
        Ok(Secret::new(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The present bytes of a file; empty for a fixed text.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::File(path) => whole_file::read_regular(path, MAX_BYTES),
            Self::Text { .. } => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Converts PEM, or PEM in base64, into PEM.
///
/// # Errors
/// Fails if the text is neither. The message does not repeat it.
pub fn decode(text: &str) -> Result<String, String> {
    const MARK: &str = "-----BEGIN ";
    if text.contains(MARK) {
        return Ok(text.to_owned());
    }
    let decoded = pem::base64(text).ok_or("is neither PEM nor the base64 of PEM")?;
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    if decoded.contains(MARK) {
        Ok(decoded)
    } else {
        Err("is base64, but of something that is not PEM: take the base64 of the whole file, its BEGIN line included".to_owned())
    }
}

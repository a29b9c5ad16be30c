//! The mistakes in a configuration, for the user who wrote it.

use std::error::Error;
use std::fmt;

/// A mistake to correct. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its place: `streamgauge.toml:12: upstreams.azure.url`, `environment
    /// STREAMGAUGE_SERVER__LISTEN` or `--listen`.
    pub place: String,
    /// The mistake and the right form, on one line.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Every mistake, in the order of the file, then of the environment, then of the command line.
/// Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    pub(super) fn one(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for Mistakes {
    /// One line each, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Mistakes {}

//! The path to a value, with its notations in the file and in the environment.

use std::fmt;

/// The prefix of our environment variables.
pub(super) const PREFIX: &str = "STREAMGAUGE_";

/// Separates the parts of such a name, since keys contain single underscores.
pub(super) const SEPARATOR: &str = "__";

/// The keys from the root to a value. `Display` is in TOML's notation:
/// `upstreams.azure.headers."X.Team"`, `routes[1].path` (tables of an array count from 0).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(super) fn root() -> Self {
        Self::default()
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The last key; none for the root and for places in arrays.
    pub(super) fn last(&self) -> Option<&str> {
        match self.0.last() {
            Some(Step::Key(key)) => Some(key),
            Some(Step::Index(_)) | None => None,
        }
    }

    /// The table or array that contains the value; the root for the root.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The path itself, then each table that contains it, without the root.
    pub(super) fn outwards(&self) -> impl Iterator<Item = Self> {
        (1..=self.0.len()).rev().map(|length| Self(self.0[..length].to_vec()))
    }

    /// The environment variable that sets the key.
    pub(super) fn variable(&self) -> String {
        let parts = self.0.iter().map(|step| match step {
            Step::Key(key) => key.to_uppercase().replace('-', "_"),
            Step::Index(index) => index.to_string(),
        });
        format!("{PREFIX}{}", parts.collect::<Vec<_>>().join(SEPARATOR))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if depth > 0 { "." } else { "" };
                    if is_bare(key) { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Returns true if TOML accepts the key without quotes.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_written_as_toml_and_as_a_variable() {
        let azure = KeyPath::root().key("upstreams").key("my-azure");
        for (path, toml, variable) in [
            (azure.key("url"), "upstreams.my-azure.url", "STREAMGAUGE_UPSTREAMS__MY_AZURE__URL"),
            (
                azure.key("models").key("gpt-4.1"),
                "upstreams.my-azure.models.\"gpt-4.1\"",
                "STREAMGAUGE_UPSTREAMS__MY_AZURE__MODELS__GPT_4.1",
            ),
            (
                KeyPath::root().key("routes").index(1).key("path"),
                "routes[1].path",
                "STREAMGAUGE_ROUTES__1__PATH",
            ),
            (KeyPath::root().key(""), "\"\"", "STREAMGAUGE_"),
        ] {
            assert_eq!((path.to_string().as_str(), path.variable().as_str()), (toml, variable));
        }
    }

    #[test]
    fn outwards_goes_from_the_whole_to_the_first_key() {
        let path = KeyPath::root().key("a").index(0).key("b");
        let shown: Vec<_> = path.outwards().map(|path| path.to_string()).collect();
        assert_eq!(shown, ["a[0].b", "a[0]", "a"]);
    }
}

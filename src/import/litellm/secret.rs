//! Secrets of the source: variables of the environment, or texts in the file.

use crate::import::toml_text::quoted;
use crate::import::yaml::Node;

/// The beginning of a value that names a variable.
const VARIABLE: &str = "os.environ/";

/// Beginnings of values that other stores of secrets replace.
const STORES: [&str; 3] = ["oidc/", "aws_secret_manager/", "google_secret_manager/"];

/// Keys that people write for services that need none.
const NO_KEYS: [&str; 12] = [
    "none",
    "null",
    "empty",
    "dummy",
    "fake",
    "na",
    "n/a",
    "not-needed",
    "not_needed",
    "anything",
    "xxx",
    "fake-key",
];

/// The place of a secret, in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `{ env = "NAME" }`, as in the source.
    Variable(String),
    /// `{ value = "..." }`, which the user has allowed.
    Value(String),
    /// `{ env = "NAME" }` of a variable that is not set yet.
    NewVariable(String),
    /// A text that stands for no key.
    NoKey,
    /// The secret is in a store that is not known here.
    Elsewhere,
}

impl Place {
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Variable(name) | Self::NewVariable(name) => format!("{{ env = {} }}", quoted(name)),
            Self::Value(value) => format!("{{ value = {} }}", quoted(value)),
            Self::NoKey | Self::Elsewhere => quoted("none"),
        }
    }
}

/// Reads secrets.
pub(super) struct Secrets {
    with_secrets: bool,
    /// Variables that the file itself sets.
    set: Vec<String>,
    /// The literal secrets with the variables that replace them.
    replaced: Vec<(String, String)>,
}

impl Secrets {
    pub(super) fn new(with_secrets: bool, root: &Node) -> Self {
        let set = root.get("environment_variables").map(Node::entries).unwrap_or_default();
        Self { with_secrets, set: set.iter().map(|(name, _)| name.clone()).collect(), replaced: Vec::new() }
    }

    /// The place of a secret. `name` is a variable for one that stands in the file.
    pub(super) fn read(&mut self, text: &str, name: &str) -> Place {
        if let Some(variable) = text.strip_prefix(VARIABLE) {
            return Place::Variable(variable.trim().to_owned());
        }
        if STORES.iter().any(|store| text.starts_with(store)) {
            return Place::Elsewhere;
        }
        if NO_KEYS.contains(&text.to_ascii_lowercase().as_str()) {
            return Place::NoKey;
        }
        if self.with_secrets {
            return Place::Value(text.to_owned());
        }
        if let Some((_, variable)) = self.replaced.iter().find(|(secret, _)| secret == text) {
            return Place::NewVariable(variable.clone());
        }
        let is_used = |name: &str| {
            self.set.iter().any(|set| set == name) || self.replaced.iter().any(|(_, used)| used == name)
        };
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let variable = std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_used(name));
        let variable = variable.unwrap_or_else(|| name.to_owned());
        self.replaced.push((text.to_owned(), variable.clone()));
        Place::NewVariable(variable)
    }
}

/// The variable that a value names.
pub(super) fn variable(text: &str) -> Option<&str> {
    text.strip_prefix(VARIABLE).map(str::trim)
}

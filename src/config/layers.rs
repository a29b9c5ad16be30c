//! The layers of a configuration, merged. Each value keeps the layer that it comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Tag, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::file::{File, NAMELESS};
use super::key_path::{KeyPath, Step};
use super::mistakes::Mistake;
use super::outline::Outline;
use super::{DEFAULTS, Overrides, environment};

/// The variable that is a sufficient configuration without a file.
pub(super) const OPENAI_API_KEY: &str = "OPENAI_API_KEY";

/// The origin of a value. Later layers win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// Compiled in.
    Defaults,
    /// The upstream that [`OPENAI_API_KEY`] implies.
    Implied,
    File,
    Environment,
    CommandLine,
}

impl Layer {
    const ALL: [Self; 5] = [Self::Defaults, Self::Implied, Self::File, Self::Environment, Self::CommandLine];

    /// The name of its metadata in figment.
    fn name(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::Implied => "implied",
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "command line",
        }
    }
}

/// The order of mistakes: those of the file in its order, then of the environment, then of the
/// command line.
pub(super) type Rank = (u8, usize);

/// The rank of mistakes in the names of variables.
pub(super) const VARIABLE_RANK: Rank = (1, 0);

/// The merged tree.
pub(super) struct Layers {
    values: Value,
    origins: Figment,
    file: Option<(Option<PathBuf>, Outline)>,
}

impl Layers {
    /// Also returns the mistakes in the names of variables.
    pub(super) fn merge(
        file: Option<File>,
        env: &BTreeMap<String, String>,
        overrides: &Overrides,
    ) -> (Self, Vec<Mistake>) {
        let (in_file, file) = match file {
            Some(File { origin, values, outline, .. }) => (values, Some((origin, outline))),
            None => (Dict::new(), None),
        };
        let (in_env, mistakes) = environment::tree(env, &in_file);
        let implied = if file.is_none() { implied(env, &in_env) } else { Dict::new() };
        let defaults = File::parse(None, DEFAULTS).map(|file| file.values);
        let origins = Figment::new()
            .merge(Tree(
                Layer::Defaults,
                defaults.unwrap_or_else(|error| panic!("config/default.toml: {error}")),
            ))
            .merge(Tree(Layer::Implied, implied))
            .merge(Tree(Layer::File, in_file))
            .merge(Tree(Layer::Environment, in_env))
            .merge(Tree(Layer::CommandLine, command_line(overrides)));
        let profiles = origins.data().expect("the layers are trees already, which cannot fail");
        let values = profiles.into_values().next().unwrap_or_default();
        (Self { values: Value::from(values), origins, file }, mistakes)
    }

    /// A file alone, which is no configuration.
    pub(super) fn of(file: File) -> Self {
        let File { origin, values, outline, .. } = file;
        let origins = Figment::new().merge(Tree(Layer::File, values));
        let profiles = origins.data().expect("the layer is a tree already, which cannot fail");
        let values = profiles.into_values().next().unwrap_or_default();
        Self { values: Value::from(values), origins, file: Some((origin, outline)) }
    }

    pub(super) fn root(&self) -> &Value {
        &self.values
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The directory of the file, to which relative paths of secrets refer.
    pub(super) fn folder(&self) -> &Path {
        let origin = self.file.as_ref().and_then(|(origin, _)| origin.as_deref());
        origin.and_then(Path::parent).unwrap_or(Path::new(""))
    }

    /// The layer of a value. A table in the file belongs to the file, even if other layers add to
    /// it. A missing value belongs to the layer of the table that lacks it.
    pub(super) fn layer(&self, path: &KeyPath) -> Layer {
        let found = path.outwards().find_map(|path| Some((self.value(&path)?, path)));
        match found {
            Some((Value::Dict(..), path)) if self.in_file(&path) => Layer::File,
            Some((value, _)) => self.layer_of(value.tag()),
            None => Layer::File,
        }
    }

    pub(super) fn layer_of(&self, tag: Tag) -> Layer {
        let name = self.origins.get_metadata(tag).map(|metadata| metadata.name.as_ref());
        Layer::ALL.into_iter().find(|layer| Some(layer.name()) == name).unwrap_or(Layer::Defaults)
    }

    /// The place of the value in messages, in the notation of its layer.
    pub(super) fn place(&self, path: &KeyPath) -> String {
        match self.layer(path) {
            Layer::Defaults | Layer::File => {
                let file = self.file_and_line(path);
                if path.steps().is_empty() { file } else { format!("{file}: {path}") }
            }
            Layer::Implied => format!("environment {OPENAI_API_KEY}"),
            Layer::Environment => format!("environment {}", path.variable()),
            Layer::CommandLine => format!("--{}", path.last().unwrap_or_default()),
        }
    }

    /// `streamgauge.toml:12`, in the notation of compilers.
    fn file_and_line(&self, path: &KeyPath) -> String {
        let Some((Some(origin), outline)) = &self.file else { return NAMELESS.to_owned() };
        match outline.line(path) {
            Some(line) => format!("{}:{line}", origin.display()),
            None => origin.display().to_string(),
        }
    }

    pub(super) fn rank(&self, path: &KeyPath) -> Rank {
        let position = self.file.as_ref().map_or(0, |(_, outline)| outline.position(path));
        match self.layer(path) {
            Layer::Defaults | Layer::File => (0, position),
            Layer::Implied | Layer::Environment => (1, position),
            Layer::CommandLine => (2, position),
        }
    }

    fn in_file(&self, path: &KeyPath) -> bool {
        self.file.as_ref().is_some_and(|(_, outline)| outline.contains(path))
    }

    pub(super) fn value(&self, path: &KeyPath) -> Option<&Value> {
        path.steps().iter().try_fold(&self.values, |value, step| match (value, step) {
            (Value::Dict(_, entries), Step::Key(key)) => entries.get(key),
            (Value::Array(_, items), Step::Index(index)) => items.get(*index),
            _ => None,
        })
    }
}

/// Without a file, OpenAI's own variable implies an upstream, unless the environment describes
/// others.
fn implied(env: &BTreeMap<String, String>, in_env: &Dict) -> Dict {
    let elsewhere = match in_env.get("upstreams") {
        Some(Value::Dict(_, upstreams)) => upstreams.keys().any(|name| name != "openai"),
        Some(_) => true,
        None => false,
    };
    let has_key = env.get(OPENAI_API_KEY).is_some_and(|key| !key.is_empty());
    if elsewhere || !has_key {
        return Dict::new();
    }
    nested(&["upstreams", "openai", "api_key", "env"], OPENAI_API_KEY)
}

fn command_line(overrides: &Overrides) -> Dict {
    overrides.listen.as_deref().map(|listen| nested(&["server", "listen"], listen)).unwrap_or_default()
}

fn nested(path: &[&str], value: &str) -> Dict {
    match path {
        [] => Dict::new(),
        [key] => Dict::from([((*key).to_owned(), Value::from(value))]),
        [key, deeper @ ..] => Dict::from([((*key).to_owned(), Value::from(nested(deeper, value)))]),
    }
}

/// One layer, for figment.
struct Tree(Layer, Dict);

impl Provider for Tree {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.name())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.1.clone()))
    }
}

//! A configuration of LiteLLM's proxy (`config.yaml`) as one of ours.
//!
//! Each key of the source gets a [`Treatment`]. The result has a comment with the source above each
//! part, and passes `check` once the variables that it names are set.

mod deployment;
mod draft;
mod finding;
mod routing;
mod secret;
mod service;
mod settings;

pub use finding::{Finding, Treatment};

use super::yaml::{Node, Value};
use deployment::deployments;
use draft::Draft;
use finding::Findings;
use secret::Secrets;
use settings::Settings;

/// A converted configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Our configuration. Empty if no deployment could be taken.
    pub toml: String,
    /// A verdict for each key, in the order of the file.
    pub findings: Vec<Finding>,
}

/// Converts the text of a `config.yaml`. `with_secrets` copies secrets that are in it; without, they
/// become variables of the environment.
///
/// # Errors
/// Fails with the reason for which the text is not such a file.
pub fn import(text: &str, with_secrets: bool) -> Result<Imported, String> {
    let root = Node::parse(text)?;
    let Some(models) = root.get("model_list") else {
        return Err("is not a configuration of LiteLLM's proxy: it has no model_list".to_owned());
    };
    if !matches!(models.value, Value::List(_) | Value::Null) {
        return Err("is not a configuration of LiteLLM's proxy: model_list is not a list".to_owned());
    }
    let mut findings = Findings::default();
    let mut secrets = Secrets::new(with_secrets, &root);
    let mut draft = Draft::default();
    let settings = Settings::read(&root, &mut findings, &mut secrets, &mut draft);
    let deployments = deployments(&root, &settings, &mut findings, &mut secrets, &mut draft);
    routing::route(deployments, &settings, &mut findings, &mut draft);
    for (key, node) in root.entries() {
        // YAML's usual place of anchors.
        if key.starts_with("x-") {
            findings.taken(key, node);
        } else if !READ.contains(&key.as_str()) {
            findings.not_here(key, node, "has no counterpart");
        }
    }
    Ok(Imported { toml: draft.into_toml(), findings: findings.in_order() })
}

/// The keys of the file that are read.
const READ: [&str; 6] = [
    "model_list",
    "credential_list",
    "router_settings",
    "litellm_settings",
    "general_settings",
    "environment_variables",
];

#[cfg(test)]
mod tests;

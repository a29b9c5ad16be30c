//! Azure, Vertex AI and Bedrock: their URLs, and the proofs of identities.

use super::{Build, Kind, report};
use crate::import::litellm::secret::variable;
use crate::import::toml_text::quoted;
use crate::import::yaml::Node;

/// The version that LiteLLM sends to Azure if none is configured, by its sources (1.110).
const AZURE_VERSION: &str = "2025-02-01-preview";

impl Build<'_, '_> {
    pub(super) fn azure(&mut self, model: &str, node: &Node) -> Result<Kind, ()> {
        let path = self.parameters.at("model");
        let Some(base) = self.parameters.base() else {
            self.findings.by_hand(&path, node, "needs an api_base, the URL of the Azure resource");
            return Err(());
        };
        self.findings.taken(&path, node);
        // Names of resources may begin with the same word.
        let in_path = base.match_indices("/openai").find(|(at, _)| base[..*at].contains("://"));
        let (resource, is_v1) = match in_path {
            Some((at, part)) => (&base[..at], base[at + part.len()..].starts_with("/v1")),
            None => (base, false),
        };
        self.url(resource);
        if !is_v1 {
            let version = self.parameters.text("api_version").unwrap_or(AZURE_VERSION);
            match variable(version) {
                Some(name) => {
                    let note = format!("write the version that {name} has in place of {AZURE_VERSION}");
                    let node = self.parameters.get("api_version").unwrap_or(node);
                    self.findings.by_hand(&self.parameters.at("api_version"), node, &note);
                    self.lines.push(format!("api_version = {}", quoted(AZURE_VERSION)));
                }
                None => {
                    self.lines.push(format!("api_version = {}", quoted(version)));
                    self.take("api_version");
                }
            }
        } else {
            self.take("api_version");
        }
        if self.parameters.get("client_secret").is_some() || self.parameters.get("tenant_id").is_some() {
            self.entra();
        } else {
            self.api_key("AZURE_API_KEY", false);
        }
        Ok(("azure", "azure".to_owned(), model.to_owned()))
    }

    pub(super) fn is_dated(&self) -> bool {
        self.lines.iter().any(|line| line.starts_with("api_version = \"2"))
    }

    /// Tokens of Entra ID by a client secret.
    fn entra(&mut self) {
        let mut lines = vec!["by = \"client_secret\"".to_owned()];
        for (theirs, ours, name) in [
            ("tenant_id", "tenant", "AZURE_TENANT_ID"),
            ("client_id", "client", "AZURE_CLIENT_ID"),
            ("client_secret", "secret", "AZURE_CLIENT_SECRET"),
        ] {
            let Some((node, text)) = self.parameters.get(theirs).and_then(|node| Some((node, node.text()?)))
            else {
                continue;
            };
            let path = self.parameters.at(theirs);
            if ours == "secret" {
                let place = self.secrets.read(text, name);
                report(self.findings, &path, node, &place);
                lines.push(format!("secret = {}", place.toml()));
            } else if variable(text) == Some(name) {
                // The variable is read without a key.
                self.findings.taken(&path, node);
            } else if let Some(variable) = variable(text) {
                self.findings.by_hand(
                    &path,
                    node,
                    &format!("the value is no secret here: write that of {variable}"),
                );
            } else {
                self.findings.taken(&path, node);
                lines.push(format!("{ours} = {}", quoted(text)));
            }
        }
        self.tables.push(("entra", lines));
    }

    pub(super) fn vertex(&mut self, model: &str, node: &Node) -> Result<Kind, ()> {
        let path = self.parameters.at("model");
        if !model.starts_with("gemini") && model != "*" {
            let note = "Vertex AI serves this model by its publisher's API, which is not translated";
            self.findings.not_here(&path, node, note);
            return Err(());
        }
        let (project, location) =
            (self.parameters.text("vertex_project"), self.parameters.text("vertex_location"));
        let (Some(project), Some(location)) = (project, location) else {
            self.findings.by_hand(&path, node, "needs vertex_project and vertex_location for the URL");
            return Err(());
        };
        if variable(project).or_else(|| variable(location)).is_some() {
            self.findings.by_hand(
                &path,
                node,
                "the project and the location are parts of the URL: write them",
            );
            return Err(());
        }
        self.findings.near(
            &path,
            node,
            "requests go to Vertex AI's OpenAI-style endpoint and are not translated",
        );
        let host = match location {
            "global" => "aiplatform.googleapis.com".to_owned(),
            _ => format!("{location}-aiplatform.googleapis.com"),
        };
        self.url(&format!("https://{host}/v1/projects/{project}/locations/{location}/endpoints/openapi"));
        self.take("vertex_project");
        self.take("vertex_location");
        let mut lines = Vec::new();
        if let Some((node, text)) =
            self.parameters.get("vertex_credentials").and_then(|n| Some((n, n.text()?)))
        {
            let path = self.parameters.at("vertex_credentials");
            match (variable(text), text.trim_start().starts_with('{')) {
                (None, false) => {
                    self.findings.taken(&path, node);
                    lines.push(format!("credentials = {{ file = {} }}", quoted(text)));
                }
                _ => {
                    let place = self.secrets.read(text, "GOOGLE_CREDENTIALS");
                    report(self.findings, &path, node, &place);
                    lines.push(format!("credentials = {}", place.toml()));
                }
            }
        }
        self.tables.push(("google", lines));
        Ok((
            "other",
            "vertex".to_owned(),
            if model == "*" { model.to_owned() } else { format!("google/{model}") },
        ))
    }

    pub(super) fn bedrock(&mut self, model: &str, node: &Node) -> Result<Kind, ()> {
        let path = self.parameters.at("model");
        let model = ["converse/", "openai/", "invoke/"]
            .iter()
            .fold(model, |model, part| model.strip_prefix(part).unwrap_or(model));
        if !model.starts_with("openai.") {
            let note = "Bedrock serves this model by an API of its own, which is not translated";
            self.findings.not_here(&path, node, note);
            return Err(());
        }
        let Some(region) =
            self.parameters.text("aws_region_name").filter(|region| variable(region).is_none())
        else {
            self.findings.by_hand(&path, node, "needs aws_region_name as text, a part of the URL");
            return Err(());
        };
        self.findings.near(
            &path,
            node,
            "requests go to Bedrock's OpenAI-style endpoint and are not translated",
        );
        self.url(&format!("https://bedrock-runtime.{region}.amazonaws.com/openai/v1"));
        self.take("aws_region_name");
        for key in ["aws_access_key_id", "aws_secret_access_key"] {
            if let Some(node) = self.parameters.get(key) {
                let note = "the keys are those of the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role";
                let expected = key.to_ascii_uppercase();
                match node.text().and_then(variable) == Some(expected.as_str()) {
                    true => self.findings.taken(&self.parameters.at(key), node),
                    false => self.findings.by_hand(&self.parameters.at(key), node, note),
                }
            }
        }
        self.tables.push(("aws", vec![format!("region = {}", quoted(region))]));
        Ok(("other", "bedrock".to_owned(), model.to_owned()))
    }
}

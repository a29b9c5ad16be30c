//! The service of a deployment: the provider of its model as one of ours.

mod clouds;
mod common;

use super::draft;
use super::finding::Findings;
use super::secret::{Place, Secrets, variable};
use crate::import::services::KnownService;
use crate::import::toml_text::quoted;
use crate::import::yaml::{Node, Value};

/// Providers with OpenAI's API at the URL of the user, and the variables of their keys.
const AT_BASE: [(&str, &str); 8] = [
    ("hosted_vllm", "HOSTED_VLLM_API_KEY"),
    ("lm_studio", "LM_STUDIO_API_KEY"),
    ("litellm_proxy", "LITELLM_PROXY_API_KEY"),
    ("openai_like", "OPENAI_LIKE_API_KEY"),
    ("custom_openai", "OPENAI_API_KEY"),
    ("text-completion-openai", "OPENAI_API_KEY"),
    ("llamafile", "LLAMAFILE_API_KEY"),
    ("xinference", "XINFERENCE_API_KEY"),
];

/// Beginnings of OpenAI's models, which LiteLLM knows without a provider.
const OPENAI_MODELS: [&str; 10] = [
    "gpt-",
    "chatgpt-",
    "o1",
    "o3",
    "o4",
    "text-embedding-",
    "whisper-",
    "tts-",
    "dall-e-",
    "omni-moderation-",
];

/// The keys of a deployment that decide its service. The others are read elsewhere.
const PARAMETERS: [&str; 23] = [
    "model",
    "custom_llm_provider",
    "litellm_credential_name",
    "api_key",
    "api_base",
    "base_url",
    "api_version",
    "organization",
    "timeout",
    "stream_timeout",
    "extra_headers",
    "headers",
    "ssl_verify",
    "azure_ad_token",
    "tenant_id",
    "client_id",
    "client_secret",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "aws_region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
];

/// A deployment's place.
pub(super) struct Found {
    /// The name for a new upstream.
    pub(super) name: String,
    pub(super) service: draft::Service,
    /// The model at the service. `*` for all of its models.
    pub(super) model: String,
}

/// The parameters of a deployment, with those of its credential.
pub(super) struct Parameters<'a> {
    pub(super) path: String,
    pub(super) own: &'a Node,
    pub(super) credential: Option<&'a Node>,
    /// The timeouts of all deployments, in seconds.
    pub(super) timeout: Option<f64>,
    pub(super) stream_timeout: Option<f64>,
}

impl<'a> Parameters<'a> {
    pub(super) fn is_known(key: &str) -> bool {
        PARAMETERS.contains(&key)
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        let own = self.own.get(key).filter(|node| node.value != Value::Null);
        own.or_else(|| self.credential?.get(key))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.text()
    }

    fn base(&self) -> Option<&'a str> {
        self.text("api_base").or_else(|| self.text("base_url")).map(|base| base.trim_end_matches('/'))
    }

    fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

/// Finds the service, or reports why there is none: then all parameters are reported with the model.
pub(super) fn find(
    parameters: &Parameters<'_>,
    findings: &mut Findings,
    secrets: &mut Secrets,
) -> Option<Found> {
    let node = parameters.get("model").unwrap_or(parameters.own);
    let path = parameters.at("model");
    let Some(text) = parameters.text("model") else {
        findings.by_hand(&path, node, "a deployment needs a model");
        return None;
    };
    let (provider, model) = provider(text, parameters);
    let Some(provider) = provider else {
        findings.by_hand(
            &path,
            node,
            "LiteLLM finds the provider of this model in a list: write it, as in openai/NAME",
        );
        return None;
    };
    let mut build = Build { parameters, findings, secrets, lines: Vec::new(), tables: Vec::new() };
    match build.service(&provider, &model, node) {
        Ok((kind, name, model)) => {
            let has_deployments = kind == "azure" && build.is_dated();
            build.common(kind);
            let Build { lines, tables, .. } = build;
            let service = draft::Service { provider: kind, lines, tables, has_deployments };
            Some(Found { name, service, model })
        }
        Err(()) => None,
    }
}

/// The provider and the model without it.
fn provider(text: &str, parameters: &Parameters<'_>) -> (Option<String>, String) {
    let named = parameters.text("custom_llm_provider");
    match (named, text.split_once('/')) {
        (Some(named), Some((prefix, model))) if prefix == named => (Some(named.to_owned()), model.to_owned()),
        (Some(named), _) => (Some(named.to_owned()), text.to_owned()),
        (None, Some((prefix, model))) => (Some(prefix.to_owned()), model.to_owned()),
        (None, None) if text == "*" || OPENAI_MODELS.iter().any(|start| text.starts_with(start)) => {
            (Some("openai".to_owned()), text.to_owned())
        }
        (None, None) if text.starts_with("claude-") => (Some("anthropic".to_owned()), text.to_owned()),
        (None, None) => (None, text.to_owned()),
    }
}

struct Build<'a, 'b> {
    parameters: &'b Parameters<'a>,
    findings: &'b mut Findings,
    secrets: &'b mut Secrets,
    lines: Vec<String>,
    tables: Vec<(&'static str, Vec<String>)>,
}

type Kind = (&'static str, String, String);

impl Build<'_, '_> {
    /// The provider here, a name, and the model. `Err` after a report.
    fn service(&mut self, provider: &str, model: &str, node: &Node) -> Result<Kind, ()> {
        let path = self.parameters.at("model");
        let kind = |kind, model: &str| Ok((kind, provider.to_owned(), model.to_owned()));
        match provider {
            "openai" => {
                let base = self.parameters.base();
                let is_openai = base.is_none_or(|base| base == "https://api.openai.com/v1");
                self.findings.taken(&path, node);
                if is_openai {
                    self.api_key("OPENAI_API_KEY", false);
                    return kind("openai", model);
                }
                self.url(base.unwrap_or_default());
                self.api_key("OPENAI_API_KEY", true);
                Ok(("other", host_name(base.unwrap_or_default()), model.to_owned()))
            }
            "azure" | "azure_text" => self.azure(model, node),
            "anthropic" | "gemini" => {
                let endpoint = "requests go to the service's own OpenAI-style endpoint and are not translated; its native API is relayed too";
                self.findings.near(&path, node, endpoint);
                if let Some(base) = self.parameters.base() {
                    let version = if provider == "anthropic" && !base.ends_with("/v1") { "/v1" } else { "" };
                    self.url(&format!("{base}{version}"));
                }
                let (kind_of, variable) = match provider {
                    "anthropic" => ("anthropic", "ANTHROPIC_API_KEY"),
                    _ => ("gemini", "GEMINI_API_KEY"),
                };
                self.api_key(variable, false);
                kind(kind_of, model)
            }
            "ollama" | "ollama_chat" => {
                self.findings.near(
                    &path,
                    node,
                    "requests go to Ollama's OpenAI-style endpoint, not to its own",
                );
                let base = self.parameters.base().unwrap_or("http://localhost:11434");
                self.url(&format!("{}/v1", base.trim_end_matches("/v1")));
                self.api_key("", true);
                Ok(("other", "ollama".to_owned(), model.to_owned()))
            }
            "vertex_ai" | "vertex_ai_beta" => self.vertex(model, node),
            "bedrock" | "bedrock_converse" => self.bedrock(model, node),
            _ => self.compatible(provider, model, node),
        }
    }

    /// A service with OpenAI's API.
    fn compatible(&mut self, provider: &str, model: &str, node: &Node) -> Result<Kind, ()> {
        let path = self.parameters.at("model");
        let base = self.parameters.base();
        if let Some(service) = KnownService::named(provider) {
            self.findings.taken(&path, node);
            self.url(base.unwrap_or(service.url));
            self.api_key(service.key, false);
            return Ok(("other", provider.to_owned(), model.to_owned()));
        }
        match (AT_BASE.iter().find(|(name, _)| *name == provider), base) {
            (Some((_, key)), Some(base)) => {
                self.findings.taken(&path, node);
                self.url(base);
                self.api_key(key, true);
                Ok(("other", provider.to_owned(), model.to_owned()))
            }
            (Some(_), None) => {
                self.findings.by_hand(&path, node, "needs an api_base, the URL of the service");
                Err(())
            }
            (None, _) => {
                let note = format!(
                    "{provider} has another API, which is not translated; if it has an OpenAI-style endpoint, add it with provider = \"other\""
                );
                self.findings.not_here(&path, node, &note);
                Err(())
            }
        }
    }

    fn url(&mut self, url: &str) {
        let key = ["api_base", "base_url"].into_iter().find(|key| self.parameters.get(key).is_some());
        let Some((key, node)) = key.and_then(|key| Some((key, self.parameters.get(key)?))) else {
            if !url.is_empty() {
                self.lines.push(format!("url = {}", quoted(url)));
            }
            return;
        };
        let path = self.parameters.at(key);
        match variable(url.split("/v1").next().unwrap_or(url)) {
            Some(name) => {
                let note =
                    format!("a URL is no secret here: write that of {name} in place of http://localhost");
                self.findings.by_hand(&path, node, &note);
                self.lines.push("url = \"http://localhost/v1\"".to_owned());
            }
            None => {
                self.findings.taken(&path, node);
                self.lines.push(format!("url = {}", quoted(url)));
            }
        }
    }

    /// The key of the service. `is_optional`: the service may need none.
    fn api_key(&mut self, variable: &str, is_optional: bool) {
        let path = self.parameters.at("api_key");
        let Some((node, text)) = self.parameters.get("api_key").and_then(|node| Some((node, node.text()?)))
        else {
            let place = match is_optional {
                true => Place::NoKey,
                false => Place::Variable(variable.to_owned()),
            };
            self.lines.push(format!("api_key = {}", place.toml()));
            return;
        };
        let variable = if variable.is_empty() { "OLLAMA_API_KEY" } else { variable };
        let place = self.secrets.read(text, variable);
        match place {
            // Providers of their own have a key in any case.
            Place::NoKey if !is_optional => {
                self.findings.by_hand(&path, node, &format!("is no key: put one into {variable}"));
                self.lines.push(format!("api_key = {{ env = {} }}", quoted(variable)));
            }
            Place::Elsewhere => {
                let note = format!("secrets come from the environment or from files: put it into {variable}");
                self.findings.by_hand(&path, node, &note);
                self.lines.push(format!("api_key = {{ env = {} }}", quoted(variable)));
            }
            Place::NoKey => {
                self.findings.near(&path, node, "no key is sent");
                self.lines.push("api_key = \"none\"".to_owned());
            }
            place => {
                report(self.findings, &path, node, &place);
                self.lines.push(format!("api_key = {}", place.toml()));
            }
        }
    }

    fn take(&mut self, key: &str) {
        if let Some(node) = self.parameters.get(key) {
            self.findings.taken(&self.parameters.at(key), node);
        }
    }
}

/// Reports the place of a secret.
pub(super) fn report(findings: &mut Findings, path: &str, node: &Node, place: &Place) {
    match place {
        Place::Variable(_) | Place::Value(_) => findings.taken(path, node),
        Place::NewVariable(name) => findings.by_hand(
            path,
            node,
            &format!(
                "a secret in the file is not copied: put it into the variable {name}, or use --with-secrets"
            ),
        ),
        Place::NoKey => findings.near(path, node, "is no key"),
        Place::Elsewhere => findings.by_hand(path, node, "secrets come from the environment or from files"),
    }
}

/// A name for the service at a URL: the last word of its host, before the domain of the top level,
/// that is no common one.
fn host_name(url: &str) -> String {
    const COMMON: [&str; 5] = ["ai", "api", "co", "internal", "www"];
    if variable(url).is_some() {
        return "service".to_owned();
    }
    let host = url.split("://").nth(1).unwrap_or(url).split(['/', ':']).next().unwrap_or_default();
    if host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || host.is_empty() {
        return "local".to_owned();
    }
    let words = host.rsplit_once('.').map_or(host, |(words, _)| words);
    words.split('.').rfind(|word| !COMMON.contains(word)).unwrap_or("service").to_owned()
}

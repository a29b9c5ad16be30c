//! `model_list`: each entry is a deployment of a model, at an upstream.

use super::draft::Draft;
use super::finding::Findings;
use super::secret::Secrets;
use super::service::{Parameters, find};
use super::settings::{Settings, price};
use crate::import::yaml::Node;

/// An entry of the list that has an upstream.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    /// The place in the file.
    pub(super) source: String,
    /// The name that requests have.
    pub(super) name: String,
    /// The index of its upstream.
    pub(super) upstream: usize,
    /// The model at the upstream.
    pub(super) model: String,
    pub(super) weight: Option<u64>,
    /// The tier: lower ones come first.
    pub(super) order: Option<u64>,
    /// Requests and tokens in a minute.
    pub(super) limits: Vec<(&'static str, u64)>,
}

/// Keys of a deployment that are defaults of requests.
const OF_REQUESTS: [&str; 12] = [
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "top_p",
    "top_k",
    "seed",
    "n",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "thinking",
];

/// Reads the list.
pub(super) fn deployments(
    root: &Node,
    settings: &Settings,
    findings: &mut Findings,
    secrets: &mut Secrets,
    draft: &mut Draft,
) -> Vec<Deployment> {
    let credentials = root.get("credential_list").map(Node::items).unwrap_or_default();
    for (index, credential) in credentials.iter().enumerate() {
        findings.taken(&format!("credential_list[{index}]"), credential);
    }
    let list = root.get("model_list").map(Node::items).unwrap_or_default();
    let mut reading = Reading { credentials, settings, findings, secrets, draft };
    list.iter()
        .enumerate()
        .filter_map(|(index, entry)| reading.entry(&format!("model_list[{index}]"), entry))
        .collect()
}

struct Reading<'a> {
    credentials: &'a [Node],
    settings: &'a Settings,
    findings: &'a mut Findings,
    secrets: &'a mut Secrets,
    draft: &'a mut Draft,
}

impl Reading<'_> {
    fn entry(&mut self, path: &str, entry: &Node) -> Option<Deployment> {
        let (name, params) = (entry.get("model_name").and_then(Node::text), entry.get("litellm_params"));
        let (Some(name), Some(params)) = (name, params) else {
            self.findings.by_hand(path, entry, "an entry needs model_name and litellm_params");
            return None;
        };
        let at = format!("{path}.litellm_params");
        let credential = params.get("litellm_credential_name");
        let is_named = |known: &&Node| {
            credential.is_some()
                && known.get("credential_name").and_then(Node::text) == credential.and_then(Node::text)
        };
        let found = self.credentials.iter().find(is_named).and_then(|known| known.get("credential_values"));
        if let Some(node) = credential {
            let path = format!("{at}.litellm_credential_name");
            match found {
                Some(_) => self.findings.taken(&path, node),
                None => self.findings.by_hand(&path, node, "credential_list does not have it"),
            }
        }
        let parameters = Parameters {
            path: at.clone(),
            own: params,
            credential: found,
            timeout: self.settings.timeout,
            stream_timeout: self.settings.stream_timeout,
        };
        let service = find(&parameters, self.findings, self.secrets);
        let Some(service) = service else {
            self.without_service(path, entry);
            return None;
        };
        self.findings.taken(&format!("{path}.model_name"), entry.get("model_name").unwrap_or(entry));
        let source = format!("{path} (line {})", entry.line);
        let upstream = self.draft.upstream(&service.name, service.service, &service.model, &source);
        let mut deployment = Deployment {
            source,
            name: name.to_owned(),
            upstream,
            model: service.model,
            weight: None,
            order: None,
            limits: Vec::new(),
        };
        for (key, node) in params.entries() {
            self.parameter(&mut deployment, &at, key, node);
        }
        self.prices(&deployment, path, entry);
        for (key, node) in entry.entries() {
            if !["model_name", "litellm_params", "model_info"].contains(&key.as_str()) {
                self.findings.not_here(&format!("{path}.{key}"), node, "has no counterpart");
            }
        }
        Some(deployment)
    }

    /// A parameter that says nothing about the service.
    fn parameter(&mut self, deployment: &mut Deployment, at: &str, key: &str, node: &Node) {
        let path = format!("{at}.{key}");
        match key {
            "rpm" | "tpm" => match node.count().filter(|count| *count > 0) {
                Some(count) => {
                    deployment.limits.push((if key == "rpm" { "requests" } else { "tokens" }, count));
                    self.findings.near(
                        &path,
                        node,
                        "a limit, which members of a group at it are skipped for; no weight",
                    );
                }
                None => self.findings.by_hand(&path, node, "is no number"),
            },
            "weight" => match node.count() {
                Some(weight) => {
                    deployment.weight = Some(weight.min(1_000_000));
                    self.findings.taken(&path, node);
                }
                None => self.findings.by_hand(&path, node, "is no whole number"),
            },
            "order" => match node.count() {
                Some(order) => {
                    deployment.order = Some(order);
                    self.findings.taken(&path, node);
                }
                None => self.findings.by_hand(&path, node, "is no number"),
            },
            "max_parallel_requests" => match node.count().filter(|count| *count > 0) {
                Some(count) => {
                    deployment.limits.push(("concurrent", count));
                    self.findings.near(&path, node, "a limit of what runs at the upstream by this name");
                }
                None => self.findings.by_hand(&path, node, "is no number"),
            },
            "custom_llm_provider" => self.findings.taken(&path, node),
            "input_cost_per_token"
            | "output_cost_per_token"
            | "cache_read_input_token_cost"
            | "cache_creation_input_token_cost" => {}
            "mock_response" => {
                self.findings.not_here(&path, node, "`streamgauge simulate` is an upstream for tests")
            }
            "tags" => self.findings.not_here(&path, node, "no tag decides a route"),
            _ if OF_REQUESTS.contains(&key) => {
                self.findings.not_here(&path, node, "bodies are relayed as they are: let clients send it");
            }
            _ if key.ends_with("drop_params") => {
                self.findings.not_here(&path, node, "bodies are relayed as they are")
            }
            _ if Parameters::is_known(key) => {}
            _ => self.findings.not_here(&path, node, "has no counterpart"),
        }
    }

    fn prices(&mut self, deployment: &Deployment, path: &str, entry: &Node) {
        let info = entry.get("model_info");
        let base = info.and_then(|info| info.get("base_model")?.text());
        // Azure names the model, not the deployment, with its date.
        let model = match base {
            Some(base) => format!("{}*", base.split_once('/').map_or(base, |(_, model)| model)),
            None => deployment.model.clone(),
        };
        let upstream = self.draft.upstreams[deployment.upstream].name.clone();
        let params = entry.get("litellm_params");
        for (part, node) in [("litellm_params", params), ("model_info", info)] {
            let Some(node) = node else { continue };
            if let Some(text) = price(&format!("{path}.{part}"), node, &model, &upstream, self.findings) {
                let same = |known: &String| {
                    known.split_once('\n').map(|(_, rest)| rest)
                        == text.split_once('\n').map(|(_, rest)| rest)
                };
                if !self.draft.prices.iter().any(same) {
                    self.draft.prices.push(text);
                }
            }
        }
        for (key, node) in info.map(Node::entries).unwrap_or_default() {
            if !key.contains("_cost") {
                self.findings.near(&format!("{path}.model_info.{key}"), node, "is information for LiteLLM");
            } else if !PRICED.contains(&key.as_str()) {
                self.findings.not_here(
                    &format!("{path}.model_info.{key}"),
                    node,
                    "is no price of [[prices]]",
                );
            }
        }
    }

    /// Reports the other keys of an entry whose service cannot be reached.
    fn without_service(&mut self, path: &str, entry: &Node) {
        for (key, node) in entry.entries().iter().filter(|(key, _)| key != "litellm_params") {
            self.findings.not_here(&format!("{path}.{key}"), node, "the deployment is left out");
        }
        for (key, node) in entry.get("litellm_params").map(Node::entries).unwrap_or_default() {
            if !["model", "litellm_credential_name"].contains(&key.as_str()) {
                let path = format!("{path}.litellm_params.{key}");
                self.findings.not_here(&path, node, "the deployment is left out");
            }
        }
    }
}

const PRICED: [&str; 4] = [
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
];

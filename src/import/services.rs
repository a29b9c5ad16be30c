//! Services with OpenAI's API, by LiteLLM's names of them and by their hosts.

use crate::llm::provider::Provider;

/// A service that LiteLLM knows by a prefix of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownService {
    /// The prefix, without the slash: `groq`.
    pub prefix: &'static str,
    /// The URL above the paths of OpenAI's API.
    pub url: &'static str,
    /// The environment variable in which LiteLLM looks for the key.
    pub key: &'static str,
}

/// The services with one URL for all customers, by the sources of LiteLLM 1.110.
pub(super) const SERVICES: &[KnownService] = &[
    service("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    service("dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    service("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    service("deepseek", "https://api.deepseek.com/beta", "DEEPSEEK_API_KEY"),
    service("fireworks_ai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    service("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    service("hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    service("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    service("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    service("nebius", "https://api.studio.nebius.ai/v1", "NEBIUS_API_KEY"),
    service("novita", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY"),
    service("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    service("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    service("perplexity", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    service("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    service("together_ai", "https://api.together.ai/v1", "TOGETHER_API_KEY"),
    service("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
];

const fn service(prefix: &'static str, url: &'static str, key: &'static str) -> KnownService {
    KnownService { prefix, url, key }
}

impl KnownService {
    /// Finds a service by the prefix of its models.
    pub fn named(prefix: &str) -> Option<Self> {
        SERVICES.iter().copied().find(|service| service.prefix == prefix)
    }

    fn host(&self) -> &'static str {
        let rest = self.url.strip_prefix("https://").unwrap_or(self.url);
        rest.split('/').next().unwrap_or(rest)
    }
}

/// The part of a price list that has the models of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceSource {
    /// The prefixes of its models in the list, in the order in which they are tried. An empty one is
    /// no prefix.
    pub(super) prefixes: Vec<String>,
    /// The beginnings of `litellm_provider`.
    pub(super) providers: Vec<String>,
}

impl PriceSource {
    /// The source of an upstream with this provider and this host. `None`: the list cannot know its
    /// prices.
    pub fn of(provider: Provider, host: &str) -> Option<Self> {
        let source = match provider {
            Provider::OpenAi => Self::new(&["", "openai/"], &["openai", "text-completion-openai"]),
            Provider::Azure => Self::new(&["azure/", "azure_ai/"], &["azure"]),
            Provider::Anthropic => Self::new(&["", "anthropic/"], &["anthropic"]),
            Provider::Gemini => Self::new(&["gemini/"], &["gemini"]),
            Provider::Other => return Self::of_host(host),
        };
        Some(source)
    }

    /// The source that a prefix of LiteLLM names, such as `groq`.
    pub fn named(prefix: &str) -> Self {
        match prefix {
            "openai" | "anthropic" => Self::new(&["", &format!("{prefix}/")], &[prefix]),
            "bedrock" | "vertex_ai" => Self::new(&[&format!("{prefix}/"), ""], &[prefix]),
            _ => Self::new(&[&format!("{prefix}/")], &[prefix]),
        }
    }

    fn of_host(host: &str) -> Option<Self> {
        let is_below = |suffix: &str| {
            host.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let known = SERVICES.iter().find(|service| is_below(service.host()));
        known.map(|service| service.prefix).map(Self::named).or_else(|| match host {
            "api.openai.com" => Some(Self::named("openai")),
            "api.anthropic.com" => Some(Self::named("anthropic")),
            "api.together.xyz" => Some(Self::named("together_ai")),
            "dashscope-intl.aliyuncs.com" => Some(Self::named("dashscope")),
            _ if is_below("amazonaws.com") => Some(Self::named("bedrock")),
            _ if is_below("aiplatform.googleapis.com") || host.ends_with("-aiplatform.googleapis.com") => {
                Some(Self::named("vertex_ai"))
            }
            _ => None,
        })
    }

    fn new(prefixes: &[&str], providers: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self { prefixes: owned(prefixes), providers: owned(providers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_of_a_service_decides_its_source() {
        let prefix = |host| PriceSource::of(Provider::Other, host).map(|source| source.prefixes[0].clone());
        assert_eq!(prefix("api.groq.com").as_deref(), Some("groq/"));
        assert_eq!(prefix("eu.api.mistral.ai").as_deref(), Some("mistral/"));
        assert_eq!(prefix("bedrock-runtime.eu-west-1.amazonaws.com").as_deref(), Some("bedrock/"));
        assert_eq!(prefix("us-central1-aiplatform.googleapis.com").as_deref(), Some("vertex_ai/"));
        assert_eq!(prefix("notapi.groq.com"), None);
        assert_eq!(prefix("127.0.0.1"), None);
    }

    #[test]
    fn services_have_names_and_hosts_of_their_own() {
        for (index, service) in SERVICES.iter().enumerate() {
            assert!(service.url.starts_with("https://") && !service.url.ends_with('/'), "{service:?}");
            for other in &SERVICES[..index] {
                assert!(service.prefix > other.prefix && service.host() != other.host(), "{service:?}");
            }
        }
    }
}

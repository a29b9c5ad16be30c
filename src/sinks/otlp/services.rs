//! The names of upstreams in spans and metrics.

use std::sync::{Arc, PoisonError, RwLock};

use crate::llm::provider::Provider;

/// Services with a name in the conventions, by the end of their host.
const KNOWN: &[(&str, &str)] = &[
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.groq.com", "groq"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
];

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The name in the configuration.
    pub name: Arc<str>,
    /// `gen_ai.provider.name`.
    pub provider: Box<str>,
    /// `server.address`.
    pub address: Box<str>,
    /// `server.port`.
    pub port: u16,
}

impl Service {
    /// The upstream `name` of a provider at an address. A provider without a name in the
    /// conventions gets the upstream's name.
    pub fn new(name: &str, provider: Provider, host: &str, port: u16) -> Self {
        let known = |(known, provider): &(&str, &'static str)| {
            let start = host.strip_suffix(known)?;
            (start.is_empty() || start.ends_with(['.', '-'])).then_some(*provider)
        };
        let provider = match provider {
            Provider::OpenAi => "openai",
            Provider::Azure => "azure.ai.openai",
            Provider::Anthropic => "anthropic",
            Provider::Gemini => "gcp.gemini",
            Provider::Other => KNOWN.iter().find_map(known).unwrap_or(name),
        };
        Self { name: name.into(), provider: provider.into(), address: host.into(), port }
    }
}

/// The upstreams of the configuration in use. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Services(Arc<RwLock<Vec<Arc<Service>>>>);

impl Services {
    /// Replaces the upstreams, but keeps those with other names, whose requests may still run.
    pub fn update(&self, services: impl IntoIterator<Item = Service>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for service in services {
            match known.iter_mut().find(|known| known.name == service.name) {
                Some(known) if **known == service => {}
                Some(known) => *known = Arc::new(service),
                None => known.push(Arc::new(service)),
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Service>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|service| *service.name == *name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_has_its_conventional_name_where_there_is_one() {
        for (provider, host, name) in [
            (Provider::OpenAi, "127.0.0.1", "openai"),
            (Provider::Azure, "gateway.internal", "azure.ai.openai"),
            (Provider::Anthropic, "gateway.internal", "anthropic"),
            (Provider::Gemini, "gateway.internal", "gcp.gemini"),
            (Provider::Other, "api.groq.com", "groq"),
            (Provider::Other, "eu.api.mistral.ai", "mistral_ai"),
            (Provider::Other, "us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
            (Provider::Other, "notapi.x.ai", "up"),
            (Provider::Other, "llm.internal", "up"),
        ] {
            assert_eq!(&*Service::new("up", provider, host, 443).provider, name, "{host}");
        }
    }
}

//! The configuration of `include_usage`: whether the proxy requests usage in the client's place.

/// The configured value of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeUsage {
    /// Ask, unless the upstream is known to send usage anyway or to refuse. After a refusal, send
    /// the request without.
    #[default]
    Auto,
    /// Ask in any case, and relay a refusal.
    Always,
    /// Do not ask.
    Never,
}

impl IncludeUsage {
    /// Parses the name in the configuration.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// Services that send usage in every stream, as recorded or documented. Some of them refuse to be
/// asked. A name includes its subdomains.
const UNASKED: &[&str] = &[
    "api.cohere.ai",
    "api.cohere.com",
    "api.deepseek.com",
    "api.fireworks.ai",
    "api.groq.com",
    "api.hyperbolic.xyz",
    "api.mistral.ai",
    "api.perplexity.ai",
    "api.together.ai",
    "api.together.xyz",
    "openrouter.ai",
];

/// Returns true if the service at `host` is known to send usage without being asked.
pub fn sends_usage_unasked(host: &str) -> bool {
    UNASKED.iter().any(|known| {
        let start = host.len().checked_sub(known.len());
        start.is_some_and(|start| {
            host.is_char_boundary(start)
                && host[start..].eq_ignore_ascii_case(known)
                && (start == 0 || host.as_bytes()[start - 1] == b'.')
        })
    })
}

/// The last day whose dated version of Azure's API is known to refuse `stream_options`: 2023-05-15
/// to 2024-05-01-preview do, 2024-10-21 does not (openai-python#1469, azure-rest-api-specs#29157).
const LAST_AZURE_WITHOUT: &str = "2024-05-01";

/// Returns true if this version of Azure's API is known to refuse `stream_options`.
pub(super) fn is_before_stream_options(version: &str) -> bool {
    version.get(..LAST_AZURE_WITHOUT.len()).is_some_and(|day| day <= LAST_AZURE_WITHOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_names_of_the_configuration() {
        for wanted in [IncludeUsage::Auto, IncludeUsage::Always, IncludeUsage::Never] {
            assert_eq!(IncludeUsage::parse(wanted.as_str()), Some(wanted));
        }
        assert_eq!(IncludeUsage::parse("Auto"), None);
    }

    #[test]
    fn a_service_is_known_by_its_host() {
        for host in ["api.mistral.ai", "API.Groq.com", "openrouter.ai", "eu.openrouter.ai"] {
            assert!(sends_usage_unasked(host), "{host}");
        }
        for host in
            ["api.openai.com", "notopenrouter.ai", "openrouter.ai.example", "mistral.ai", "", "127.0.0.1"]
        {
            assert!(!sends_usage_unasked(host), "{host}");
        }
    }

    #[test]
    fn old_versions_of_azure_s_api_refuse() {
        for old in ["2023-05-15", "2024-02-01", "2024-05-01-preview"] {
            assert!(is_before_stream_options(old), "{old}");
        }
        for new in ["2024-06-01", "2024-10-21", "2025-04-01-preview", "v1", "preview", ""] {
            assert!(!is_before_stream_options(new), "{new}");
        }
    }
}

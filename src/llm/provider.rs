//! The dialects of upstreams: the URL and the credentials of a request.
//!
//! The module is pure: no socket, clock or configuration file. It reads no body; the caller passes
//! the model that an Azure deployment URL needs.

mod base_url;
mod credentials;
mod dialect;
mod endpoint;
mod fixed_query;
mod include_usage;
mod path;

pub use base_url::BaseUrl;
pub(crate) use base_url::split_port;
pub use credentials::{
    ANTHROPIC_VERSION, BILLING_HEADERS, InvalidCredential, credentials, native_credentials,
};
pub use dialect::{Dialect, Inbound, TargetError};
pub use endpoint::{
    Endpoint, HoldsState, ModelPlace, Stored, StoredKind, UsageOwner, may_create, path_ids, path_model,
    query_model, query_models, renamed_path,
};
pub use fixed_query::{FixedQuery, QueryValue};
pub use include_usage::{IncludeUsage, sends_usage_unasked};
pub(crate) use path::{is_safe, percent_decoded, push_segment};

/// The dialect of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// OpenAI itself.
    OpenAi,
    /// Azure OpenAI: `api-key`, and URLs below `/openai`.
    Azure,
    /// Anthropic: `x-api-key` on its own paths, a Bearer key on OpenAI's chat completions.
    Anthropic,
    /// Google's Gemini API: `x-goog-api-key` on `/v1beta`, a Bearer key on OpenAI's paths, which are
    /// below `/v1beta/openai`.
    Gemini,
    /// Any other service with OpenAI's API.
    Other,
}

impl Provider {
    /// Parses the name in the configuration.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "openai" => Some(Self::OpenAi),
            "azure" => Some(Self::Azure),
            "anthropic" => Some(Self::Anthropic),
            "gemini" => Some(Self::Gemini),
            "other" => Some(Self::Other),
            _ => None,
        }
    }

    /// The name in the configuration and in usage records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Other => "other",
        }
    }

    /// The default URL, of services that have one URL for all customers.
    pub fn default_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Azure | Self::Other => None,
        }
    }
}

/// Azure's two forms of URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// `/openai/v1/...`, without a version in the query.
    #[default]
    V1,
    /// `/openai/v1/...?api-version={this}`: `preview` or `latest`
    /// (learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle).
    V1Named(&'static str),
    /// `/openai/deployments/{deployment}/...?api-version={this}`: a day, and perhaps `-preview`.
    Dated(String),
}

impl ApiVersion {
    /// Reads `v1`, `preview`, `latest`, `2024-10-21`, or `2024-05-01-preview`.
    ///
    /// # Errors
    ///
    /// Returns a message for the author of the configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "v1" => return Ok(Self::V1),
            "preview" => return Ok(Self::V1Named("preview")),
            "latest" => return Ok(Self::V1Named("latest")),
            _ => {}
        }
        let (day, suffix) = text.split_at_checked(DAY.len()).unwrap_or((text, ""));
        let is_day = day.len() == DAY.len()
            && day.bytes().zip(DAY.bytes()).all(|(byte, form)| match form {
                b'-' => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let is_suffix = suffix.is_empty()
            || suffix.strip_prefix('-').is_some_and(|word| {
                !word.is_empty()
                    && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            });
        if is_day && is_suffix {
            Ok(Self::Dated(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is none of `v1`, `preview` and `latest`, and no dated version such as 2024-10-21 or \
                 2024-05-01-preview"
            ))
        }
    }

    /// The spelling in the configuration.
    pub fn as_str(&self) -> &str {
        match self {
            Self::V1 => "v1",
            Self::V1Named(version) => version,
            Self::Dated(version) => version,
        }
    }

    /// The value of `api-version` in the query; `None`: there is none.
    pub fn in_query(&self) -> Option<&str> {
        match self {
            Self::V1 => None,
            Self::V1Named(version) => Some(version),
            Self::Dated(version) => Some(version),
        }
    }
}

const DAY: &str = "YYYY-MM-DD";

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Provider; 5] =
        [Provider::OpenAi, Provider::Azure, Provider::Anthropic, Provider::Gemini, Provider::Other];

    #[test]
    fn providers_have_the_names_of_the_configuration() {
        for provider in ALL {
            assert_eq!(Provider::parse(provider.as_str()), Some(provider));
        }
        for unknown in ["OpenAI", "openai ", "google", ""] {
            assert_eq!(Provider::parse(unknown), None, "{unknown:?} is no provider");
        }
    }

    #[test]
    fn an_api_version_is_v1_or_a_word_or_a_day() {
        for good in ["v1", "preview", "latest", "2024-10-21", "2024-05-01-preview", "2025-04-01-preview2"] {
            assert_eq!(ApiVersion::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(ApiVersion::parse("v1").unwrap(), ApiVersion::V1);
        for bad in
            ["", "V1", "v2", "Preview", "2024-10", "2024-10-21-", "2024-10-21 ", "2024-10-21&x=y", "2024-1é"]
        {
            assert!(ApiVersion::parse(bad).is_err(), "{bad:?} is no api_version");
        }
    }

    #[test]
    fn every_default_url_is_one() {
        for provider in ALL {
            if let Some(url) = provider.default_url() {
                assert_eq!(BaseUrl::parse(url).unwrap().to_string(), url);
            }
        }
    }
}

//! The headers with the credentials for an upstream.
//!
//! Azure expects its key as `api-key`, all other services as `Authorization: Bearer`. On the paths
//! of their own APIs Anthropic and Gemini expect it as `x-api-key` and `x-goog-api-key`
//! (platform.claude.com/docs/en/api/overview, ai.google.dev/api).
//! `OpenAI-Organization` and `OpenAI-Project` are added if they are configured.

use std::fmt;

use http::{HeaderName, HeaderValue, header};

use super::Provider;
use crate::support::secret::Secret;

/// The headers that choose the billed account, for OpenAI keys with several.
pub const BILLING_HEADERS: [&str; 2] = ["openai-organization", "openai-project"];

/// The version of Anthropic's API for requests that name none (`anthropic-version`), which the API
/// requires.
pub const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// A configured value that no header can carry. It does not repeat the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidCredential {
    /// `api_key` is empty or has control or non-ASCII characters.
    ApiKey,
    /// `organization` has control or non-ASCII characters.
    Organization,
    /// `project` has control or non-ASCII characters.
    Project,
}

impl fmt::Display for InvalidCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self {
            Self::ApiKey => "api_key",
            Self::Organization => "organization",
            Self::Project => "project",
        };
        write!(f, "{key} cannot be sent: it is empty or has characters that a header cannot carry")
    }
}

impl std::error::Error for InvalidCredential {}

/// The headers for one upstream. Keys are marked sensitive, so that neither logs nor HPACK's table
/// keep them. An empty `organization` or `project` counts as none.
///
/// # Errors
///
/// Returns the first value that no header can carry.
pub fn credentials(
    provider: Provider,
    api_key: Option<&Secret>,
    organization: Option<&str>,
    project: Option<&str>,
) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidCredential> {
    let mut headers = Vec::with_capacity(3);
    if let Some(key) = api_key {
        let (name, scheme) = match provider {
            Provider::Azure => (HeaderName::from_static("api-key"), ""),
            Provider::OpenAi | Provider::Anthropic | Provider::Gemini | Provider::Other => {
                (header::AUTHORIZATION, "Bearer ")
            }
        };
        headers.push((name, key_value(scheme, key)?));
    }
    let values = [(organization, InvalidCredential::Organization), (project, InvalidCredential::Project)];
    for (name, (text, error)) in BILLING_HEADERS.into_iter().zip(values) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            headers.push((HeaderName::from_static(name), value("", text).ok_or(error)?));
        }
    }
    Ok(headers)
}

/// The header with the key on the paths of a service's own API. `None`: it is the same one there.
///
/// # Errors
///
/// Fails if no header can carry the key.
pub fn native_credentials(
    provider: Provider,
    api_key: Option<&Secret>,
) -> Result<Option<(HeaderName, HeaderValue)>, InvalidCredential> {
    let name = match provider {
        Provider::Anthropic => "x-api-key",
        Provider::Gemini => "x-goog-api-key",
        Provider::OpenAi | Provider::Azure | Provider::Other => return Ok(None),
    };
    api_key.map(|key| Ok((HeaderName::from_static(name), key_value("", key)?))).transpose()
}

fn key_value(scheme: &str, key: &Secret) -> Result<HeaderValue, InvalidCredential> {
    let mut value = value(scheme, key.expose()).ok_or(InvalidCredential::ApiKey)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Non-ASCII characters are legal on the wire, but in a key they are always a copy-and-paste
/// mistake.
fn value(scheme: &str, text: &str) -> Option<HeaderValue> {
    if text.trim().is_empty() || !text.is_ascii() {
        return None;
    }
    HeaderValue::try_from(format!("{scheme}{text}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(key: &str) -> Secret {
        Secret::new(key.to_owned())
    }

    fn lines(headers: &[(HeaderName, HeaderValue)]) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn each_provider_takes_its_key_its_own_way() {
        for (provider, line) in [
            (Provider::OpenAi, "authorization: Bearer sk-1"),
            (Provider::Other, "authorization: Bearer sk-1"),
            (Provider::Anthropic, "authorization: Bearer sk-1"),
            (Provider::Gemini, "authorization: Bearer sk-1"),
            (Provider::Azure, "api-key: sk-1"),
        ] {
            let headers = credentials(provider, Some(&secret("sk-1")), None, None).unwrap();
            assert_eq!(lines(&headers), [line]);
            assert!(headers[0].1.is_sensitive(), "a key must be marked");
        }
    }

    #[test]
    fn native_paths_of_two_providers_have_a_header_of_their_own() {
        for (provider, line) in
            [(Provider::Anthropic, "x-api-key: sk-1"), (Provider::Gemini, "x-goog-api-key: sk-1")]
        {
            let header = native_credentials(provider, Some(&secret("sk-1"))).unwrap().unwrap();
            assert!(header.1.is_sensitive());
            assert_eq!(lines(&[header]), [line]);
            assert_eq!(native_credentials(provider, Some(&secret("\n"))), Err(InvalidCredential::ApiKey));
        }
        assert_eq!(native_credentials(Provider::Azure, Some(&secret("sk-1"))), Ok(None));
    }

    #[test]
    fn organization_and_project_follow_where_configured() {
        let headers = credentials(Provider::OpenAi, None, Some("org-1"), Some("proj_1")).unwrap();
        assert_eq!(lines(&headers), ["openai-organization: org-1", "openai-project: proj_1"]);
        assert!(credentials(Provider::OpenAi, None, Some(""), Some("")).unwrap().is_empty());
    }

    #[test]
    fn key_that_no_header_can_have_is_refused_unseen() {
        for key in ["", " ", "sk-1\n", "sk-\u{e9}"] {
            let error = credentials(Provider::OpenAi, Some(&secret(key)), None, None).unwrap_err();
            assert_eq!(error, InvalidCredential::ApiKey, "{key:?}");
            assert!(!error.to_string().contains("sk-"));
        }
        assert_eq!(
            credentials(Provider::OpenAi, None, Some("a\r\nb"), None),
            Err(InvalidCredential::Organization)
        );
        assert_eq!(credentials(Provider::OpenAi, None, None, Some("a\0")), Err(InvalidCredential::Project));
    }
}

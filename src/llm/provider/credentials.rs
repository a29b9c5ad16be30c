//! The headers with the credentials for an upstream.
//!
//! Azure expects its key as `api-key`, all other services as `Authorization: Bearer`.
//! `OpenAI-Organization` and `OpenAI-Project` are added if they are configured.

use std::fmt;

use http::{HeaderName, HeaderValue, header};

use super::Provider;
use crate::support::secret::Secret;

/// The headers that choose the billed account, for OpenAI keys with several.
pub const BILLING_HEADERS: [&str; 2] = ["openai-organization", "openai-project"];

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
            Provider::OpenAi | Provider::Other => (header::AUTHORIZATION, "Bearer "),
        };
        let mut value = value(scheme, key.expose()).ok_or(InvalidCredential::ApiKey)?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    let values = [(organization, InvalidCredential::Organization), (project, InvalidCredential::Project)];
    for (name, (text, error)) in BILLING_HEADERS.into_iter().zip(values) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            headers.push((HeaderName::from_static(name), value("", text).ok_or(error)?));
        }
    }
    Ok(headers)
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
            (Provider::Azure, "api-key: sk-1"),
        ] {
            let headers = credentials(provider, Some(&secret("sk-1")), None, None).unwrap();
            assert_eq!(lines(&headers), [line]);
            assert!(headers[0].1.is_sensitive(), "a key must be marked");
        }
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

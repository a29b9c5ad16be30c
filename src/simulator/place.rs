//! The destination of a request, by its path: OpenAI's paths, the two forms of Azure's, and
//! Anthropic's.

use std::borrow::Cow;

use crate::support::hex;

/// The service whose paths and forms apply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dialect {
    OpenAi,
    Azure,
    Anthropic,
}

impl Dialect {
    /// The dialect of a response to this path, also if the path is unknown.
    pub(super) fn of(path: &str) -> Self {
        let messages =
            path.strip_prefix("/v1/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if path.starts_with("/anthropic/") || messages {
            Self::Anthropic
        } else if path.starts_with("/openai/") {
            Self::Azure
        } else {
            Self::OpenAi
        }
    }
}

/// A parsed path.
#[derive(Debug, PartialEq)]
pub(super) struct Place<'a> {
    pub(super) dialect: Dialect,
    /// The name in `/openai/deployments/{name}/`, decoded. It names the model; the body's is
    /// ignored.
    pub(super) deployment: Option<Cow<'a, str>>,
    /// The endpoint, such as `chat/completions`.
    pub(super) endpoint: &'a str,
}

/// The endpoints of a deployment. Azure has the others under `/openai/` only.
const DEPLOYED: [&str; 8] = [
    "chat/completions",
    "completions",
    "embeddings",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
];

impl<'a> Place<'a> {
    /// `None` if the service has no such endpoint: another path, a dated Azure path without
    /// `api-version`, an endpoint that needs a deployment without one, or the reverse.
    pub(super) fn of(path: &'a str, query: Option<&str>) -> Option<Self> {
        let endpoint = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/anthropic/v1/"));
        if let Some(endpoint) = endpoint {
            return Some(Self { dialect: Dialect::of(path), deployment: None, endpoint });
        }
        let rest = path.strip_prefix("/openai/")?;
        if let Some(endpoint) = rest.strip_prefix("v1/") {
            return Some(Self { dialect: Dialect::Azure, deployment: None, endpoint });
        }
        let dated = query.unwrap_or("").split('&').any(|pair| pair.starts_with("api-version=20"));
        let (deployment, endpoint) = match rest.strip_prefix("deployments/") {
            Some(rest) => {
                let (name, endpoint) = rest.split_once('/')?;
                (Some(decode(name)?), endpoint)
            }
            None => (None, rest),
        };
        let found = dated && (deployment.is_some() == DEPLOYED.contains(&endpoint));
        found.then_some(Self { dialect: Dialect::Azure, deployment, endpoint })
    }
}

/// Decodes percent-encoding (RFC 3986 section 2.1). `None` if it is invalid, or not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let (code, after) = rest.split_at_checked(2)?;
                rest = after;
                (hex::digit(code[0])? << 4) | hex::digit(code[1])?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn azure<'a>(deployment: Option<&'a str>, endpoint: &'a str) -> Option<Place<'a>> {
        Some(Place { dialect: Dialect::Azure, deployment: deployment.map(Cow::Borrowed), endpoint })
    }

    #[test]
    fn each_service_has_its_paths() {
        let dated = Some("api-version=2024-10-21");
        let openai = Some(Place { dialect: Dialect::OpenAi, deployment: None, endpoint: "chat/completions" });
        assert_eq!(Place::of("/v1/chat/completions", None), openai);
        assert_eq!(Place::of("/openai/v1/responses", None), azure(None, "responses"));
        let deployed = Place::of("/openai/deployments/gpt/chat/completions", dated);
        assert_eq!(deployed, azure(Some("gpt"), "chat/completions"));
        assert_eq!(Place::of("/openai/models", dated), azure(None, "models"));
        for path in ["/v1/messages", "/anthropic/v1/messages"] {
            let place = Place { dialect: Dialect::Anthropic, deployment: None, endpoint: "messages" };
            assert_eq!(Place::of(path, None), Some(place));
        }
        assert_eq!(Dialect::of("/v1/messages_of_others"), Dialect::OpenAi);
    }

    #[test]
    fn a_deployments_name_is_decoded() {
        let place =
            Place::of("/openai/deployments/sim%3Aevents%3d2/embeddings", Some("a=b&api-version=2024-10-21"));
        assert_eq!(place, azure(Some("sim:events=2"), "embeddings"));
    }

    #[test]
    fn unknown_path_is_not_found() {
        let dated = Some("api-version=2024-10-21");
        for (path, query) in [
            ("/chat/completions", None),
            ("/openai/deployments/gpt/chat/completions", None),
            ("/openai/deployments/gpt/responses", dated),
            ("/openai/chat/completions", dated),
            ("/openai/deployments/gpt", dated),
            ("/openai/deployments/%zz/embeddings", dated),
            ("/openai/deployments/%4/embeddings", dated),
            ("/openai/deployments/%ff/embeddings", dated),
        ] {
            assert_eq!(Place::of(path, query), None, "{path}");
        }
    }
}

//! The services that a first configuration can have.

use std::collections::BTreeMap;

/// A kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Other,
    Simulator,
}

/// All kinds, in the order of the question.
pub(super) const KINDS: [Kind; 6] =
    [Kind::OpenAi, Kind::Azure, Kind::Anthropic, Kind::Gemini, Kind::Other, Kind::Simulator];

/// The URL of `streamgauge simulate`.
const SIMULATOR: &str = "http://127.0.0.1:8081/v1";

impl Kind {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Azure => "Azure OpenAI",
            Self::Anthropic => "Anthropic",
            Self::Gemini => "Google's Gemini API",
            Self::Other => "another service with OpenAI's API, or a server of your own",
            Self::Simulator => "a simulated service on this machine, to try things out",
        }
    }

    /// The name of the upstream.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Other => "other",
            Self::Simulator => "simulator",
        }
    }

    /// The question for the URL, and its usual reply.
    pub(super) fn url_question(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Azure => Some(("Azure: address of the resource", "https://my-resource.openai.azure.com")),
            Self::Other => Some((
                "URL of the service, up to the part before /chat/completions",
                "http://127.0.0.1:8000/v1",
            )),
            _ => None,
        }
    }

    /// The usual variable with the key.
    fn usual_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_API_KEY"),
            Self::Azure => Some("AZURE_OPENAI_API_KEY"),
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Gemini => Some("GEMINI_API_KEY"),
            Self::Other => Some("API_KEY"),
            Self::Simulator => None,
        }
    }
}

/// A service of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) kind: Kind,
    /// `None`: the one that the provider has.
    pub(super) url: Option<String>,
    /// The variable with the key. `None`: no key is needed.
    variable: Option<String>,
}

impl Choice {
    /// # Errors
    /// Fails if the URL is none.
    pub(super) fn new(kind: Kind, url: Option<String>) -> Result<Self, String> {
        let url = if kind == Kind::Simulator { Some(SIMULATOR.to_owned()) } else { url };
        if let Some(url) = &url {
            let is_url =
                ["http://", "https://"].iter().any(|start| url.len() > start.len() && url.starts_with(start));
            if !is_url || url.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"') {
                return Err(format!("{url:?} is no URL: write one such as http://127.0.0.1:8000/v1"));
            }
        }
        // A server on this machine mostly needs none.
        let is_local = kind == Kind::Other && url.as_deref().is_some_and(is_local);
        let variable = kind.usual_variable().filter(|_| !is_local).map(str::to_owned);
        Ok(Self { kind, url, variable })
    }

    /// Parses `openai`, or `other=URL`.
    ///
    /// # Errors
    /// Fails with the right form.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, url) = text.split_once('=').map_or((text, None), |(name, url)| (name, Some(url)));
        let kind = KINDS.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|kind| kind.name()).collect();
            format!("{name:?} is none of {}", names.join(", "))
        })?;
        match (kind.url_question(), url) {
            (Some((question, usual)), None) => {
                Err(format!("write {name}=URL, such as {name}={usual} ({question})"))
            }
            (None, Some(_)) => Err(format!("{name} has one URL: write {name} alone")),
            (_, url) => Self::new(kind, url.map(str::to_owned)),
        }
    }

    /// The services whose keys are in the environment, or else the simulated one.
    pub(super) fn of_environment(env: &BTreeMap<String, String>) -> Vec<Self> {
        let has = |name: &str| env.get(name).is_some_and(|value| !value.is_empty());
        let choice = |kind: Kind| {
            has(kind.usual_variable()?).then_some(())?;
            let url = match kind {
                Kind::Azure => Some(env.get("AZURE_OPENAI_ENDPOINT")?.trim_end_matches('/').to_owned()),
                Kind::Other => return None,
                _ => None,
            };
            Self::new(kind, url).ok()
        };
        let found: Vec<_> = KINDS.into_iter().filter_map(choice).collect();
        match found.is_empty() {
            true => Self::new(Kind::Simulator, None).into_iter().collect(),
            false => found,
        }
    }

    /// The variable with the key. `None`: no key is needed.
    pub(super) fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }

    /// The service with its key in another variable; `-` for no key.
    ///
    /// # Errors
    /// Fails if the text is no name of a variable, or if the service needs a key.
    pub(super) fn with_variable(mut self, name: &str) -> Result<Self, String> {
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        self.variable = match name {
            "-" if self.kind == Kind::Other => None,
            "-" => return Err(format!("{} needs a key", self.kind.title())),
            _ if is_name => Some(name.to_owned()),
            // The text may be the key itself, and is not repeated.
            _ => {
                return Err(
                    "that is no name of a variable: the key itself is not written into the file".to_owned()
                );
            }
        };
        Ok(self)
    }
}

fn is_local(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    host == "localhost" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_parsed_with_the_url_that_it_needs() {
        let local = Choice::parse("other=http://127.0.0.1:8000/v1").unwrap();
        assert_eq!((local.kind, local.variable()), (Kind::Other, None));
        assert_eq!(Choice::parse("other=https://api.example/v1").unwrap().variable(), Some("API_KEY"));
        assert_eq!(Choice::parse("openai").unwrap().variable(), Some("OPENAI_API_KEY"));
        for text in ["", "opnai", "azure", "other=", "other=x", "openai=https://a", "other=http://a\"b"] {
            assert!(Choice::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn environment_decides_the_services() {
        let kinds = |names: &[&str]| {
            let env = names.iter().map(|name| ((*name).to_owned(), "https://x".to_owned())).collect();
            Choice::of_environment(&env).into_iter().map(|choice| choice.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[]), [Kind::Simulator]);
        assert_eq!(kinds(&["API_KEY", "AZURE_OPENAI_API_KEY"]), [Kind::Simulator], "without its address");
        assert_eq!(
            kinds(&["AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_KEY"]),
            [Kind::OpenAi, Kind::Azure]
        );
    }

    #[test]
    fn key_itself_is_no_name_of_a_variable() {
        let openai = Choice::parse("openai").unwrap();
        for text in ["sk-marker", "", "1A", "-", "A B"] {
            let error = openai.clone().with_variable(text).unwrap_err();
            assert!(!error.contains("marker"), "{error}");
        }
        assert_eq!(openai.with_variable("MY_KEY").unwrap().variable(), Some("MY_KEY"));
    }
}

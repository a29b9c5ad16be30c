//! Which of the API's endpoints a path is: the name in records and metrics, and what the proxy may
//! do with it.
//!
//! The names are OpenAI's paths after `/v1` with the ids left out ([`paths`] says where they are
//! from). They are a fixed list, because metrics are labelled with them: whatever is not on it is
//! [`Endpoint::OTHER`], so that no client can make up a label.

mod paths;
mod stored;

use http::Method;

use super::path;
use paths::KNOWN;
pub use stored::{Stored, StoredKind, UsageOwner};

/// An endpoint of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name in records: `chat/completions`; `threads/runs` for `/v1/threads/t_1/runs`; `other`
    /// if unknown.
    pub name: &'static str,
    pattern: &'static str,
    body: Body,
    tokens: Tokens,
}

/// What the proxy knows of an endpoint's request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// JSON whose top-level `model` names the model; Azure has a deployment URL for it.
    ModelAndDeployment,
    /// JSON whose top-level `model` names the model.
    Model,
    /// The same, where a missing `model` means something else than the default one, as in a run of
    /// an assistant.
    Named,
    /// JSON whose `session.model` names the model, if there is one.
    Session,
    /// A form whose field `model` names the model, or JSON as of [`Body::Named`]; Azure has a
    /// deployment URL for it.
    FormAndDeployment,
    /// The same without such a URL.
    Form,
    /// None, or none that the proxy looks into.
    Opaque,
}

/// Whose work the usage in an endpoint's answers is. Whatever it says here, `GET` and its kin make
/// nothing: what they show of [`Tokens::Own`] and [`Tokens::Creates`] was counted when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    /// The request's.
    Own,
    /// That of a result which is stored, and may still be at work when its request is answered.
    Creates(StoredKind),
    /// That of the stored result whose id is the pattern's last star, whatever the method.
    Shows(StoredKind),
    /// That of earlier requests, whatever the method.
    Restates,
    /// The same, in answers that are not read: files, and lists of what may be any number of
    /// requests.
    Unread,
}

impl Endpoint {
    /// What is not on the list.
    pub const OTHER: Self = Self { name: "other", pattern: "", body: Body::Opaque, tokens: Tokens::Own };

    /// The endpoint of an inbound path, the route's prefix already taken off: `/v1/...`, or Azure's
    /// `/openai/v1/...`, `/openai/deployments/{deployment}/...`, `/openai/...`. One slash at the
    /// end changes nothing.
    pub fn of(path: &str) -> Self {
        let Some(rest) = after_version(path) else {
            return Self::OTHER;
        };
        let found = KNOWN.iter().find(|(pattern, ..)| matches(pattern, rest));
        found.map_or(Self::OTHER, |&(pattern, name, body, tokens)| Self { name, pattern, body, tokens })
    }

    /// The paths behind the version, with `*` for any one segment and `**` for one or more.
    pub fn paths() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(pattern, ..)| *pattern)
    }

    /// Whether the body is a JSON object that names its model, whatever type it is said to have.
    pub fn takes_json_model(self) -> bool {
        matches!(self.body, Body::Model | Body::ModelAndDeployment | Body::Named | Body::Session)
    }

    /// Whether a body that names no model gets the default one.
    pub fn takes_default_model(self) -> bool {
        matches!(self.body, Body::Model | Body::ModelAndDeployment)
    }

    /// Whether the body is a form that names its model, or JSON that does.
    pub fn takes_form(self) -> bool {
        matches!(self.body, Body::FormAndDeployment | Body::Form)
    }

    /// Whether the model is that of the body's object `session`.
    pub fn names_model_in_session(self) -> bool {
        self.body == Body::Session
    }

    /// Whether its requests name their end user in `metadata.user_id` (Anthropic's). Elsewhere
    /// `metadata` is the client's own.
    pub fn names_user_in_metadata(self) -> bool {
        self.name == "messages"
    }

    /// Whose work the usage is in the answer to a request of this method to `path`, which is this
    /// endpoint's. `background`: what the body says; `None` where it is not read.
    pub fn usage_owner(self, method: &Method, path: &str, background: Option<bool>) -> UsageOwner {
        let may_create = may_create(method);
        match self.tokens {
            Tokens::Own if may_create => UsageOwner::Own,
            Tokens::Creates(kind) if may_create => match background {
                Some(false) if kind.is_usually_whole() => UsageOwner::Own,
                _ => {
                    let is_known = background.is_some() || !kind.is_usually_whole();
                    UsageOwner::Stored(Stored { kind, id: None, is_known })
                }
            },
            Tokens::Shows(kind) => self.last_id(path).map_or(UsageOwner::Others, |id| {
                UsageOwner::Stored(Stored { kind, id: Some(id), is_known: true })
            }),
            Tokens::Own | Tokens::Creates(_) | Tokens::Restates => UsageOwner::Others,
            Tokens::Unread => UsageOwner::Unread,
        }
    }

    /// What stands in `path` for the pattern's last star, decoded. `None` also where it is no
    /// UTF-8.
    fn last_id(self, path: &str) -> Option<String> {
        let stars = self.pattern.split('/').zip(after_version(path)?.split('/'));
        let (_, id) = stars.filter(|(segment, _)| *segment == "*").last()?;
        path::decoded(id)
    }

    /// Whether Azure's dated API has it below `/openai/deployments/{deployment}`.
    pub fn has_deployment_form(self) -> bool {
        matches!(self.body, Body::ModelAndDeployment | Body::FormAndDeployment)
    }
}

/// By which a query names the model; the first of them counts.
pub(super) const MODEL_PARAMETERS: [&str; 2] = ["model", "deployment"];

/// The model of a request that names it in its query, as `GET /v1/realtime` does (Azure's as
/// `deployment`); decoded. The path may still have its route's prefix. `is_session`: the request
/// asks for a WebSocket.
pub fn query_model(path: &str, query: Option<&str>, is_session: bool) -> Option<String> {
    names_model_in_query(path, is_session).then_some(())?;
    MODEL_PARAMETERS.iter().find_map(|name| path::parameter(query?, name)).filter(|model| !model.is_empty())
}

/// Whether requests to the path name their model in the query. A session of `responses` may; its
/// model is that of its messages otherwise, which nobody knows before it is granted.
pub(super) fn names_model_in_query(path: &str, is_session: bool) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.ends_with("/realtime") || (is_session && path.ends_with("/responses"))
}

/// Whether a request of this method may make something that is counted. Methods are case-sensitive
/// (RFC 9110 section 9.1), and some servers take `post` for POST all the same, so what is unknown
/// may.
pub fn may_create(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE)
}

/// The path without what names the API's version or the deployment, and without one slash at the
/// end.
fn after_version(path: &str) -> Option<&str> {
    let rest = match path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/openai/v1/")) {
        Some(rest) => rest,
        None => {
            let rest = path.strip_prefix("/openai/")?;
            rest.strip_prefix("deployments/")
                .and_then(|rest| rest.split_once('/'))
                .map_or(rest, |split| split.1)
        }
    };
    Some(rest.strip_suffix('/').unwrap_or(rest))
}

/// The deployment that an Azure SDK's path names, decoded.
pub(super) fn deployment(path: &str) -> Option<String> {
    let (deployment, _) = path.strip_prefix("/openai/deployments/")?.split_once('/')?;
    path::decoded(deployment).filter(|deployment| !deployment.is_empty())
}

/// Segment by segment; `*` is any one segment, `**` one or more. No pattern begins with a star.
fn matches(pattern: &str, path: &str) -> bool {
    if !pattern.contains('*') || pattern.as_bytes().first() != path.as_bytes().first() {
        return pattern == path;
    }
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;

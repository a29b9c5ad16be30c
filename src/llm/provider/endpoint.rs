//! The API's endpoints: their names in records and metrics, and where requests name the model.
//!
//! The names are OpenAI's paths after `/v1` without the ids ([`paths`] names the source). The list
//! is fixed, because the names are metric labels: any other path is [`Endpoint::OTHER`], so that
//! clients cannot create labels.

mod model_place;
mod paths;
mod state;
mod stored;

use std::ops::Range;

use http::Method;

use super::path;
pub(super) use model_place::{
    DEPLOYMENTS, MODEL_PARAMETERS, NATIVE, V1, deployment, names_model_in_query, native_model,
};
pub use model_place::{ModelPlace, query_model, query_models};
use model_place::{NATIVE_MODELS, after_native, method_colon, split_method};
use paths::{KNOWN, NATIVE_METHODS};
pub use state::{HoldsState, path_ids};
pub use stored::{Stored, StoredKind, UsageOwner};

/// The paths of Cohere's API after `/v2/` (docs.cohere.com/reference, read on 2026-12-01).
const COHERE: [&str; 3] = ["chat", "embed", "rerank"];

/// An endpoint of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name in records, for example `chat/completions`, `threads/runs` for
    /// `/v1/threads/t_1/runs`, or `other`.
    pub name: &'static str,
    pattern: &'static str,
    body: Body,
    tokens: Tokens,
}

/// An endpoint's request body, as far as it names the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// JSON whose top-level `model` names the model; Azure has a deployment URL for it.
    ModelAndDeployment,
    /// JSON whose top-level `model` names the model.
    Model,
    /// A JSON object in which a missing `model` has a meaning other than the default model, as in a
    /// run of an assistant.
    Named,
    /// JSON whose optional `session.model` names the model.
    Session,
    /// A form whose field `model` names the model, or JSON as of [`Body::Named`]; Azure has a
    /// deployment URL for it.
    FormAndDeployment,
    /// Like [`Body::FormAndDeployment`], without a deployment URL.
    Form,
    /// JSON that does not name the model: the path does, as Gemini's.
    InPath,
    /// No body, or one that does not name a model.
    Opaque,
}

/// The request that the usage in an endpoint's responses belongs to. `GET` and other safe methods
/// create nothing: the usage of [`Tokens::Own`] and [`Tokens::Creates`] that they show was counted
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    /// Usage belongs to the request itself.
    Own,
    /// A stored result, which may still be in progress when the request is responded to.
    Creates(StoredKind),
    /// The stored result whose id is the pattern's last star, with any method.
    Shows(StoredKind),
    /// Earlier requests, with any method.
    Restates,
    /// Earlier requests, in responses that are not read: files, and lists of any number of
    /// requests.
    Unread,
}

impl Endpoint {
    /// Any path that is not on the list.
    pub const OTHER: Self = Self { name: "other", pattern: "", body: Body::Opaque, tokens: Tokens::Own };

    /// The endpoint of an inbound path without the route's prefix: `/v1/...`, or Azure's
    /// `/openai/v1/...`, `/openai/deployments/{deployment}/...`, `/openai/...`. One slash at the
    /// end is ignored.
    pub fn of(path: &str) -> Self {
        let Some(rest) = after_version(path) else {
            return Self::native(path);
        };
        Self::known(KNOWN, rest)
    }

    /// The endpoint of a path of Gemini's or Cohere's own API.
    #[cold]
    fn native(path: &str) -> Self {
        if let Some(rest) = path.strip_prefix("/v2/") {
            let is_known = COHERE.contains(&rest.strip_suffix('/').unwrap_or(rest));
            return if is_known { Self::of(&format!("/v1/{rest}")) } else { Self::OTHER };
        }
        let Some(rest) = after_native(path) else { return Self::OTHER };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match NATIVE_MODELS.iter().find_map(|models| split_method(rest.strip_prefix(models)?)) {
            Some((_, method)) => Self::known(NATIVE_METHODS, method),
            None => Self::known(KNOWN, rest.strip_prefix("openai/").unwrap_or(rest)),
        }
    }

    fn known(list: &'static [(&'static str, &'static str, Body, Tokens)], rest: &str) -> Self {
        let found = list.iter().find(|(pattern, ..)| matches(pattern, rest));
        found.map_or(Self::OTHER, |&(pattern, name, body, tokens)| Self { name, pattern, body, tokens })
    }

    /// The paths after the version. `*` matches one segment, `**` one or more.
    pub fn paths() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(pattern, ..)| *pattern)
    }

    /// Returns true if the body is a JSON object that names its model, with any media type.
    pub fn takes_json_model(self) -> bool {
        matches!(self.body, Body::Model | Body::ModelAndDeployment | Body::Named | Body::Session)
    }

    /// Returns true for a path of Gemini's own API whose body may ask for output, and is not read.
    pub fn is_unread(self, path: &str) -> bool {
        self.body == Body::InPath || (self == Self::OTHER && after_native(path).is_some())
    }

    /// Returns true if a body without a model gets the default one.
    pub fn takes_default_model(self) -> bool {
        matches!(self.body, Body::Model | Body::ModelAndDeployment)
    }

    /// Returns true if the body is a form that names its model, or JSON that does.
    pub fn takes_form(self) -> bool {
        matches!(self.body, Body::FormAndDeployment | Body::Form)
    }

    /// Returns true if the model is in the body's object `session`.
    pub fn names_model_in_session(self) -> bool {
        self.body == Body::Session
    }

    /// Returns true if `metadata.user_id` names the end user (Anthropic's). Elsewhere `metadata` is
    /// the client's own.
    pub fn names_user_in_metadata(self) -> bool {
        matches!(self.name, "messages" | "messages/count_tokens")
    }

    /// The owner of the usage in the response to a request with this method to `path`, which must
    /// belong to this endpoint. `background` is the body's field; `None` if the body is not read.
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

    /// The decoded segment of `path` for the pattern's last star. `None` also if it is not UTF-8.
    fn last_id(self, path: &str) -> Option<String> {
        let stars = self.pattern.split('/').zip(after_version(path)?.split('/'));
        let (_, id) = stars.filter(|(segment, _)| *segment == "*").last()?;
        path::decoded(id)
    }

    /// Returns true if Azure's dated API has the endpoint below `/openai/deployments/{deployment}`.
    pub fn has_deployment_form(self) -> bool {
        matches!(self.body, Body::ModelAndDeployment | Body::FormAndDeployment)
    }
}

/// The decoded model that the path names, as `/v1/models/{id}` does. The path may have its route's
/// prefix. `is_native`: an upstream may have an API of its own that names models in paths.
pub fn path_model(method: &Method, path: &str, is_native: bool) -> Option<String> {
    if may_create(method) && !is_native {
        return None;
    }
    let place = model_place(method, path, is_native)?;
    path::decoded(&path[place]).filter(|model| !model.is_empty())
}

/// The path with this model in place of the one that it names. `None`: it stays as it is.
pub fn renamed_path(method: &Method, path: &str, model: &str) -> Option<String> {
    let is_native = NATIVE.iter().any(|native| path.starts_with(native));
    if may_create(method) && !is_native {
        return None;
    }
    let place = model_place(method, path, is_native)?;
    if path::decoded(&path[place.clone()])? == model {
        return None;
    }
    let mut renamed = path[..place.start].to_owned();
    for (number, segment) in model.split('/').enumerate() {
        if number > 0 {
            renamed.push('/');
        }
        path::push_segment(&mut renamed, segment);
    }
    renamed.push_str(&path[place.end..]);
    Some(renamed)
}

/// The place of the model's id in a path that names one.
fn model_place(method: &Method, path: &str, is_native: bool) -> Option<Range<usize>> {
    const PLACES: [&str; 3] = ["/v1/models/", "/openai/v1/models/", "/openai/models/"];
    const NATIVE_PLACES: [&str; 2] = ["/v1beta/models/", "/v1alpha/models/"];
    let places = if may_create(method) { &[][..] } else { &PLACES[..] };
    let after = |place: &'static &'static str| Some(path.find(place)? + place.len());
    let native = NATIVE_PLACES.iter().filter(|_| is_native).find_map(after);
    let (start, is_native) = match native {
        Some(start) => (start, true),
        None => (places.iter().find_map(after)?, false),
    };
    let end = match method_colon(&path[start..]) {
        Some(colon) if is_native => start + colon.start,
        None if is_native && may_create(method) => return None,
        _ => path.strip_suffix('/').unwrap_or(path).len(),
    };
    (start < end).then_some(start..end)
}

/// Returns true if a request of this method may create usage. Methods are case-sensitive (RFC 9110
/// section 9.1), but some servers accept `post` for `POST`, so that unknown methods may.
pub fn may_create(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE)
}

/// The path without the API's version, the deployment and one slash at the end.
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

/// Matches segment by segment: `*` is one segment, `**` one or more. No pattern begins with a star.
fn matches(pattern: &str, path: &str) -> bool {
    // Most paths have no id, so that a comparison of the whole decides before stars are searched.
    if pattern == path {
        return true;
    }
    if pattern.as_bytes().first() != path.as_bytes().first() || !pattern.contains('*') {
        return false;
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

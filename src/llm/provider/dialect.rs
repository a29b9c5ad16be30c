//! The outbound target of a request, in the dialect of its upstream.
//!
//! | inbound | provider | outbound |
//! |---|---|---|
//! | `/v1/<rest>` | openai, anthropic, other | `url/<rest>` |
//! | `/<version>/<rest>`, if `url` ends with that version, such as `/v2` | openai, anthropic, other | `url/<rest>` |
//! | `/v1/<rest>` | gemini | `url/v1beta/openai/<rest>` |
//! | `/v1beta/...`, `/v1alpha/...` | gemini | `url/v1beta/...` |
//! | `/v1/<rest>` | azure, v1 | `url/openai/v1/<rest>` |
//! | `/v1/<rest>` | azure, `preview` or `latest` | `url/openai/v1/<rest>?api-version=...` |
//! | `/v1/<rest>` | azure, dated | `url/openai/deployments/<deployment>/<rest>?api-version=...`, or `url/openai/<rest>?api-version=...` where there is no deployment form |
//! | `/openai/...` | azure | `url/openai/...` |
//!
//! The parts of the path and the query that are kept stay byte for byte. A path that a server could
//! resolve to one outside the upstream's own path is refused, never repaired. The configuration
//! takes precedence: on `/v1/<rest>` for an upstream with a version in the query, the client's
//! `api-version` is removed, and so is any parameter that the upstream's `query` sets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use super::endpoint::{
    DEPLOYMENTS, MODEL_PARAMETERS, NATIVE, V1, deployment, names_model_in_query, native_model,
};
use super::include_usage::is_before_stream_options;
use super::{ApiVersion, BaseUrl, Endpoint, FixedQuery, Provider, path};

/// A request's inbound path and query.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The path without the route's prefix.
    pub path: &'a str,
    /// The part after `?`, if there is one.
    pub query: Option<&'a str>,
    /// The request asks for a WebSocket.
    pub is_session: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// The upstream's dialect does not have the path.
    UnknownPath,
    /// The path needs a deployment, and the request names no model.
    ModelRequired,
    /// The path, the query or the model could lead outside the upstream's own path.
    UnsafePath,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownPath => "the upstream has no such path",
            Self::ModelRequired => "the path needs a deployment, and the request names no model",
            Self::UnsafePath => "the path could leave the upstream's own",
        })
    }
}

impl std::error::Error for TargetError {}

/// An upstream's URL and form of paths.
#[derive(Clone, Debug)]
pub struct Dialect {
    base: BaseUrl,
    form: Form,
    /// Model to deployment. A model that is not listed is its own deployment.
    deployments: HashMap<String, String>,
    query: FixedQuery,
}

/// The form of `/v1/<rest>`.
#[derive(Clone, Debug)]
enum Form {
    Plain,
    Anthropic,
    Gemini,
    AzureV1 { version: Option<&'static str> },
    AzureDated { version: String },
}

impl Dialect {
    /// `version` and `deployments` (model to deployment) are for Azure only.
    pub fn new(
        provider: Provider,
        base: BaseUrl,
        version: ApiVersion,
        deployments: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let form = match (provider, version) {
            (Provider::OpenAi | Provider::Other, _) => Form::Plain,
            (Provider::Anthropic, _) => Form::Anthropic,
            (Provider::Gemini, _) => Form::Gemini,
            (Provider::Azure, ApiVersion::V1) => Form::AzureV1 { version: None },
            (Provider::Azure, ApiVersion::V1Named(version)) => Form::AzureV1 { version: Some(version) },
            (Provider::Azure, ApiVersion::Dated(version)) => Form::AzureDated { version },
        };
        let deployments = match form {
            Form::Plain | Form::Anthropic | Form::Gemini => HashMap::new(),
            Form::AzureV1 { .. } | Form::AzureDated { .. } => deployments.into_iter().collect(),
        };
        Self { base, form, deployments, query: FixedQuery::default() }
    }

    /// Adds parameters to the query of every target.
    pub fn with_query(self, query: FixedQuery) -> Self {
        Self { query, ..self }
    }

    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// The models with a configured deployment, in alphabetical order.
    pub fn deployed_models(&self) -> Vec<&str> {
        let mut models: Vec<_> = self.deployments.keys().map(String::as_str).collect();
        models.sort_unstable();
        models
    }

    /// Returns true if the target depends on the request's model.
    pub fn needs_model(&self, inbound: &Inbound<'_>) -> bool {
        matches!(self.form, Form::AzureDated { .. })
            && inbound.path.starts_with(V1)
            && Endpoint::of(inbound.path).has_deployment_form()
    }

    /// Returns true if [`Self::body_model`] may change a name.
    pub fn renames_models(&self, inbound: &Inbound<'_>) -> bool {
        !self.deployments.is_empty() && inbound.path.starts_with(V1)
    }

    /// Returns true if the path names the deployment, so that the body's model does not matter.
    pub fn names_deployment(&self, inbound: &Inbound<'_>) -> bool {
        self.needs_model(inbound)
            || inbound.path.starts_with(DEPLOYMENTS)
            || native_model(inbound.path).is_some()
    }

    /// Returns true if a target of this dialect belongs to the service's own API, which has
    /// credentials of its own.
    pub fn is_native(&self, target: &str) -> bool {
        let Some(path) = target.strip_prefix(self.base.path()) else { return false };
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        match self.form {
            Form::Anthropic => path.strip_suffix('/').unwrap_or(path) != "/chat/completions",
            Form::Gemini => !path.starts_with(GEMINI_OPENAI),
            Form::Plain | Form::AzureV1 { .. } | Form::AzureDated { .. } => false,
        }
    }

    /// The value of the body's `model` for the upstream, often the same name: Azure expects a
    /// deployment there unless the URL names one.
    pub fn body_model<'a>(&'a self, inbound: &Inbound<'_>, model: &'a str) -> &'a str {
        if inbound.path.starts_with(V1) && !self.needs_model(inbound) {
            self.deployment(model)
        } else {
            model
        }
    }

    /// The model whose deployment an Azure SDK's path names; the alphabetically first of several. A
    /// deployment that is not listed is its own model.
    pub fn requested_model(&self, path: &str) -> Option<String> {
        Some(self.listed_model(&deployment(path)?).to_owned())
    }

    /// The alphabetically first model that leads to a deployment, or the deployment itself.
    pub fn listed_model<'a>(&'a self, deployment: &'a str) -> &'a str {
        self.models_of(deployment).min().unwrap_or(deployment)
    }

    /// The models that lead to a deployment. A deployment that is not listed is its own model.
    pub fn models_of<'a>(&'a self, deployment: &'a str) -> impl Iterator<Item = &'a str> {
        let listed = self.deployments.iter().filter(move |(_, listed)| *listed == deployment);
        let mut listed = listed.map(|(model, _)| model.as_str()).peekable();
        let own = listed.peek().is_none().then_some(deployment);
        listed.chain(own)
    }

    /// Returns true if the request's version of Azure's API is known to refuse `stream_options`.
    /// Azure SDKs put the version into the query.
    pub fn refuses_stream_options(&self, inbound: &Inbound<'_>) -> bool {
        match &self.form {
            Form::Plain | Form::Anthropic | Form::Gemini => false,
            Form::AzureDated { version } if inbound.path.starts_with(V1) => is_before_stream_options(version),
            Form::AzureV1 { .. } | Form::AzureDated { .. } => inbound
                .query
                .into_iter()
                .flat_map(|query| query.split('&'))
                .filter(|parameter| path::is_parameter(parameter, "api-version"))
                .filter_map(|parameter| Some(parameter.split_once('=')?.1))
                .any(is_before_stream_options),
        }
    }

    /// The request's target in origin form (RFC 9112 section 3.2.1): path and optional query.
    ///
    /// An empty `model` counts as none. The path begins with the base URL's path and a slash, and
    /// resolves to a path below it on every server.
    ///
    /// # Errors
    ///
    /// Fails with [`TargetError`].
    pub fn target(&self, inbound: &Inbound<'_>, model: Option<&str>) -> Result<String, TargetError> {
        self.target_in(String::new(), inbound, model)
    }

    /// Does the same in the memory of an earlier target.
    ///
    /// # Errors
    ///
    /// Fails with [`TargetError`].
    pub fn target_in(
        &self,
        memory: String,
        inbound: &Inbound<'_>,
        model: Option<&str>,
    ) -> Result<String, TargetError> {
        self.own_target(memory, inbound, model).map(|target| self.query.put_on(target))
    }

    /// The target of a `GET` of the proxy's own: of a path of the API, or else of a path below the
    /// upstream's URL.
    ///
    /// # Errors
    ///
    /// Fails with [`TargetError`].
    pub fn target_below(&self, path: &str) -> Result<String, TargetError> {
        let inbound = Inbound { path, query: None, is_session: false };
        match self.target(&inbound, None) {
            Err(TargetError::UnknownPath) => Ok(self.query.put_on(format!("{}{path}", self.base.path()))),
            target => target,
        }
    }

    fn own_target(
        &self,
        mut target: String,
        inbound: &Inbound<'_>,
        model: Option<&str>,
    ) -> Result<String, TargetError> {
        if !path::is_safe(inbound.path) || !inbound.query.is_none_or(path::is_query) {
            return Err(TargetError::UnsafePath);
        }
        let query = self.query(inbound, model);
        let query = query.as_deref();
        target.clear();
        target.reserve(
            self.base.path().len() + inbound.path.len() + query.map_or(0, str::len) + DEPLOYMENT_ROOM,
        );
        target.push_str(self.base.path());

        match (&self.form, inbound.path.strip_prefix(V1)) {
            (Form::Plain | Form::Anthropic, Some(rest)) => {
                target.push('/');
                target.push_str(rest);
            }
            (Form::Plain | Form::Anthropic, None) => {
                let rest = self.own_rest(inbound.path).ok_or(TargetError::UnknownPath)?;
                target.push('/');
                target.push_str(rest);
            }
            (Form::Gemini, Some(rest)) => {
                target.push_str(GEMINI_OPENAI);
                target.push_str(rest);
            }
            (Form::Gemini, None) if NATIVE.iter().any(|native| inbound.path.starts_with(native)) => {
                target.push_str(inbound.path);
            }
            (Form::AzureV1 { version }, Some(rest)) => {
                target.push_str("/openai/v1/");
                target.push_str(rest);
                if let Some(version) = version {
                    push_versioned_query(&mut target, query, version);
                    return Ok(target);
                }
            }
            (Form::AzureDated { version }, Some(rest)) => {
                target.push_str("/openai/");
                if self.needs_model(inbound) {
                    self.push_deployment(&mut target, model)?;
                }
                target.push_str(rest);
                push_versioned_query(&mut target, query, version);
                return Ok(target);
            }
            (Form::AzureV1 { .. } | Form::AzureDated { .. }, None)
                if inbound.path.starts_with("/openai/") =>
            {
                target.push_str(inbound.path);
            }
            (_, None) => return Err(TargetError::UnknownPath),
        }
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        Ok(target)
    }

    /// The part of a path after the version with which the upstream's own path ends: that of
    /// `/v2/chat` for `https://api.cohere.com/v2`.
    fn own_rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (_, version) = self.base.path().rsplit_once('/')?;
        let is_version =
            version.starts_with('v') && version[1..].starts_with(|char: char| char.is_ascii_digit());
        path.strip_prefix('/')?.strip_prefix(version).filter(|_| is_version)?.strip_prefix('/')
    }

    /// The query. If the endpoint names the model in its query, the upstream's name of the model
    /// replaces it, and appears once, since servers differ in which of several they use. A dated
    /// Azure API calls it `deployment`. A `deployment` of the client, and one in an Azure SDK's
    /// path, stays as it is.
    fn query<'a>(&self, inbound: &Inbound<'a>, model: Option<&str>) -> Option<Cow<'a, str>> {
        let query = inbound.query.map(Cow::Borrowed);
        let (true, Some(model)) = (names_model_in_query(inbound.path, inbound.is_session), model) else {
            return query;
        };
        let text = inbound.query.unwrap_or_default();
        let is_own = !inbound.path.starts_with(V1);
        let said = MODEL_PARAMETERS.into_iter().find_map(|key| Some((key, path::parameter(text, key)?)));
        let (key, name) = match (&self.form, &said) {
            (_, None) if is_own => return query,
            (_, Some((said, _))) if is_own || *said == "deployment" => (*said, model),
            (Form::Plain | Form::Anthropic | Form::Gemini, _) => ("model", model),
            (Form::AzureDated { .. }, _) if names_model_in_query(inbound.path, false) => {
                ("deployment", self.deployment(model))
            }
            (Form::AzureV1 { .. } | Form::AzureDated { .. }, _) => ("model", self.deployment(model)),
        };
        let is_named = |parameter: &str| {
            path::is_parameter(parameter, key)
                || said.as_ref().is_some_and(|(said, _)| path::is_parameter(parameter, said))
        };
        let is_right = match &said {
            None => key == "model",
            Some((said, named)) => *said == key && named == name,
        };
        if is_right && text.split('&').filter(|parameter| is_named(parameter)).count() < 2 {
            return query;
        }
        let mut edited = format!("{key}=");
        path::push_segment(&mut edited, name);
        for parameter in text.split('&').filter(|parameter| !parameter.is_empty() && !is_named(parameter)) {
            edited.push('&');
            edited.push_str(parameter);
        }
        Some(Cow::Owned(edited))
    }

    fn deployment<'a>(&'a self, model: &'a str) -> &'a str {
        self.deployments.get(model).map_or(model, String::as_str)
    }

    fn push_deployment(&self, target: &mut String, model: Option<&str>) -> Result<(), TargetError> {
        let deployment = model.map(|model| self.deployment(model)).filter(|name| !name.is_empty());
        let deployment = deployment.ok_or(TargetError::ModelRequired)?;
        target.push_str("deployments");
        let begin = target.len();
        target.push('/');
        path::push_segment(target, deployment);
        target.push('/');
        // Encoding keeps dots, and the encoded bytes are checked as in a path.
        if path::is_safe(&target[begin..]) { Ok(()) } else { Err(TargetError::UnsafePath) }
    }
}

/// The prefix of OpenAI's API at Gemini (ai.google.dev/gemini-api/docs/openai).
const GEMINI_OPENAI: &str = "/v1beta/openai/";

/// The bytes that an Azure URL adds to a path, so that it is allocated once.
const DEPLOYMENT_ROOM: usize = 96;

/// Replaces the `api-version` of the query.
fn push_versioned_query(target: &mut String, query: Option<&str>, version: &str) {
    target.push('?');
    let parameters = query.filter(|query| !query.is_empty()).into_iter().flat_map(|query| query.split('&'));
    for parameter in parameters.filter(|parameter| !path::is_parameter(parameter, "api-version")) {
        target.push_str(parameter);
        target.push('&');
    }
    target.push_str("api-version=");
    target.push_str(version);
}

#[cfg(test)]
mod tests;

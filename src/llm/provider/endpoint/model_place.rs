//! The places where requests name their model, and the endpoints whose use is counted.

use std::ops::Range;

use http::Method;

use super::super::path;
use super::paths::KNOWN;
use super::{Body, Endpoint, Tokens, may_create};

/// The place where a request names its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// The deployment in the path. `None`: it cannot be read.
    Path(Option<String>),
    /// The parameters of the query that [`query_models`] returns.
    Query,
    /// The messages of a WebSocket, after the upgrade.
    Messages,
    Body {
        /// A body without a model gets the default one.
        takes_default: bool,
    },
    /// The request names no model, or none that is known of.
    Nowhere,
}

/// Endpoints whose responses are no generated text.
const WITHOUT_OUTPUT: [&str; 7] =
    ["embeddings", "rerank", "score", "audio/speech", "embed", "embedContent", "batchEmbedContents"];

/// Endpoints that generate nothing, and which services do not bill by tokens.
const WITHOUT_TOKENS: [&str; 7] = [
    "assistants",
    "countTokens",
    "detokenize",
    "messages/count_tokens",
    "moderations",
    "responses/input_tokens",
    "tokenize",
];

impl Endpoint {
    /// Returns true if a request with this method may use tokens of its own.
    pub fn uses_tokens(self, method: &Method) -> bool {
        let is_its_own = matches!(self.tokens, Tokens::Own | Tokens::Creates(_));
        is_its_own && may_create(method) && !WITHOUT_TOKENS.contains(&self.name)
    }

    /// Returns true if a request of this method to the endpoint of this name gets a default model if
    /// its body names none.
    pub fn takes_default_by_name(name: &str, method: &Method) -> bool {
        let takes = |body: &Body| matches!(body, Body::Model | Body::ModelAndDeployment);
        may_create(method) && KNOWN.iter().any(|(_, known, body, _)| *known == name && takes(body))
    }

    /// Returns true if responses have output tokens.
    pub fn has_output(self) -> bool {
        !WITHOUT_OUTPUT.contains(&self.name) && !WITHOUT_TOKENS.contains(&self.name)
    }

    /// The place of the model in a request with this method to `path`, which must belong to this
    /// endpoint.
    pub fn model_place(self, method: &Method, path: &str, is_session: bool) -> ModelPlace {
        if path.starts_with(DEPLOYMENTS) {
            ModelPlace::Path(deployment(path))
        } else if let Some(model) = self.native_place(method, path) {
            ModelPlace::Path(model)
        } else if names_model_in_query(path, false) {
            ModelPlace::Query
        } else if is_session {
            ModelPlace::Messages
        } else if self.body != Body::Opaque && may_create(method) {
            ModelPlace::Body { takes_default: self.takes_default_model() && path.starts_with(V1) }
        } else {
            ModelPlace::Nowhere
        }
    }

    /// The model of a request to Gemini's own API that may create usage, in its path. `Some(None)`:
    /// the path names none.
    fn native_place(self, method: &Method, path: &str) -> Option<Option<String>> {
        let rest = after_native(path)?;
        let is_own = self == Self::OTHER || NATIVE_MODELS.iter().any(|models| rest.starts_with(models));
        (is_own && may_create(method)).then(|| native_model(path).or_else(|| native_name(rest)))
    }

    /// Returns true if a request uses no tokens, or names its model and has its tokens counted in
    /// its own record. A response that is made in the background is not: its body decides.
    pub fn is_metered(self, method: &Method, path: &str, is_session: bool) -> bool {
        if self == Self::OTHER || self.name.starts_with(FINE_TUNING) || self.tokens == Tokens::Unread {
            return false;
        }
        if is_session {
            return names_model_in_query(path, true);
        }
        if !may_create(method) {
            return true;
        }
        match self.tokens {
            // The tokens of a run and of a video are known when they are retrieved, and a run that
            // gets the output of its tools goes on.
            Tokens::Shows(_) => self.name.ends_with(CANCEL),
            Tokens::Creates(kind) => kind.is_usually_whole(),
            Tokens::Restates | Tokens::Unread => false,
            // The tokens of a realtime session pass here only if its WebSocket does.
            Tokens::Own if self.name.starts_with(REALTIME) => false,
            Tokens::Own => {
                self.body != Body::Opaque || (self.name == EXTENSIONS && path.starts_with(DEPLOYMENTS))
            }
        }
    }
}

/// The beginning of the names of endpoints that train models, whose responses show no usage.
const FINE_TUNING: &str = "fine_tuning";

/// The beginning of the names of endpoints for realtime sessions, and for keys to open them
/// elsewhere.
const REALTIME: &str = "realtime";

/// The end of the names of endpoints that stop what was begun.
const CANCEL: &str = "/cancel";

/// Azure's chat with data sources. Its path has the deployment.
const EXTENSIONS: &str = "extensions/chat/completions";

/// The prefix of an OpenAI SDK's paths.
pub(in crate::llm::provider) const V1: &str = "/v1/";

/// The prefixes of the paths of Gemini's own API.
pub(in crate::llm::provider) const NATIVE: [&str; 2] = ["/v1beta/", "/v1alpha/"];

/// The prefix of an Azure SDK's paths with a deployment.
pub(in crate::llm::provider) const DEPLOYMENTS: &str = "/openai/deployments/";

/// The collections of models there.
pub(super) const NATIVE_MODELS: [&str; 2] = ["models/", "tunedModels/"];

/// Parameters that name the model, of which the first counts.
pub(in crate::llm::provider) const MODEL_PARAMETERS: [&str; 2] = ["model", "deployment"];

/// The decoded model of a request that names it in its query, as `GET /v1/realtime` does (Azure's
/// as `deployment`). The path may have its route's prefix. `is_session`: the request asks for a
/// WebSocket.
pub fn query_model(path: &str, query: Option<&str>, is_session: bool) -> Option<String> {
    let query = query.filter(|_| names_model_in_query(path, is_session))?;
    MODEL_PARAMETERS.iter().find_map(|name| path::parameter(query, name)).filter(|model| !model.is_empty())
}

/// The values of all parameters that name a model or, if the first value is true, a deployment.
/// Servers differ in which of several they use.
pub fn query_models(query: &str) -> Vec<(bool, String)> {
    let value = |parameter: &str| {
        let name = MODEL_PARAMETERS.iter().find(|name| path::is_parameter(parameter, name))?;
        let value = parameter.split_once('=').map_or("", |(_, value)| value);
        let value = String::from_utf8_lossy(&path::percent_decoded(value.as_bytes())).into_owned();
        (!value.is_empty()).then_some((*name == "deployment", value))
    };
    query.split('&').filter_map(value).collect()
}

/// Returns true if requests to the path name their model in the query. A session of `responses` may
/// do so; otherwise its messages name the model, after the upgrade.
pub(in crate::llm::provider) fn names_model_in_query(path: &str, is_session: bool) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.ends_with("/realtime") || (is_session && path.ends_with("/responses"))
}

/// The part of a path of Gemini's own API after its version.
pub(super) fn after_native(path: &str) -> Option<&str> {
    NATIVE.iter().find_map(|native| path.strip_prefix(native))
}

/// Splits a model from the method behind its colon, which a client may have encoded.
pub(super) fn split_method(text: &str) -> Option<(&str, &str)> {
    let colon = method_colon(text)?;
    Some((&text[..colon.start], &text[colon.end..]))
}

/// The place of the first colon, encoded or not.
pub(super) fn method_colon(text: &str) -> Option<Range<usize>> {
    let encoded = [text.find("%3A"), text.find("%3a")].into_iter().flatten().min().map(|at| at..at + 3);
    let plain = text.find(':').map(|at| at..at + 1);
    [encoded, plain].into_iter().flatten().min_by_key(|colon| colon.start)
}

/// The decoded model in a path of Gemini's own API that names one and a method:
/// `/v1beta/models/{model}:{method}`.
pub(in crate::llm::provider) fn native_model(path: &str) -> Option<String> {
    let (model, _) = split_method(after_native(path)?.strip_prefix("models/")?)?;
    path::decoded(model).filter(|model| !model.is_empty())
}

/// The decoded resource that a path of Gemini's own API calls a method of, with its collection:
/// `tunedModels/{model}`.
fn native_name(rest: &str) -> Option<String> {
    let (name, _) = split_method(rest)?;
    path::decoded(name).filter(|name| !name.is_empty())
}

/// The decoded deployment in an Azure SDK's path.
pub(in crate::llm::provider) fn deployment(path: &str) -> Option<String> {
    let (deployment, _) = path.strip_prefix(DEPLOYMENTS)?.split_once('/')?;
    path::decoded(deployment).filter(|deployment| !deployment.is_empty())
}

//! Which of the API's endpoints a path is: the name in records and metrics, and what the proxy may do with
//! it.
//!
//! The names are OpenAI's paths after `/v1` with the ids left out (OpenAI's specification, plus what the
//! usual neighbours serve). They are a fixed list, because metrics are labelled with them: whatever is not on
//! it is [`Endpoint::OTHER`], so that no client can make up a label.

use super::path;

/// An endpoint of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name in records: `chat/completions`; `threads/runs` for `/v1/threads/t_1/runs`; `other` if
    /// unknown.
    pub name: &'static str,
    body: Body,
}

/// What the proxy knows of an endpoint's request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// JSON whose top-level `model` names the model; Azure has a deployment URL for it.
    ModelAndDeployment,
    /// JSON whose top-level `model` names the model.
    Model,
    /// Not JSON, and Azure has a deployment URL for it.
    FormAndDeployment,
    /// None, or none that the proxy looks into.
    Opaque,
}

impl Endpoint {
    /// What is not on the list.
    pub const OTHER: Self = Self { name: "other", body: Body::Opaque };

    /// The endpoint of an inbound path, the route's prefix already taken off: `/v1/...`, or Azure's
    /// `/openai/v1/...`, `/openai/deployments/{deployment}/...`, `/openai/...`. One slash at the end changes
    /// nothing.
    pub fn of(path: &str) -> Self {
        let Some(rest) = after_version(path) else {
            return Self::OTHER;
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        KNOWN
            .iter()
            .find(|(pattern, ..)| matches(pattern, rest))
            .map_or(Self::OTHER, |&(_, name, body)| Self { name, body })
    }

    /// Whether the body is a JSON object whose `model` the proxy may read and edit.
    ///
    /// Not so where a missing `model` means something else than the default one, as in a run of an assistant.
    pub fn takes_json_model(self) -> bool {
        matches!(self.body, Body::Model | Body::ModelAndDeployment)
    }

    /// Whether what the endpoint of this name answers speaks of other requests: files, and batches, which may be looked at
    /// any number of times. Usage that stands there is none of the request's.
    pub fn speaks_of_others(name: &str) -> bool {
        ["files", "batches", "messages/batches", "uploads"]
            .iter()
            .any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// Whether Azure's dated API has it below `/openai/deployments/{deployment}`.
    pub fn has_deployment_form(self) -> bool {
        matches!(self.body, Body::ModelAndDeployment | Body::FormAndDeployment)
    }
}

/// The model of a request that names it in its query, as `GET /v1/realtime` does (Azure's as `deployment`); decoded. The path may
/// still have its route's prefix.
pub fn query_model(path: &str, query: Option<&str>) -> Option<String> {
    names_model_in_query(path).then_some(())?;
    ["model", "deployment"]
        .iter()
        .find_map(|name| path::parameter(query?, name))
        .filter(|model| !model.is_empty())
}

/// Whether requests to the path name their model in the query.
pub(super) fn names_model_in_query(path: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path).ends_with("/realtime")
}

/// The path without what names the API's version or the deployment.
fn after_version(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/openai/v1/")) {
        return Some(rest);
    }
    let rest = path.strip_prefix("/openai/")?;
    match rest.strip_prefix("deployments/").and_then(|rest| rest.split_once('/')) {
        Some((_deployment, rest)) => Some(rest),
        None => Some(rest),
    }
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

/// Pattern after the version, name, body. The busiest first: the list is searched in order.
#[rustfmt::skip] // a table reads best with one entry a line
const KNOWN: &[(&str, &str, Body)] = &[
    ("chat/completions", "chat/completions", Body::ModelAndDeployment),
    ("responses", "responses", Body::Model),
    ("embeddings", "embeddings", Body::ModelAndDeployment),
    ("completions", "completions", Body::ModelAndDeployment),
    ("messages", "messages", Body::Model),
    ("moderations", "moderations", Body::Model),
    ("images/generations", "images/generations", Body::ModelAndDeployment),
    ("images/edits", "images/edits", Body::FormAndDeployment),
    ("images/variations", "images/variations", Body::Opaque),
    ("audio/speech", "audio/speech", Body::ModelAndDeployment),
    ("audio/transcriptions", "audio/transcriptions", Body::FormAndDeployment),
    ("audio/translations", "audio/translations", Body::FormAndDeployment),
    ("models", "models", Body::Opaque),
    ("models/**", "models", Body::Opaque),
    ("rerank", "rerank", Body::Model),
    ("score", "score", Body::Model),
    ("chat/completions/*", "chat/completions", Body::Opaque),
    ("chat/completions/*/messages", "chat/completions/messages", Body::Opaque),
    ("responses/compact", "responses/compact", Body::Model),
    ("responses/input_tokens", "responses/input_tokens", Body::Model),
    ("responses/*", "responses", Body::Opaque),
    ("responses/*/cancel", "responses/cancel", Body::Opaque),
    ("responses/*/input_items", "responses/input_items", Body::Opaque),
    ("messages/count_tokens", "messages/count_tokens", Body::Model),
    ("messages/batches", "messages/batches", Body::Opaque),
    ("messages/batches/*", "messages/batches", Body::Opaque),
    ("messages/batches/*/cancel", "messages/batches/cancel", Body::Opaque),
    ("messages/batches/*/results", "messages/batches/results", Body::Opaque),
    ("conversations", "conversations", Body::Opaque),
    ("conversations/*", "conversations", Body::Opaque),
    ("conversations/*/items", "conversations/items", Body::Opaque),
    ("conversations/*/items/*", "conversations/items", Body::Opaque),
    ("files", "files", Body::Opaque),
    ("files/*", "files", Body::Opaque),
    ("files/*/content", "files/content", Body::Opaque),
    ("uploads", "uploads", Body::Opaque),
    ("uploads/*/parts", "uploads/parts", Body::Opaque),
    ("uploads/*/complete", "uploads/complete", Body::Opaque),
    ("uploads/*/cancel", "uploads/cancel", Body::Opaque),
    ("batches", "batches", Body::Opaque),
    ("batches/*", "batches", Body::Opaque),
    ("batches/*/cancel", "batches/cancel", Body::Opaque),
    ("assistants", "assistants", Body::Model),
    ("assistants/*", "assistants", Body::Opaque),
    ("threads", "threads", Body::Opaque),
    ("threads/runs", "threads/runs", Body::Opaque),
    ("threads/*", "threads", Body::Opaque),
    ("threads/*/messages", "threads/messages", Body::Opaque),
    ("threads/*/messages/*", "threads/messages", Body::Opaque),
    ("threads/*/runs", "threads/runs", Body::Opaque),
    ("threads/*/runs/*", "threads/runs", Body::Opaque),
    ("threads/*/runs/*/cancel", "threads/runs/cancel", Body::Opaque),
    ("threads/*/runs/*/steps", "threads/runs/steps", Body::Opaque),
    ("threads/*/runs/*/steps/*", "threads/runs/steps", Body::Opaque),
    ("threads/*/runs/*/submit_tool_outputs", "threads/runs/submit_tool_outputs", Body::Opaque),
    ("vector_stores", "vector_stores", Body::Opaque),
    ("vector_stores/*", "vector_stores", Body::Opaque),
    ("vector_stores/*/search", "vector_stores/search", Body::Opaque),
    ("vector_stores/*/files", "vector_stores/files", Body::Opaque),
    ("vector_stores/*/files/*", "vector_stores/files", Body::Opaque),
    ("vector_stores/*/files/*/content", "vector_stores/files/content", Body::Opaque),
    ("vector_stores/*/file_batches", "vector_stores/file_batches", Body::Opaque),
    ("vector_stores/*/file_batches/*", "vector_stores/file_batches", Body::Opaque),
    ("vector_stores/*/file_batches/*/cancel", "vector_stores/file_batches/cancel", Body::Opaque),
    ("vector_stores/*/file_batches/*/files", "vector_stores/file_batches/files", Body::Opaque),
    ("fine_tuning/jobs", "fine_tuning/jobs", Body::Opaque),
    ("fine_tuning/jobs/*", "fine_tuning/jobs", Body::Opaque),
    ("fine_tuning/jobs/*/cancel", "fine_tuning/jobs/cancel", Body::Opaque),
    ("fine_tuning/jobs/*/pause", "fine_tuning/jobs/pause", Body::Opaque),
    ("fine_tuning/jobs/*/resume", "fine_tuning/jobs/resume", Body::Opaque),
    ("fine_tuning/jobs/*/events", "fine_tuning/jobs/events", Body::Opaque),
    ("fine_tuning/jobs/*/checkpoints", "fine_tuning/jobs/checkpoints", Body::Opaque),
    ("videos", "videos", Body::Opaque),
    ("videos/*", "videos", Body::Opaque),
    ("videos/*/content", "videos/content", Body::Opaque),
    ("videos/*/remix", "videos/remix", Body::Opaque),
    ("containers", "containers", Body::Opaque),
    ("containers/*", "containers", Body::Opaque),
    ("containers/*/files", "containers/files", Body::Opaque),
    ("containers/*/files/*", "containers/files", Body::Opaque),
    ("containers/*/files/*/content", "containers/files/content", Body::Opaque),
    ("evals", "evals", Body::Opaque),
    ("evals/*", "evals", Body::Opaque),
    ("evals/*/runs", "evals/runs", Body::Opaque),
    ("evals/*/runs/*", "evals/runs", Body::Opaque),
    ("evals/*/runs/*/output_items", "evals/runs/output_items", Body::Opaque),
    ("evals/*/runs/*/output_items/*", "evals/runs/output_items", Body::Opaque),
    ("realtime", "realtime", Body::Opaque),
    ("realtime/sessions", "realtime/sessions", Body::Opaque),
    ("realtime/client_secrets", "realtime/client_secrets", Body::Opaque),
    ("realtime/transcription_sessions", "realtime/transcription_sessions", Body::Opaque),
    ("realtime/calls", "realtime/calls", Body::Opaque),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_left_out_of_the_name() {
        for (path, name) in [
            ("/v1/chat/completions", "chat/completions"),
            ("/v1/chat/completions/", "chat/completions"),
            ("/v1/chat/completions/cc_1/messages", "chat/completions/messages"),
            ("/v1/responses", "responses"),
            ("/v1/responses/resp_123", "responses"),
            ("/v1/responses/resp_123/input_items", "responses/input_items"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/images/generations", "images/generations"),
            ("/v1/audio/transcriptions", "audio/transcriptions"),
            ("/v1/models", "models"),
            ("/v1/models/gpt-4o", "models"),
            ("/v1/models/meta-llama/Llama-3", "models"),
            ("/v1/threads/runs", "threads/runs"),
            ("/v1/threads/t_1/runs", "threads/runs"),
            ("/v1/threads/t_1/runs/r_1/steps/s_1", "threads/runs/steps"),
            ("/v1/messages", "messages"),
        ] {
            assert_eq!(Endpoint::of(path).name, name, "{path}");
        }
    }

    #[test]
    fn azures_paths_have_the_same_names() {
        for path in [
            "/openai/deployments/my-gpt4o/chat/completions",
            "/openai/v1/chat/completions",
            "/openai/chat/completions",
        ] {
            assert_eq!(Endpoint::of(path), Endpoint::of("/v1/chat/completions"), "{path}");
        }
        assert_eq!(Endpoint::of("/openai/responses/resp_1").name, "responses");
    }

    #[test]
    fn whatever_is_not_on_the_list_is_other() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/secret-of-client-123",
            "/v1/chat/completions/a/b",
            "/v1/Chat/Completions",
            "/v1/responses//cancel",
            "/v2/chat/completions",
            "/chat/completions",
            "/openai/deployments/x",
        ] {
            assert_eq!(Endpoint::of(path), Endpoint::OTHER, "{path}");
        }
    }

    #[test]
    fn a_body_is_looked_into_only_where_its_model_is_the_one_to_ask() {
        for path in
            ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/moderations", "/v1/messages"]
        {
            assert!(Endpoint::of(path).takes_json_model(), "{path}");
        }
        // A run without a model uses its assistant's; the others have no JSON body, or no model in it.
        for path in [
            "/v1/threads/runs",
            "/v1/threads/t_1/runs",
            "/v1/audio/transcriptions",
            "/v1/responses/resp_1/cancel",
            "/v1/fine_tuning/jobs",
            "/v1/files",
            "/v1/unheard-of",
        ] {
            assert!(!Endpoint::of(path).takes_json_model(), "{path}");
        }
    }

    #[test]
    fn deployment_urls_exist_for_what_azures_sdk_sends_to_one() {
        let with_form: Vec<_> = KNOWN
            .iter()
            .filter(|(.., body)| Endpoint { name: "", body: *body }.has_deployment_form())
            .collect();
        let mut names: Vec<_> = with_form.iter().map(|(_, name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "audio/speech",
                "audio/transcriptions",
                "audio/translations",
                "chat/completions",
                "completions",
                "embeddings",
                "images/edits",
                "images/generations"
            ]
        );
    }

    #[test]
    fn a_name_is_its_pattern_without_the_ids() {
        for (pattern, name, _) in KNOWN {
            let literal: Vec<_> = pattern.split('/').filter(|segment| !segment.starts_with('*')).collect();
            assert_eq!(literal.join("/"), *name);
            assert_eq!(Endpoint::of(&format!("/v1/{}", pattern.replace('*', "x"))).name, *name, "{pattern}");
        }
    }
}

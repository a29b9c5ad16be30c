//! Endpoints that keep state under ids, and the ids in URLs.

use std::borrow::Cow;

use super::Endpoint;
use crate::llm::provider::path;

/// Tells whether responses of an endpoint have ids of stored state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldsState {
    Never,
    /// If the request asks for it, in a field of its body.
    OnRequest,
    Always,
}

/// Query parameters that name an object: the cursors of lists.
const CURSORS: [&str; 2] = ["after", "before"];

impl Endpoint {
    /// Any endpoint that is not known to be without state has some, so that new ones work.
    pub fn holds_state(self) -> HoldsState {
        match self.name {
            // Completions with `store`, and containers of code execution.
            "chat/completions" if self.names_id() => HoldsState::Always,
            "chat/completions" | "messages" => HoldsState::OnRequest,
            "audio/speech"
            | "audio/transcriptions"
            | "audio/translations"
            | "batches/results"
            | "classify"
            | "complete"
            | "completions"
            | "detokenize"
            | "edits"
            | "embeddings"
            | "engines"
            | "fim/completions"
            | "images/edits"
            | "images/generations"
            | "images/variations"
            | "messages/batches/results"
            | "messages/count_tokens"
            | "models"
            | "moderations"
            | "ocr"
            | "rerank"
            | "reranking"
            | "responses/input_tokens"
            | "score"
            | "tokenize" => HoldsState::Never,
            name if name.ends_with("/content") => HoldsState::Never,
            // Items of a realtime session live as long as the session.
            name if name.starts_with("realtime") || name.starts_with("organization/") => HoldsState::Never,
            _ => HoldsState::Always,
        }
    }

    /// Returns true if bodies of requests may name stored state. Some endpoints only use it.
    pub fn may_name_state(self) -> bool {
        let uses = ["audio/speech", "images/edits", "messages/count_tokens", "responses/input_tokens"];
        self.holds_state() != HoldsState::Never || uses.contains(&self.name)
    }

    /// Returns true if many bodies of requests name stored state, with any key.
    pub fn often_names_state(self) -> bool {
        self.holds_state() == HoldsState::Always || self.name == "responses/input_tokens"
    }

    /// Returns true if the path has an id in a known place.
    pub fn names_id(self) -> bool {
        self.has_star() && !self.pattern.contains("**")
    }

    /// Returns true if the path may have an id, also in an unknown place.
    pub fn may_name_id(self) -> bool {
        self.pattern.is_empty() || self.has_star()
    }

    fn has_star(self) -> bool {
        self.pattern.as_bytes().contains(&b'*')
    }

    /// The decoded ids in a path of this endpoint, which may have its route's prefix.
    pub fn ids_in(self, path: &str) -> impl Iterator<Item = String> {
        let segments = path.strip_suffix('/').unwrap_or(path).rsplit('/');
        let stars = self.pattern.rsplit('/').zip(segments).filter(|(segment, _)| *segment == "*");
        stars.filter_map(|(_, id)| path::decoded(id))
    }
}

/// The decoded texts of a path and a query that may be ids: segments, and cursors of lists.
pub fn path_ids<'a>(path: &'a str, query: Option<&'a str>) -> impl Iterator<Item = Cow<'a, str>> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let decoded = |segment: &'a str| match segment.contains('%') {
        true => path::decoded(segment).map(Cow::Owned),
        false => Some(Cow::Borrowed(segment)),
    };
    let cursor = move |name: &&str| path::parameter(query?, name).map(Cow::Owned);
    segments.filter_map(decoded).chain(CURSORS.iter().filter_map(cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_url_are_decoded() {
        let ids = |path, query| path_ids(path, query).map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(ids("/v1/responses/resp_1/cancel", None), ["v1", "responses", "resp_1", "cancel"]);
        assert_eq!(ids("/v1/files/file%2D1/", None), ["v1", "files", "file-1"]);
        let query = Some("limit=2&after=file%2D2&before=");
        assert_eq!(ids("/v1/files", query), ["v1", "files", "file-2", ""]);
        assert_eq!(ids("", Some("cursor=1")), [""; 0]);
    }

    #[test]
    fn endpoints_of_objects_hold_state() {
        for (path, holds) in [
            ("/v1/responses", HoldsState::Always),
            ("/v1/responses/resp_1", HoldsState::Always),
            ("/v1/files", HoldsState::Always),
            ("/v1/files/file-1/content", HoldsState::Never),
            ("/v1/new_things", HoldsState::Always),
            ("/v1/chat/completions", HoldsState::OnRequest),
            ("/v1/chat/completions/chatcmpl-1", HoldsState::Always),
            ("/openai/deployments/d/embeddings", HoldsState::Never),
            ("/v1/models/m", HoldsState::Never),
        ] {
            assert_eq!(Endpoint::of(path).holds_state(), holds, "{path}");
        }
        let names_state = |path| {
            let endpoint = Endpoint::of(path);
            (endpoint.may_name_state(), endpoint.often_names_state())
        };
        assert_eq!(names_state("/v1/responses/input_tokens"), (true, true));
        assert_eq!(names_state("/v1/chat/completions"), (true, false));
        assert_eq!(names_state("/v1/images/edits"), (true, false));
        assert_eq!(names_state("/v1/embeddings"), (false, false));
        let names_id = |path| Endpoint::of(path).names_id();
        assert!(names_id("/v1/batches/batch_1/cancel") && names_id("/v1/responses/resp_1"));
        let ids = |path: &str| Endpoint::of("/v1/threads/t/runs/r").ids_in(path).collect::<Vec<_>>();
        assert_eq!(ids("/team/v1/threads/thread%5F1/runs/run_1/"), ["run_1", "thread_1"]);
        assert_eq!(
            Endpoint::of("/v1/files/f/content").ids_in("/v1/files/file-1/content").next().as_deref(),
            Some("file-1")
        );
        assert_eq!(Endpoint::of("/v1/files").ids_in("/v1/files").next(), None);
        let may_name_id = |path| Endpoint::of(path).may_name_id();
        assert!(
            may_name_id("/v1/responses/resp_1") && may_name_id("/v1/new/n_1") && may_name_id("/v1/models/m")
        );
        assert!(!may_name_id("/v1/responses") && !may_name_id("/openai/deployments/d/chat/completions"));
        assert!(!names_id("/v1/responses") && !names_id("/v1/models/m") && !names_id("/v1/new/n_1"));
    }
}

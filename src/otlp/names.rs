//! What a record is called in the conventions' words.

use std::borrow::Cow;

use http::Method;

use crate::record::{Outcome, UsageRecord};

/// `gen_ai.operation.name`; `None`: the request asks nothing of a model. An endpoint that the conventions have no word for is called by
/// its own where it has used tokens. All of them are of fixed lists.
pub(super) fn operation(row: &UsageRecord) -> Option<Cow<'static, str>> {
    let endpoint = row.endpoint.as_ref()?;
    let has_used_tokens = row.usage.input_tokens.is_some() || row.usage.output_tokens.is_some();
    let asks = row.method.as_ref() == Some(&Method::POST) || endpoint == "realtime" || has_used_tokens;
    let operation = match &**endpoint {
        "chat/completions" | "responses" | "messages" | "realtime" => "chat",
        "completions" => "text_completion",
        "embeddings" => "embeddings",
        "images/generations"
        | "images/edits"
        | "images/variations"
        | "audio/speech"
        | "audio/transcriptions"
        | "audio/translations"
        | "videos" => "generate_content",
        "vector_stores/search" => "retrieval",
        _ => return has_used_tokens.then(|| endpoint.clone()),
    };
    asks.then_some(Cow::Borrowed(operation))
}

/// `http.request.method`: one that HTTP does not define is `_OTHER`, so that nobody can make up values.
pub(super) fn method(row: &UsageRecord) -> Option<&str> {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    let method = row.method.as_ref()?;
    Some(if KNOWN.contains(method) { method.as_str() } else { "_OTHER" })
}

/// `error.type`, where the request ended in an error: how it ended, or the status that says it. A client that left is no error.
pub(super) fn error_type(row: &UsageRecord) -> Option<Cow<'static, str>> {
    let refused = row.status.filter(|&status| status >= 400).map(|status| Cow::Owned(status.to_string()));
    match row.outcome {
        Outcome::ClientDisconnected => None,
        Outcome::Truncated | Outcome::TimedOut => Some(row.outcome.as_str().into()),
        Outcome::Complete => refused,
        Outcome::UpstreamError | Outcome::Rejected => refused.or(Some(row.outcome.as_str().into())),
    }
}

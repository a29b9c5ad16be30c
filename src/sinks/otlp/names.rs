//! Maps a record to the words of the conventions.

use std::borrow::Cow;

use http::Method;

use crate::llm::price::INPUT_WITHOUT_CACHE;
use crate::record::{Outcome, UsageRecord};

/// Returns true if the request was sent to an upstream, or could not be: it was not refused here.
pub(super) fn is_a_call(row: &UsageRecord) -> bool {
    let is_refused = row.outcome == Outcome::Rejected && row.time_to_first_byte_ms.is_none();
    row.upstream.is_some() && !is_refused
}

/// `gen_ai.operation.name`. `None` if the request is not for a model, or was refused before it was
/// sent. An endpoint without a word in the conventions keeps its own name if it has used tokens.
/// All names are from fixed lists.
pub(super) fn operation(row: &UsageRecord) -> Option<Cow<'static, str>> {
    let endpoint = row.endpoint.as_ref().filter(|_| is_a_call(row))?;
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

/// `http.request.method`. A method that HTTP does not define is `_OTHER`, so that a client cannot
/// invent values.
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

/// `gen_ai.usage.input_tokens`, which includes tokens read from a cache or written into one. Some
/// services report these separately.
pub(super) fn input_tokens(row: &UsageRecord) -> Option<u64> {
    let usage = &row.usage;
    let apart = match row.endpoint.as_deref() {
        Some(INPUT_WITHOUT_CACHE) => [usage.cached_input_tokens, usage.cache_write_input_tokens],
        _ => [None; 2],
    };
    let input = usage.input_tokens?;
    Some(apart.into_iter().flatten().fold(input, u64::saturating_add))
}

/// `error.type`, if the request ended in an error: the outcome, or the status. A client that left
/// is not an error. A refusal here is the client's error, as the conventions define for servers,
/// unless the status is 500 or more.
pub(super) fn error_type(row: &UsageRecord) -> Option<Cow<'static, str>> {
    let refused = row.status.filter(|&status| status >= 400).map(|status| Cow::Owned(status.to_string()));
    if !is_a_call(row) && row.status.is_some_and(|status| status < 500) {
        return None;
    }
    match row.outcome {
        Outcome::ClientDisconnected => None,
        Outcome::Truncated | Outcome::TimedOut | Outcome::Cut => Some(row.outcome.as_str().into()),
        Outcome::Complete => refused,
        Outcome::InvalidRequest | Outcome::RateLimited | Outcome::UpstreamError | Outcome::Rejected => {
            refused.or(Some(row.outcome.as_str().into()))
        }
    }
}

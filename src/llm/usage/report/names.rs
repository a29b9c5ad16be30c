//! The names of a usage object's members.

/// A count in the object itself.
#[derive(Clone, Copy)]
pub(super) enum CountName {
    PromptTokens,
    InputTokens,
    CompletionTokens,
    OutputTokens,
    TotalTokens,
    CacheReadInputTokens,
    PromptCacheHitTokens,
    CachedTokens,
    NumCachedTokens,
    CacheCreationInputTokens,
    ReasoningTokens,
    CostInUsdTicks,
    NumSearchQueries,
    NumSourcesUsed,
    /// Gemini's `usageMetadata`.
    PromptTokenCount,
    CandidatesTokenCount,
    TotalTokenCount,
    CachedContentTokenCount,
    ThoughtsTokenCount,
    /// Gemini's interactions.
    TotalInputTokens,
    TotalOutputTokens,
    TotalCachedTokens,
    TotalThoughtTokens,
}

pub(super) const COUNTS: usize = CountName::TotalThoughtTokens as usize + 1;

/// Another member of the object itself.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Type,
    Seconds,
    PromptAudioSeconds,
    ServiceTier,
    Cost,
    GeminiTier,
    TrafficType,
}

pub(super) const NAMES: usize = Name::TrafficType as usize + 1;

/// A member of the details.
#[derive(Clone, Copy)]
pub(super) enum Detail {
    Cached,
    CacheWrite,
    CacheCreation,
    CacheWrite1h,
    Reasoning,
    Audio,
}

pub(super) const DETAILS: usize = Detail::Audio as usize + 1;

/// The objects that count calls: `server_tool_use`, `server_tool_use_details`,
/// `server_side_tool_usage_details`, `connectors`, and Cohere's.
pub(super) const CALLS: usize = 5;

/// The destination of a member's value.
pub(super) enum Goes {
    Count(CountName),
    Text(Name),
    Input(usize),
    Output(usize),
    CacheCreation,
    Calls(usize),
    /// Cohere's `tokens` and `billed_units`.
    Units(usize),
}

impl Goes {
    /// OpenAI uses both singular and plural for the details; their places are tried in this order.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"prompt_tokens" => Self::Count(CountName::PromptTokens),
            b"input_tokens" => Self::Count(CountName::InputTokens),
            b"completion_tokens" => Self::Count(CountName::CompletionTokens),
            b"output_tokens" => Self::Count(CountName::OutputTokens),
            b"total_tokens" => Self::Count(CountName::TotalTokens),
            b"cache_read_input_tokens" => Self::Count(CountName::CacheReadInputTokens),
            b"prompt_cache_hit_tokens" => Self::Count(CountName::PromptCacheHitTokens),
            b"cached_tokens" => Self::Count(CountName::CachedTokens),
            b"num_cached_tokens" => Self::Count(CountName::NumCachedTokens),
            b"cache_creation_input_tokens" => Self::Count(CountName::CacheCreationInputTokens),
            b"reasoning_tokens" => Self::Count(CountName::ReasoningTokens),
            b"type" => Self::Text(Name::Type),
            b"seconds" => Self::Text(Name::Seconds),
            b"prompt_audio_seconds" => Self::Text(Name::PromptAudioSeconds),
            b"service_tier" => Self::Text(Name::ServiceTier),
            b"cost" => Self::Text(Name::Cost),
            b"cost_in_usd_ticks" => Self::Count(CountName::CostInUsdTicks),
            b"num_search_queries" => Self::Count(CountName::NumSearchQueries),
            b"num_sources_used" => Self::Count(CountName::NumSourcesUsed),
            b"promptTokenCount" => Self::Count(CountName::PromptTokenCount),
            b"candidatesTokenCount" => Self::Count(CountName::CandidatesTokenCount),
            b"totalTokenCount" => Self::Count(CountName::TotalTokenCount),
            b"cachedContentTokenCount" => Self::Count(CountName::CachedContentTokenCount),
            b"thoughtsTokenCount" => Self::Count(CountName::ThoughtsTokenCount),
            b"serviceTier" => Self::Text(Name::GeminiTier),
            b"trafficType" => Self::Text(Name::TrafficType),
            b"total_input_tokens" => Self::Count(CountName::TotalInputTokens),
            b"total_output_tokens" => Self::Count(CountName::TotalOutputTokens),
            b"total_cached_tokens" => Self::Count(CountName::TotalCachedTokens),
            b"total_thought_tokens" => Self::Count(CountName::TotalThoughtTokens),
            b"prompt_tokens_details" => Self::Input(0),
            b"input_tokens_details" => Self::Input(1),
            b"prompt_token_details" => Self::Input(2),
            b"input_token_details" => Self::Input(3),
            b"completion_tokens_details" => Self::Output(0),
            b"output_tokens_details" => Self::Output(1),
            b"completion_token_details" => Self::Output(2),
            b"output_token_details" => Self::Output(3),
            b"cache_creation" => Self::CacheCreation,
            b"server_tool_use" => Self::Calls(0),
            b"server_tool_use_details" => Self::Calls(1),
            b"server_side_tool_usage_details" => Self::Calls(2),
            b"connectors" => Self::Calls(3),
            b"tokens" => Self::Units(0),
            b"billed_units" => Self::Units(1),
            _ => return None,
        })
    }
}

impl Detail {
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"cached_tokens" => Self::Cached,
            b"cache_write_tokens" => Self::CacheWrite,
            b"cache_creation_tokens" => Self::CacheCreation,
            // LiteLLM's name for Anthropic's `cache_creation`.
            b"cache_creation_token_details" => Self::CacheWrite1h,
            // Anthropic's name is `thinking_tokens`. No service sends both.
            b"reasoning_tokens" | b"thinking_tokens" => Self::Reasoning,
            b"audio_tokens" => Self::Audio,
            _ => return None,
        })
    }
}

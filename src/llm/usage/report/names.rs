//! The names of a usage object's members.

use super::super::words::spelled;

/// A count in the object itself. The names of one quantity stand together, best first.
#[derive(Clone, Copy)]
pub(super) enum CountName {
    PromptTokens,
    InputTokens,
    /// Gemini's `usageMetadata`.
    PromptTokenCount,
    /// Gemini's interactions.
    TotalInputTokens,

    CompletionTokens,
    OutputTokens,
    CandidatesTokenCount,
    TotalOutputTokens,

    TotalTokens,
    TotalTokenCount,

    CacheReadInputTokens,
    PromptCacheHitTokens,
    CachedTokens,
    NumCachedTokens,
    CachedContentTokenCount,
    TotalCachedTokens,

    CacheCreationInputTokens,

    ReasoningTokens,
    ThoughtsTokenCount,
    TotalThoughtTokens,

    CostInUsdTicks,
    NumSearchQueries,
    NumSourcesUsed,
}

pub(super) const COUNTS: usize = CountName::NumSourcesUsed as usize + 1;

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

/// The places of the details of one side.
pub(super) const PLACES: usize = 4;

/// The objects that count calls: `server_tool_use`, `server_tool_use_details`,
/// `server_side_tool_usage_details`, `connectors`, and Cohere's `tokens` and `billed_units`.
pub(super) const CALLS: usize = UNITS_CALLS + 2;

/// The place of Cohere's among them.
pub(super) const UNITS_CALLS: usize = 4;

/// The destination of a member's value.
pub(super) enum Goes {
    Count(CountName),
    Text(Name),
    Input(u8),
    Output(u8),
    CacheCreation,
    Calls(u8),
    /// Cohere's `tokens` and `billed_units`.
    Units(u8),
}

impl Goes {
    /// OpenAI uses both singular and plural for the details; their places are tried in this order.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        spelled!(key,
            4: [
                b"type" => Self::Text(Name::Type),
                b"cost" => Self::Text(Name::Cost),
            ]
            6: [
                b"tokens" => Self::Units(0),
            ]
            7: [
                b"seconds" => Self::Text(Name::Seconds),
            ]
            10: [
                b"connectors" => Self::Calls(3),
            ]
            11: [
                b"serviceTier" => Self::Text(Name::GeminiTier),
                b"trafficType" => Self::Text(Name::TrafficType),
            ]
            12: [
                b"input_tokens" => Self::Count(CountName::InputTokens),
                b"total_tokens" => Self::Count(CountName::TotalTokens),
                b"service_tier" => Self::Text(Name::ServiceTier),
                b"billed_units" => Self::Units(1),
            ]
            13: [
                b"prompt_tokens" => Self::Count(CountName::PromptTokens),
                b"output_tokens" => Self::Count(CountName::OutputTokens),
                b"cached_tokens" => Self::Count(CountName::CachedTokens),
            ]
            14: [
                b"cache_creation" => Self::CacheCreation,
            ]
            15: [
                b"totalTokenCount" => Self::Count(CountName::TotalTokenCount),
                b"server_tool_use" => Self::Calls(0),
            ]
            16: [
                b"reasoning_tokens" => Self::Count(CountName::ReasoningTokens),
                b"num_sources_used" => Self::Count(CountName::NumSourcesUsed),
                b"promptTokenCount" => Self::Count(CountName::PromptTokenCount),
            ]
            17: [
                b"completion_tokens" => Self::Count(CountName::CompletionTokens),
                b"num_cached_tokens" => Self::Count(CountName::NumCachedTokens),
                b"cost_in_usd_ticks" => Self::Count(CountName::CostInUsdTicks),
            ]
            18: [
                b"num_search_queries" => Self::Count(CountName::NumSearchQueries),
                b"thoughtsTokenCount" => Self::Count(CountName::ThoughtsTokenCount),
                b"total_input_tokens" => Self::Count(CountName::TotalInputTokens),
            ]
            19: [
                b"total_output_tokens" => Self::Count(CountName::TotalOutputTokens),
                b"total_cached_tokens" => Self::Count(CountName::TotalCachedTokens),
                b"input_token_details" => Self::Input(3),
            ]
            20: [
                b"prompt_audio_seconds" => Self::Text(Name::PromptAudioSeconds),
                b"candidatesTokenCount" => Self::Count(CountName::CandidatesTokenCount),
                b"total_thought_tokens" => Self::Count(CountName::TotalThoughtTokens),
                b"input_tokens_details" => Self::Input(1),
                b"prompt_token_details" => Self::Input(2),
                b"output_token_details" => Self::Output(3),
            ]
            21: [
                b"prompt_tokens_details" => Self::Input(0),
                b"output_tokens_details" => Self::Output(1),
            ]
            23: [
                b"cache_read_input_tokens" => Self::Count(CountName::CacheReadInputTokens),
                b"prompt_cache_hit_tokens" => Self::Count(CountName::PromptCacheHitTokens),
                b"cachedContentTokenCount" => Self::Count(CountName::CachedContentTokenCount),
                b"server_tool_use_details" => Self::Calls(1),
            ]
            24: [
                b"completion_token_details" => Self::Output(2),
            ]
            25: [
                b"completion_tokens_details" => Self::Output(0),
            ]
            27: [
                b"cache_creation_input_tokens" => Self::Count(CountName::CacheCreationInputTokens),
            ]
            30: [
                b"server_side_tool_usage_details" => Self::Calls(2),
            ]
        )
    }
}

impl Detail {
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        spelled!(key,
            12: [
                b"audio_tokens" => Self::Audio,
            ]
            13: [
                b"cached_tokens" => Self::Cached,
            ]
            15: [
                b"thinking_tokens" => Self::Reasoning,
            ]
            16: [
                b"reasoning_tokens" => Self::Reasoning,
            ]
            18: [
                b"cache_write_tokens" => Self::CacheWrite,
            ]
            21: [
                b"cache_creation_tokens" => Self::CacheCreation,
            ]
            28: [
                b"cache_creation_token_details" => Self::CacheWrite1h,
            ]
        )
    }
}

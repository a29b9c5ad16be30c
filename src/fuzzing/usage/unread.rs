//! Finds usage objects with unknown counts, by a plain implementation of the rule.

use super::counts::read;
use super::json::Json;
use crate::llm::usage::Usage;

/// Every known name.
const KNOWN: &str = "prompt_tokens input_tokens completion_tokens output_tokens total_tokens cache_read_input_tokens \
    prompt_cache_hit_tokens cached_tokens num_cached_tokens cache_creation_input_tokens reasoning_tokens \
    promptTokenCount candidatesTokenCount totalTokenCount cachedContentTokenCount thoughtsTokenCount \
    total_input_tokens total_output_tokens total_cached_tokens total_thought_tokens accepted_prediction_tokens \
    audio_prompt_tokens audio_tokens connector_tokens image_tokens prompt_cache_miss_tokens \
    rejected_prediction_tokens text_tokens video_tokens prompt_image_tokens prompt_text_tokens \
    toolUsePromptTokenCount total_tool_use_tokens";

/// Objects whose members are known.
const OBJECTS: &str = "prompt_tokens_details input_tokens_details prompt_token_details input_token_details \
    completion_tokens_details output_tokens_details completion_token_details output_token_details cache_creation \
    server_tool_use server_tool_use_details server_side_tool_usage_details connectors tokens billed_units type \
    seconds prompt_audio_seconds service_tier serviceTier trafficType cost cost_in_usd_ticks num_search_queries \
    num_sources_used";

pub(super) fn unread(usage: &Json) -> bool {
    let counts = read(usage).unwrap_or_default();
    if counts.billed_seconds.is_some() || (counts.input_tokens.is_some() && counts.output_tokens.is_some()) {
        return false;
    }
    let has_neither = counts.input_tokens.is_none() && counts.output_tokens.is_none();
    let mut words = vec!["token"];
    if counts.input_tokens.is_none() {
        words.extend(["input", "prompt"]);
    }
    if counts.output_tokens.is_none() {
        words.extend(["output", "completion"]);
    }
    let is_count = |key: &str, value: &Json| {
        positive(key, value) && words.iter().any(|word| key.to_ascii_lowercase().contains(word))
    };
    let is_in = |names: &str, key: &str| names.split_whitespace().any(|name| name == key);
    let sides = &words[if has_neither { 0 } else { 1 }..];
    let missing = |key: &str| {
        counts.input_tokens.is_none() && is_in(INPUT, key)
            || counts.output_tokens.is_none() && is_in(OUTPUT, key)
    };
    members(usage).any(|(key, value)| {
        let is_read = is_in(OBJECTS, key) || is_in(KNOWN, key) && !is_in(APART, key);
        let is_span = key == "seconds" && counts == Usage::default() && value.seconds().is_none();
        let is_odd = missing(key) || is_span;
        let inner = has_neither && !is_read && members(value).any(|(key, value)| is_count(key, value));
        let name = key.to_ascii_lowercase();
        let of_tokens = !is_read && !is_other(key) && sides.iter().any(|word| name.contains(word));
        let inner = inner || of_tokens && members(value).any(|(key, value)| positive(key, value));
        !is_read && is_count(key, value) || is_odd && odd(value) || inner
    })
}

const INPUT: &str = "prompt_tokens input_tokens promptTokenCount total_input_tokens";
const OUTPUT: &str = "completion_tokens output_tokens candidatesTokenCount total_output_tokens";

fn odd(value: &Json) -> bool {
    let is_empty = match value {
        Json::Null => true,
        Json::Text { text, .. } => text.is_empty(),
        Json::List(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => false,
    };
    value.count().is_none() && !is_empty
}

/// Known counts without a column of their own, in any place.
const APART: &str = "accepted_prediction_tokens audio_prompt_tokens audio_tokens connector_tokens image_tokens \
    prompt_cache_miss_tokens rejected_prediction_tokens text_tokens video_tokens prompt_image_tokens \
    prompt_text_tokens toolUsePromptTokenCount total_tool_use_tokens";

const NO_COUNT: &str = "per_ limit max remaining time second _ms cost price char byte image video dim";

fn members(object: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let members = if let Json::Object(members) = object { &members[..] } else { &[] };
    members.iter().filter_map(|(key, value)| Some((key.as_deref()?, value)))
}

fn positive(key: &str, value: &Json) -> bool {
    !is_other(key) && value.count().is_some_and(|count| count > 0)
}

fn is_other(key: &str) -> bool {
    let name = key.to_ascii_lowercase();
    NO_COUNT.split_whitespace().any(|word| name.contains(word))
        || APART.split_whitespace().any(|known| known == key)
}

//! Counts and their accumulation, by a plain implementation of the rule.

use super::json::Json;
use crate::llm::usage::Usage;

pub(super) fn read(usage: &Json) -> Option<Usage> {
    let Json::Object(_) = usage else { return None };
    let detail = |sides: [&str; 2], key: &str| {
        let names = ["tokens_details", "token_details"].map(|d| sides.map(|side| format!("{side}_{d}")));
        names.iter().flatten().find_map(|name| usage.get(name).get(key).count())
    };
    let input = |key: &str| detail(["prompt", "input"], key);
    let nested = |key: &str, inner: &str| {
        let names = ["prompt_tokens", "input_tokens", "prompt_token", "input_token"];
        names.iter().find_map(|name| usage.get(&format!("{name}_details")).get(key).get(inner).count())
    };
    let output = |key: &str| detail(["completion", "output"], key);
    let count = |key: &str| usage.get(key).count();
    let by_duration = usage.all("type").next().is_none() || usage.get("type").plain() == Some("duration");
    let units = |key: &str| {
        let units = ["tokens", "billed_units"].map(|name| usage.get(name).get(key).count());
        units[0].or(units[1])
    };
    let read = Usage {
        input_tokens: count("prompt_tokens")
            .or(count("input_tokens"))
            .or(count("promptTokenCount"))
            .or(count("total_input_tokens"))
            .or(units("input_tokens")),
        output_tokens: count("completion_tokens")
            .or(count("output_tokens"))
            .or(count("candidatesTokenCount"))
            .or(count("total_output_tokens"))
            .or(units("output_tokens")),
        total_tokens: count("total_tokens").or(count("totalTokenCount")),
        cached_input_tokens: input("cached_tokens")
            .or(count("cache_read_input_tokens"))
            .or(count("prompt_cache_hit_tokens"))
            .or(count("cached_tokens"))
            .or(count("num_cached_tokens"))
            .or(count("cachedContentTokenCount"))
            .or(count("total_cached_tokens")),
        cache_write_input_tokens: count("cache_creation_input_tokens")
            .or(input("cache_write_tokens"))
            .or(input("cache_creation_tokens")),
        cache_write_1h_input_tokens: usage
            .get("cache_creation")
            .get("ephemeral_1h_input_tokens")
            .count()
            .or_else(|| nested("cache_creation_token_details", "ephemeral_1h_input_tokens")),
        reasoning_tokens: output("reasoning_tokens")
            .or(count("reasoning_tokens"))
            .or(count("thoughtsTokenCount"))
            .or(count("total_thought_tokens")),
        input_audio_tokens: input("audio_tokens"),
        output_audio_tokens: output("audio_tokens"),
        billed_seconds: by_duration
            .then(|| usage.get("seconds").seconds())
            .flatten()
            .or(usage.get("prompt_audio_seconds").seconds()),
    };
    (read != Usage::default()).then_some(read)
}

pub(super) fn added(earlier: Usage, later: Usage) -> Usage {
    let sum = |one: Option<u64>, two: Option<u64>| match (one, two) {
        (Some(one), Some(two)) => Some(one.saturating_add(two)),
        (one, two) => one.or(two),
    };
    Usage {
        input_tokens: sum(earlier.input_tokens, later.input_tokens),
        output_tokens: sum(earlier.output_tokens, later.output_tokens),
        total_tokens: sum(earlier.total_tokens, later.total_tokens),
        cached_input_tokens: sum(earlier.cached_input_tokens, later.cached_input_tokens),
        cache_write_input_tokens: sum(earlier.cache_write_input_tokens, later.cache_write_input_tokens),
        cache_write_1h_input_tokens: sum(
            earlier.cache_write_1h_input_tokens,
            later.cache_write_1h_input_tokens,
        ),
        reasoning_tokens: sum(earlier.reasoning_tokens, later.reasoning_tokens),
        input_audio_tokens: sum(earlier.input_audio_tokens, later.input_audio_tokens),
        output_audio_tokens: sum(earlier.output_audio_tokens, later.output_audio_tokens),
        billed_seconds: match (earlier.billed_seconds, later.billed_seconds) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        },
    }
}

pub(super) fn merged(earlier: Usage, later: Usage) -> Usage {
    Usage {
        input_tokens: later.input_tokens.or(earlier.input_tokens),
        output_tokens: later.output_tokens.or(earlier.output_tokens),
        total_tokens: later.total_tokens.or(earlier.total_tokens),
        cached_input_tokens: later.cached_input_tokens.or(earlier.cached_input_tokens),
        cache_write_input_tokens: later.cache_write_input_tokens.or(earlier.cache_write_input_tokens),
        cache_write_1h_input_tokens: later
            .cache_write_1h_input_tokens
            .or(earlier.cache_write_1h_input_tokens),
        reasoning_tokens: later.reasoning_tokens.or(earlier.reasoning_tokens),
        input_audio_tokens: later.input_audio_tokens.or(earlier.input_audio_tokens),
        output_audio_tokens: later.output_audio_tokens.or(earlier.output_audio_tokens),
        billed_seconds: later.billed_seconds.or(earlier.billed_seconds),
    }
}

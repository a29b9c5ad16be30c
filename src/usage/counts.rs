//! The counts of one usage object, under the many names they bear.

use super::json;

/// Token counts as the upstream reported them. What it did not report is `None`, and never 0; nothing
/// is computed, also where the counts do not add up (some upstreams' totals include what their parts
/// leave out, and more may be cached than was sent).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens read: `prompt_tokens` or `input_tokens`. Anthropic's leaves cached ones out.
    pub input_tokens: Option<u64>,
    /// Tokens written: `completion_tokens` or `output_tokens`.
    pub output_tokens: Option<u64>,
    /// `total_tokens`.
    pub total_tokens: Option<u64>,
    /// Tokens read from a cache.
    pub cached_input_tokens: Option<u64>,
    /// Tokens written to a cache.
    pub cache_write_input_tokens: Option<u64>,
    /// Tokens of reasoning, which some upstreams count as output and some do not.
    pub reasoning_tokens: Option<u64>,
    /// Tokens of audio among the input.
    pub input_audio_tokens: Option<u64>,
    /// Tokens of audio among the output.
    pub output_audio_tokens: Option<u64>,
    /// Seconds of audio, where usage is by duration.
    pub billed_seconds: Option<f64>,
}

/// Where the details of the input may be. OpenAI itself uses singular and plural.
const INPUT_DETAILS: [&str; 4] =
    ["prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details"];

/// Where the details of the output may be.
const OUTPUT_DETAILS: [&str; 4] = [
    "completion_tokens_details",
    "output_tokens_details",
    "completion_token_details",
    "output_token_details",
];

impl Usage {
    /// Reads a usage object's text. `None` when it is no object or has no count at all.
    pub(super) fn read(object: &[u8]) -> Option<Usage> {
        let usage = Object::read(object)?;
        let input = INPUT_DETAILS.map(|key| usage.object(key));
        let output = OUTPUT_DETAILS.map(|key| usage.object(key));
        let detail = |details: &[Object<'_>; 4], key: &str| details.iter().find_map(|d| d.count(key));
        let seconds =
            if usage.last("type") == Some(b"\"duration\"") { usage.seconds("seconds") } else { None };
        let usage = Usage {
            input_tokens: usage.first(&["prompt_tokens", "input_tokens"]),
            output_tokens: usage.first(&["completion_tokens", "output_tokens"]),
            total_tokens: usage.count("total_tokens"),
            cached_input_tokens: detail(&input, "cached_tokens").or_else(|| {
                usage.first(&[
                    "cache_read_input_tokens",
                    "prompt_cache_hit_tokens",
                    "cached_tokens",
                    "num_cached_tokens",
                ])
            }),
            cache_write_input_tokens: usage
                .count("cache_creation_input_tokens")
                .or_else(|| detail(&input, "cache_write_tokens"))
                .or_else(|| detail(&input, "cache_creation_tokens")),
            reasoning_tokens: detail(&output, "reasoning_tokens").or_else(|| usage.count("reasoning_tokens")),
            input_audio_tokens: detail(&input, "audio_tokens"),
            output_audio_tokens: detail(&output, "audio_tokens"),
            billed_seconds: seconds.or_else(|| usage.seconds("prompt_audio_seconds")),
        };
        (usage != Usage::default()).then_some(usage)
    }

    /// Both together. What one of them does not say is what the other says.
    pub(super) fn plus(self, other: Usage) -> Usage {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        let seconds = match (self.billed_seconds, other.billed_seconds) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        Usage {
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
            total_tokens: sum(self.total_tokens, other.total_tokens),
            cached_input_tokens: sum(self.cached_input_tokens, other.cached_input_tokens),
            cache_write_input_tokens: sum(self.cache_write_input_tokens, other.cache_write_input_tokens),
            reasoning_tokens: sum(self.reasoning_tokens, other.reasoning_tokens),
            input_audio_tokens: sum(self.input_audio_tokens, other.input_audio_tokens),
            output_audio_tokens: sum(self.output_audio_tokens, other.output_audio_tokens),
            billed_seconds: seconds,
        }
    }

    /// What the later usage says, and where it is silent what this one said.
    pub(super) fn updated(self, later: Usage) -> Usage {
        Usage {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            total_tokens: later.total_tokens.or(self.total_tokens),
            cached_input_tokens: later.cached_input_tokens.or(self.cached_input_tokens),
            cache_write_input_tokens: later.cache_write_input_tokens.or(self.cache_write_input_tokens),
            reasoning_tokens: later.reasoning_tokens.or(self.reasoning_tokens),
            input_audio_tokens: later.input_audio_tokens.or(self.input_audio_tokens),
            output_audio_tokens: later.output_audio_tokens.or(self.output_audio_tokens),
            billed_seconds: later.billed_seconds.or(self.billed_seconds),
        }
    }
}

/// An object's members. Of equal keys the last one counts.
#[derive(Default)]
struct Object<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Object<'a> {
    fn read(text: &'a [u8]) -> Option<Object<'a>> {
        text.starts_with(b"{").then(|| Object(json::members(text)))
    }

    fn last(&self, key: &str) -> Option<&'a [u8]> {
        self.0.iter().rev().find(|(k, _)| *k == key.as_bytes()).map(|(_, value)| *value)
    }

    fn object(&self, key: &str) -> Object<'a> {
        self.last(key).and_then(Object::read).unwrap_or_default()
    }

    fn count(&self, key: &str) -> Option<u64> {
        count(self.last(key)?)
    }

    fn first(&self, keys: &[&str]) -> Option<u64> {
        keys.iter().find_map(|key| self.count(key))
    }

    fn seconds(&self, key: &str) -> Option<f64> {
        number(self.last(key)?).filter(|seconds| *seconds >= 0.0)
    }
}

/// A count is an integer, a number without a fraction, or a string of digits.
fn count(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        return std::str::from_utf8(digits).ok()?.parse().ok();
    }
    let number = number(value)?;
    // 2^64 is the first number that is none.
    (number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number)).then_some(number as u64)
}

/// A JSON number, as near as a float comes to it.
fn number(value: &[u8]) -> Option<f64> {
    // Only JSON numbers begin so; Rust would also take words.
    matches!(value.first()?, b'-' | b'0'..=b'9').then_some(())?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests;

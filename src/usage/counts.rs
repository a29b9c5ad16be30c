//! The counts of one usage object, under the many names they bear.

use crate::json::Cursor;

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

impl Usage {
    /// Reads a usage object's text. `None` when it is no object or has no count at all.
    pub(super) fn read(object: &[u8]) -> Option<Usage> {
        let members = Members::read(object)?;
        let input = |detail| members.input.iter().find_map(|counts| counts[detail as usize]);
        let output = |detail| members.output.iter().find_map(|counts| counts[detail as usize]);
        let is_by_duration = members.text(Name::Type) == Some(b"\"duration\"");
        let usage = Usage {
            input_tokens: members.first(&[Name::PromptTokens, Name::InputTokens]),
            output_tokens: members.first(&[Name::CompletionTokens, Name::OutputTokens]),
            total_tokens: members.count(Name::TotalTokens),
            cached_input_tokens: input(Detail::Cached).or_else(|| {
                members.first(&[
                    Name::CacheReadInputTokens,
                    Name::PromptCacheHitTokens,
                    Name::CachedTokens,
                    Name::NumCachedTokens,
                ])
            }),
            cache_write_input_tokens: members
                .count(Name::CacheCreationInputTokens)
                .or_else(|| input(Detail::CacheWrite))
                .or_else(|| input(Detail::CacheCreation)),
            reasoning_tokens: output(Detail::Reasoning).or_else(|| members.count(Name::ReasoningTokens)),
            input_audio_tokens: input(Detail::Audio),
            output_audio_tokens: output(Detail::Audio),
            billed_seconds: if is_by_duration { members.seconds(Name::Seconds) } else { None }
                .or_else(|| members.seconds(Name::PromptAudioSeconds)),
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

/// The members of a usage object that have a name here, read in one go. Of equal keys the last one counts.
struct Members<'a> {
    /// As they stand, by [`Name`].
    texts: [Option<&'a [u8]>; NAMES],
    /// Counts by [`Detail`], in each place where the details of the input may be.
    input: [[Option<u64>; DETAILS]; 4],
    /// The same of the output.
    output: [[Option<u64>; DETAILS]; 4],
}

/// What stands in the object itself.
#[derive(Clone, Copy)]
enum Name {
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
    Type,
    Seconds,
    PromptAudioSeconds,
}

const NAMES: usize = Name::PromptAudioSeconds as usize + 1;

/// What stands in the details.
#[derive(Clone, Copy)]
enum Detail {
    Cached,
    CacheWrite,
    CacheCreation,
    Reasoning,
    Audio,
}

const DETAILS: usize = Detail::Audio as usize + 1;

/// Where a member's value goes.
enum Goes {
    Text(Name),
    Input(usize),
    Output(usize),
}

impl Goes {
    /// OpenAI itself uses singular and plural of the details; their places are tried in this order.
    fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"prompt_tokens" => Self::Text(Name::PromptTokens),
            b"input_tokens" => Self::Text(Name::InputTokens),
            b"completion_tokens" => Self::Text(Name::CompletionTokens),
            b"output_tokens" => Self::Text(Name::OutputTokens),
            b"total_tokens" => Self::Text(Name::TotalTokens),
            b"cache_read_input_tokens" => Self::Text(Name::CacheReadInputTokens),
            b"prompt_cache_hit_tokens" => Self::Text(Name::PromptCacheHitTokens),
            b"cached_tokens" => Self::Text(Name::CachedTokens),
            b"num_cached_tokens" => Self::Text(Name::NumCachedTokens),
            b"cache_creation_input_tokens" => Self::Text(Name::CacheCreationInputTokens),
            b"reasoning_tokens" => Self::Text(Name::ReasoningTokens),
            b"type" => Self::Text(Name::Type),
            b"seconds" => Self::Text(Name::Seconds),
            b"prompt_audio_seconds" => Self::Text(Name::PromptAudioSeconds),
            b"prompt_tokens_details" => Self::Input(0),
            b"input_tokens_details" => Self::Input(1),
            b"prompt_token_details" => Self::Input(2),
            b"input_token_details" => Self::Input(3),
            b"completion_tokens_details" => Self::Output(0),
            b"output_tokens_details" => Self::Output(1),
            b"completion_token_details" => Self::Output(2),
            b"output_token_details" => Self::Output(3),
            _ => return None,
        })
    }
}

impl Detail {
    fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"cached_tokens" => Self::Cached,
            b"cache_write_tokens" => Self::CacheWrite,
            b"cache_creation_tokens" => Self::CacheCreation,
            // Anthropic's name is `thinking_tokens`. No service sends both.
            b"reasoning_tokens" | b"thinking_tokens" => Self::Reasoning,
            b"audio_tokens" => Self::Audio,
            _ => return None,
        })
    }
}

impl<'a> Members<'a> {
    /// `None` when the text is no object. It is JSON: the grammar has passed it.
    fn read(object: &'a [u8]) -> Option<Self> {
        let mut members = Members { texts: [None; _], input: [[None; _]; _], output: [[None; _]; _] };
        let mut cursor = Cursor::new(object);
        if !cursor.take(b'{') {
            return None;
        }
        let mut first = true;
        while let Ok(Some(key)) = cursor.key(std::mem::take(&mut first)) {
            match Goes::of(key.spelled()) {
                Some(Goes::Text(name)) => {
                    members.texts[name as usize] = cursor.value().ok().map(|value| &object[value]);
                }
                Some(Goes::Input(place)) => members.input[place] = details(object, &mut cursor),
                Some(Goes::Output(place)) => members.output[place] = details(object, &mut cursor),
                None => drop(cursor.value()),
            }
        }
        Some(members)
    }

    fn text(&self, name: Name) -> Option<&'a [u8]> {
        self.texts[name as usize]
    }

    fn count(&self, name: Name) -> Option<u64> {
        count(self.text(name)?)
    }

    fn first(&self, names: &[Name]) -> Option<u64> {
        names.iter().find_map(|name| self.count(*name))
    }

    fn seconds(&self, name: Name) -> Option<f64> {
        number(self.text(name)?).filter(|seconds| *seconds >= 0.0)
    }
}

/// The counts in the details that are next; none where they are no object.
fn details(text: &[u8], cursor: &mut Cursor<'_>) -> [Option<u64>; DETAILS] {
    let mut counts = [None; _];
    if !cursor.take(b'{') {
        drop(cursor.value());
        return counts;
    }
    let mut first = true;
    while let Ok(Some((key, value))) = cursor.member(std::mem::take(&mut first)) {
        if let Some(detail) = Detail::of(key.spelled()) {
            counts[detail as usize] = count(&text[value]);
        }
    }
    counts
}

/// A count is an integer, a number without a fraction, or a string of digits.
fn count(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        let next = |count: u64, digit: &u8| count.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
        return digits.iter().try_fold(0, next);
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

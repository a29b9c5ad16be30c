//! Finds counts under unknown names and in unknown forms, so that a new form of usage is noticed.

use super::names::{CountName, Goes, Name};
use super::{Usage, count, each, number, unquoted};
use crate::codec::json::StrictCursor;

/// The longest name that is reported.
const NAME_LIMIT: usize = 64;

/// Known counts without a column of their own.
const KNOWN: [&[u8]; 13] = [
    b"accepted_prediction_tokens",
    b"audio_prompt_tokens",
    b"audio_tokens",
    b"connector_tokens",
    b"image_tokens",
    b"prompt_cache_miss_tokens",
    b"rejected_prediction_tokens",
    b"text_tokens",
    b"video_tokens",
    b"prompt_image_tokens",
    b"prompt_text_tokens",
    // Gemini counts the tokens of its tools apart from the prompt, and in the total.
    b"toolUsePromptTokenCount",
    b"total_tool_use_tokens",
];

/// Parts of names of other quantities than tokens: rates, limits, sizes, money.
const NO_COUNT: [&[u8]; 14] = [
    b"per_",
    b"limit",
    b"max",
    b"remaining",
    b"time",
    b"second",
    b"_ms",
    b"cost",
    b"price",
    b"char",
    b"byte",
    b"image",
    b"video",
    b"dim",
];

/// The name of an unknown count of tokens, if the input or the output has no count.
///
/// A known name of the missing side qualifies if its value is neither a count nor empty: an object,
/// a negative number. An unknown name qualifies if it mentions tokens or the missing side and its
/// value is a count above 0, or an object with such a value. In other nested objects, names are
/// searched only if both sides are missing; if one is there, an object must mention the other one.
/// Usage by duration never qualifies, except by `seconds` that are no number.
pub(super) fn find(object: &[u8], counts: &Usage) -> Option<Box<str>> {
    let has_one = counts.input_tokens.is_some() || counts.output_tokens.is_some();
    let has_both = counts.input_tokens.is_some() && counts.output_tokens.is_some();
    if has_both || counts.billed_seconds.is_some() {
        return None;
    }
    let input: &[&[u8]] = if counts.input_tokens.is_none() { &[b"input", b"prompt"] } else { &[] };
    let output: &[&[u8]] = if counts.output_tokens.is_none() { &[b"output", b"completion"] } else { &[] };
    let all: [&[&[u8]]; 3] = [&[b"token"], input, output];
    let of_objects: [&[&[u8]]; 3] = if has_one { [&[], input, output] } else { all };
    let is_count = |key: &[u8], value: &[u8]| mentions(key, &all) && is_positive(value);
    let is_missing = |name: CountName| {
        let is_of = |from, to| (from as usize..=to as usize).contains(&(name as usize));
        !input.is_empty() && is_of(CountName::PromptTokens, CountName::TotalInputTokens)
            || !output.is_empty() && is_of(CountName::CompletionTokens, CountName::TotalOutputTokens)
    };
    let mut found = None;
    // The object was read before, so it is not malformed.
    let _ = each(&mut StrictCursor::new(object), |key, cursor| {
        let value = cursor.value()?;
        if found.is_some() {
            return Ok(());
        }
        let is_found = match Goes::of(key) {
            Some(Goes::Count(name)) => is_missing(name) && is_odd(value),
            Some(Goes::Text(Name::Seconds)) => counts.is_empty() && is_odd(value) && !is_span(value),
            Some(_) => false,
            None => is_count(key, value),
        };
        if is_found {
            found = Some(key);
        } else if value.starts_with(b"{") && Goes::of(key).is_none() {
            let is_of_tokens = mentions(key, &of_objects);
            each(&mut StrictCursor::new(value), |inner, cursor| {
                let value = cursor.value()?;
                if found.is_none() && !has_one && is_count(inner, value) {
                    found = Some(inner);
                } else if found.is_none() && is_of_tokens && !is_other(inner) && is_positive(value) {
                    found = Some(key);
                }
                Ok(())
            })?;
        }
        Ok(())
    });
    found.map(|name| String::from_utf8_lossy(&name[..name.len().min(NAME_LIMIT)]).into())
}

/// Returns true if the name contains one of the words and is none of another quantity.
fn mentions(key: &[u8], words: &[&[&[u8]]; 3]) -> bool {
    let name = key.to_ascii_lowercase();
    words.iter().copied().flatten().any(|word| has(&name, word)) && !is_other(key)
}

/// Returns true for names of other quantities than tokens, known counts, and names with escapes.
fn is_other(key: &[u8]) -> bool {
    let name = key.to_ascii_lowercase();
    has(&name, b"\\") || NO_COUNT.iter().any(|word| has(&name, word)) || KNOWN.contains(&key)
}

fn has(name: &[u8], word: &[u8]) -> bool {
    name.windows(word.len()).any(|part| part == word)
}

fn is_positive(value: &[u8]) -> bool {
    count(value).is_some_and(|count| count > 0)
}

/// Returns true for a number of seconds.
fn is_span(value: &[u8]) -> bool {
    number(unquoted(value)).is_some_and(|seconds| seconds >= 0.0)
}

/// Returns true if the value is not empty, and not a number as the name promises.
fn is_odd(value: &[u8]) -> bool {
    count(value).is_none() && !matches!(value, b"null" | b"\"\"" | b"{}" | b"[]")
}

//! Finds counts under unknown names, so that a new form of usage is noticed.

use super::names::Goes;
use super::{Usage, count, each};
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

/// The name of an unknown count of tokens, if the input or the output has no known name.
///
/// A name qualifies if it mentions tokens or the missing side and its value is a count above 0.
/// Nested objects are searched only if both sides are missing. Usage by duration never qualifies.
pub(super) fn find(object: &[u8], counts: &Usage) -> Option<Box<str>> {
    let has_one = counts.input_tokens.is_some() || counts.output_tokens.is_some();
    let has_both = counts.input_tokens.is_some() && counts.output_tokens.is_some();
    if has_both || counts.billed_seconds.is_some() {
        return None;
    }
    let input: &[&[u8]] = if counts.input_tokens.is_none() { &[b"input", b"prompt"] } else { &[] };
    let output: &[&[u8]] = if counts.output_tokens.is_none() { &[b"output", b"completion"] } else { &[] };
    let is_count = |key: &[u8], value: &[u8]| is_count(key, value, &[&[b"token"], input, output]);
    let mut found = None;
    // The object was read before, so it is not malformed.
    let _ = each(&mut StrictCursor::new(object), |key, cursor| {
        let value = cursor.value()?;
        if Goes::of(key).is_some() || found.is_some() {
            return Ok(());
        }
        if is_count(key, value) {
            found = Some(key);
        } else if !has_one && value.starts_with(b"{") {
            each(&mut StrictCursor::new(value), |key, cursor| {
                let inner = cursor.value()?;
                if found.is_none() && is_count(key, inner) {
                    found = Some(key);
                }
                Ok(())
            })?;
        }
        Ok(())
    });
    found.map(|name| String::from_utf8_lossy(&name[..name.len().min(NAME_LIMIT)]).into())
}

fn is_count(key: &[u8], value: &[u8], words: &[&[&[u8]]; 3]) -> bool {
    let name = key.to_ascii_lowercase();
    let has = |word: &[u8]| name.windows(word.len()).any(|part| part == word);
    words.iter().copied().flatten().any(|word| has(word))
        && !has(b"\\")
        && !NO_COUNT.iter().any(|word| has(word))
        && !KNOWN.contains(&key)
        && count(value).is_some_and(|count| count > 0)
}

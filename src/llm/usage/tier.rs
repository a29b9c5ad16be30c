//! The service tier of a response.

use std::borrow::Cow;

use super::text_values::text;

/// A tier's name as the service wrote it. Common names are not allocated.
pub(super) type Tier = Cow<'static, str>;

/// Common names: OpenAI's and Anthropic's, Groq's, Gemini's, and Vertex AI's `trafficType`.
const COMMON: [&str; 12] = [
    "default",
    "standard",
    "auto",
    "flex",
    "priority",
    "scale",
    "batch",
    "on_demand",
    "performance",
    "ON_DEMAND",
    "ON_DEMAND_FLEX",
    "ON_DEMAND_PRIORITY",
];

/// Reads a tier; `None` if the value is not a string, or empty.
pub(super) fn tier(value: &[u8]) -> Option<Tier> {
    let word = value.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\""))?;
    match COMMON.iter().find(|common| common.as_bytes() == word) {
        Some(common) => Some(Cow::Borrowed(common)),
        None => text(value).map(|name| Cow::Owned(name.into())),
    }
}

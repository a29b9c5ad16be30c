//! The service tier that a response was served in.

use std::borrow::Cow;

use super::extracted::text;

/// A tier's name as the service wrote it. Those in common use are not copied.
pub(super) type Tier = Cow<'static, str>;

/// The names in common use: OpenAI's and Anthropic's, Groq's, Gemini's, and Vertex AI's
/// `trafficType`.
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

/// The tier in a value; `None` where it is no string, or an empty one.
pub(super) fn tier(value: &[u8]) -> Option<Tier> {
    let word = value.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\""))?;
    match COMMON.iter().find(|common| common.as_bytes() == word) {
        Some(common) => Some(Cow::Borrowed(common)),
        None => text(value).map(|name| Cow::Owned(name.into())),
    }
}

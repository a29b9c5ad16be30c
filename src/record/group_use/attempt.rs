//! An attempt at a member of a group.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::llm::provider::Provider;
use crate::llm::usage::Usage;
use crate::record::ModelName;

/// The longest error of an attempt, in bytes.
pub(super) const MAX_ERROR: usize = 256;

/// The largest count in the ledger, whose integers have 63 bits.
const MAX_COUNT: u64 = i64::MAX.unsigned_abs();

/// An attempt at a member. Its JSON is an item of the field `attempts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptRecord {
    pub upstream: Arc<str>,
    #[serde(serialize_with = "provider")]
    pub provider: Provider,
    /// The model in the request to the member.
    pub model: Option<ModelName>,
    pub status: Option<u16>,
    pub error: Option<Box<str>>,
    /// The `code` of `error`.
    #[serde(skip)]
    pub code: Option<&'static str>,
    /// The time from the request's head to the beginning of the attempt.
    #[serde(skip)]
    pub started_ms: f64,
    /// The time from the beginning of the attempt to its end.
    pub ms: f64,
    /// The time from the beginning of the attempt to the head of its response.
    pub first_byte_ms: Option<f64>,
    /// The counts that it reported before its response was thrown away. The counts of the relayed
    /// response are those of the record.
    #[serde(rename = "tokens", serialize_with = "tokens")]
    pub usage: Option<Box<Usage>>,
    pub billed: Billed,
    /// The attempt has not ended.
    #[serde(skip)]
    pub(super) is_open: bool,
}

/// The cost of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    No,
    /// A response may have been generated.
    Maybe,
    Yes,
}

impl Billed {
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            101 | 200..=299 => Self::Yes,
            408 | 504 => Self::Maybe,
            _ => Self::No,
        }
    }
}

/// The beginning of a text, without NUL characters, which PostgreSQL's JSON cannot have.
pub(super) fn storable<T: for<'a> From<&'a str>>(text: &str, most: usize) -> T {
    let text = &text[..text.floor_char_boundary(most)];
    // Names of models are too short for a search of many bytes at a time.
    let has_nul = text.bytes().any(|byte| byte == 0);
    if has_nul { (&*text.replace('\0', "\u{FFFD}")).into() } else { text.into() }
}

fn provider<S: Serializer>(provider: &Provider, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(provider.as_str())
}

/// The known counts, at most those that a column of the ledger can have.
fn tokens<S: Serializer>(usage: &Option<Box<Usage>>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(usage) = usage.as_deref() else { return serializer.serialize_none() };
    let counts = [
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("total_tokens", usage.total_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
        ("cache_write_input_tokens", usage.cache_write_input_tokens),
        ("cache_write_1h_input_tokens", usage.cache_write_1h_input_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ];
    serializer.collect_map(counts.into_iter().filter_map(|(name, count)| Some((name, count?.min(MAX_COUNT)))))
}

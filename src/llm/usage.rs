//! Extracts usage from upstream responses: the places of the counts in JSON, and how they
//! accumulate.
//!
//! The rule, in the order in which the files apply it:
//! 1. Only JSON objects and lists of objects count: the data of an event, or the whole body,
//!    optionally after a byte order mark (`json::Grammar`; `whole`, where all of it is there).
//! 2. Usage is read from exact places and from nowhere else, best first: `.usage`,
//!    `.response.usage`, `.message.usage`, `.choices[i].usage`, `.x_groq.usage`,
//!    `.interaction.usage` (Gemini's interactions), `.delta.usage` (Cohere), `.usageMetadata`
//!    (Gemini), `[i].usageMetadata` of a streamed list, `[i].usage` of a list of legacy
//!    completions, and in a body `.meta` (Cohere's version 1) (`places::Place`). Without any of
//!    these, llama.cpp's `.timings` count; their input is a sum (`timings`).
//! 3. `null`, `{}` and objects without a count are not usage. Zero is a count. No count is computed
//!    from others ([`Usage`]). Gemini's output excludes thoughts, and the tokens of its tools
//!    (`toolUsePromptTokenCount`) are in the total alone. Cohere's `tokens` take precedence over
//!    its `billed_units`.
//! 4. The last usage of a stream replaces the one before it. Anthropic's are merged field by field;
//!    those of finished images are added up ([`Tally`]), as are those that a legacy completion
//!    reports per choice ([`Choices`]).
//! 5. The whole stream is read: usage may follow the finish reason, in any event. If input or
//!    output is missing and a count has an unknown name, the usage is `partial` and the record says
//!    so ([`Tally::not_understood`]).
//! 6. Billing data beside the tokens: the service tier is the last one of a payload with usage,
//!    else the first one read (`.service_tier`, `.response.service_tier`, the usage's own). The
//!    cost is the last one in a usage. Calls are those that the service counted, in its usage or in
//!    `.tool_usage` and `.response.tool_usage`; kinds that it did not count are counted from the
//!    items of `.output`, `.response.output` and `response.output_item.done` ([`ToolKind`]).
//!
//! Keys are compared as they are spelled. A key written with escapes (`"us\u0061ge"`) does not
//! match, because no JSON writer escapes ASCII letters.
//!
//! Everything here is bounded and fails open: oversize or invalid JSON yields no count and no
//! error. `benches/decoder.rs` measures it, and `fuzzing` compares it with `serde_json`.

mod anchor;
mod body;
mod calls;
mod cause;
mod choices;
mod cost;
mod counts;
mod event_kind;
mod extracted;
mod ids;
mod items;
mod json;
mod keys;
mod output;
mod places;
mod prefilter;
mod progress;
mod repeat;
mod report;
mod scan;
mod session;
mod slots;
mod sniff;
mod stream;
mod tally;
mod text_values;
mod tier;
mod timings;
mod walk;
mod whole;
mod withhold;
mod words;

pub use body::BodyMeter;
pub use calls::{CallCounts, ToolCalls, ToolKind};
pub use cause::Cause;
pub use choices::Choices;
pub use counts::Usage;
pub use ids::{IdReader, NamedIdReader, NotJson, StoredId, is_id, named_ids};
pub use output::{Hold, OUTPUT_LIMIT, Output, Part, Room};
pub use progress::Progress;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use scan::Scanned;
pub use session::{AskedModel, SessionMeter, TurnStep};
pub use sniff::{Content, Sniff};
pub use stream::StreamMeter;
pub use tally::{Merging, Tally};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use withhold::RESPONSE_MEMBERS;
pub use withhold::{HOLD_LIMIT, Withhold};

//! Where usage lives in what an upstream answers, and how counts accumulate.
//!
//! The rule, in the order in which the files apply it:
//! 1. only JSON objects and lists of them count: the data of an event, or the whole body, before
//!    which a byte order mark may stand (`json::Grammar` decides);
//! 2. usage is looked for at exact places and nowhere else, best first: `.usage`,
//!    `.response.usage`, `.message.usage`, `.choices[i].usage`, `.x_groq.usage`,
//!    `.interaction.usage` (Gemini's interactions), `.delta.usage` (Cohere), `.usageMetadata`
//!    (Gemini), `[i].usageMetadata` of a streamed list, `[i].usage` of a list of legacy
//!    completions, and in a body `.meta` (Cohere's version 1) (`places::Place`); where there is
//!    none, llama.cpp's `.timings` count, whose input is a sum (`timings`);
//! 3. null, `{}` and objects without a count are no usage, zero is a count, and no count is ever
//!    computed from others ([`Usage`]). Of Gemini, output is without thoughts, and what its tools
//!    brought (`toolUsePromptTokenCount`) is in the total alone. Cohere's `tokens` go before its
//!    `billed_units`;
//! 4. the last usage of a stream replaces the one before it whole; Anthropic's are merged field by
//!    field, and those of finished pictures are added up ([`Tally`]), as are those that a legacy
//!    completion reports choice by choice ([`Choices`]);
//! 5. nothing stops early: usage may come after the finish reason, and in any event. Where input or
//!    output is missing and a count has a name that is not known, the usage is `partial` and the
//!    record says so ([`Tally::not_understood`]);
//! 6. what is billed beside the tokens: the service tier is the last one that a payload with usage
//!    names, else the first one read (`.service_tier`, `.response.service_tier`, the usage's own);
//!    the cost is the last one that a usage names; calls are those that the service counted, in its
//!    usage or in `.tool_usage` and `.response.tool_usage`, and of a kind that it did not count,
//!    the items of `.output`, `.response.output` and of `response.output_item.done` ([`ToolKind`]).
//!
//! A key counts only as it is spelled. One written with escapes (`"us\u0061ge"`) is another key to
//! us: no JSON writer escapes ASCII letters, and nothing but a test ever did.
//!
//! Everything here is bounded and fails open: what is too large or no JSON yields no number, and no
//! error. It is measured in `benches/decoder.rs` and compared with `serde_json` in `fuzzing`.

mod anchor;
mod body;
mod calls;
mod cause;
mod choices;
mod cost;
mod counts;
mod found;
mod items;
mod json;
mod keys;
mod output;
mod places;
mod repeat;
mod report;
mod scan;
mod session;
mod sniff;
mod stream;
mod tally;
mod tier;
mod timings;
mod watch;
mod withhold;

pub use body::BodyMeter;
pub use calls::{CallCounts, ToolCalls, ToolKind};
pub use cause::Cause;
pub use choices::Choices;
pub use counts::Usage;
pub use output::{Hold, OUTPUT_LIMIT, Output, Part, Room};
pub use session::{AskedModel, SessionMeter};
pub use sniff::{Content, Sniff};
pub use stream::{Progress, StreamMeter};
pub use tally::Tally;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use withhold::ANSWERS;
pub use withhold::{HOLD_LIMIT, Withhold};

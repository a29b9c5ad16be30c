//! Token counts for responses without reported usage: what passed is counted with the model's own
//! byte-pair encoding, as far as it is known.
//!
//! The rule:
//! * output is the text, the reasoning and the tool calls that were seen to pass
//!   ([`output_tokens`]); reasoning that a service hides is missing from it, so that of a model
//!   that reasons in secret only a lower bound is known;
//! * input is what the request's body says, laid out as OpenAI publishes it ([`input_tokens`]);
//!   pictures, sound and files are not counted;
//! * OpenAI's models have their own encoding, all others `o200k_base`'s ([`Encoding::of`]).
//!
//! `tests/estimates.rs` prints how far the counts are from what services reported of the same
//! answers.
//!
//! Everything here may take milliseconds, and the first count of an encoding some tens of them, for
//! its tables: it is called by a thread of its own and never on a stream's way.

mod counter;
mod encoding;
mod output;
mod prompt;
mod tools;

pub use counter::Counter;
pub use encoding::Encoding;
pub use output::output_tokens;
pub use prompt::{Shape, input_tokens};

//! Estimates token counts for responses without reported usage: counts the relayed text with the
//! model's byte-pair encoding, as far as it is known.
//!
//! The rule:
//! * output is the relayed text, reasoning and tool calls ([`output_tokens`]). Reasoning that a
//!   service hides is missing, so that the output of a model with hidden reasoning is a lower
//!   bound;
//! * input is the text of the request's body, laid out as OpenAI publishes it ([`input_tokens`]);
//!   pictures, sound and files are not counted;
//! * OpenAI's models have their own encoding, all others `o200k_base`'s ([`Encoding::of`]).
//!
//! `tests/estimates.rs` prints the difference between the estimates and the usage that services
//! reported for the same responses.
//!
//! A call may take milliseconds, and the first one of an encoding some tens of them, because the
//! tables are unpacked. Callers use a thread of their own, never the one that relays a stream.

mod counter;
mod encoding;
mod output;
mod prompt;
mod tools;

pub use counter::Counter;
pub use encoding::{Encoding, tables_bytes};
pub use output::output_tokens;
pub use prompt::{Shape, input_tokens};

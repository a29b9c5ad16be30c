//! Estimates the tokens of a response's output.

use super::{Counter, Shape};
use crate::codec::json::Text;
use crate::llm::usage::{Output, Part};

/// The tokens of a tool call besides its name and arguments: marks that services count as output
/// and that appear in no text. Derived from recorded responses of OpenAI, where it is exact.
const CALL: u64 = 7;

/// The additional tokens of each of several calls, which the model writes as a list of objects with
/// keys. Between 4 and 9 in the recordings.
const ONE_OF_SEVERAL: u64 = 6;

/// The tokens of a response besides its texts, by the same recordings: none in chats. `responses`
/// adds the mark that ends it, and models after GPT-4 also the tokens of the channel.
fn frame(shape: Shape, model: &str) -> u64 {
    match shape {
        Shape::Responses if model.starts_with("gpt-5") => 4,
        Shape::Responses => 1,
        _ => 0,
    }
}

/// The tokens of the relayed texts. If only the beginning of the text was kept, the rest counts in
/// proportion. `None` if nothing was kept, or if the counter stopped.
pub fn output_tokens(counter: &Counter<'_>, shape: Shape, model: &str, output: &Output) -> Option<u64> {
    if output.is_empty() {
        return Some(0);
    }
    let scale = output.scale()?;
    let (mut tokens, mut calls) = (0, 0);
    for (part, raw) in output.texts() {
        tokens += match part {
            Part::Json => counter.count(&String::from_utf8_lossy(raw))?,
            Part::Name => {
                calls += 1;
                CALL + counter.count(&Text::of(raw).decode())?
            }
            Part::Text | Part::Reasoning | Part::Arguments => counter.count(&Text::of(raw).decode())?,
        };
    }
    if calls > 1 {
        tokens += calls * ONE_OF_SEVERAL;
    }
    Some((tokens as f64 * scale).round() as u64 + frame(shape, model))
}

//! Tokens of what a response brought.

use super::{Counter, Shape};
use crate::codec::json::Text;
use crate::llm::usage::{Output, Part};

/// The tokens of a tool call beside its name and arguments: the marks around it, which
/// services count as output and which are no text. Read off recorded answers of OpenAI's, where it
/// is exact.
const CALL: u64 = 7;

/// The further tokens of each of several calls: they are written as a list of objects, with keys.
/// Between 4 and 9 in the recordings.
const ONE_OF_SEVERAL: u64 = 6;

/// The tokens of a response beside its texts, by the same recordings: nothing in chats; in
/// `responses` the mark that ends it, and with the models that came after GPT-4 those of the
/// channel that it is written to.
fn frame(shape: Shape, model: &str) -> u64 {
    match shape {
        Shape::Responses if model.starts_with("gpt-5") => 4,
        Shape::Responses => 1,
        _ => 0,
    }
}

/// The tokens of the texts that passed. Of more text than was kept, the rest counts as if it were
/// like the beginning. `None`: nothing of it was kept, or the count was stopped.
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

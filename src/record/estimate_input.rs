//! The input of an estimate: the request and the text of its response, kept until usage is
//! reported.

use bytes::Bytes;

use super::UseObserver;
use crate::llm::estimate::{Counter, Encoding, Shape, input_tokens, output_tokens};
use crate::llm::usage::{Hold, Output, Room, Usage};

/// The memory budget for all requests and responses kept for estimates. If it is exhausted, further
/// ones get no estimate.
pub(super) const ROOM: usize = 64 << 20;

/// The longest request that is kept, some 250,000 tokens. A longer one probably contains pictures
/// or files, and its input is not estimated.
const PROMPT_LIMIT: usize = 1 << 20;

/// The input for one exchange.
#[derive(Debug)]
pub(super) struct EstimateInput {
    pub(super) shape: Shape,
    prompt: Option<(Bytes, Hold)>,
    pub(super) output: Option<Box<Output>>,
    /// The response may have tokens.
    pub(super) may_have_tokens: bool,
    /// Receives the record after the estimate.
    pub(super) observer: Option<Box<dyn UseObserver>>,
}

impl EstimateInput {
    /// The input of a request with this shape. `room` is the memory budget.
    pub(super) fn new(shape: Shape, body: &Bytes, room: &Room) -> Self {
        let mut hold = room.hold();
        let fits = !body.is_empty() && body.len() <= PROMPT_LIMIT && hold.grow_to(body.len());
        let prompt = fits.then(|| (body.clone(), hold));
        Self { shape, prompt, output: None, may_have_tokens: false, observer: None }
    }

    /// Counts the tokens, which may take milliseconds. `None` if there was no text, or if the
    /// counter stopped.
    pub(super) fn estimate(&self, model: &str, stop: &dyn Fn() -> bool) -> Option<Usage> {
        let counter = Counter::new(Encoding::of(model), stop);
        let input_tokens =
            self.prompt.as_ref().and_then(|(body, _)| input_tokens(&counter, self.shape, body));
        let output = self.output.as_ref();
        let output_tokens = output.and_then(|output| output_tokens(&counter, self.shape, model, output));
        if counter.is_stopped() || (input_tokens, output_tokens) == (None, None) {
            return None;
        }
        let total_tokens = match (input_tokens, output_tokens) {
            (Some(input), Some(output)) => Some(input + output),
            (Some(input), None) if !self.shape.has_output() => Some(input),
            _ => None,
        };
        Some(Usage { input_tokens, output_tokens, total_tokens, ..Usage::default() })
    }
}

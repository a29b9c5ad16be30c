//! `responses` with tool calls or structured output.

use super::super::content::Part;
use super::super::ordered::{Json, object};
use super::super::script::{Facts, incomplete_details, status};
use super::super::tally::Tokens;
use super::{Event, Plot, Reel};

pub(super) fn reel(plot: Plot) -> Reel {
    let mut tape = Tape { events: Vec::new() };
    let begun = response(&plot, "in_progress", &[], None);
    tape.push("response.created", |event| event.with("response", &begun));
    tape.push("response.in_progress", |event| event.with("response", &begun));
    let reasoning = reasoning(&plot);
    if let Some(item) = &reasoning {
        for name in ["response.output_item.added", "response.output_item.done"] {
            tape.push(name, |event| event.with("output_index", &0_u64).with("item", item));
        }
    }
    let first = usize::from(reasoning.is_some());
    for (part, index) in plot.parts.iter().zip(first..) {
        tape.push("response.output_item.added", |event| {
            event.with("output_index", &index).with("item", &item(&plot, part, index, "in_progress"))
        });
        match part {
            Part::Text(text) => tape.text(&plot, part, index, text),
            Part::Call(_) => tape.call(&plot, part, index),
        }
        tape.push("response.output_item.done", |event| {
            event.with("output_index", &index).with("item", &item(&plot, part, index, "completed"))
        });
    }
    let status = status(plot.directions.finish);
    let tokens = plot.reports().then(|| plot.all_tokens());
    let parts = plot.parts.iter().zip(first..).map(|(part, at)| item(&plot, part, at, "completed"));
    let items: Vec<_> = reasoning.into_iter().chain(parts).collect();
    let whole = response(&plot, status, &items, tokens);
    tape.push(&format!("response.{status}"), |event| event.with("response", &whole));
    if let Some(last) = tape.events.last_mut() {
        last.tokens = tokens;
    }
    Reel {
        events: tape.events,
        error: error(),
        whole,
        tokens,
        directions: plot.directions,
        facts: plot.facts,
    }
}

/// The events, each numbered.
struct Tape {
    events: Vec<Event>,
}

impl Tape {
    fn push(&mut self, name: &str, members: impl FnOnce(Json) -> Json) {
        let start = object! { "type": name, "sequence_number": self.events.len() };
        self.events.push(Event::named(name, &members(start)));
    }

    fn text(&mut self, plot: &Plot, part: &Part, index: usize, text: &str) {
        let id = id(plot, part, index);
        let at = |event: Json| {
            event.with("item_id", &id).with("output_index", &index).with("content_index", &0_u64)
        };
        self.push("response.content_part.added", |event| at(event).with("part", &output_text("")));
        for piece in part.pieces(&plot.directions) {
            self.push("response.output_text.delta", |event| {
                at(event).with("delta", &piece).with("logprobs", &Vec::new())
            });
        }
        self.push("response.output_text.done", |event| {
            at(event).with("text", &text).with("logprobs", &Vec::new())
        });
        self.push("response.content_part.done", |event| at(event).with("part", &output_text(text)));
    }

    fn call(&mut self, plot: &Plot, part: &Part, index: usize) {
        let Part::Call(call) = part else { return };
        let id = id(plot, part, index);
        let at = |event: Json| event.with("item_id", &id).with("output_index", &index);
        let (name, member) = if call.is_custom {
            ("response.custom_tool_call_input", "input")
        } else {
            ("response.function_call_arguments", "arguments")
        };
        for piece in part.pieces(&plot.directions) {
            self.push(&format!("{name}.delta"), |event| at(event).with("delta", &piece));
        }
        self.push(&format!("{name}.done"), |event| at(event).with(member, &call.arguments));
    }
}

fn id(plot: &Plot, part: &Part, index: usize) -> String {
    plot.call_id(
        match part {
            Part::Text(_) => "msg_",
            Part::Call(call) if call.is_custom => "ctc_",
            Part::Call(_) => "fc_",
        },
        index,
    )
}

fn output_text(text: &str) -> Json {
    object! { "type": "output_text", "annotations": Vec::new(), "logprobs": Vec::new(), "text": text }
}

/// The item of encrypted reasoning.
fn reasoning(plot: &Plot) -> Option<Json> {
    let content = plot.encrypted.as_ref()?;
    let id = plot.call_id("rs_", 0);
    Some(object! { "id": id, "type": "reasoning", "encrypted_content": content, "summary": Vec::new() })
}

/// An item at its beginning or its end.
fn item(plot: &Plot, part: &Part, index: usize, status: &str) -> Json {
    let id = id(plot, part, index);
    let is_done = status == "completed";
    match part {
        Part::Text(text) => {
            let content = if is_done { vec![output_text(text)] } else { Vec::new() };
            object! { "id": id, "type": "message", "status": status, "content": content, "role": "assistant" }
        }
        Part::Call(call) => {
            let (kind, member) =
                if call.is_custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
            let arguments = if is_done { call.arguments.as_str() } else { "" };
            let item = object! { "id": id, "type": kind, "status": status }.with(member, &arguments);
            item.with("call_id", &plot.call_id("call_", index)).with("name", &call.name)
        }
    }
}

/// A response object without output, so far or for good.
pub(in super::super) fn response_without_output(facts: &Facts, status: &str) -> Json {
    shown(facts, status, "null", &[], None)
}

fn response(plot: &Plot, status: &str, output: &[Json], tokens: Option<Tokens>) -> Json {
    let details = if status == "in_progress" { "null" } else { incomplete_details(plot.directions.finish) };
    shown(&plot.facts, status, details, output, tokens.map(|tokens| usage(plot, tokens)))
}

/// The response object. Its members are those of `shapes::responses`, in the same order.
fn shown(facts: &Facts, status: &str, details: &str, output: &[Json], usage: Option<Json>) -> Json {
    object! {
        "id": format!("resp_{:024x}", facts.id), "object": "response", "created_at": facts.created,
        "status": status, "background": false, "error": (), "incomplete_details": Json::raw(details),
        "instructions": (), "max_output_tokens": (), "max_tool_calls": (), "model": facts.quoted_model(), "output": output,
        "parallel_tool_calls": true, "previous_response_id": (), "prompt_cache_key": (),
        "reasoning": object! { "effort": (), "summary": () }, "safety_identifier": (), "service_tier": "default",
        "store": true, "temperature": 1.0,
        "text": object! { "format": object! { "type": "text" }, "verbosity": "medium" },
        "tool_choice": "auto", "tools": Vec::new(), "top_logprobs": 0_u64, "top_p": 1.0, "truncation": "disabled",
        "usage": usage, "user": (), "metadata": object! {},
    }
}

fn usage(plot: &Plot, tokens: Tokens) -> Json {
    object! {
        "input_tokens": tokens.input, "input_tokens_details": object! { "cached_tokens": plot.directions.cached },
        "output_tokens": tokens.output,
        "output_tokens_details": object! { "reasoning_tokens": plot.directions.reasoning },
        "total_tokens": tokens.input + tokens.output,
    }
}

/// The error that replaces an event for a fault.
fn error() -> String {
    let message = "The server had an error while processing your request. Sorry about that!";
    let error = object! { "type": "server_error", "code": "server_error", "message": message, "param": () };
    Event::named("error", &object! { "type": "error", "error": error }).text
}

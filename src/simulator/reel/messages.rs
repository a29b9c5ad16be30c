//! Anthropic's `messages` with tool calls or structured output.

use super::super::content::Part;
use super::super::directions::Finish;
use super::super::ordered::{Json, object};
use super::super::script::stop_reason;
use super::super::shapes::MESSAGES_ERROR;
use super::super::tally::Tokens;
use super::{Event, Plot, Reel};

pub(super) fn reel(plot: Plot) -> Reel {
    let mut events = vec![start(&plot)];
    for (index, part) in plot.parts.iter().enumerate() {
        let block = object! { "type": "content_block_start", "index": index, "content_block": opened(&plot, part, index) };
        events.push(Event::named("content_block_start", &block));
        if index == 0 {
            events.push(Event::named("ping", &object! { "type": "ping" }));
        }
        for piece in part.pieces(&plot.directions) {
            let delta = match part {
                Part::Text(_) => object! { "type": "text_delta", "text": piece },
                Part::Call(_) => object! { "type": "input_json_delta", "partial_json": piece },
            };
            let json = object! { "type": "content_block_delta", "index": index, "delta": delta };
            events.push(Event::named("content_block_delta", &json));
        }
        let stop = object! { "type": "content_block_stop", "index": index };
        events.push(Event::named("content_block_stop", &stop));
    }
    let tokens = plot.reports().then(|| plot.all_tokens());
    let delta = object! { "stop_reason": reason(&plot), "stop_sequence": () };
    let json = object! { "type": "message_delta", "delta": delta, "usage": tokens.map(|tokens| usage(&plot, tokens)) };
    events.push(Event::named("message_delta", &json).reporting(tokens));
    events.push(Event::named("message_stop", &object! { "type": "message_stop" }));
    let whole = message(&plot, &content(&plot), Some(reason(&plot)), tokens);
    Reel {
        events,
        error: MESSAGES_ERROR.to_owned(),
        whole,
        tokens,
        directions: plot.directions,
        facts: plot.facts,
    }
}

fn start(plot: &Plot) -> Event {
    let tokens = plot.reports().then(|| plot.tokens(0));
    let json = object! { "type": "message_start", "message": message(plot, &[], None, tokens) };
    Event::named("message_start", &json).reporting(tokens)
}

/// A block without its text.
fn opened(plot: &Plot, part: &Part, index: usize) -> Json {
    match part {
        Part::Text(_) => object! { "type": "text", "text": "" },
        Part::Call(call) => {
            object! { "type": "tool_use", "id": plot.call_id("toolu_", index), "name": call.name, "input": object! {} }
        }
    }
}

fn content(plot: &Plot) -> Vec<Json> {
    let block = |(index, part): (usize, &Part)| match part {
        Part::Text(text) => object! { "type": "text", "text": text },
        Part::Call(call) => object! {
            "type": "tool_use", "id": plot.call_id("toolu_", index), "name": call.name,
            "input": Json::raw(call.arguments.as_str()),
        },
    };
    plot.parts.iter().enumerate().map(block).collect()
}

fn message(plot: &Plot, content: &[Json], reason: Option<&str>, tokens: Option<Tokens>) -> Json {
    object! {
        "model": plot.model(), "id": format!("msg_{:024x}", plot.facts.id), "type": "message", "role": "assistant",
        "content": content, "stop_reason": reason, "stop_sequence": (),
        "usage": tokens.map(|tokens| full_usage(plot, tokens)),
    }
}

fn reason(plot: &Plot) -> &'static str {
    match plot.directions.finish {
        Finish::Stop if plot.has_calls() => "tool_use",
        finish => stop_reason(finish),
    }
}

fn full_usage(plot: &Plot, tokens: Tokens) -> Json {
    object! {
        "input_tokens": tokens.input, "cache_creation_input_tokens": 0_u64,
        "cache_read_input_tokens": plot.directions.cached,
        "cache_creation": object! { "ephemeral_5m_input_tokens": 0_u64, "ephemeral_1h_input_tokens": 0_u64 },
        "output_tokens": tokens.output, "service_tier": "standard", "inference_geo": "not_available",
    }
}

fn usage(plot: &Plot, tokens: Tokens) -> Json {
    object! {
        "input_tokens": tokens.input, "cache_creation_input_tokens": 0_u64,
        "cache_read_input_tokens": plot.directions.cached, "output_tokens": tokens.output,
    }
}

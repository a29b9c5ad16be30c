//! `chat/completions` with tool calls or structured output.

use super::super::content::{Call, Part};
use super::super::directions::Finish;
use super::super::ordered::{Json, object};
use super::super::place::Dialect;
use super::super::script::{UsageRule, finish_reason};
use super::super::shapes::ERROR;
use super::super::tally::Tokens;
use super::{Event, Plot, Reel};

pub(super) fn reel(plot: Plot) -> Reel {
    let mut events = Vec::new();
    if plot.dialect == Dialect::Azure {
        events.push(prompt_filter());
    }
    let is_call = plot.has_calls();
    let role = if is_call {
        object! { "role": "assistant", "content": () }
    } else {
        object! { "role": "assistant", "content": "", "refusal": () }
    };
    events.push(chunk(&plot, role, None, 0));
    let (mut said, mut calls) = (0, 0);
    for part in &plot.parts {
        if let Part::Call(call) = part {
            let id = plot.call_id("call_", calls);
            events.push(chunk(&plot, deltas(opened(call, &id, calls, "")), None, said));
        }
        for piece in part.pieces(&plot.directions) {
            said += 1;
            let delta = match part {
                Part::Text(_) => object! { "content": piece },
                Part::Call(call) => {
                    deltas(object! { "index": calls }.with(body(call).0, &body_delta(call, piece)))
                }
            };
            events.push(chunk(&plot, delta, None, said));
        }
        calls += usize::from(matches!(part, Part::Call(_)));
    }
    let finish = finish(&plot);
    let mut last = chunk(&plot, object! {}, Some(finish), said);
    if plot.usage == UsageRule::Finish {
        last = chunk_with(&plot, &choice(&plot, object! {}, Some(finish)), Some(plot.tokens(said)));
    }
    events.push(last);
    if plot.usage == UsageRule::Event {
        events.push(chunk_with(&plot, "", Some(plot.tokens(said))));
    }
    events.push(Event::done());
    let (whole, tokens) = whole(&plot, finish);
    Reel { events, error: ERROR.to_owned(), whole, tokens, directions: plot.directions, facts: plot.facts }
}

fn finish(plot: &Plot) -> &'static str {
    match plot.directions.finish {
        Finish::Stop if plot.has_calls() => "tool_calls",
        finish => finish_reason(finish),
    }
}

/// The names of the members of a call for the tool and its input.
fn body(call: &Call) -> (&'static str, &'static str) {
    if call.is_custom { ("custom", "input") } else { ("function", "arguments") }
}

fn body_delta(call: &Call, text: &str) -> Json {
    object! {}.with(body(call).1, &text)
}

/// A call from its beginning on.
fn opened(call: &Call, id: &str, index: usize, text: &str) -> Json {
    called(object! { "index": index, "id": id }, call, text)
}

fn called(start: Json, call: &Call, text: &str) -> Json {
    let (kind, member) = body(call);
    start.with("type", &kind).with(kind, &object! { "name": call.name }.with(member, &text))
}

fn deltas(call: Json) -> Json {
    object! { "tool_calls": [call] }
}

/// A chunk, with the usage that the rule requires in a chunk that is neither the last nor the one
/// for usage.
fn chunk(plot: &Plot, delta: Json, finish: Option<&str>, said: usize) -> Event {
    let tokens = (plot.usage == UsageRule::Every).then(|| plot.tokens(said));
    chunk_with(plot, &choice(plot, delta, finish), tokens)
}

/// `choices` is the text between the brackets.
fn chunk_with(plot: &Plot, choices: &str, tokens: Option<Tokens>) -> Event {
    let mut json = object! {
        "id": format!("chatcmpl-{:024x}", plot.facts.id), "object": "chat.completion.chunk", "created": plot.facts.created,
        "model": plot.model(), "service_tier": "default", "system_fingerprint": "fp_simulator",
        "choices": Json::raw(format!("[{choices}]")),
    };
    if plot.usage != UsageRule::Absent {
        json = json.with("usage", &tokens.map(|tokens| usage(plot, tokens)));
    }
    Event::data(&of_service(plot, json)).reporting(tokens)
}

fn choice(plot: &Plot, delta: Json, finish: Option<&str>) -> String {
    let choice = object! { "index": 0_u64, "delta": delta, "logprobs": (), "finish_reason": finish };
    filtered(plot, choice).into_string()
}

fn whole(plot: &Plot, finish: &str) -> (Json, Option<Tokens>) {
    let mut text = String::new();
    let mut calls = Vec::new();
    for part in &plot.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Call(call) => {
                let id = object! { "id": plot.call_id("call_", calls.len()) };
                calls.push(called(id, call, &call.arguments));
            }
        }
    }
    let message = if calls.is_empty() {
        object! { "role": "assistant", "content": text, "refusal": (), "annotations": Vec::new() }
    } else {
        object! { "role": "assistant", "content": (), "tool_calls": calls, "refusal": (), "annotations": Vec::new() }
    };
    let choice = object! { "index": 0_u64, "message": message, "logprobs": (), "finish_reason": finish };
    let mut json = object! {
        "id": format!("chatcmpl-{:024x}", plot.facts.id), "object": "chat.completion", "created": plot.facts.created,
        "model": plot.model(), "choices": [filtered(plot, choice)],
    };
    let tokens = plot.reports().then(|| plot.all_tokens());
    if let Some(tokens) = tokens {
        json = json.with("usage", &usage(plot, tokens));
    }
    let json = json.with("service_tier", &"default").with("system_fingerprint", &"fp_simulator");
    (of_service(plot, json), tokens)
}

fn usage(plot: &Plot, tokens: Tokens) -> Json {
    object! {
        "prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": object! { "cached_tokens": plot.directions.cached, "audio_tokens": 0_u64 },
        "completion_tokens_details": object! {
            "reasoning_tokens": plot.directions.reasoning, "audio_tokens": 0_u64,
            "accepted_prediction_tokens": 0_u64, "rejected_prediction_tokens": 0_u64,
        },
    }
}

/// Azure's choices contain the results of the content filter.
fn filtered(plot: &Plot, choice: Json) -> Json {
    if plot.dialect == Dialect::Azure { choice.with("content_filter_results", &object! {}) } else { choice }
}

/// Azure's members are in alphabetical order.
fn of_service(plot: &Plot, json: Json) -> Json {
    if plot.dialect != Dialect::Azure {
        return json;
    }
    let sorted: serde_json::Value =
        serde_json::from_str(json.as_str()).expect("what was written here is JSON");
    Json::raw(sorted.to_string())
}

fn prompt_filter() -> Event {
    let results = [object! { "prompt_index": 0_u64, "content_filter_results": object! {} }];
    Event::data(&object! {
        "choices": Vec::new(), "created": 0_u64, "id": "", "model": "", "object": "", "prompt_filter_results": results,
    })
}

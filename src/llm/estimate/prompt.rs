//! Estimates the tokens of a request's input.

use serde_json::Value;

use super::{Counter, tools};

/// The layout of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `chat/completions`.
    Chat,
    /// `completions`.
    Completion,
    /// `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
    /// `embeddings`, which has no output in tokens.
    Embeddings,
}

impl Shape {
    /// The shape of an endpoint's requests. `None` if its tokens are not estimated.
    pub fn of(endpoint: &str) -> Option<Self> {
        Some(match endpoint {
            "chat/completions" => Self::Chat,
            "completions" => Self::Completion,
            "responses" => Self::Responses,
            "messages" => Self::Messages,
            "embeddings" => Self::Embeddings,
            _ => return None,
        })
    }

    /// Returns true if responses have output that is counted in tokens.
    pub fn has_output(self) -> bool {
        self != Self::Embeddings
    }
}

/// The tokens of a message besides its role and content: the marks at its begin and end. Published
/// in OpenAI's cookbook ("How to count tokens with tiktoken"), as are [`PRIMING`], [`NAME`] and the
/// rule of [`tools`].
const MESSAGE: u64 = 3;

/// The tokens that begin the response.
const PRIMING: u64 = 3;

/// The tokens of a message's `name` besides its text.
const NAME: u64 = 1;

/// The tokens of a request's body. `None` if the body has another form, if it refers to content
/// that the proxy has not seen (an earlier response, a stored prompt), or if the counter stopped.
pub fn input_tokens(counter: &Counter<'_>, shape: Shape, body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let unseen = ["previous_response_id", "conversation", "prompt"];
    match shape {
        Shape::Chat => messages(
            counter,
            body["messages"].as_array()?,
            &[&body["tools"], &body["functions"]],
            &body["response_format"],
        ),
        Shape::Responses if unseen.iter().any(|key| !body[key].is_null()) => None,
        Shape::Responses => {
            let mut list = vec![message("system", &body["instructions"])];
            match &body["input"] {
                Value::Array(items) => list.extend(items.iter().cloned()),
                text => list.push(message("user", text)),
            }
            list.retain(|item| item["content"] != Value::Null || item["type"].is_string());
            if list.is_empty() {
                return None;
            }
            messages(counter, &list, &[&body["tools"]], &body["text"]["format"])
        }
        Shape::Messages => {
            let mut list = vec![message("system", &body["system"])];
            list.retain(|item| !item["content"].is_null());
            list.extend(body["messages"].as_array()?.iter().cloned());
            messages(counter, &list, &[&body["tools"]], &Value::Null)
        }
        Shape::Completion => texts(counter, &body["prompt"]),
        Shape::Embeddings => texts(counter, &body["input"]),
    }
}

fn message(role: &str, content: &Value) -> Value {
    serde_json::json!({ "role": role, "content": content })
}

fn messages(counter: &Counter<'_>, list: &[Value], tools: &[&Value], format: &Value) -> Option<u64> {
    let mut tokens = PRIMING;
    for item in list {
        tokens += MESSAGE;
        // An item without a role, such as a call's result, has a mark of one token instead.
        tokens += item["role"].as_str().map_or(Some(1), |role| counter.count(role))?;
        tokens += content(counter, item)?;
        tokens += item["name"].as_str().map_or(0, |_| NAME);
    }
    for tools in tools.iter().filter_map(|tools| tools.as_array()) {
        tokens += tools::tokens(counter, tools)?;
    }
    let schema = &format["json_schema"]["schema"];
    for schema in [schema, &format["schema"]].into_iter().filter(|schema| schema.is_object()) {
        tokens += counter.count(&schema.to_string())?;
    }
    Some(tokens)
}

/// The text of a message, a part of one, or an item, under any key that services use. Pictures,
/// sound and files have no such key.
fn content(counter: &Counter<'_>, item: &Value) -> Option<u64> {
    let mut tokens = 0;
    for key in ["content", "text", "thinking", "reasoning_content", "refusal", "name", "arguments", "output"]
    {
        tokens += texts_within(counter, &item[key])?;
    }
    for key in ["tool_calls", "function_call", "function"] {
        tokens += texts_within(counter, &item[key])?;
    }
    if item["input"].is_object() {
        tokens += counter.count(&item["input"].to_string())?;
    }
    Some(tokens)
}

fn texts_within(counter: &Counter<'_>, value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => counter.count(text),
        Value::Array(parts) => parts
            .iter()
            .map(|part| if part.is_string() { texts_within(counter, part) } else { content(counter, part) })
            .sum(),
        Value::Object(_) => content(counter, value),
        _ => Some(0),
    }
}

/// Counts a text, a token, or a list of either.
fn texts(counter: &Counter<'_>, value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => counter.count(text),
        Value::Number(_) => Some(1),
        Value::Array(items) => items.iter().map(|item| texts(counter, item)).sum(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

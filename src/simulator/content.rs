//! The content of a response to a request for more than text: tool calls, and instances of a
//! schema.

use serde_json::Value;

use super::directions::Directions;
use super::error::Failure;
use super::schema::{self, instance};
use super::shapes::Kind;

/// The largest number of calls in one response.
pub(super) const MAX_CALLS: u64 = 128;

/// The largest amount of text in one response.
const MAX_TEXT: usize = 256 * 1024;

/// The bytes of a streamed piece, if the directions give no size.
const PIECE_BYTES: usize = 8;

/// A part of a response.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Call(Call),
}

/// The call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON, or any text for a custom tool.
    pub(super) arguments: String,
    /// A tool that takes text instead of arguments.
    pub(super) is_custom: bool,
}

/// A tool of the request.
struct Tool<'a> {
    name: &'a str,
    /// `None` for a custom tool.
    schema: Option<&'a Value>,
}

impl Part {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Call(call) => &call.arguments,
        }
    }

    /// The pieces that are streamed, event by event. Each is an output token.
    pub(super) fn pieces(&self, directions: &Directions) -> Vec<&str> {
        let size = if directions.size == 0 { PIECE_BYTES } else { directions.size };
        let (mut pieces, mut rest) = (Vec::new(), self.text());
        while !rest.is_empty() {
            let mut end = size.min(rest.len());
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            let (piece, after) = rest.split_at(end);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

/// The content of the response to `body`. `None` means the sentence.
///
/// Tools are called until a result follows the model's last output. A choice that forces a call is
/// followed in any case, as the services do.
pub(super) fn of(kind: Kind, body: &Value, directions: &Directions) -> Result<Option<Vec<Part>>, Failure> {
    if let Some(calls) = calls(kind, body, directions)? {
        return Ok(Some(calls));
    }
    let Some(format) = format(kind, body) else { return Ok(None) };
    let text = match format {
        Format::Object => "{\"text\":\"A stream gauge\"}".to_owned(),
        Format::Schema(schema) => made(schema, "response_format")?,
    };
    Ok(Some(vec![Part::Text(text)]))
}

fn calls(kind: Kind, body: &Value, directions: &Directions) -> Result<Option<Vec<Part>>, Failure> {
    let tools: Vec<_> = body["tools"].as_array().into_iter().flatten().filter_map(tool).collect();
    let choice = &body["tool_choice"];
    let choice_kind = choice.as_str().or(choice["type"].as_str()).unwrap_or("auto");
    let named =
        choice["name"].as_str().or(choice["function"]["name"].as_str()).or(choice["custom"]["name"].as_str());
    let is_forced = named.is_some() || matches!(choice_kind, "required" | "any");
    let wanted = directions.tool.as_deref().or(named);
    let is_off = choice_kind == "none" || wanted == Some("none");
    if tools.is_empty() || is_off || (has_result(kind, body) && !is_forced) {
        return Ok(None);
    }
    let chosen = match wanted {
        Some(name) => tools.iter().find(|tool| tool.name == name),
        None => tools.iter().find(|tool| tool.runs_a_command()).or(tools.first()),
    };
    let tool = chosen.ok_or_else(|| {
        let message = format!("Tool choice '{}' not found in 'tools' parameter.", wanted.unwrap_or_default());
        Failure::parameter("tool_choice", None, message)
    })?;
    let (arguments, is_custom) = match tool.schema {
        Some(schema) => (made(schema, "tools")?, false),
        None => ("A stream gauge".to_owned(), true),
    };
    let is_alone = body["parallel_tool_calls"] == false || choice["disable_parallel_tool_use"] == true;
    let count = if is_alone { directions.calls.min(1) } else { directions.calls };
    if arguments.len().saturating_mul(count as usize) > MAX_TEXT {
        return Err(Failure::parameter("tools", None, format!("more than {MAX_TEXT} bytes of arguments")));
    }
    let call = Call { name: tool.name.to_owned(), arguments, is_custom };
    Ok(Some(vec![Part::Call(call); count as usize]))
}

/// An instance of the schema as text.
fn made(schema: &Value, member: &'static str) -> Result<String, Failure> {
    let made =
        instance(schema).map_err(|message| Failure::parameter(member, Some("invalid_schema"), message))?;
    Ok(made.to_string())
}

/// `None` for a tool that the service runs itself.
fn tool(tool: &Value) -> Option<Tool<'_>> {
    // The schema of a tool without one, which allows any object.
    static ANY: Value = Value::Null;
    let function = if tool["function"].is_object() { &tool["function"] } else { tool };
    match tool["type"].as_str() {
        Some("function") => {
            Some(Tool { name: function["name"].as_str()?, schema: function.get("parameters").or(Some(&ANY)) })
        }
        Some("custom") if tool.get("input_schema").is_none() => {
            Some(Tool { name: tool["custom"]["name"].as_str().or(tool["name"].as_str())?, schema: None })
        }
        // Anthropic's tools; those that the service runs have no schema.
        _ => Some(Tool { name: tool["name"].as_str()?, schema: Some(tool.get("input_schema")?) }),
    }
}

impl Tool<'_> {
    fn runs_a_command(&self) -> bool {
        let required = self.schema.and_then(|schema| schema["required"].as_array());
        required.into_iter().flatten().filter_map(Value::as_str).any(schema::is_command)
    }
}

/// Returns true if a tool's result follows the model's last output.
fn has_result(kind: Kind, body: &Value) -> bool {
    let list = if kind == Kind::Responses { &body["input"] } else { &body["messages"] };
    let after = list.as_array().into_iter().flatten().rev().take_while(|item| !is_of_model(item));
    after.into_iter().any(is_result)
}

fn is_of_model(item: &Value) -> bool {
    let kind = item["type"].as_str().unwrap_or("");
    item["role"] == "assistant" || kind == "reasoning" || kind.ends_with("_call")
}

fn is_result(item: &Value) -> bool {
    let inside =
        || item["content"].as_array().into_iter().flatten().any(|block| block["type"] == "tool_result");
    let kind = item["type"].as_str().unwrap_or("");
    matches!(item["role"].as_str(), Some("tool" | "function")) || kind.ends_with("_call_output") || inside()
}

enum Format<'a> {
    /// Any object.
    Object,
    Schema(&'a Value),
}

fn format(kind: Kind, body: &Value) -> Option<Format<'_>> {
    let format = match kind {
        Kind::Responses => &body["text"]["format"],
        Kind::Messages if body["output_format"].is_object() => &body["output_format"],
        Kind::Messages => &body["output_config"]["format"],
        Kind::Chat | Kind::Completions => &body["response_format"],
    };
    match format["type"].as_str()? {
        "json_object" => Some(Format::Object),
        "json_schema" => format["json_schema"].get("schema").or(format.get("schema")).map(Format::Schema),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

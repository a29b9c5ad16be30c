//! Estimates the tokens of the tools in a request.
//!
//! Services convert a schema into text before a model reads it. OpenAI has published the result for
//! flat schemas (the cookbook's "How to count tokens with tiktoken", `num_tokens_for_tools`).
//! Nested schemas are counted by the same rule, level by level.

use serde_json::Value;

use super::Counter;

/// The frame of a tool.
const TOOL: u64 = 7;
/// The frame of a tool's parameters, if it has any.
const PARAMETERS: u64 = 3;
/// The frame of each parameter.
const PARAMETER: u64 = 3;
/// A parameter with a list of values has a smaller frame, and this much more for each value.
const VALUES: u64 = 3;
const VALUE: u64 = 3;
/// The end of the list of tools.
const END: u64 = 12;

/// The tokens of a list of tools, in OpenAI's shapes or Anthropic's.
pub(super) fn tokens(counter: &Counter<'_>, tools: &[Value]) -> Option<u64> {
    let mut tokens = if tools.is_empty() { 0 } else { END };
    for tool in tools {
        let function = if tool["function"].is_object() { &tool["function"] } else { tool };
        let name = function["name"].as_str().unwrap_or_default();
        tokens += TOOL + counter.count(&format!("{name}:{}", described(function)))?;
        let schemas = [&function["parameters"], &function["input_schema"]];
        for schema in schemas.into_iter().filter(|schema| schema.is_object()) {
            tokens += parameters(counter, schema)?;
        }
    }
    Some(tokens)
}

fn parameters(counter: &Counter<'_>, schema: &Value) -> Option<u64> {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty())
    else {
        return Some(0);
    };
    let mut tokens = PARAMETERS;
    for (name, schema) in properties {
        let kind = schema["type"].as_str().unwrap_or_default();
        tokens += PARAMETER + counter.count(&format!("{name}:{kind}:{}", described(schema)))?;
        if let Some(values) = schema["enum"].as_array() {
            tokens -= VALUES;
            for value in values {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                tokens += VALUE + counter.count(&text)?;
            }
        }
        tokens += parameters(counter, schema)? + parameters(counter, &schema["items"])?;
    }
    Some(tokens)
}

fn described(schema: &Value) -> &str {
    let text = schema["description"].as_str().unwrap_or_default();
    text.strip_suffix('.').unwrap_or(text)
}

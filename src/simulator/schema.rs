//! An instance of a JSON schema, for structured outputs and the arguments of tool calls.
//!
//! Covers the subset for structured outputs (`$ref`, `anyOf`, `enum`, `const`, bounds, formats,
//! patterns). An object has only its required members. `not`, `if` and `uniqueItems` are ignored.

mod number;
mod pattern;

use serde_json::{Map, Value};

use super::text;

/// The largest number of values in one instance.
const MAX_VALUES: usize = 10_000;

/// The depth to which a schema is followed. A recursive schema ends at a member that is not
/// required, or at an array that may be empty.
const MAX_DEPTH: usize = 64;

/// The largest amount of text in one instance.
const MAX_TEXT: usize = 64 * 1024;

/// The value of a member with the name of a command: harmless if it is run.
const COMMAND: &str = "echo A stream gauge";

/// Strings of the formats that structured outputs allow.
const FORMATS: [(&str, &str); 10] = [
    ("date-time", "2026-01-02T03:04:05Z"),
    ("date", "2026-01-02"),
    ("time", "03:04:05Z"),
    ("duration", "PT10M"),
    ("email", "gauge@example.com"),
    ("hostname", "example.com"),
    ("ipv4", "192.0.2.1"),
    ("ipv6", "2001:db8::1"),
    ("uri", "https://example.com/"),
    ("uuid", "0198c0de-0000-7000-8000-000000000000"),
];

/// An instance of `schema`, the same each time.
///
/// # Errors
/// Fails with the exceeded limit, for the user.
pub(super) fn instance(schema: &Value) -> Result<Value, String> {
    let mut walk = Walk { root: schema, values: 0, text: 0 };
    walk.value(schema, "", 0)
}

/// Returns true if a member of this name is run as a command.
pub(super) fn is_command(name: &str) -> bool {
    matches!(name, "command" | "cmd")
}

struct Walk<'a> {
    root: &'a Value,
    values: usize,
    /// Bytes of text so far.
    text: usize,
}

impl<'a> Walk<'a> {
    /// `name` is the name of the member.
    fn value(&mut self, schema: &'a Value, name: &str, depth: usize) -> Result<Value, String> {
        self.values += 1;
        if self.values > MAX_VALUES || depth > MAX_DEPTH {
            return Err(format!("the schema has no instance of {MAX_VALUES} values and {MAX_DEPTH} levels"));
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let target = target.ok_or_else(|| format!("`{reference}` is not in the schema"))?;
            return self.value(target, name, depth + 1);
        }
        if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            self.spend(value.to_string().len())?;
            return Ok(value.clone());
        }
        if let Some(all) = schema["allOf"].as_array() {
            return self.all_of(schema, all, name, depth);
        }
        for options in ["anyOf", "oneOf"] {
            if let Some(options) = schema[options].as_array() {
                // An option other than null has content.
                let chosen = options.iter().find(|option| option["type"] != "null").or(options.first());
                return chosen.map_or(Ok(Value::Null), |option| self.value(option, name, depth + 1));
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => number::integer(schema),
            "number" => number::number(schema),
            "boolean" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => {
                let length = length(schema, usual(name));
                self.spend(length)?;
                let string = string(schema, usual(name), length)?;
                self.spend(string.len())?;
                Ok(Value::from(string))
            }
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.text = self.text.saturating_add(bytes);
        if self.text > MAX_TEXT { Err(format!("more than {MAX_TEXT} bytes of text")) } else { Ok(()) }
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Result<Value, String> {
        let mut object = Map::new();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            object.insert(name.to_owned(), self.value(&schema["properties"][name], name, depth + 1)?);
        }
        Ok(Value::Object(object))
    }

    /// One item, or the least number allowed.
    fn array(&mut self, schema: &'a Value, name: &str, depth: usize) -> Result<Value, String> {
        let least = schema["minItems"].as_u64();
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        // A schema that contains itself ends here.
        let wanted = if depth > MAX_DEPTH / 2 { 0 } else { 1 };
        let count = least.unwrap_or(wanted).max(wanted).min(most);
        if is_command(name) && count == 1 && schema["items"]["type"] == "string" {
            return Ok(COMMAND.splitn(2, ' ').collect());
        }
        (0..count).map(|_| self.value(&schema["items"], "", depth + 1)).collect()
    }

    /// Merges the members of all objects; of other values, takes the first. The schema's own
    /// members are one more object.
    fn all_of(
        &mut self,
        schema: &'a Value,
        all: &'a [Value],
        name: &str,
        depth: usize,
    ) -> Result<Value, String> {
        let mut members = Map::new();
        for each in all {
            match self.value(each, name, depth + 1)? {
                Value::Object(more) => members.extend(more),
                value => return Ok(value),
            }
        }
        if let Value::Object(own) = self.object(schema, depth)? {
            members.extend(own);
        }
        Ok(Value::Object(members))
    }
}

/// The type of the instance. Without one, the members of the schema decide.
fn kind(schema: &Value) -> &str {
    let named = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").or(Some("null"))
        }
        kind => kind.as_str(),
    };
    let has = |name: &str| schema.get(name).is_some();
    named.unwrap_or_else(|| match () {
        () if has("properties") || has("required") => "object",
        () if has("items") => "array",
        () if has("minimum") || has("maximum") => "number",
        () => "string",
    })
}

/// The value of a string without constraints.
fn usual(name: &str) -> &'static str {
    if is_command(name) { COMMAND } else { "A stream gauge" }
}

/// The length: that of `usual` within the bounds.
fn length(schema: &Value, usual: &str) -> usize {
    let least = schema["minLength"].as_u64().unwrap_or(0);
    let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
    usize::try_from((usual.len() as u64).max(least).min(most)).unwrap_or(usize::MAX)
}

fn string(schema: &Value, usual: &str, length: usize) -> Result<String, String> {
    if let Some(pattern) = schema["pattern"].as_str() {
        let least = schema["minLength"].as_u64().unwrap_or(0);
        return pattern::matching(pattern, usize::try_from(least).unwrap_or(usize::MAX));
    }
    let format = schema["format"].as_str().unwrap_or("");
    if let Some((_, text)) = FORMATS.iter().find(|(known, _)| *known == format) {
        return Ok((*text).to_owned());
    }
    if length <= usual.len() {
        return Ok(usual[..length].to_owned());
    }
    let mut long = bytes::BytesMut::new();
    text::write(0, length, &mut long);
    Ok(String::from_utf8_lossy(&long).into_owned())
}

#[cfg(test)]
mod tests;

//! An instance of a JSON schema, for structured outputs and the arguments of tool calls.
//!
//! Covers what structured outputs allow (`$ref`, `anyOf`, `enum`, `const`, bounds, formats). An object has its required
//! members only. `pattern` and `not` are not looked at.

use serde_json::{Map, Number, Value};

use super::text;

/// The most values in one instance.
const MAX_VALUES: usize = 10_000;

/// How deep a schema is followed. Recursive schemas end where a member is not required or an array may be empty.
const MAX_DEPTH: usize = 64;

/// The most text in one instance.
const MAX_TEXT: usize = 64 * 1024;

/// What a member with the name of a command is: it does no harm where it is run.
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
/// What of the schema is too much, in words for the user.
pub(super) fn instance(schema: &Value) -> Result<Value, String> {
    let mut walk = Walk { root: schema, values: 0, text: 0 };
    walk.value(schema, "", 0)
}

/// Whether that is the name of a member that is run as a command.
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
    /// `name`: of the member that it is for.
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
                // Beside null there is something to say.
                let chosen = options.iter().find(|option| option["type"] != "null").or(options.first());
                return chosen.map_or(Ok(Value::Null), |option| self.value(option, name, depth + 1));
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => Ok(number(schema, 1.0)),
            "number" => Ok(number(schema, 0.5)),
            "boolean" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => {
                let length = length(schema, usual(name));
                self.spend(length)?;
                Ok(Value::from(string(schema, usual(name), length)))
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

    /// One item, or as many as there must be.
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

    /// The members of all; of anything but objects, the first. The schema's own members are one more.
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

/// The type that it is an instance of. Without one, the members tell.
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

/// `usual` where the bounds allow it.
fn number(schema: &Value, usual: f64) -> Value {
    let bound = |name: &str| schema[name].as_f64();
    let step = bound("multipleOf").filter(|step| *step > 0.0);
    // The distance from an exclusive bound that any type and step allow.
    let unit = step.unwrap_or(usual);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|least| least + unit));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|most| most - unit));
    let mut value = usual.max(least.unwrap_or(f64::MIN)).min(most.unwrap_or(f64::MAX));
    if let Some(step) = step {
        value = (value / step).ceil() * step;
        if most.is_some_and(|most| value > most) {
            value -= step;
        }
    }
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// What a string is where nothing is said of it.
fn usual(name: &str) -> &'static str {
    if is_command(name) { COMMAND } else { "A stream gauge" }
}

/// As long as `usual` where the bounds allow it.
fn length(schema: &Value, usual: &str) -> usize {
    let least = schema["minLength"].as_u64().unwrap_or(0);
    let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
    usize::try_from((usual.len() as u64).max(least).min(most)).unwrap_or(usize::MAX)
}

fn string(schema: &Value, usual: &str, length: usize) -> String {
    let format = schema["format"].as_str().unwrap_or("");
    if let Some((_, text)) = FORMATS.iter().find(|(known, _)| *known == format) {
        return (*text).to_owned();
    }
    if length <= usual.len() {
        return usual[..length].to_owned();
    }
    let mut long = bytes::BytesMut::new();
    text::write(0, length, &mut long);
    String::from_utf8_lossy(&long).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_type_has_an_instance() {
        for (schema, expected) in [
            (json!({"type": "string"}), json!("A stream gauge")),
            (json!({"type": "string", "maxLength": 3}), json!("A s")),
            (json!({"type": "string", "minLength": 20}), json!("A stream gauge measu")),
            (json!({"type": "string", "format": "date"}), json!("2026-01-02")),
            (json!({"type": "integer"}), json!(1)),
            (json!({"type": "integer", "minimum": 7}), json!(7)),
            (json!({"type": "integer", "exclusiveMinimum": 7}), json!(8)),
            (json!({"type": "integer", "maximum": -3}), json!(-3)),
            (json!({"type": "integer", "multipleOf": 5}), json!(5)),
            (json!({"type": "integer", "multipleOf": 5, "minimum": 11, "maximum": 19}), json!(15)),
            (json!({"type": "number"}), json!(0.5)),
            (json!({"type": "boolean"}), json!(false)),
            (json!({"type": "null"}), json!(null)),
            (json!({"type": ["null", "integer"]}), json!(1)),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"const": 4}), json!(4)),
            (json!({"anyOf": [{"type": "null"}, {"type": "boolean"}]}), json!(false)),
            (json!({"type": "array", "items": {"type": "integer"}}), json!([1])),
            (json!({"type": "array", "items": {"type": "integer"}, "minItems": 2}), json!([1, 1])),
            (json!({"type": "array", "items": {"type": "integer"}, "maxItems": 0}), json!([])),
            (json!({"allOf": [{"required": ["a"], "properties": {"a": {"const": 1}}}]}), json!({"a": 1})),
        ] {
            assert_eq!(instance(&schema), Ok(expected), "{schema}");
        }
    }

    #[test]
    fn an_object_has_its_required_members() {
        let schema = json!({
            "type": "object", "required": ["place", "days"],
            "properties": {
                "place": {"$ref": "#/$defs/place"}, "days": {"type": "integer"}, "unit": {"type": "string"},
            },
            "$defs": {"place": {"type": "object", "properties": {"name": {"enum": ["Ulm"]}}, "required": ["name"]}},
        });
        assert_eq!(instance(&schema), Ok(json!({"place": {"name": "Ulm"}, "days": 1})));
    }

    #[test]
    fn a_command_does_no_harm() {
        let schema = |items| json!({"required": ["command"], "properties": {"command": items}});
        let text = schema(json!({"type": "string"}));
        assert_eq!(instance(&text), Ok(json!({"command": "echo A stream gauge"})));
        let list = schema(json!({"type": "array", "items": {"type": "string"}}));
        assert_eq!(instance(&list), Ok(json!({"command": ["echo", "A stream gauge"]})));
    }

    #[test]
    fn a_schema_without_end_is_refused_or_ends() {
        let endless = json!({"properties": {"next": {"$ref": "#"}}, "required": ["next"]});
        assert!(instance(&endless).is_err());
        let tree = json!({"properties": {"nodes": {"type": "array", "items": {"$ref": "#"}}}, "required": ["nodes"]});
        assert!(instance(&tree).is_ok());
        assert!(instance(&json!({"type": "string", "minLength": 1e9 as u64})).is_err());
        assert!(instance(&json!({"type": "array", "minItems": 1e9 as u64})).is_err());
        assert!(instance(&json!({"$ref": "#/missing"})).is_err());
    }
}

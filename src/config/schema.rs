//! The description as JSON Schema (draft 2020-12), for editors that check TOML files.
//!
//! The schema judges only a file: it ignores the environment, which may provide a required key, and
//! the rules between keys. It accepts every file that the reader accepts without an environment.

use serde_json::{Map, Value as Json, json};

use super::description::{Description, Key};
use super::key_path::KeyPath;
use super::kind::Shape;
use super::reader::ANY_NAME;

/// The schema of the whole file.
pub(super) fn schema(description: &Description) -> Json {
    let mut schema = table(description, &KeyPath::root());
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "streamgauge".into();
    schema["description"] = unwrapped(&description.introduction).into();
    schema
}

fn table(description: &Description, form: &KeyPath) -> Json {
    let property = |key: &Key| Some((key.form.last()?.to_owned(), property(description, key)));
    let properties: Map<_, _> = description.inside(form).filter_map(property).collect();
    let required: Vec<_> = description.inside(form).filter(|key| key.is_required).collect();
    let mut table = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        table["required"] = required.iter().filter_map(|key| key.form.last()).collect();
    }
    table
}

fn property(description: &Description, key: &Key) -> Json {
    let mut schema = shape(description, &key.form, &key.shape);
    let comment = description.original(key).map_or(&key.comment, |original| &original.comment);
    if !comment.is_empty() {
        schema["description"] = unwrapped(comment).into();
    }
    if let Some(default) = &key.default {
        schema["default"] = default.clone();
    }
    schema
}

fn shape(description: &Description, form: &KeyPath, of: &Shape) -> Json {
    match of {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer(least, usize::MAX) => json!({ "type": "integer", "minimum": least }),
        Shape::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Number(None) => json!({ "type": "number", "minimum": 0 }),
        Shape::Number(Some(most)) => json!({ "type": "number", "minimum": 0, "maximum": most }),
        Shape::Text(_, None) => json!({ "type": "string" }),
        Shape::Text(_, Some(pattern)) => json!({ "type": "string", "pattern": pattern }),
        Shape::Secret => json!({ "type": "string", "minLength": 1 }),
        Shape::Choice(choices) => json!({ "enum": choices }),
        Shape::List(item) => json!({ "type": "array", "items": shape(description, form, item) }),
        Shape::Source(_, forms) => {
            let text = json!({ "type": "string", "minLength": 1 });
            let properties: Map<_, _> = forms.iter().map(|key| ((*key).to_owned(), text.clone())).collect();
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": properties,
                "minProperties": 1,
                "maxProperties": 1,
            })
        }
        Shape::Table => table(description, form),
        Shape::Tables => json!({ "type": "array", "items": table(description, form) }),
        Shape::Names(pattern) => {
            let names = form.key(ANY_NAME);
            let value = description.keys.iter().find(|key| key.form == names);
            let value = value.map(|key| property(description, key));
            let mut table = json!({ "type": "object", "additionalProperties": value });
            if let Some(pattern) = pattern {
                table["propertyNames"] = json!({ "pattern": pattern });
            }
            table
        }
        Shape::AnyOf(shapes) => {
            let shapes: Vec<_> = shapes.iter().map(|of| shape(description, form, of)).collect();
            json!({ "anyOf": shapes })
        }
    }
}

/// The text with only the line breaks of its paragraphs and lists.
fn unwrapped(text: &str) -> String {
    let mut unwrapped = String::new();
    for line in text.lines() {
        let is_item = line.starts_with("- ");
        match line {
            "" => unwrapped += "\n\n",
            _ if is_item && !unwrapped.is_empty() => unwrapped += "\n",
            _ if !unwrapped.is_empty() && !unwrapped.ends_with('\n') => unwrapped += " ",
            _ => {}
        }
        unwrapped += line.trim_start();
    }
    unwrapped
}

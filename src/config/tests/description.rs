//! The description of the configuration: reference, schema and page.

use std::fs;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};

use super::*;
use crate::config::description::{Key, reference};
use crate::config::key_path::Step;
use crate::config::kind::Shape;
use crate::config::reader::ANY_NAME;

fn form_of_a_value(key: &Key) -> bool {
    key.form.last() == Some(ANY_NAME) && !key.shape.is_table()
}

#[test]
fn reference_has_every_key_of_the_reader_with_a_comment() {
    let values = Value::from(Toml::from_str::<Dict>(&reference()).unwrap());
    let description = Description::new();
    assert!(description.keys.len() > 150, "{}", description.keys.len());
    for key in &description.keys {
        assert!(has(&values, key.form.steps()), "config/default.toml lacks {}", key.form);
        let comment = description.original(key).map_or(&key.comment, |original| &original.comment);
        let is_outer = matches!(key.shape, Shape::Names(_)) && key.form.steps().len() == 1;
        assert!(
            !comment.is_empty() || form_of_a_value(key) || is_outer,
            "config/default.toml has no comment above {}",
            key.form
        );
    }
}

/// Returns true if some value has this form, in which `NAME` is any key and an array is each of its
/// items.
fn has(value: &Value, form: &[Step]) -> bool {
    match (value, form) {
        (_, []) => true,
        (Value::Array(_, items), form) => items.iter().any(|item| has(item, form)),
        (Value::Dict(_, entries), [Step::Key(key), rest @ ..]) if key == ANY_NAME => {
            entries.values().any(|value| has(value, rest))
        }
        (Value::Dict(_, entries), [Step::Key(key), rest @ ..]) => {
            entries.get(key).is_some_and(|value| has(value, rest))
        }
        _ => false,
    }
}

#[test]
fn schema_has_every_key_of_the_description_and_no_other() {
    let schema = schema();
    let description = Description::new();
    let mut expected: Vec<_> = description.keys.iter().map(|key| key.form.to_string()).collect();
    let mut found = Vec::new();
    collect(&schema, &KeyPath::root(), &mut found);
    expected.sort_unstable();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, expected);
}

/// The forms of all properties, without those of a table that locates a text.
fn collect(schema: &serde_json::Value, form: &KeyPath, found: &mut Vec<String>) {
    let is_source = schema.get("maxProperties").is_some();
    for (key, property) in schema["properties"].as_object().into_iter().flatten().filter(|_| !is_source) {
        let form = form.key(key);
        found.push(form.to_string());
        collect(property, &form, found);
    }
    if let Some(value) = schema.get("additionalProperties").filter(|value| value.is_object()) {
        let form = form.key(ANY_NAME);
        found.push(form.to_string());
        collect(value, &form, found);
    }
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    for schema in alternatives.chain(schema.get("items")) {
        collect(schema, form, found);
    }
}

#[test]
fn schema_has_types_patterns_choices_defaults_and_comments() {
    let schema = schema();
    for (pointer, value) in [
        ("/properties/server/properties/listen/default", serde_json::json!("127.0.0.1:8080")),
        ("/properties/server/properties/workers/maximum", 1024.into()),
        ("/properties/log/properties/format/enum", serde_json::json!(["text", "json"])),
        ("/properties/server/additionalProperties", false.into()),
        ("/properties/routes/items/required", serde_json::json!(["upstream"])),
        (
            "/properties/upstreams/additionalProperties/properties/timeouts/properties/idle/default",
            "120s".into(),
        ),
        ("/properties/server/properties/drain_timeout/pattern", "^([0-9]+(ms|s|m|h|d|w))+$".into()),
    ] {
        assert_eq!(schema.pointer(pointer), Some(&value), "{pointer}");
    }
    let comment = schema.pointer("/properties/server/properties/listen/description").unwrap();
    assert!(comment.as_str().unwrap().starts_with("The address and port on which clients"), "{comment}");
}

#[test]
fn committed_page_is_the_one_that_is_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap_or_default();
    let written = docs();
    assert!(page == written, "write it anew: streamgauge config docs > docs/configuration.md");
    for key in Description::new().keys {
        let name = key.form.last().unwrap_or_default();
        assert!(page.contains(name), "{} is missing", key.form);
    }
    // A row of a table, an example, and a list of variables, is one line.
    const WHOLE: [&str; 3] = ["|", "- Example:", "- Environment variable:"];
    let is_wrapped = |line: &&str| !WHOLE.iter().any(|start| line.starts_with(start));
    let widest = page.lines().filter(is_wrapped).map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?}");
}

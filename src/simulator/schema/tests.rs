use serde_json::json;

use super::*;

#[test]
fn each_type_has_an_instance() {
    for (schema, expected) in [
        (json!({"type": "string"}), json!("A stream gauge")),
        (json!({"type": "string", "maxLength": 3}), json!("A s")),
        (json!({"type": "string", "minLength": 20}), json!("A stream gauge measu")),
        (json!({"type": "string", "format": "date"}), json!("2026-01-02")),
        (json!({"type": "string", "pattern": "^[a-c]{3}$"}), json!("aaa")),
        (json!({"type": "integer"}), json!(1)),
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
    let tree =
        json!({"properties": {"nodes": {"type": "array", "items": {"$ref": "#"}}}, "required": ["nodes"]});
    assert!(instance(&tree).is_ok());
    assert!(instance(&json!({"type": "string", "minLength": 1e9 as u64})).is_err());
    assert!(instance(&json!({"type": "array", "minItems": 1e9 as u64})).is_err());
    assert!(instance(&json!({"$ref": "#/missing"})).is_err());
}

use serde_json::json;

use super::*;

fn content_of(kind: Kind, body: &Value, directions: &str) -> Option<Vec<Part>> {
    let mut all = Directions::default();
    all.add(directions).unwrap();
    of(kind, body, &all).unwrap()
}

fn names(parts: Option<Vec<Part>>) -> String {
    let parts = parts.into_iter().flatten();
    let name = |part| match part {
        Part::Call(call) => call.name,
        Part::Text(text) => text,
    };
    parts.map(name).collect::<Vec<_>>().join(" ")
}

/// Two tools in each endpoint's form: `look`, and `run`, which runs a command.
fn tools(kind: Kind) -> Value {
    let run =
        json!({"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]});
    match kind {
        Kind::Messages => {
            json!([{"name": "look", "input_schema": {"type": "object"}}, {"name": "run", "input_schema": run}])
        }
        Kind::Responses => json!([
            {"type": "web_search"}, {"type": "function", "name": "look", "parameters": null},
            {"type": "function", "name": "run", "parameters": run},
        ]),
        _ => json!([
            {"type": "function", "function": {"name": "look"}},
            {"type": "function", "function": {"name": "run", "parameters": run}},
        ]),
    }
}

/// A conversation with a tool call, with or without its result.
fn conversation(kind: Kind, with_result: bool) -> Value {
    let mut list = match kind {
        Kind::Messages => vec![
            json!({"role": "user", "content": "go"}),
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "run", "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "done"}]}),
            json!({"role": "system", "content": "a reminder"}),
        ],
        Kind::Responses => vec![
            json!({"role": "user", "content": "go"}),
            json!({"type": "function_call", "call_id": "c", "name": "run", "arguments": "{}"}),
            json!({"type": "function_call_output", "call_id": "c", "output": "done"}),
        ],
        _ => vec![
            json!({"role": "user", "content": "go"}),
            json!({"role": "assistant", "tool_calls": []}),
            json!({"role": "tool", "tool_call_id": "c", "content": "done"}),
        ],
    };
    list.truncate(if with_result { list.len() } else { 1 });
    Value::from(list)
}

fn request(kind: Kind, with_result: bool, more: &Value) -> Value {
    let list = if kind == Kind::Responses { "input" } else { "messages" };
    let mut body = json!({ list: conversation(kind, with_result), "tools": tools(kind) });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const KINDS: [Kind; 3] = [Kind::Chat, Kind::Responses, Kind::Messages];

#[test]
fn tools_are_called_until_there_is_a_result() {
    for kind in KINDS {
        let call = content_of(kind, &request(kind, false, &json!({})), "");
        let expected = Call {
            name: "run".to_owned(),
            arguments: r#"{"command":"echo A stream gauge"}"#.to_owned(),
            is_custom: false,
        };
        assert_eq!(
            call,
            Some(vec![Part::Call(expected)]),
            "{kind:?}: the tool that runs a command is preferred"
        );
        assert_eq!(content_of(kind, &request(kind, true, &json!({})), ""), None, "{kind:?}");
    }
}

#[test]
fn the_request_chooses_the_tool() {
    for kind in KINDS {
        let called =
            |more: Value, directions: &str| names(content_of(kind, &request(kind, false, &more), directions));
        assert_eq!(called(json!({}), "tool=look"), "look");
        assert_eq!(called(json!({}), "tool=look,calls=3"), "look look look");
        assert_eq!(called(json!({}), "tool=none"), "");
        assert_eq!(called(json!({"tool_choice": {"type": "tool", "name": "look"}}), ""), "look");
        assert_eq!(
            called(json!({"tool_choice": {"type": "function", "function": {"name": "look"}}}), ""),
            "look"
        );
        assert_eq!(called(json!({"tool_choice": "none"}), ""), "");
        assert_eq!(called(json!({"tool_choice": {"type": "none"}}), ""), "");
        assert_eq!(called(json!({"parallel_tool_calls": false}), "calls=3"), "run");
        let forced = request(kind, true, &json!({"tool_choice": "required"}));
        assert_eq!(names(content_of(kind, &forced, "")), "run", "also after a result");
        let missing = request(kind, false, &json!({"tool_choice": {"type": "tool", "name": "fly"}}));
        assert!(of(kind, &missing, &Directions::default()).is_err());
    }
}

#[test]
fn a_custom_tool_takes_text() {
    let body = json!({"tools": [{"type": "custom", "name": "patch"}], "input": "go"});
    let Some([Part::Call(call)]) =
        content_of(Kind::Responses, &body, "").as_deref().map(|parts| [parts[0].clone()])
    else {
        panic!("no call")
    };
    assert!(call.is_custom && call.name == "patch" && call.arguments == "A stream gauge");
}

#[test]
fn each_endpoint_has_its_place_for_a_schema() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let format = json!({"type": "json_schema", "name": "x", "schema": schema});
    for (kind, body) in [
        (
            Kind::Chat,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        ),
        (Kind::Responses, json!({"text": {"format": format}})),
        (Kind::Messages, json!({"output_format": format})),
        (Kind::Messages, json!({"output_config": {"format": format}})),
    ] {
        assert_eq!(names(content_of(kind, &body, "")), r#"{"a":1}"#, "{body}");
    }
    let object = json!({"response_format": {"type": "json_object"}});
    let text = names(content_of(Kind::Chat, &object, ""));
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
    assert_eq!(content_of(Kind::Chat, &json!({"response_format": {"type": "text"}}), ""), None);
}

#[test]
fn pieces_make_the_whole() {
    let directions = |text: &str| {
        let mut directions = Directions::default();
        directions.add(text).unwrap();
        directions
    };
    let part = Part::Text("ein Bächlein ohne Ende".to_owned());
    for size in 0..30 {
        let directions = directions(&format!("size={size}"));
        assert_eq!(part.pieces(&directions).concat(), part.text());
    }
    assert_eq!(part.pieces(&directions("")).len(), 3);
}

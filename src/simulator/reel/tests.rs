use serde_json::{Value, json};

use super::super::content::Call;
use super::super::script::Script;
use super::*;

const KINDS: [(Kind, Dialect); 4] = [
    (Kind::Chat, Dialect::OpenAi),
    (Kind::Chat, Dialect::Azure),
    (Kind::Responses, Dialect::OpenAi),
    (Kind::Messages, Dialect::Anthropic),
];

const ARGUMENTS: &str = r#"{"command":"echo \"a\""}"#;

fn directions(text: &str) -> Directions {
    let mut directions = Directions::default();
    directions.add(text).unwrap();
    directions
}

fn facts() -> Facts {
    Facts { id: 0xab, created: 1_700_000_000, model: "a \\\"model\\\"".to_owned(), input_tokens: 7 }
}

fn reel(kind: (Kind, Dialect), parts: Vec<Part>, text: &str, include_usage: bool) -> Reel {
    Plot::new(kind.0, kind.1, directions(text), include_usage, facts(), parts).reel(kind.0)
}

fn call(name: &str, is_custom: bool) -> Part {
    Part::Call(Call { name: name.to_owned(), arguments: ARGUMENTS.to_owned(), is_custom })
}

fn two_calls() -> Vec<Part> {
    vec![call("run", false), call("look", false)]
}

/// The type and data of each event, without `[DONE]`.
fn events(reel: &Reel) -> Vec<(String, Value)> {
    let read = |index| {
        let mut out = BytesMut::new();
        reel.write(index, None, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(text.matches("\n\n").count() == 1 && text.ends_with("\n\n"), "{text}");
        let (start, data) = text.trim_end().split_once("data: ").unwrap();
        let name = start.trim_start_matches("event: ").trim_end().to_owned();
        (data != "[DONE]").then(|| (name, serde_json::from_str(data).expect(data)))
    };
    (0..reel.events()).filter_map(read).collect()
}

fn whole(reel: &Reel) -> Value {
    let mut out = BytesMut::new();
    reel.write_whole(None, &mut out);
    serde_json::from_slice(&out).unwrap()
}

fn joined(events: &[(String, Value)], pick: impl Fn(&Value) -> Option<&str>) -> String {
    events.iter().filter_map(|(_, data)| pick(data)).collect()
}

#[test]
fn chat_calls_come_as_openai_sends_them() {
    let reel = reel(KINDS[0], two_calls(), "", true);
    let found = events(&reel);
    assert_eq!(found[0].1["choices"][0]["delta"], json!({"role": "assistant", "content": null}));
    for index in 0..2 {
        let deltas: Vec<_> = found
            .iter()
            .filter_map(|(_, data)| data["choices"][0]["delta"]["tool_calls"].get(0))
            .filter(|call| call["index"] == index)
            .collect();
        let name = ["run", "look"][index];
        assert_eq!(
            (&deltas[0]["type"], &deltas[0]["function"]),
            (&"function".into(), &json!({"name": name, "arguments": ""}))
        );
        let arguments: String =
            deltas.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
        assert_eq!(arguments, ARGUMENTS);
        let message = &whole(&reel)["choices"][0]["message"];
        assert_eq!(message["tool_calls"][index]["id"], deltas[0]["id"]);
        assert_eq!(message["tool_calls"][index]["function"], json!({"name": name, "arguments": ARGUMENTS}));
    }
    let [.., finish, usage] = found.as_slice() else { panic!() };
    assert_eq!(
        (&finish.1["choices"][0]["finish_reason"], &finish.1["usage"]),
        (&"tool_calls".into(), &Value::Null)
    );
    assert_eq!((&usage.1["choices"], &usage.1["usage"]["total_tokens"]), (&json!([]), &(7 + 6).into()));
}

#[test]
fn responses_calls_are_items_and_numbered() {
    let found = events(&reel(KINDS[2], vec![call("run", false)], "", false));
    let names: Vec<_> = found.iter().map(|(name, _)| name.trim_start_matches("response.")).collect();
    let expected = "created in_progress output_item.added function_call_arguments.delta function_call_arguments.delta \
                    function_call_arguments.delta function_call_arguments.done output_item.done completed";
    assert_eq!(names.join(" "), expected);
    assert!(
        found
            .iter()
            .zip(0..)
            .all(|((name, data), at)| data["type"] == **name && data["sequence_number"] == at)
    );
    let item = &found[7].1["item"];
    assert_eq!((&item["type"], &item["arguments"]), (&"function_call".into(), &ARGUMENTS.into()));
    assert_eq!(&found[8].1["response"]["output"][0], item);
    assert_eq!(found[8].1["response"]["usage"]["output_tokens"], 3);
}

#[test]
fn a_custom_tool_has_events_of_its_own() {
    let responses = events(&reel(KINDS[2], vec![call("patch", true)], "", false));
    let input = joined(&responses, |data| {
        data["delta"].as_str().filter(|_| data["type"] == "response.custom_tool_call_input.delta")
    });
    assert_eq!((input.as_str(), &responses[2].1["item"]["type"]), (ARGUMENTS, &"custom_tool_call".into()));
    let chat = events(&reel(KINDS[0], vec![call("patch", true)], "", false));
    let input =
        joined(&chat, |data| data["choices"][0]["delta"]["tool_calls"][0]["custom"]["input"].as_str());
    assert_eq!(input, ARGUMENTS);
}

#[test]
fn messages_have_anthropics_sequence() {
    let reel = reel(KINDS[3], two_calls(), "cached=2", false);
    let found = events(&reel);
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let block = "content_block_delta content_block_delta content_block_delta content_block_stop";
    let expected = format!(
        "message_start content_block_start ping {block} content_block_start {block} message_delta message_stop"
    );
    assert_eq!(names.join(" "), expected);
    assert!(found.iter().all(|(name, data)| data["type"] == **name));
    let input = joined(&found[3..7], |data| data["delta"]["partial_json"].as_str());
    assert_eq!(input, ARGUMENTS);
    assert_eq!(found[0].1["message"]["usage"]["input_tokens"], 7);
    let delta = &found[12].1;
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
        (&"tool_use".into(), &6.into())
    );
    assert_eq!(delta["usage"]["cache_read_input_tokens"], 2);
    let whole = whole(&reel);
    assert_eq!(whole["content"][1]["input"], json!({"command": "echo \"a\""}));
    assert_eq!(whole["content"][1]["id"], found[7].1["content_block"]["id"]);
}

#[test]
fn structured_text_is_the_same_streamed_and_whole() {
    for kind in KINDS {
        let reel = reel(kind, vec![Part::Text(ARGUMENTS.to_owned())], "size=3", false);
        let streamed = joined(&events(&reel), |data| {
            let delta = data["delta"].as_str().filter(|_| data["type"] == "response.output_text.delta");
            delta.or(data["choices"][0]["delta"]["content"].as_str()).or(data["delta"]["text"].as_str())
        });
        let whole = whole(&reel);
        let text = whole["choices"][0]["message"]["content"].as_str();
        let text = text
            .or(whole["output"][0]["content"][0]["text"].as_str())
            .or(whole["content"][0]["text"].as_str());
        assert_eq!((streamed.as_str(), text), (ARGUMENTS, Some(ARGUMENTS)), "{kind:?}");
    }
}

#[test]
fn reported_counts_equal_those_in_the_bytes() {
    for kind in KINDS {
        for usage in ["asked", "always", "finish", "every", "none"] {
            let reel =
                reel(kind, two_calls(), &format!("usage={usage},reasoning=2,stamp=1,finish=length"), false);
            let reported = reel.events.iter().filter_map(|event| event.tokens).next_back();
            let said = events(&reel).iter().rev().find_map(|(_, data)| {
                let usage = [&data["usage"], &data["response"]["usage"]]
                    .into_iter()
                    .find(|usage| usage.is_object())?;
                usage["completion_tokens"].as_u64().or(usage["output_tokens"].as_u64())
            });
            assert_eq!(reported.map(|tokens| tokens.output), said, "{kind:?} {usage}");
            let usage = &whole(&reel)["usage"];
            let said = usage["completion_tokens"].as_u64().or(usage["output_tokens"].as_u64());
            assert_eq!(reel.tokens.map(|tokens| tokens.output), said, "{kind:?} {usage}");
        }
    }
}

#[test]
fn a_stamp_is_the_last_member() {
    let mut out = BytesMut::new();
    reel(KINDS[3], two_calls(), "", false).write(1, Some(9), &mut out);
    assert!(out.ends_with(b",\"stamp\":9}\n\n"), "{out:?}");
}

#[test]
fn members_have_the_order_of_the_sentences_response() {
    let names = |text: &str| {
        let names = text.split("\"model\":\"").next().unwrap().split('"').skip(1).step_by(4);
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    for kind in [KINDS[2], KINDS[3]] {
        let script = Script::new(kind.0, kind.1, Directions::default(), false, facts());
        let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
        reel(kind, vec![Part::Text("A".to_owned())], "", false).write_whole(None, &mut ours);
        script.write_whole(None, &mut theirs);
        let [ours, theirs] = [ours, theirs].map(|bytes| names(std::str::from_utf8(&bytes).unwrap()));
        assert_eq!(ours, theirs);
    }
}

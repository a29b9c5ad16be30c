use serde_json::{Value, json};

use super::*;

const KINDS: [Kind; 4] = [Kind::Chat, Kind::Completions, Kind::Responses, Kind::Messages];
const DIALECTS: [Dialect; 2] = [Dialect::OpenAi, Dialect::Azure];

fn script(kind: Kind, dialect: Dialect, text: &str, include_usage: bool) -> Script {
    let mut directions = Directions::default();
    directions.add(text).unwrap();
    let facts =
        Facts { id: 0xab, created: 1_700_000_000, model: "a \\\"model\\\"".to_owned(), input_tokens: 7 };
    Script::new(kind, dialect, directions, include_usage, facts)
}

/// Each event's bytes and the counts it reports.
fn events(script: &Script) -> Vec<(String, Option<Tokens>)> {
    (0..script.events())
        .map(|index| {
            let mut out = BytesMut::new();
            let tokens = script.write(index, None, &mut out);
            (String::from_utf8(out.to_vec()).unwrap(), tokens)
        })
        .collect()
}

/// Each event's data, as JSON; `[DONE]` as a string.
fn payloads(script: &Script) -> Vec<Value> {
    let data = |event: &str| {
        let (_, data) = event.trim_end().rsplit_once("data: ").expect("an event has data");
        if data == "[DONE]" { json!(data) } else { serde_json::from_str(data).expect(data) }
    };
    events(script).iter().map(|(event, _)| data(event)).collect()
}

fn texts(payloads: &[Value]) -> String {
    let found = payloads.iter().filter_map(|payload| {
        let choice = &payload["choices"][0];
        let delta = payload["delta"].as_str();
        choice["delta"]["content"]
            .as_str()
            .or(choice["text"].as_str())
            .or(delta)
            .or(payload["delta"]["text"].as_str())
    });
    found.collect()
}

fn whole(script: &Script) -> Value {
    let mut out = BytesMut::new();
    script.write_whole(None, &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn every_event_of_every_shape_is_one_event_of_json() {
    for kind in KINDS {
        for dialect in DIALECTS {
            for usage in ["asked", "always", "finish", "every", "none"] {
                for finish in ["stop", "length", "content_filter"] {
                    let directions = format!("events=3,usage={usage},finish={finish},stamp=1");
                    let script = script(kind, dialect, &directions, true);
                    for (event, _) in events(&script) {
                        assert_eq!(event.matches("\n\n").count(), 1, "{event}");
                        assert!(event.ends_with("\n\n"), "{event}");
                    }
                    payloads(&script);
                    whole(&script);
                }
            }
        }
    }
}

#[test]
fn the_streamed_text_is_the_unstreamed_one() {
    for kind in KINDS {
        for dialect in DIALECTS {
            let script = script(kind, dialect, "events=30,size=11", false);
            let whole = whole(&script);
            let choice = &whole["choices"][0];
            let response = &whole["output"][0]["content"][0]["text"];
            let message = &whole["content"][0]["text"];
            let text = [&choice["message"]["content"], &choice["text"], response, message]
                .into_iter()
                .find_map(Value::as_str);
            assert_eq!(texts(&payloads(&script)), text.unwrap(), "{kind:?}");
            assert_eq!(whole["model"], "a \"model\"");
        }
    }
}

#[test]
fn chat_comes_as_openai_sends_it() {
    let found = payloads(&script(Kind::Chat, Dialect::OpenAi, "events=2", false));
    assert_eq!(found.len(), 5);
    let role = json!({"role": "assistant", "content": "", "refusal": null});
    assert_eq!(found[0]["choices"][0]["delta"], role);
    assert_eq!(found[2]["choices"][0]["delta"], json!({"content": " stream"}));
    assert_eq!(found[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(found[4], "[DONE]");
    assert!(found[..4].iter().all(|chunk| chunk["id"] == found[0]["id"] && chunk.get("usage").is_none()));
}

#[test]
fn azure_begins_with_neither_choices_nor_a_model() {
    let found = payloads(&script(Kind::Chat, Dialect::Azure, "events=2", true));
    assert_eq!(found[0]["choices"], json!([]));
    assert_eq!(found[0]["model"], "");
    assert!(found[0]["prompt_filter_results"].is_array() && found[0].get("usage").is_none());
    assert_eq!(found[1]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(found[5]["choices"], json!([]));
    assert_eq!(found[5]["usage"]["total_tokens"], 9);
}

#[test]
fn usage_is_where_the_directions_put_it() {
    // The usage of each event: absent, null, or the output tokens.
    let usage = |directions: &str, asked: bool| {
        let found =
            payloads(&script(Kind::Completions, Dialect::OpenAi, &format!("events=2,{directions}"), asked));
        let shown = found.iter().map(|event| match event.get("usage") {
            None => "-".to_owned(),
            Some(Value::Null) => "null".to_owned(),
            Some(usage) => usage["completion_tokens"].to_string(),
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    for (directions, asked, expected) in [
        ("", false, "- - - -"),
        ("", true, "null null null 2 -"),
        ("usage=always", false, "null null null 2 -"),
        ("usage=finish", false, "null null 2 -"),
        ("usage=every", false, "1 2 2 -"),
        ("usage=none", true, "- - - -"),
        ("usage=finish,reasoning=5", false, "null null 7 -"),
    ] {
        assert_eq!(usage(directions, asked), expected, "{directions}");
    }
}

#[test]
fn reported_counts_equal_those_in_the_bytes() {
    for kind in KINDS {
        for usage in ["asked", "always", "finish", "every", "none"] {
            let script = script(kind, Dialect::OpenAi, &format!("events=3,usage={usage}"), false);
            let reported = events(&script).iter().filter_map(|(_, tokens)| *tokens).next_back();
            let said = payloads(&script).iter().rev().find_map(|event| {
                let usage =
                    if event["usage"].is_object() { &event["usage"] } else { &event["response"]["usage"] };
                let total = usage["total_tokens"].as_u64();
                total.or_else(|| Some(usage["input_tokens"].as_u64()? + usage["output_tokens"].as_u64()?))
            });
            assert_eq!(reported.map(|tokens| tokens.input + tokens.output), said, "{kind:?} {usage}");
        }
    }
}

#[test]
fn responses_are_numbered_and_end_with_the_whole() {
    let found = payloads(&script(Kind::Responses, Dialect::OpenAi, "events=2", false));
    let types: Vec<_> =
        found.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect();
    let expected = "created in_progress output_item.added content_part.added output_text.delta output_text.delta \
                    output_text.done content_part.done output_item.done completed";
    assert_eq!(types.join(" "), expected);
    assert!(found.iter().zip(0..).all(|(event, number)| event["sequence_number"] == number));
    assert!(found[0]["response"]["usage"].is_null());
    assert_eq!(found[9]["response"]["usage"]["output_tokens"], 2);
    assert_eq!(found[9]["response"]["output"][0]["content"][0]["text"], "A stream");
}

#[test]
fn a_cut_short_response_is_incomplete() {
    let script = script(Kind::Responses, Dialect::OpenAi, "events=1,finish=length", false);
    let found = payloads(&script);
    let last = found.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["status"], "incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert!(last["response"]["usage"].is_object());
}

#[test]
fn errors_in_a_stream_are_json_too() {
    for kind in KINDS {
        let mut out = BytesMut::new();
        script(kind, Dialect::OpenAi, "", false).write_error(5, &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let data: Value = serde_json::from_str(line).unwrap();
            let message = data["error"]["message"].as_str().or(data["response"]["error"]["message"].as_str());
            assert!(message.unwrap().contains("erver"), "{line}");
        }
    }
}

#[test]
fn a_stamp_is_there_if_asked_for() {
    for kind in KINDS {
        for dialect in DIALECTS {
            let script = script(kind, dialect, "events=1", false);
            let mut out = BytesMut::new();
            script.write(1, Some(1_700_000_000_123_456_789), &mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            assert!(text.trim_end().ends_with(",\"stamp\":1700000000123456789}"), "{text}");
        }
    }
}

#[test]
fn every_chunk_has_a_place_for_usage() {
    for kind in [Kind::Chat, Kind::Completions] {
        for dialect in DIALECTS {
            let shape = kind.shape(dialect);
            assert!(
                shape.text.has(Mark::Usage)
                    && shape.whole.has(Mark::Usage)
                    && shape.closing[0].has(Mark::Usage)
            );
        }
    }
}

#[test]
fn messages_come_as_anthropic_sends_them() {
    let script = script(Kind::Messages, Dialect::Anthropic, "events=2,cached=4", false);
    let found = payloads(&script);
    let types: Vec<_> = found.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = "message_start content_block_start ping content_block_delta content_block_delta \
                    content_block_stop message_delta message_stop";
    assert_eq!(types.join(" "), expected);
    let start = &found[0]["message"]["usage"];
    assert_eq!((&start["input_tokens"], &start["cache_read_input_tokens"]), (&7.into(), &4.into()));
    assert!(start["cache_creation"].is_object() && found[6]["usage"].get("cache_creation").is_none());
    assert_eq!(
        (&found[6]["usage"]["output_tokens"], &found[6]["delta"]["stop_reason"]),
        (&2.into(), &"end_turn".into())
    );
    assert!(found.iter().enumerate().all(|(at, event)| event.get("usage").is_some() == (at == 6)));
    assert_eq!(
        whole(&script)["usage"],
        json!({
            "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 2, "service_tier": "standard", "inference_geo": "not_available",
        })
    );
}

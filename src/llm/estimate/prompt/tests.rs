use super::*;
use crate::llm::estimate::Encoding;

fn count(shape: Shape, body: &str) -> Option<u64> {
    input_tokens(&Counter::new(Encoding::O200k, &|| false), shape, body.as_bytes())
}

#[test]
fn a_chat_is_counted_as_published() {
    for (body, tokens) in [
        // The response's beginning costs 3 tokens, each message 3, its role 1, and each word here
        // 1.
        (r#"{"messages":[{"role":"user","content":"Hello"}]}"#, 3 + 3 + 1 + 1),
        (
            r#"{"messages":[{"role":"system","content":"Be brief"},{"role":"user","content":"Hello"}]}"#,
            3 + 6 + 3 + 2,
        ),
        (r#"{"messages":[{"role":"user","name":"bob","content":"Hello"}]}"#, 3 + 3 + 1 + 1 + 1 + 1),
        (r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hello"}]}]}"#, 8),
        (r#"{"messages":[{"role":"user","content":null}]}"#, 7),
        (r#"{"messages":[]}"#, 3),
    ] {
        assert_eq!(count(Shape::Chat, body), Some(tokens), "{body}");
    }
}

#[test]
fn pictures_and_sound_are_not_counted() {
    let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hello"},
        {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAABBBBCCCC"}},
        {"type":"input_audio","input_audio":{"data":"AAAABBBBCCCC","format":"wav"}}]}]}"#;
    assert_eq!(count(Shape::Chat, body), Some(8));
}

#[test]
fn tools_are_counted_as_published() {
    // The cookbook's rule: 7 per tool, 3 for its parameters, 3 per parameter; a list of values
    // costs 3 less and 3 per value; 12 at the end.
    let body = r#"{"messages":[],"tools":[{"type":"function","function":{"name":"get","description":"Get it.",
        "parameters":{"type":"object","properties":{"unit":{"type":"string","description":"Which.","enum":["a","b"]}}}}}]}"#;
    let counter = Counter::new(Encoding::O200k, &|| false);
    let words: u64 =
        ["get:Get it", "unit:string:Which", "a", "b"].map(|text| counter.count(text).unwrap()).iter().sum();
    assert_eq!(count(Shape::Chat, body), Some(3 + 12 + 7 + 3 + 3 - 3 + 6 + words));
}

#[test]
fn a_response_that_goes_on_with_another_is_not_counted() {
    assert_eq!(count(Shape::Responses, r#"{"input":"Hello"}"#), Some(8));
    assert_eq!(
        count(
            Shape::Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"Hello"}]}],"instructions":"Be brief"}"#
        ),
        Some(14)
    );
    assert_eq!(count(Shape::Responses, r#"{"input":"Hello","previous_response_id":null}"#), Some(8));
    for unseen in
        [r#""previous_response_id":"resp_1""#, r#""conversation":"conv_1""#, r#""prompt":{"id":"p"}"#]
    {
        assert_eq!(count(Shape::Responses, &format!("{{\"input\":\"Hello\",{unseen}}}")), None, "{unseen}");
    }
}

#[test]
fn prompts_and_embeddings_are_texts_or_tokens() {
    for (value, tokens) in [
        (r#""Hello world""#, Some(2)),
        (r#"["Hello","Hello world"]"#, Some(3)),
        ("[1,2,3]", Some(3)),
        ("[[1,2],[3]]", Some(3)),
        ("null", None),
    ] {
        assert_eq!(count(Shape::Completion, &format!("{{\"prompt\":{value}}}")), tokens, "{value}");
        assert_eq!(count(Shape::Embeddings, &format!("{{\"input\":{value}}}")), tokens, "{value}");
    }
}

#[test]
fn anthropics_blocks_are_counted() {
    let body = r#"{"system":[{"type":"text","text":"Be brief"}],"messages":[{"role":"user","content":"Hello"},
        {"role":"assistant","content":[{"type":"tool_use","name":"get","input":{"a":1}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"Hello"}]}]}]}"#;
    let input = 5; // {"a":1}
    assert_eq!(count(Shape::Messages, body), Some(3 + 4 * 4 + 2 + 1 + 1 + input + 1));
}

#[test]
fn other_body_has_no_count() {
    for body in ["", "Hello", "[]", "{}", r#"{"messages":1}"#] {
        assert_eq!(count(Shape::Chat, body), None, "{body}");
    }
}

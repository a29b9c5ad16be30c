use serde_json::{Value, json};

use super::*;

fn list(text: &str) -> ModelList {
    ModelList::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_or_else(|| panic!("{text}"))
}

const OPENAI: &str = r#"{ "object":"list", "data":[ {"id":"a", "object" : "model","created":5,"x":[1.50]},
    {"object":"model","id":"b\u002fc"} ] }"#;
const ANTHROPIC: &str = r#"{"data":[{"type":"model","id":"claude","display_name":"Claude","created_at":"2025-02-19T00:00:00Z"}],
    "has_more":false,"first_id":"claude","last_id":"claude"}"#;

#[test]
fn ids_are_read_from_every_form() {
    for (text, ids) in [
        (OPENAI, &["a", "b/c"][..]),
        (ANTHROPIC, &["claude"]),
        (r#"[{"id":"x"},{"id":"y","nested":{"id":"no"}}]"#, &["x", "y"]),
        (r#"{"models":[{"name":"n"}],"data":[{"id":"x"},{"id":7},{"id":""},null,"z"]}"#, &["x"]),
        (r#"{"data":[]}"#, &[]),
    ] {
        assert_eq!(list(text).ids().collect::<Vec<_>>(), ids, "{text}");
    }
}

#[test]
fn body_that_is_not_a_list_is_none() {
    for text in
        ["", "null", "{}", r#"{"data":{}}"#, r#"{"data":[{"id":"a"}]"#, "[] x", "<html>", r#"{"data":"a"}"#]
    {
        assert!(ModelList::parse(Bytes::copy_from_slice(text.as_bytes())).is_none(), "{text}");
    }
}

#[test]
fn entry_in_the_form_of_the_client_keeps_its_bytes() {
    let list = list(OPENAI);
    let mut union = ModelUnion::new(ListForm::OpenAi);
    for id in ["b/c", "a", "a"] {
        union.add(id, list.get(id), "up");
    }
    union.add("fast \"1\"", list.get("a"), "up");
    union.add("alone", None, "up");
    let text = String::from_utf8(union.into_json()).unwrap();
    let expected = concat!(
        r#"{"object":"list","data":[{"object":"model","id":"b/c"},"#,
        r#"{"id":"a", "object" : "model","created":5,"x":[1.50]},"#,
        r#"{"id":"fast \"1\"", "object" : "model","created":5,"x":[1.50]},"#,
        r#"{"created":0,"id":"alone","object":"model","owned_by":"up"}]}"#,
    );
    assert_eq!(text, expected);
    assert!(serde_json::from_str::<Value>(&text).is_ok());
}

#[test]
fn entry_in_another_form_is_written_in_that_of_the_client() {
    let (openai, anthropic) = (list(OPENAI), list(ANTHROPIC));
    let union = |form| {
        let mut union = ModelUnion::new(form);
        union.add("a", openai.get("a"), "one");
        union.add("claude", anthropic.get("claude"), "two");
        serde_json::from_slice::<Value>(&union.into_json()).unwrap()
    };
    assert_eq!(
        union(ListForm::OpenAi)["data"][1],
        json!({"id": "claude", "object": "model", "created": 1_739_923_200, "owned_by": "two"})
    );
    let listed = union(ListForm::Anthropic);
    assert_eq!(
        listed["data"][0],
        json!({"type": "model", "id": "a", "display_name": "a", "created_at": "1970-01-01T00:00:05Z"})
    );
    assert_eq!(listed["data"][1]["display_name"], "Claude");
    assert_eq!(
        (&listed["has_more"], &listed["first_id"], &listed["last_id"]),
        (&json!(false), &json!("a"), &json!("claude"))
    );
    let empty = serde_json::from_slice::<Value>(&ModelUnion::new(ListForm::Anthropic).into_json()).unwrap();
    assert_eq!(empty["first_id"], Value::Null);
}

#[test]
fn every_beginning_of_a_list_is_refused() {
    let text = OPENAI.as_bytes();
    for end in 0..text.len() {
        assert!(ModelList::parse(Bytes::copy_from_slice(&text[..end])).is_none(), "{end}");
    }
}

#[test]
fn models_are_found_by_id_and_the_first_of_equal_ones_counts() {
    let list =
        list(r#"[{"id":"b","n":1},{"id":"a","n":2},{"id":"b","n":3},{"id":"","n":4},{"id":"ab","n":5}]"#);
    assert_eq!(list.ids().collect::<Vec<_>>(), ["b", "a", "b", "ab"]);
    let found = |id| list.get(id).map(|described| String::from_utf8_lossy(described.json).into_owned());
    assert_eq!(found("b").as_deref(), Some(r#"{"id":"b","n":1}"#));
    assert_eq!(found("ab").as_deref(), Some(r#"{"id":"ab","n":5}"#));
    assert_eq!((found(""), found("c")), (None, None));
}

#[test]
fn looking_up_each_of_many_models_is_not_quadratic() {
    let models: Vec<_> = (0..MAX_MODELS).map(|number| format!("{{\"id\":\"model-{number:05}\"}}")).collect();
    let list = list(&format!("[{}]", models.join(",")));
    let began = std::time::Instant::now();
    assert!(list.ids().all(|id| list.get(id).is_some()));
    // A logarithmic search takes some 20 ms, and a quadratic one 4 s.
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
}

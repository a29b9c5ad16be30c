//! `moderations`: no input is ever flagged.

use serde_json::Value;

use super::ordered::{Json, object};

/// The largest number of results in one response.
const MAX_RESULTS: usize = 1_024;

/// The categories in the service's order, each with true if it applies to images.
const CATEGORIES: [(&str, bool); 13] = [
    ("harassment", false),
    ("harassment/threatening", false),
    ("sexual", true),
    ("hate", false),
    ("hate/threatening", false),
    ("illicit", false),
    ("illicit/violent", false),
    ("self-harm/intent", true),
    ("self-harm/instructions", true),
    ("self-harm", true),
    ("sexual/minors", false),
    ("violence", true),
    ("violence/graphic", true),
];

/// The response to `input`: a result for each text of a list, one for anything else.
pub(super) fn moderation(id: u64, model: &Json, input: &Value) -> Json {
    let texts = input.as_array().filter(|list| list.iter().all(Value::is_string)).map_or(1, Vec::len);
    let looks_at_image = input.as_array().into_iter().flatten().any(|part| part["type"] == "image_url");
    let of_each = |value: &dyn Fn(bool) -> Json| {
        CATEGORIES.iter().fold(object! {}, |object, (name, of_images)| object.with(name, &value(*of_images)))
    };
    let types = |of_images: bool| {
        Json::raw(if looks_at_image && of_images { r#"["text","image"]"# } else { r#"["text"]"# })
    };
    let result = object! {
        "flagged": false,
        "categories": of_each(&|_| Json::raw("false")),
        "category_scores": of_each(&|_| Json::raw("0.00001")),
        "category_applied_input_types": of_each(&types),
    };
    object! { "id": format!("modr-{id:032x}"), "model": model, "results": vec![result; texts.min(MAX_RESULTS)] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_text_has_a_result() {
        let results = |input: Value| {
            let response = moderation(1, &Json::raw("\"m\""), &input).into_string();
            serde_json::from_str::<Value>(&response).unwrap()["results"].clone()
        };
        assert_eq!(results(json!("a")).as_array().unwrap().len(), 1);
        assert_eq!(results(json!(["a", "b"])).as_array().unwrap().len(), 2);
        let both = results(json!([{"type": "text", "text": "a"}, {"type": "image_url"}]));
        assert_eq!(both.as_array().unwrap().len(), 1);
        assert_eq!(both[0]["category_applied_input_types"]["violence"], json!(["text", "image"]));
        assert_eq!((&both[0]["flagged"], &both[0]["categories"]["hate"]), (&json!(false), &json!(false)));
    }
}

//! Compares the parsing and the editing of a body with serde_json.
//!
//! Input: the new model's name, a line feed, the body.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::llm::rewrite::body::{Edited, Peek, ask_for_usage, peek, set_model};

/// If serde_json parses an object, `peek` agrees with it and the edited body is the same value
/// except `model`. An edit of any body changes only the place of the model.
pub fn body_edit(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == b'\n');
    let (Some(model), Some(body)) = (parts.next(), parts.next()) else { return };
    let model = String::from_utf8_lossy(model);

    let oracle = serde_json::from_slice::<Value>(body);
    let Ok(seen) = peek(body) else {
        assert!(!matches!(oracle, Ok(Value::Object(_))), "an object must be taken");
        return;
    };
    assert!(matches!(oracle, Ok(Value::Object(_)) | Err(_)), "what is no object must be refused");

    let edited = edit(body, &seen, &model);
    if let Ok(Value::Object(object)) = oracle {
        agree(body, &seen, &object);
        let mut expected = object;
        if matches!(expected.get("model"), None | Some(Value::Null | Value::String(_))) {
            expected.insert("model".to_owned(), model.to_string().into());
        }
        let value = serde_json::from_slice::<Value>(&edited).expect("the edited body must be JSON");
        assert_eq!(value, Value::Object(expected.clone()), "nothing but the model may change");
        asked(body, &seen, &model, expected);
    }
}

/// The body with `include_usage` added is the same value except for `stream_options.include_usage`.
/// A body that is not changed was not streamed, had it already, or was ambiguous.
fn asked(body: &[u8], seen: &Peek<'_>, model: &str, mut expected: serde_json::Map<String, Value>) {
    let Some(splice) = ask_for_usage(body, seen) else {
        let options = expected.get("stream_options");
        let clear = match options {
            None | Some(Value::Null) => true,
            Some(Value::Object(options)) => {
                matches!(options.get("include_usage"), None | Some(Value::Null | Value::Bool(false)))
            }
            Some(_) => false,
        };
        let said = body[seen.stream_options.clone().unwrap_or(0..0)].windows(13);
        let twice = seen.streaming_is_ambiguous || said.filter(|word| word == b"include_usage").count() > 1;
        let escaped = body.contains(&b'\\');
        assert!(!seen.stream || !clear || twice || escaped, "a request that does not ask must be made to");
        return;
    };
    assert!(seen.stream && !seen.streaming_is_ambiguous && seen.include_usage != Some(true));
    let body = Bytes::copy_from_slice(body);
    let edited = Edited::new(&body, [set_model(&body, seen, model), Some(splice)]).pieces().concat();
    let options = expected.entry("stream_options").or_insert(Value::Null);
    if options.is_null() {
        *options = Value::Object(serde_json::Map::new());
    }
    options["include_usage"] = true.into();
    let value = serde_json::from_slice::<Value>(&edited).expect("the edited body must be JSON");
    assert_eq!(value, Value::Object(expected), "nothing but the asking may change");
}

/// The edited body, after a check of its unchanged parts.
fn edit(body: &[u8], seen: &Peek<'_>, model: &str) -> Vec<u8> {
    let edited = Edited::new(&Bytes::copy_from_slice(body), [set_model(body, seen, model)]);
    let length = edited.len();
    let edited = edited.pieces().concat();
    assert_eq!(edited.len(), length, "the announced length must be true");

    let place = seen.model_span.clone().unwrap_or_else(|| {
        let open = body.iter().position(|&byte| byte == b'{').expect("an object has a brace") + 1;
        open..open
    });
    assert!(edited.starts_with(&body[..place.start]), "what is before the model must stay");
    assert!(edited.ends_with(&body[place.end..]), "what is behind the model must stay");
    edited
}

fn agree(body: &[u8], seen: &Peek<'_>, object: &serde_json::Map<String, Value>) {
    let name = |key: &str| object.get(key).and_then(Value::as_str).filter(|name| !name.is_empty());
    assert_eq!(seen.model.as_deref(), name("model"));
    assert_eq!(seen.user.as_deref(), name("safety_identifier").or(name("user")));
    assert_eq!(seen.stream, object.get("stream") == Some(&Value::Bool(true)));

    let at = |span: Option<std::ops::Range<usize>>| {
        span.map(|span| serde_json::from_slice::<Value>(&body[span]).expect("a span holds a value"))
    };
    assert_eq!(at(seen.model_span.clone()).as_ref(), object.get("model"));
    assert_eq!(at(seen.stream_options.clone()).as_ref(), object.get("stream_options"));
    let include_usage = object.get("stream_options").and_then(|options| options.get("include_usage"));
    assert_eq!(seen.include_usage, include_usage.and_then(Value::as_bool));

    let Keys(keys) = serde_json::from_slice(body).expect("it was read before");
    let models = keys.iter().filter(|key| *key == "model").count();
    assert_eq!(seen.model_is_duplicate, models > 1);
    let twice = |name: &str| keys.iter().filter(|key| *key == name).count() > 1;
    assert_eq!(seen.streaming_is_ambiguous, twice("stream") || twice("stream_options"));
    assert_eq!(seen.has_data_sources, object.contains_key("data_sources"));
}

/// Every key of an object, including those that a map would lose.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/body_edit");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::body_edit(&seed[..end]);
            }
        }
    }
}

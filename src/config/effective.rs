//! The effective configuration as shown to users: all layers merged, without secrets.
//!
//! The description says which values are secrets. Texts of `headers` and `query` are hidden as
//! well, since any of them may be a key, and so is everything before an `@` in a URL. The source of
//! a secret (`env`, `file`) is shown.

use figment::value::{Num, Value};
use serde_json::{Number, Value as Json};

use super::key_path::KeyPath;
use super::kind::Shape;
use super::notes::Asked;
use super::reader::{ANY_NAME, DATE};

/// Replaces a hidden text.
const MASK: &str = "***";

/// The merged tree with its secrets masked.
pub(super) fn masked(root: &Value, asked: &Asked) -> Json {
    mask(root, &KeyPath::root(), asked)
}

fn mask(value: &Value, form: &KeyPath, asked: &Asked) -> Json {
    let shape = asked.get(form).map(|(shape, _)| shape);
    let is_secret = shape.is_some_and(Shape::has_source);
    match value {
        Value::Dict(_, entries) if !entries.contains_key(DATE) => {
            let entry = |(key, value): (&String, &Value)| {
                let is_named = !asked.contains_key(&form.key(key));
                let shown = match key.as_str() {
                    "env" | "file" if is_secret => json(value),
                    _ if is_secret => MASK.into(),
                    key => mask(value, &form.key(if is_named { ANY_NAME } else { key }), asked),
                };
                (key.clone(), shown)
            };
            Json::Object(entries.iter().map(entry).collect())
        }
        Value::Array(_, items) => items.iter().map(|item| mask(item, form, asked)).collect(),
        Value::String(_, text) if is_secret && !shape.is_some_and(|shape| shape.has_choice(text)) => {
            MASK.into()
        }
        Value::String(_, text) => without_userinfo(text).into(),
        value => json(value),
    }
}

/// The value as JSON.
pub(super) fn json(value: &Value) -> Json {
    match value {
        Value::Dict(_, entries) => match entries.get(DATE) {
            Some(date) => json(date),
            None => Json::Object(entries.iter().map(|(key, value)| (key.clone(), json(value))).collect()),
        },
        Value::Array(_, items) => items.iter().map(json).collect(),
        Value::String(_, text) => text.as_str().into(),
        Value::Char(_, letter) => letter.to_string().into(),
        Value::Bool(_, yes) => (*yes).into(),
        Value::Num(_, number) => self::number(*number),
        Value::Empty(..) => Json::Null,
    }
}

fn number(number: Num) -> Json {
    let whole = number.to_i128().and_then(Number::from_i128);
    let number = whole.or_else(|| Number::from_f64(number.to_f64()?));
    number.map_or(Json::Null, Json::Number)
}

/// A URL without its user information. Other texts have no `@` behind `://`.
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) => format!("{scheme}://{MASK}{}", &rest[userinfo.len()..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_its_user_information() {
        for (text, shown) in [
            ("http://ada:sk-marker@proxy:3128", "http://***@proxy:3128"),
            ("socks5h://sk@marker@proxy/x@y", "socks5h://***@proxy/x@y"),
            ("https://llm.internal:8443/v1?to=a@b", "https://llm.internal:8443/v1?to=a@b"),
            ("just a text@home", "just a text@home"),
        ] {
            assert_eq!(without_userinfo(text), shown);
        }
    }
}

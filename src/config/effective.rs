//! The configuration as it stands, for people to read: all layers merged, without its secrets.
//!
//! Masked is more than what must be: the text of every secret (`value`, `data`), every value of
//! `headers` and `query`, since nobody can tell which of them are keys, and whatever stands before
//! an `@` in a URL. Where a secret comes from (`env`, `file`) is shown.

use figment::value::{Dict, Num, Value};
use serde_json::{Map, Number, Value as Json};

use super::reader::DATE;

/// What stands for a text that is not shown.
const MASK: &str = "***";

/// Tables whose texts are sent to others as they are.
const SENT: [&str; 2] = ["headers", "query"];

/// Tables whose keys are names that the user chose.
const NAMED: [&str; 2] = ["upstreams", "clients"];

/// The merged tree with its secrets masked.
pub(super) fn masked(root: &Value) -> Json {
    value("", "", root, false)
}

/// `parent` is the key of the table that has `key`; `is_sent`: it is inside one of [`SENT`].
fn value(parent: &str, key: &str, at: &Value, is_sent: bool) -> Json {
    match at {
        Value::Dict(_, entries) => {
            table(key, entries, is_sent || (SENT.contains(&key) && !NAMED.contains(&parent)))
        }
        Value::Array(_, items) => items.iter().map(|item| value(parent, key, item, is_sent)).collect(),
        // Where a header's value comes from is shown too.
        Value::String(_, _) if is_sent && !matches!(key, "env" | "file") => MASK.into(),
        Value::String(_, _) if matches!(key, "value" | "data") => MASK.into(),
        Value::String(_, text) => without_userinfo(text).into(),
        Value::Char(_, letter) => letter.to_string().into(),
        Value::Bool(_, yes) => (*yes).into(),
        Value::Num(_, number) => self::number(*number),
        Value::Empty(..) => Json::Null,
    }
}

fn table(parent: &str, entries: &Dict, is_sent: bool) -> Json {
    if let Some(Value::String(_, date)) = entries.get(DATE) {
        return date.as_str().into();
    }
    let entries = entries.iter().map(|(key, at)| (key.clone(), value(parent, key, at, is_sent)));
    Json::Object(entries.collect::<Map<_, _>>())
}

fn number(number: Num) -> Json {
    let whole = number.to_i128().and_then(Number::from_i128);
    let number = whole.or_else(|| Number::from_f64(number.to_f64()?));
    number.map_or(Json::Null, Json::Number)
}

/// A URL without who asks. Other texts have no `@` behind `://`.
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
    fn nothing_before_an_at_sign_is_shown() {
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

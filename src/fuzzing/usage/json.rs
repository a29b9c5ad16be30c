//! A complete parse by `serde_json` that keeps details that the rule needs and `serde_json`'s own
//! values lose: equal keys, and the spelling of strings.

use serde::Deserializer;
use serde::de::{Deserialize, MapAccess, SeqAccess, Visitor};

/// JSON for the rule: every member in order, and whether a string was written without escapes.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Other,
    Number(f64),
    Text { text: String, plain: bool },
    List(Vec<Json>),
    Object(Vec<(Option<String>, Json)>),
}

impl Json {
    /// The values under a key, compared as spelled.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &Json> {
        let members = match self {
            Json::Object(members) => &members[..],
            _ => &[],
        };
        members.iter().filter(move |(k, _)| k.as_deref() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: &str) -> &Json {
        self.all(key).last().unwrap_or(&Json::Null)
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Json::Text { text, .. } = self { Some(text) } else { None }
    }

    pub(super) fn plain(&self) -> Option<&str> {
        if let Json::Text { text, plain: true } = self { Some(text) } else { None }
    }

    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Json::Number(n) if n.fract() == 0.0 && (0.0..1.8446744073709552e19).contains(n) => {
                Some(*n as u64)
            }
            Json::Text { text, plain: true } if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn seconds(&self) -> Option<f64> {
        match self {
            Json::Number(n) => Some(*n).filter(|n| *n >= 0.0),
            Json::Text { text, plain: true }
                if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') =>
            {
                text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
            }
            _ => None,
        }
    }
}

pub(super) enum Parsed {
    Json(Json),
    NoJson,
    /// More bytes may complete the JSON.
    CutOff,
    /// The oracle must abstain.
    Unsure,
}

pub(super) fn parse(data: &[u8]) -> Parsed {
    parse_text(&String::from_utf8_lossy(data))
}

/// Parses a body, which may begin with a byte order mark.
pub(super) fn parse_body(data: &[u8]) -> Parsed {
    parse(data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data))
}

fn parse_text(text: &str) -> Parsed {
    match serde_json::from_str(text) {
        Ok(json) => Parsed::Json(json),
        Err(e) if e.is_eof() => Parsed::CutOff,
        Err(e) => {
            let reason = e.to_string();
            let unsure = ["surrogate", "hex escape", "number out of range", "recursion limit"];
            if unsure.iter().any(|word| reason.contains(word)) { Parsed::Unsure } else { Parsed::NoJson }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, n: u64) -> Result<Json, E> {
        Ok(Json::Number(n as f64))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Json, E> {
        Ok(Json::Number(n as f64))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Json, E> {
        Ok(Json::Number(n))
    }

    // serde_json borrows only strings without escapes.
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json, E> {
        Ok(Json::Text { text: text.to_owned(), plain: true })
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text { text: text.to_owned(), plain: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some((key, value)) = members.next_entry::<Json, Json>()? {
            object.push((key.plain().map(str::to_owned), value));
        }
        Ok(Json::Object(object))
    }
}

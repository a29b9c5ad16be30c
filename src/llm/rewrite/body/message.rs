//! The fields of a client's message in a session of `realtime` or `responses`.

use serde::de::IgnoredAny;

use super::bounds::{asked_tiers, each_member};

/// A message of a client, as limits see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionMessage {
    /// The message asks for a response: one of its `type` is `response.create`.
    pub asks: bool,
    /// The models that it names: one, unless the field is repeated.
    pub models: Vec<String>,
    /// The service tiers that it names, in the service's spelling.
    pub tiers: Vec<String>,
    /// The client's own id of the message.
    pub event_id: Option<String>,
}

impl SessionMessage {
    /// `None`: the text is not a JSON object.
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut message = Self::default();
        let string = |value: &[u8]| serde_json::from_slice::<String>(value).ok();
        // Behind the first mistake, members would not be read.
        serde_json::from_slice::<IgnoredAny>(text)
            .ok()
            .filter(|_| text.trim_ascii_start().starts_with(b"{"))?;
        each_member(text, |key, value| match key {
            b"type" => message.asks |= string(value).as_deref() == Some("response.create"),
            b"model" => message.models.extend(string(value)),
            b"service_tier" => message.tiers.extend(string(value)),
            b"response" => message.tiers.extend(asked_tiers(value)),
            b"event_id" => message.event_id = string(value),
            _ => {}
        });
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_spelling_of_the_type_asks_for_a_response() {
        for (text, asks) in [
            (r#"{"type":"response.create"}"#, true),
            (r#" {"input":[{"type":"message"}],"type" : "response\u002ecreate"}"#, true),
            (r#"{"ty\u0070e":"response.create"}"#, true),
            (r#"{"type":"other","type":"response.create"}"#, true),
            (r#"{"type":"response.create","type":"other"}"#, true),
            (r#"{"type":"response.cancel"}"#, false),
            (r#"{"item":{"type":"response.create"}}"#, false),
            (r#"{"type":1}"#, false),
            ("{}", false),
        ] {
            let read = SessionMessage::read(text.as_bytes());
            assert_eq!(read.map(|message| message.asks), Some(asks), "{text}");
        }
    }

    #[test]
    fn models_and_the_id_are_read() {
        let message =
            SessionMessage::read(br#"{"model":"a","event_id":"e1","response":{"model":"c"},"model":"b"}"#);
        let message = message.unwrap();
        assert_eq!((message.models, message.event_id.as_deref()), (vec!["a".into(), "b".into()], Some("e1")));
    }

    #[test]
    fn tiers_are_read_at_both_places() {
        let text = br#"{"type":"a","service_tier":"flex","response":{"service_tier":"priority"},"input":{"service_tier":"no"}}"#;
        assert_eq!(SessionMessage::read(text).unwrap().tiers, ["flex", "priority"]);
    }

    #[test]
    fn text_that_is_no_object_is_not_read() {
        for text in [
            "",
            "[]",
            "\"response.create\"",
            r#"{"type":"response.create""#,
            "{\"a\":NaN}",
            "\u{feff}{}",
            "{}{}",
        ] {
            assert_eq!(SessionMessage::read(text.as_bytes()), None, "{text}");
        }
        let utf16: Vec<u8> =
            "{\"type\":\"response.create\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(SessionMessage::read(&utf16), None);
    }
}

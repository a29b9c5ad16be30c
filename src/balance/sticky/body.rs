//! The fields of a JSON request body that distinguish conversations.

use std::borrow::Cow;

use crate::codec::json::Cursor;
use crate::llm::rewrite::body::Conversation;

/// The parts of a body about its conversation. Read for groups only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StickyBody<'a> {
    /// The session id of OpenRouter.
    pub session_id: Option<Cow<'a, str>>,
    pub prompt_cache_key: Option<Cow<'a, str>>,
    /// `conversation`, or its `id`.
    pub conversation: Option<Cow<'a, str>>,
    /// The raw values of [`Conversation::prompt`].
    pub prompt: [&'a [u8]; 7],
}

impl<'a> StickyBody<'a> {
    /// `conversation` was found in `body`.
    pub fn of(body: &'a [u8], conversation: &Conversation) -> Self {
        let named = conversation.conversation(body);
        Self {
            session_id: text(conversation.session_id(body)),
            prompt_cache_key: text(conversation.prompt_cache_key(body)),
            conversation: text(named).or_else(|| id(named)),
            prompt: conversation.prompt(body),
        }
    }
}

fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    if value.is_empty() {
        return None;
    }
    Cursor::new(value).string().ok().map(|text| text.decode())
}

fn id(object: &[u8]) -> Option<Cow<'_, str>> {
    let mut cursor = Cursor::new(object);
    let mut is_first = true;
    if !cursor.take(b'{') {
        return None;
    }
    while let Ok(Some((key, value))) = cursor.member(is_first) {
        is_first = false;
        if key == *"id" {
            return text(&object[value]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::rewrite::body::peek;

    fn read(body: &[u8]) -> StickyBody<'_> {
        StickyBody::of(body, &peek(body).unwrap().conversation)
    }

    #[test]
    fn fields_of_all_apis_are_read() {
        let body = br#" {"model":"m","messages":[{"role":"user","content":"hi"}],"session_id":"s1",
            "prompt_cache_key":"k\u0031","conversation":{"object":"c","id":"conv_1"},"instructions":"i"}"#;
        let found = read(body);
        assert_eq!(found.session_id.as_deref(), Some("s1"));
        assert_eq!(found.prompt_cache_key.as_deref(), Some("k1"));
        assert_eq!(found.conversation.as_deref(), Some("conv_1"));
        let messages: &[u8] = br#"[{"role":"user","content":"hi"}]"#;
        assert_eq!(found.prompt, [&br#""i""#[..], b"", b"", b"", messages, b"", b""]);
        assert_eq!(read(br#"{"conversation":"conv_2"}"#).conversation.as_deref(), Some("conv_2"));
        assert_eq!(read(br#"{"inp\u0075t":"one","input":"two"}"#).prompt[3], br#""two""#);
    }

    #[test]
    fn body_without_these_fields_has_none() {
        for body in [&b"{}"[..], br#"{"conversation":{"id":7},"session_id":null,"prompts":"p"}"#] {
            assert_eq!(read(body), StickyBody::default());
        }
    }
}

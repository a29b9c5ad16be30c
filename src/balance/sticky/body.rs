//! The fields of a JSON request body that distinguish conversations.

use std::borrow::Cow;

use crate::codec::json::Cursor;

/// The parts of a body about its conversation. Read for groups only, in one pass at the speed of a
/// byte search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StickyBody<'a> {
    /// The session id of OpenRouter.
    pub session_id: Option<Cow<'a, str>>,
    pub prompt_cache_key: Option<Cow<'a, str>>,
    /// `conversation`, or its `id`.
    pub conversation: Option<Cow<'a, str>>,
    /// The raw values of the members of [`PROMPT`], in that order; empty if there is none.
    pub prompt: [&'a [u8]; PROMPT.len()],
}

/// The members of a prompt in the APIs of OpenAI, Anthropic and Google.
const PROMPT: [&str; 7] =
    ["instructions", "system", "systemInstruction", "input", "messages", "contents", "prompt"];

impl<'a> StickyBody<'a> {
    /// Reads the top level of an object, as far as it can be read.
    pub fn read(body: &'a [u8]) -> Self {
        let mut found = Self::default();
        let mut cursor = Cursor::new(body);
        let mut is_first = true;
        if !cursor.take(b'{') {
            return found;
        }
        while let Ok(Some((key, value))) = cursor.member(is_first) {
            is_first = false;
            let value = &body[value];
            if let Some(place) = PROMPT.iter().position(|name| key == **name) {
                found.prompt[place] = value;
            } else if key == *"session_id" {
                found.session_id = text(value);
            } else if key == *"prompt_cache_key" {
                found.prompt_cache_key = text(value);
            } else if key == *"conversation" {
                found.conversation = text(value).or_else(|| id(value));
            }
        }
        found
    }
}

fn text(value: &[u8]) -> Option<Cow<'_, str>> {
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

    #[test]
    fn fields_of_all_apis_are_read() {
        let body = br#" {"model":"m","messages":[{"role":"user","content":"hi"}],"session_id":"s1",
            "prompt_cache_key":"k\u0031","conversation":{"object":"c","id":"conv_1"},"instructions":"i"}"#;
        let read = StickyBody::read(body);
        assert_eq!(read.session_id.as_deref(), Some("s1"));
        assert_eq!(read.prompt_cache_key.as_deref(), Some("k1"));
        assert_eq!(read.conversation.as_deref(), Some("conv_1"));
        let messages: &[u8] = br#"[{"role":"user","content":"hi"}]"#;
        assert_eq!(read.prompt, [&br#""i""#[..], b"", b"", b"", messages, b"", b""]);
        assert_eq!(StickyBody::read(br#"{"conversation":"conv_2"}"#).conversation.as_deref(), Some("conv_2"));
    }

    #[test]
    fn body_that_cannot_be_read_has_what_was_read() {
        let read = StickyBody::read(br#"{"prompt_cache_key":"k","input":"#);
        assert_eq!((read.prompt_cache_key.as_deref(), read.prompt[3]), (Some("k"), &b""[..]));
        for body in [&b""[..], b"[]", b"\"a\"", b"{", b"{\"a\"", b"\xff", br#"{"conversation":{"id"#] {
            assert_eq!(StickyBody::read(body), StickyBody::default());
        }
    }
}

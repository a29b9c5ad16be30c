//! The fields of a JSON request body that distinguish conversations.

use std::borrow::Cow;

use crate::codec::json::Cursor;
use crate::llm::rewrite::body::Conversation;

/// The parts of a body about its conversation, each read when it is needed. For groups only.
#[derive(Clone, Copy, Debug)]
pub struct StickyBody<'a> {
    body: &'a [u8],
    conversation: &'a Conversation,
}

impl Default for StickyBody<'_> {
    /// A body without such parts.
    fn default() -> Self {
        Self { body: &[], conversation: &Conversation::NONE }
    }
}

impl<'a> StickyBody<'a> {
    /// `conversation` was found in `body`.
    pub fn of(body: &'a [u8], conversation: &'a Conversation) -> Self {
        Self { body, conversation }
    }

    /// The session id of OpenRouter.
    pub(super) fn session_id(self) -> Option<Cow<'a, str>> {
        text(self.conversation.session_id(self.body))
    }

    pub(super) fn prompt_cache_key(self) -> Option<Cow<'a, str>> {
        text(self.conversation.prompt_cache_key(self.body))
    }

    /// `conversation`, or its `id`.
    pub(super) fn conversation(self) -> Option<Cow<'a, str>> {
        let named = self.conversation.conversation(self.body);
        text(named).or_else(|| id(named))
    }

    /// The raw values of [`Conversation::prompt`].
    pub fn prompt(self) -> impl Iterator<Item = &'a [u8]> {
        self.conversation.prompt(self.body)
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

    /// Shows the fields of a body to `check`.
    fn read<T>(body: &[u8], check: impl Fn(StickyBody<'_>) -> T) -> T {
        check(StickyBody::of(body, &peek(body).unwrap().conversation))
    }

    fn named(body: StickyBody<'_>) -> [Option<String>; 3] {
        [body.session_id(), body.prompt_cache_key(), body.conversation()].map(|text| text.map(Into::into))
    }

    fn prompt(body: StickyBody<'_>) -> Vec<Vec<u8>> {
        body.prompt().map(Into::into).collect()
    }

    #[test]
    fn fields_of_all_apis_are_read() {
        let body = br#" {"model":"m","messages":[{"role":"user","content":"hi"}],"session_id":"s1",
            "prompt_cache_key":"k\u0031","conversation":{"object":"c","id":"conv_1"},"instructions":"i"}"#;
        assert_eq!(read(body, named), ["s1", "k1", "conv_1"].map(|text| Some(text.to_owned())));
        let messages: &[u8] = br#"[{"role":"user","content":"hi"}]"#;
        assert_eq!(read(body, prompt), [&br#""i""#[..], b"", b"", b"", messages, b"", b""]);
        assert_eq!(read(br#"{"conversation":"conv_2"}"#, named), [None, None, Some("conv_2".to_owned())]);
        assert_eq!(read(br#"{"inp\u0075t":"one","input":"two"}"#, prompt)[3], br#""two""#);
    }

    #[test]
    fn body_without_these_fields_has_none() {
        for body in [&b"{}"[..], br#"{"conversation":{"id":7},"session_id":null,"prompts":"p"}"#] {
            assert_eq!(read(body, named), [const { None }; 3]);
            assert!(read(body, prompt).iter().all(Vec::is_empty));
        }
        assert_eq!(named(StickyBody::default()), [const { None }; 3]);
        assert!(prompt(StickyBody::default()).iter().all(Vec::is_empty));
    }
}

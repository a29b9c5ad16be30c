//! The fields of a JSON request body that distinguish conversations.

use std::borrow::Cow;

use memchr::memmem;

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

/// The beginnings of ids of state that an account stores: responses, reasoning items, conversations,
/// files, containers.
const STORED: [&[u8]; 6] = [b"\"resp_", b"\"rs_", b"\"conv_", b"\"file-", b"\"file_", b"\"cntr_"];
/// The shortest and longest ids, in bytes.
const ID_LENGTHS: std::ops::RangeInclusive<usize> = 12..=128;
/// The largest number of ids of one kind that are read.
const MAX_IDS: usize = 4;

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

/// The ids of stored state in a body of the Responses API, or another one: texts that look like an
/// id, at any place of a value.
pub fn stored_ids(body: &[u8]) -> impl Iterator<Item = &str> {
    STORED.iter().flat_map(move |start| {
        memmem::find_iter(body, start).filter_map(|at| stored_id(body, at)).take(MAX_IDS)
    })
}

/// The id whose opening quote is at `at`.
fn stored_id(body: &[u8], at: usize) -> Option<&str> {
    let is_in_text = at > 0 && body[at - 1] == b'\\';
    let rest = &body[at + 1..];
    let is_id = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let length = rest.iter().take(ID_LENGTHS.end() + 1).take_while(is_id).count();
    let is_whole = ID_LENGTHS.contains(&length) && rest.get(length) == Some(&b'"');
    std::str::from_utf8(&rest[..length]).ok().filter(|_| is_whole && !is_in_text)
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

    #[test]
    fn ids_of_stored_state_are_found_where_they_are_values() {
        let body = br#"{"previous_response_id":"resp_0123456789","input":[{"type":"reasoning","id":"rs_0123456789ab"},
            {"content":[{"type":"input_file","file_id":"file-abcdefgh1"},{"text":"see \"resp_9876543210\" and rs_1234567890ab"}]}],
            "metadata":{"a":"resp_short","b":"file_with spaces 123"}}"#;
        let ids: Vec<_> = stored_ids(body).collect();
        assert_eq!(ids, ["resp_0123456789", "rs_0123456789ab", "file-abcdefgh1"]);
    }

    #[test]
    fn ids_are_bounded() {
        let body = "\"resp_0123456789\"".repeat(1000) + &format!("\"rs_{}\"", "a".repeat(200));
        assert_eq!(stored_ids(body.as_bytes()).count(), MAX_IDS);
        assert_eq!(stored_ids(b"\"resp_0123456789").count(), 0);
    }
}

//! The key of a conversation.

use std::borrow::Cow;

use http::HeaderName;

use super::StickyBody;
use super::hash::Hash64;
use crate::codec::head::Headers;

/// The length in bytes of the prompt's beginning that distinguishes conversations: beyond the
/// beginning of the system prompt in all but tiny ones, and before the place where turns differ.
const PROMPT_BYTES: usize = 2048;

/// The header of a session.
const SESSION: HeaderName = HeaderName::from_static("x-session-id");

/// The property that keeps a conversation's requests at one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// A header; for `x-session-id` also `session_id` of the body, OpenRouter's name for it.
    Header(HeaderName),
    PromptCacheKey,
    Conversation,
    /// The client, the model and the beginning of the prompt.
    Prompt,
}

/// The parts of a request about its conversation.
#[derive(Clone, Copy, Debug)]
pub struct StickyParts<'a> {
    pub headers: &'a Headers,
    pub body: StickyBody<'a>,
    pub prompt: PromptHash,
}

/// The client, the model and the beginning of the prompt of a request.
#[derive(Clone, Copy, Debug)]
pub struct PromptHash {
    client: u32,
    /// The hash of all three. `None`: the request has no prompt.
    hash: Option<u64>,
}

/// The key of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StickyKey(pub(in crate::balance) u64);

/// The client and the prompt of a request: results with the same fingerprint may have the same
/// cause in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    client: u32,
    prompt: u32,
}

impl StickyBy {
    /// Parses the word of the configuration, or a header's name.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "session" => Some(Self::Header(SESSION)),
            "prompt_cache_key" => Some(Self::PromptCacheKey),
            "conversation" => Some(Self::Conversation),
            "prompt" => Some(Self::Prompt),
            // Nearly all names of other headers have a hyphen.
            _ => HeaderName::from_bytes(word.as_bytes()).ok().map(Self::Header),
        }
    }

    fn key(&self, parts: &StickyParts<'_>) -> Option<u64> {
        let hash = |value: &[u8]| (!value.is_empty()).then(|| Hash64::new().bytes(value).finish());
        let text = |text: Option<Cow<'_, str>>| text.and_then(|text| hash(text.as_bytes()));
        match self {
            Self::Header(name) => match parts.headers.get_named(name.as_str()) {
                Some(value) => hash(value),
                None if *name == SESSION => text(parts.body.session_id()),
                None => None,
            },
            Self::PromptCacheKey => text(parts.body.prompt_cache_key()),
            Self::Conversation => text(parts.body.conversation()),
            Self::Prompt => parts.prompt.hash,
        }
    }
}

/// The key of a request's conversation: the first of `by` that it has.
pub fn sticky_key(by: &[StickyBy], parts: &StickyParts<'_>) -> Option<StickyKey> {
    by.iter().find_map(|by| by.key(parts)).map(StickyKey)
}

/// Some key of a request's conversation, if it has one. For a group without a choice, where the
/// presence of a key is noted and its value decides nothing: the hash of the prompt is known, and
/// no other property is searched for then.
pub fn any_sticky_key(by: &[StickyBy], parts: &StickyParts<'_>) -> Option<StickyKey> {
    let is_by_prompt = by.iter().any(|by| matches!(by, StickyBy::Prompt));
    let prompt = parts.prompt.hash.filter(|_| is_by_prompt).map(StickyKey);
    prompt.or_else(|| sticky_key(by, parts))
}

impl PromptHash {
    /// `prompt` has the raw values of a prompt's members, always in the same order; empty for those
    /// that the body does not have.
    pub fn new<'a>(client: &str, model: Option<&str>, prompt: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let client = Hash64::new().bytes(client.as_bytes());
        let mut hash = client.bytes(model.unwrap_or_default().as_bytes());
        let mut rest = PROMPT_BYTES;
        for (place, part) in prompt.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let part = &part[..part.len().min(rest)];
            rest -= part.len();
            hash = hash.word(place as u64).bytes(part);
        }
        // The client's part is its `name_tag`.
        let client = client.finish() as u32;
        Self { client, hash: (rest < PROMPT_BYTES).then(|| hash.finish()) }
    }

    /// The hash for a group without a choice, where it only tells prompts apart: by the length and the
    /// end of the body, at less cost.
    pub fn brief(client: &str, has_prompt: bool, body: &[u8]) -> Self {
        let end = body.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
        let hash = has_prompt.then(|| Hash64::new().word(body.len() as u64).word(end).finish());
        Self { client: name_tag(client), hash }
    }

    pub fn fingerprint(self) -> Fingerprint {
        Fingerprint { client: self.client, prompt: self.hash.unwrap_or_default() as u32 }
    }
}

impl Fingerprint {
    pub(in crate::balance) fn client(self) -> u32 {
        self.client
    }

    /// The client and the prompt in one word.
    pub(in crate::balance) fn whole(self) -> u32 {
        Hash64::new().word(u64::from(self.client) << 32 | u64::from(self.prompt)).finish() as u32
    }
}

/// A name in 32 bits.
pub(in crate::balance) fn name_tag(name: &str) -> u32 {
    Hash64::new().bytes(name.as_bytes()).finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::rewrite::body::peek;

    #[test]
    fn request_has_any_key_if_it_has_one() {
        let words = ["session", "prompt_cache_key", "conversation", "prompt"];
        let bodies: [&[u8]; 6] = [
            b"{}",
            br#"{"input":"hi"}"#,
            br#"{"session_id":"s","input":""}"#,
            br#"{"prompt_cache_key":"k"}"#,
            br#"{"prompt_cache_key":"","conversation":{"id":"c"}}"#,
            br#"{"messages":[]}"#,
        ];
        let mut present = 0;
        for (body, header) in bodies.iter().flat_map(|body| ["", "of-the-header"].map(|value| (*body, value)))
        {
            let mut headers = Headers::default();
            if !header.is_empty() {
                headers.append(b"x-session-id", header.as_bytes());
            }
            let peek = peek(body).unwrap();
            let body = StickyBody::of(body, &peek.conversation);
            let parts = StickyParts {
                headers: &headers,
                body,
                prompt: PromptHash::new("client", None, body.prompt()),
            };
            for set in 0..1 << words.len() {
                let chosen = words.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
                let by: Vec<_> = chosen.map(|(_, word)| StickyBy::parse(word).unwrap()).collect();
                let (key, any) = (sticky_key(&by, &parts), any_sticky_key(&by, &parts));
                assert_eq!(key.is_some(), any.is_some(), "{by:?} {body:?}");
                present += usize::from(any.is_some());
            }
        }
        assert!((1..192).contains(&present), "{present} of 192");
    }

    #[test]
    fn fingerprint_tells_clients_and_prompts_apart() {
        let of = |client, prompt: &'static [u8]| PromptHash::new(client, Some("m"), [prompt]).fingerprint();
        assert_eq!(of("a", b"hi"), of("a", b"hi"));
        assert_ne!(of("a", b"hi"), of("a", b"ho"));
        assert_ne!(of("a", b"hi").client(), of("b", b"hi").client());
        assert_eq!(of("a", b"hi").client(), name_tag("a"));
        let brief = |client, body: &'static [u8]| PromptHash::brief(client, true, body).fingerprint();
        assert_eq!(brief("a", b"a short prompt"), brief("a", b"a short prompt"));
        assert_ne!(brief("a", b"a short prompt"), brief("a", b"a longer prompt"));
        assert_ne!(brief("a", b"prompt number 1"), brief("a", b"prompt number 2"));
        assert_eq!(brief("b", b"hi").client(), name_tag("b"));
    }
}

//! The key of a conversation.

use http::HeaderName;

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
    /// `session_id` of the body.
    pub session_id: Option<&'a str>,
    pub prompt_cache_key: Option<&'a str>,
    /// `conversation`, or its `id`.
    pub conversation: Option<&'a str>,
    pub prompt: PromptHash,
}

/// The client, the model and the beginning of the prompt of a request. `None`: it has no prompt.
#[derive(Clone, Copy, Debug)]
pub struct PromptHash(Option<u64>);

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
        let text = |text: &str| Hash64::new().bytes(text.as_bytes()).finish();
        match self {
            Self::Header(name) => {
                let value = parts.headers.get_named(name.as_str());
                let in_body = parts.session_id.filter(|_| *name == SESSION).map(str::as_bytes);
                let value = value.or(in_body).filter(|value| !value.is_empty())?;
                Some(Hash64::new().bytes(value).finish())
            }
            Self::PromptCacheKey => parts.prompt_cache_key.filter(|key| !key.is_empty()).map(text),
            Self::Conversation => parts.conversation.filter(|id| !id.is_empty()).map(text),
            Self::Prompt => parts.prompt.0,
        }
    }
}

/// The key of a request's conversation: the first of `by` that it has.
pub fn sticky_key(by: &[StickyBy], parts: &StickyParts<'_>) -> Option<StickyKey> {
    by.iter().find_map(|by| by.key(parts)).map(StickyKey)
}

impl PromptHash {
    /// `prompt` has the raw values of a prompt's members, always in the same order; empty for those
    /// that the body does not have.
    pub fn new(client: &str, model: Option<&str>, prompt: &[&[u8]]) -> Self {
        let mut hash = Hash64::new().bytes(client.as_bytes()).bytes(model.unwrap_or_default().as_bytes());
        let mut rest = PROMPT_BYTES;
        for (place, part) in prompt.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let part = &part[..part.len().min(rest)];
            rest -= part.len();
            hash = hash.word(place as u64).bytes(part);
        }
        Self((rest < PROMPT_BYTES).then(|| hash.finish()))
    }
}

impl Fingerprint {
    pub fn new(client: &str, prompt: PromptHash) -> Self {
        Self { client: name_tag(client), prompt: prompt.0.unwrap_or_default() as u32 }
    }

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

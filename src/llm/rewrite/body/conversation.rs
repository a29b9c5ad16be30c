//! The fields of a request that distinguish conversations.

use std::ops::Range;

/// The members of a prompt in the APIs of OpenAI, Anthropic and Google.
const PROMPT: [&[u8]; 7] =
    [b"instructions", b"system", b"systemInstruction", b"input", b"messages", b"contents", b"prompt"];

/// The places of the fields that distinguish conversations. Of equal keys the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The session id of OpenRouter.
    session_id: Span,
    prompt_cache_key: Span,
    conversation: Span,
    /// The members of [`PROMPT`], in that order.
    prompt: [Span; PROMPT.len()],
}

/// The place of a value, in half of the size of a range. Empty: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Span {
    const NONE: Self = Self { start: 0, end: 0 };
}

impl Conversation {
    /// No such field.
    pub const NONE: Self = Self {
        session_id: Span::NONE,
        prompt_cache_key: Span::NONE,
        conversation: Span::NONE,
        prompt: [Span::NONE; PROMPT.len()],
    };

    /// Notes a member of the body.
    #[inline]
    pub(super) fn note(&mut self, key: &[u8], value: &Range<usize>) {
        let place = match key {
            b"session_id" => &mut self.session_id,
            b"prompt_cache_key" => &mut self.prompt_cache_key,
            b"conversation" => &mut self.conversation,
            key => match PROMPT.iter().position(|name| *name == key) {
                Some(place) => &mut self.prompt[place],
                None => return,
            },
        };
        // A buffered body is far below 4 GiB.
        *place = Span { start: value.start as u32, end: value.end as u32 };
    }

    /// The raw value of `session_id`; empty if there is none. `body` is the one that was read.
    pub fn session_id<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        self.session_id.of(body)
    }

    pub fn prompt_cache_key<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        self.prompt_cache_key.of(body)
    }

    pub fn conversation<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        self.conversation.of(body)
    }

    /// The raw values of `instructions`, `system`, `systemInstruction`, `input`, `messages`,
    /// `contents` and `prompt`; empty for those that there are not.
    pub fn prompt<'a>(&'a self, body: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.prompt.iter().map(|span| span.of(body))
    }
}

//! What an answer to a request that asks for usage begins with: an answer, or a refusal of what was
//! asked.
//!
//! Most services refuse with a status. Some have sent 200 and the head of a stream by then, and
//! tell it in the first event, or in JSON. So the beginning of such an answer is looked at before
//! it is relayed, up to the first byte that says that it is none: in a usual chunk its first key.

use crate::sse::{Event, EventDecoder, EventHandler};
use crate::usage::{BodyMeter, Content, Sniff};

/// What a refusal says that is about the field. The last is what MiMo and some hosts of GLM and
/// Qwen say, whose message does not tell which parameter it is.
const SAYS: [&str; 3] = ["stream_options", "include_usage", "Param Incorrect"];

/// What errors begin with, beside chunks of a few services.
const ERRORS: [&[u8]; 11] = [
    b"code",
    b"detail",
    b"error",
    b"errors",
    b"message",
    b"msg",
    b"object",
    b"status",
    b"statusCode",
    b"success",
    b"type",
];

/// Those of them that nothing else begins with.
const SURELY: [&[u8]; 5] = [b"detail", b"error", b"errors", b"message", b"msg"];

/// Whether a text names what was asked.
pub(super) fn names_asking(text: &[u8]) -> bool {
    SAYS.iter().any(|word| memchr::memmem::find(text, word.as_bytes()).is_some())
}

/// What the bytes so far tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Not enough.
    Open,
    /// No refusal; and what the body is, where that is known.
    Response(Option<Content>),
    /// It refuses what was asked.
    Refusal,
}

impl Beginning {
    /// Of a body that begins with `bytes`, or is all of them. `says_events`: its type is
    /// `text/event-stream`.
    pub(super) fn of(bytes: &[u8], says_events: bool, has_ended: bool) -> Self {
        let (from, content) = Sniff::new(says_events).push(bytes);
        let response = Self::Response(content);
        let payload = match content {
            None if has_ended => return response,
            None => return Self::Open,
            Some(Content::Other) => return response,
            Some(Content::Json) => {
                Payload { data: bytes[from..].to_vec(), is_error: false, is_whole: has_ended }
            }
            Some(Content::Events) => Payload::first(&bytes[from..], has_ended),
        };
        match payload.first_key() {
            _ if payload.data.trim_ascii().is_empty() && !payload.is_whole => Self::Open,
            Key::None if !payload.is_error => response,
            Key::Is(key) if !payload.is_error && !ERRORS.contains(&key) => response,
            _ if !payload.is_whole => Self::Open,
            _ if payload.tells_of_error() && names_asking(&payload.data) => Self::Refusal,
            _ => response,
        }
    }
}

/// The first thing that a body says.
#[derive(Default)]
struct Payload {
    data: Vec<u8>,
    /// It is an event of the type `error`.
    is_error: bool,
    is_whole: bool,
}

/// The first key of a JSON object.
enum Key<'a> {
    /// There is no object; a list may be one of errors.
    None,
    /// It is not all here.
    Begun,
    Is(&'a [u8]),
}

impl Payload {
    /// The first event of a stream, as far as it is here.
    fn first(stream: &[u8], has_ended: bool) -> Self {
        let mut first = Self::default();
        let mut decoder = EventDecoder::new();
        decoder.push(stream, &mut first);
        if has_ended {
            decoder.finish(&mut first);
        }
        if !first.is_whole {
            // What there is of it.
            for line in stream.split(|byte| matches!(byte, b'\n' | b'\r')) {
                if let Some(data) = line.strip_prefix(b"data:") {
                    first.data.extend_from_slice(data);
                }
                first.is_error |=
                    line.strip_prefix(b"event:").is_some_and(|name| name.trim_ascii() == b"error");
            }
        }
        first
    }

    fn first_key(&self) -> Key<'_> {
        let rest = match self.data.trim_ascii_start() {
            [b'{', rest @ ..] => rest.trim_ascii_start(),
            [b'[', ..] => return Key::Begun,
            _ => return Key::None,
        };
        match rest {
            [] => Key::Begun,
            [b'"', rest @ ..] => match memchr::memchr(b'"', rest) {
                Some(end) => Key::Is(&rest[..end]),
                None => Key::Begun,
            },
            _ => Key::None,
        }
    }

    fn tells_of_error(&self) -> bool {
        let mut meter = BodyMeter::new();
        meter.push(&self.data);
        let is_surely = match self.first_key() {
            Key::Is(b"object" | b"type") => self.first_value_is_error(),
            Key::Is(key) => SURELY.contains(&key),
            Key::None | Key::Begun => false,
        };
        self.is_error || is_surely || meter.finish().error.is_some()
    }
}

impl Payload {
    /// Whether the object begins as `{"object":"error"` does.
    fn first_value_is_error(&self) -> bool {
        let value = self.data.splitn(2, |&byte| byte == b':').nth(1).unwrap_or_default();
        value.trim_ascii_start().starts_with(b"\"error\"")
    }
}

impl EventHandler for Payload {
    fn event(&mut self, event: Event<'_>) {
        if !self.is_whole {
            *self = Self { data: event.data.to_vec(), is_error: event.name == b"error", is_whole: true };
        }
    }

    /// What llama.cpp's server sends in the place of an event.
    fn unknown_field(&mut self, name: &[u8], value: &[u8]) {
        if !self.is_whole && name == b"error" {
            *self = Self { data: value.to_vec(), is_error: true, is_whole: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = r#"{"error":{"message":"unknown field stream_options","code":400}}"#;

    /// What is known after each byte: nothing up to a place, and the same from there on.
    fn settles(body: &str, says_events: bool, expected: Beginning) -> usize {
        let at = |end: usize| Beginning::of(&body.as_bytes()[..end], says_events, false);
        let settled = (0..=body.len()).find(|&end| at(end) != Beginning::Open);
        let settled = settled.unwrap_or_else(|| panic!("{body:?} never settles"));
        for end in settled..=body.len() {
            assert_eq!(at(end), expected, "{body:?} up to {end}");
        }
        settled
    }

    #[test]
    fn a_usual_chunk_settles_at_its_first_key() {
        let response = Beginning::Response(Some(Content::Events));
        for before in ["", ": ping\n\n", "\n", "event: message\n", "id: 1\n"] {
            let stream = format!("{before}data: {{\"id\":\"stream_options\",\"choices\":[]}}\n\n");
            let key = before.len() + "data: {\"id\"".len();
            assert_eq!(settles(&stream, true, response), key, "{stream:?}");
        }
        settles("data: [DONE]\n\n", true, response);
        settles("data: text\n\n", true, response);
        settles("data: {}\n\n", true, response);
        settles(
            "data: {\"object\":\"chat.completion.chunk\",\"choices\":[],\"id\":\"stream_options\"}\n\n",
            true,
            response,
        );
        settles("data: {\"error\":{\"message\":\"overloaded\"}}\n\n", true, response);
        settles("<html>stream_options</html>", true, Beginning::Response(Some(Content::Other)));
        settles("{\"id\":\"c\",\"choices\":[]}", true, Beginning::Response(Some(Content::Json)));
    }

    #[test]
    fn an_error_that_names_the_field_is_a_refusal_in_any_framing() {
        for event in [
            format!("data: {REFUSAL}\n\n"),
            format!("data:{REFUSAL}\r\n\r\n"),
            format!(": ping\n\nevent: error\ndata: {REFUSAL}\n\n"),
            "event: error\ndata: include_usage is not supported\n\n".to_owned(),
            "data: {\"error\":\"Unsupported parameter: stream_options\"}\n\n".to_owned(),
            "data: {\"object\":\"error\",\"message\":\"extra field stream_options\"}\n\n".to_owned(),
            "data: {\"detail\":[{\"loc\":[\"body\",\"stream_options\"]}]}\n\n".to_owned(),
            format!("data: [{REFUSAL}]\n\n"),
            "data: {\"object\": \"error\",\"message\":{\"detail\":[\"stream_options\"]}}\n\n".to_owned(),
        ] {
            for says_events in [false, true] {
                settles(&event, says_events, Beginning::Refusal);
            }
            let unended = event.trim_end();
            assert_eq!(Beginning::of(unended.as_bytes(), true, true), Beginning::Refusal, "{unended:?}");
        }
        settles(&format!("error: {REFUSAL}\n"), true, Beginning::Refusal);
    }

    #[test]
    fn json_is_judged_when_it_has_ended() {
        for body in [REFUSAL.to_owned(), format!("[{REFUSAL}]"), format!("\n {REFUSAL}\n")] {
            for says_events in [false, true] {
                assert_eq!(Beginning::of(body.as_bytes(), says_events, false), Beginning::Open);
                assert_eq!(Beginning::of(body.as_bytes(), says_events, true), Beginning::Refusal);
            }
        }
        let other = Beginning::of(b"{\"error\":{\"message\":\"no\"}}", true, true);
        assert_eq!(other, Beginning::Response(Some(Content::Json)));
        assert_eq!(Beginning::of(b"", true, true), Beginning::Response(None));
    }
}

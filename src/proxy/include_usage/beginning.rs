//! Recognizes a refusal of `stream_options` in the first bytes of a response.
//!
//! Most upstreams refuse with a status. Some have already sent 200 and the head of a stream, and
//! refuse in the first event, or in JSON. The response is therefore read before it is relayed, up
//! to the first byte that rules a refusal out: in a usual chunk the end of its first key.

use crate::codec::sse::{Event, EventDecoder, EventHandler};
use crate::llm::usage::{BodyMeter, Content, Sniff};

/// Texts of refusals of the field. The last is from MiMo and some hosts of GLM and Qwen, whose
/// message does not name the parameter.
const SAYS: [&str; 3] = ["stream_options", "include_usage", "Param Incorrect"];

/// The first keys of errors, and of chunks of a few upstreams.
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

/// The first keys of errors only.
const SURELY: [&[u8]; 5] = [b"detail", b"error", b"errors", b"message", b"msg"];

/// Returns true if a text names the field.
pub(super) fn names_asking(text: &[u8]) -> bool {
    SAYS.iter().any(|word| memchr::memmem::find(text, word.as_bytes()).is_some())
}

/// The classification of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Too few bytes to tell.
    Open,
    /// Not a refusal; with the kind of content, if it is known.
    Response(Option<Content>),
    /// A refusal of the field.
    Refusal,
}

impl Beginning {
    /// Classifies a body that begins with `bytes`. `says_events`: its type is `text/event-stream`.
    /// `has_ended`: these are all of its bytes.
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
            _ if payload.has_error() && names_asking(&payload.data) => Self::Refusal,
            _ => response,
        }
    }
}

/// The first event of a stream, or a JSON body.
#[derive(Default)]
struct Payload {
    data: Vec<u8>,
    /// An event of the type `error`.
    is_error: bool,
    is_whole: bool,
}

/// The first key of a JSON object.
enum Key<'a> {
    /// There is no object. A list may be one of errors.
    None,
    /// The key is incomplete.
    Begun,
    Is(&'a [u8]),
}

impl Payload {
    /// The first event of a stream, as far as it has arrived.
    fn first(stream: &[u8], has_ended: bool) -> Self {
        let mut first = Self::default();
        let mut decoder = EventDecoder::new();
        decoder.push(stream, &mut first);
        if has_ended {
            decoder.finish(&mut first);
        }
        if !first.is_whole {
            // The incomplete event.
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

    fn has_error(&self) -> bool {
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
    /// Returns true if the object begins like `{"object":"error"`.
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

    /// llama.cpp's server sends a field `error` instead of an event.
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

    /// The classification after each byte: open up to a position, and the same from there on.
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

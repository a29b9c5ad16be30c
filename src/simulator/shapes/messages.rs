//! Anthropic's `messages`: typed events. The first one has the counts so far, the last but one all
//! of them.

use super::super::template::Template;
use super::{Shape, templates};

/// An event: its type twice, its members.
macro_rules! event {
    ($name:literal, $members:expr) => {
        concat!("event: ", $name, "\ndata: {\"type\":\"", $name, "\"", $members, "<stamp>}\n\n")
    };
}

const START: &str = event!(
    "message_start",
    concat!(
        r#","message":{"model":"<model>","id":"msg_<id>","type":"message","role":"assistant","content":[],"#,
        r#""stop_reason":null,"stop_sequence":null<usage>}"#
    )
);
const BLOCK_START: &str =
    event!("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#);
const PING: &str = event!("ping", "");

const DELTA: &str =
    event!("content_block_delta", r#","index":0,"delta":{"type":"text_delta","text":"<text>"}"#);

const BLOCK_STOP: &str = event!("content_block_stop", r#","index":0"#);
const MESSAGE_DELTA: &str =
    event!("message_delta", r#","delta":{"stop_reason":"<stop>","stop_sequence":null}<usage>"#);
const STOP: &str = event!("message_stop", "");

/// An error instead of an event.
pub(in super::super) const ERROR: &str = concat!(
    "event: error\n",
    r#"data: {"type":"error","error":{"details":null,"type":"api_error","message":"Internal server error"}}"#,
    "\n\n"
);

const WHOLE: &str = concat!(
    r#"{"model":"<model>","id":"msg_<id>","type":"message","role":"assistant","content":[{"type":"text","text":"<all>"}],"#,
    r#""stop_reason":"<stop>","stop_sequence":null<usage><stamp>}"#
);

const FULL_USAGE: &str = concat!(
    r#"{"input_tokens":<input>,"cache_creation_input_tokens":0,"cache_read_input_tokens":<cached>,"#,
    r#""cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":<output>,"#,
    r#""service_tier":"standard","inference_geo":"not_available"}"#
);

const USAGE: &str = concat!(
    r#"{"input_tokens":<input>,"cache_creation_input_tokens":0,"cache_read_input_tokens":<cached>,"#,
    r#""output_tokens":<output>}"#
);

pub(super) fn shape() -> Shape {
    Shape {
        opening: templates([START, BLOCK_START, PING]),
        text: Template::new(DELTA),
        closing: templates([BLOCK_STOP, MESSAGE_DELTA, STOP]),
        usage_event: None,
        end: None,
        error: templates([ERROR]),
        whole: Template::new(WHOLE),
        usage: Template::new(USAGE),
        full_usage: Some(Template::new(FULL_USAGE)),
    }
}

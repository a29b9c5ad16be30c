//! `responses`: typed, numbered events, of which the last has the whole response; there is no
//! `[DONE]`.

use super::super::template::Template;
use super::{Shape, templates};

/// An event: its type twice, its number, its members.
macro_rules! event {
    ($name:literal, $($members:expr),+) => {
        concat!(
            "event: ", $name, "\ndata: {\"type\":\"", $name, "\",\"sequence_number\":<sequence>,",
            $($members,)+
            "<stamp>}\n\n"
        )
    };
}

/// The response object at some moment.
macro_rules! response {
    ($status:literal, $error:literal, $incomplete:literal, $($output:expr),+) => {
        concat!(
            r#"{"id":"resp_<id>","object":"response","created_at":<created>,"status":""#, $status,
            r#"","background":false,"error":"#, $error, r#","incomplete_details":"#, $incomplete,
            r#","instructions":null,"max_output_tokens":null,"max_tool_calls":null,"model":"<model>","output":["#,
            $($output,)+
            r#"],"parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"#,
            r#""reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","#,
            r#""store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"#,
            r#""tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled"<usage>,"#,
            r#""user":null,"metadata":{}}"#
        )
    };
}

macro_rules! part {
    ($text:literal) => {
        concat!(r#"{"type":"output_text","annotations":[],"logprobs":[],"text":""#, $text, r#""}"#)
    };
}

macro_rules! message {
    ($status:literal, $($content:expr),*) => {
        concat!(
            r#"{"id":"msg_<id>","type":"message","status":""#, $status,
            r#"","content":["#, $($content,)* r#"],"role":"assistant"}"#
        )
    };
}

/// The place of a part of the text.
macro_rules! place {
    () => {
        r#""item_id":"msg_<id>","output_index":0,"content_index":0,"#
    };
}

macro_rules! server_error {
    () => {
        r#""code":"server_error","message":"The server had an error while processing your request. Sorry about that!""#
    };
}

const CREATED: &str =
    event!("response.created", r#""response":"#, response!("in_progress", "null", "null", ""));
const IN_PROGRESS: &str =
    event!("response.in_progress", r#""response":"#, response!("in_progress", "null", "null", ""));
const ITEM_ADDED: &str =
    event!("response.output_item.added", r#""output_index":0,"item":"#, message!("in_progress",));
const PART_ADDED: &str = event!("response.content_part.added", place!(), r#""part":"#, part!(""));

const DELTA: &str = event!("response.output_text.delta", place!(), r#""delta":"<text>","logprobs":[]"#);

const TEXT_DONE: &str = event!("response.output_text.done", place!(), r#""text":"<all>","logprobs":[]"#);
const PART_DONE: &str = event!("response.content_part.done", place!(), r#""part":"#, part!("<all>"));
const ITEM_DONE: &str =
    event!("response.output_item.done", r#""output_index":0,"item":"#, message!("<status>", part!("<all>")));
const FINISHED: &str = concat!(
    "event: response.<status>\ndata: {\"type\":\"response.<status>\",\"sequence_number\":<sequence>,\"response\":",
    response!("<status>", "null", "<incomplete>", message!("<status>", part!("<all>"))),
    "<stamp>}\n\n"
);

const ERROR: &str =
    event!("error", r#""error":{"type":"server_error","#, server_error!(), r#","param":null}"#);
const FAILED: &str = concat!(
    "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":<sequence>,\"response\":",
    r#"{"id":"resp_<id>","object":"response","created_at":<created>,"status":"failed","error":{"#,
    server_error!(),
    r#"},"incomplete_details":null,"model":"<model>","output":[],"parallel_tool_calls":true,"tool_choice":"auto","#,
    r#""tools":[],"usage":null,"metadata":{}}<stamp>}"#,
    "\n\n"
);

const WHOLE: &str =
    concat!(response!("<status>", "null", "<incomplete>", message!("<status>", part!("<all>"))), "\n");

const USAGE: &str = concat!(
    r#"{"input_tokens":<input>,"input_tokens_details":{"cached_tokens":<cached>},"output_tokens":<output>,"#,
    r#""output_tokens_details":{"reasoning_tokens":<reasoning>},"total_tokens":<total>}"#
);

pub(super) fn shape() -> Shape {
    Shape {
        opening: templates([CREATED, IN_PROGRESS, ITEM_ADDED, PART_ADDED]),
        text: Template::new(DELTA),
        closing: templates([TEXT_DONE, PART_DONE, ITEM_DONE, FINISHED]),
        usage_event: None,
        end: None,
        error: templates([ERROR, FAILED]),
        whole: Template::new(WHOLE),
        usage: Template::new(USAGE),
        full_usage: None,
    }
}

//! Azure OpenAI's `chat/completions`: members in alphabetical order, content filter results in
//! every choice, and a first chunk with neither choices nor a model.

use super::super::template::Template;
use super::{DONE, ERROR, Shape, USAGE, templates};

/// The content filter's result for harmless text.
macro_rules! filtered {
    () => {
        concat!(
            r#"{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"#,
            r#""sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}"#
        )
    };
}

macro_rules! prompt_filter_results {
    () => {
        concat!(r#"[{"prompt_index":0,"content_filter_results":"#, filtered!(), "}]")
    };
}

macro_rules! chunk {
    ($($choices:expr),+) => {
        concat!(
            r#"data: {"choices":["#, $($choices,)+ r#"],"created":<created>,"id":"chatcmpl-<id>","model":"<model>","#,
            r#""object":"chat.completion.chunk","system_fingerprint":"fp_simulator"<usage><stamp>}"#,
            "\n\n"
        )
    };
}

const FILTER: &str = concat!(
    r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":"#,
    prompt_filter_results!(),
    "<stamp>}\n\n"
);
const ROLE: &str = chunk!(
    r#"{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"#,
    r#""finish_reason":null,"index":0,"logprobs":null}"#
);
const TEXT: &str = chunk!(
    r#"{"content_filter_results":"#,
    filtered!(),
    r#","delta":{"content":"<text>"},"finish_reason":null,"index":0,"logprobs":null}"#
);
const FINISH: &str = chunk!(
    r#"{"content_filter_results":{},"delta":{},"finish_reason":"<finish>","index":0,"logprobs":null}"#
);
const USAGE_EVENT: &str = chunk!("");

const WHOLE: &str = concat!(
    r#"{"choices":[{"content_filter_results":"#,
    filtered!(),
    r#","finish_reason":"<finish>","index":0,"logprobs":null,"message":{"annotations":[],"content":"<all>","#,
    r#""refusal":null,"role":"assistant"}}],"created":<created>,"id":"chatcmpl-<id>","model":"<model>","#,
    r#""object":"chat.completion","prompt_filter_results":"#,
    prompt_filter_results!(),
    r#","system_fingerprint":"fp_simulator"<usage><stamp>}"#,
    "\n"
);

pub(super) fn shape() -> Shape {
    Shape {
        opening: templates([FILTER, ROLE]),
        text: Template::new(TEXT),
        closing: templates([FINISH]),
        usage_event: Some(Template::new(USAGE_EVENT)),
        end: Some(Template::new(DONE)),
        error: templates([ERROR]),
        whole: Template::new(WHOLE),
        usage: Template::new(USAGE),
        full_usage: None,
    }
}

//! OpenAI's `chat/completions`.

use super::super::template::Template;
use super::{DONE, ERROR, Shape, USAGE, templates};

macro_rules! chunk {
    ($choices:literal) => {
        concat!(
            r#"data: {"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":"<model>","#,
            r#""service_tier":"default","system_fingerprint":"fp_simulator","choices":"#,
            $choices,
            "<usage><stamp>}\n\n"
        )
    };
}

const ROLE: &str = chunk!(
    r#"[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]"#
);
const TEXT: &str =
    chunk!(r#"[{"index":0,"delta":{"content":"<text>"},"logprobs":null,"finish_reason":null}]"#);
const FINISH: &str = chunk!(r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"<finish>"}]"#);
const USAGE_EVENT: &str = chunk!("[]");

const WHOLE: &str = r#"{
  "id": "chatcmpl-<id>",
  "object": "chat.completion",
  "created": <created>,
  "model": "<model>",
  "choices": [
    {
      "index": 0,
      "message": {
        "role": "assistant",
        "content": "<all>",
        "refusal": null,
        "annotations": []
      },
      "logprobs": null,
      "finish_reason": "<finish>"
    }
  ]<usage><stamp>,
  "service_tier": "default",
  "system_fingerprint": "fp_simulator"
}
"#;

pub(super) fn shape() -> Shape {
    Shape {
        opening: templates([ROLE]),
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

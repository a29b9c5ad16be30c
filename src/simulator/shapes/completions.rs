//! The legacy `completions`.

use super::super::template::Template;
use super::{DONE, ERROR, Shape, USAGE, templates};

macro_rules! chunk {
    ($choices:literal) => {
        concat!(
            r#"data: {"id":"cmpl-<id>","object":"text_completion","created":<created>,"choices":"#,
            $choices,
            r#","model":"<model>"<usage><stamp>}"#,
            "\n\n"
        )
    };
}

const TEXT: &str = chunk!(r#"[{"text":"<text>","index":0,"logprobs":null,"finish_reason":null}]"#);
const FINISH: &str = chunk!(r#"[{"text":"","index":0,"logprobs":null,"finish_reason":"<finish>"}]"#);
const USAGE_EVENT: &str = chunk!("[]");

const WHOLE: &str = r#"{
  "id": "cmpl-<id>",
  "object": "text_completion",
  "created": <created>,
  "model": "<model>",
  "choices": [
    {
      "text": "<all>",
      "index": 0,
      "logprobs": null,
      "finish_reason": "<finish>"
    }
  ]<usage><stamp>
}
"#;

pub(super) fn shape() -> Shape {
    Shape {
        opening: Vec::new(),
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

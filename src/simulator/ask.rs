//! The parts of a request's body that the simulator reads: the model, the form of the response, and
//! the number of words.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::form::Form;

/// The members of a body that matter here, for all endpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ask {
    pub(super) model: Option<String>,
    stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    messages: Words,
    /// Anthropic's system prompt.
    system: Words,
    prompt: Words,
    instructions: Words,
    /// The input of `responses` and `embeddings`.
    pub(super) input: Words,
    pub(super) dimensions: Option<u32>,
    pub(super) encoding_format: Option<String>,
    tools: Given,
    response_format: Given,
    text: Given,
    output_format: Given,
    output_config: Given,
    /// True, or missing, if the response must be kept.
    pub(super) store: Option<bool>,
    pub(super) background: Option<bool>,
    /// The id of a conversation, or an object with it.
    conversation: Option<Value>,
    /// False for an agent that only warms up the cache, and wants no output.
    pub(super) generate: Option<bool>,
}

/// True if a member exists and is not null. Its value is not kept.
#[derive(Debug, Default)]
struct Given(bool);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<IgnoredAny>::deserialize(deserializer)?.is_some()))
    }
}

/// `stream_options`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

impl Ask {
    /// The members of a request without a body.
    pub(super) fn of_model(model: Option<String>) -> Self {
        Self { model, ..Self::default() }
    }

    /// The members of a form.
    pub(super) fn of_form(form: &Form) -> Self {
        let prompt = form.text("prompt").map_or_else(Words::default, Words::of);
        let stream = form.text("stream").map(|text| text == "true");
        Self { model: form.text("model").map(str::to_owned), stream, prompt, ..Self::default() }
    }

    pub(super) fn conversation(&self) -> Option<&str> {
        let conversation = self.conversation.as_ref()?;
        conversation.as_str().or_else(|| conversation["id"].as_str())
    }

    pub(super) fn stream(&self) -> bool {
        self.stream == Some(true)
    }

    /// Returns true if the request may want more than the sentence, so that its whole body must be
    /// parsed.
    pub(super) fn may_want_content(&self) -> bool {
        [&self.tools, &self.response_format, &self.text, &self.output_format, &self.output_config]
            .iter()
            .any(|given| given.0)
    }

    /// The number of words of all texts.
    pub(super) fn input_tokens(&self) -> u64 {
        let texts = [self.messages, self.system, self.prompt, self.instructions, self.input];
        texts.iter().map(|words| words.count).sum()
    }
}

/// Counts the words in a value without keeping them: strings, in arrays and under `content`, `text`
/// and `output` of objects. ASCII whitespace separates words; a number is one (a token id).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Words {
    pub(super) count: u64,
    /// The number of texts: 1, or the length of an array of texts.
    pub(super) items: usize,
}

impl Words {
    /// The words of one text.
    pub(super) fn of(text: &str) -> Self {
        let mut blank = true;
        let count = text.bytes().filter(|byte| {
            !byte.is_ascii_whitespace() & std::mem::replace(&mut blank, byte.is_ascii_whitespace())
        });
        Self { count: count.count() as u64, items: 1 }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counter)
    }
}

/// A number: a token, but not a text.
const TOKEN: Words = Words { count: 1, items: 0 };

struct Counter;

impl<'de> Visitor<'de> for Counter {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Words, E> {
        Ok(Words::of(text))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Words, E> {
        Ok(TOKEN)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Words, E> {
        Ok(TOKEN)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Words, E> {
        Ok(TOKEN)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Words, E> {
        Ok(Words::default())
    }

    fn visit_unit<E>(self) -> Result<Words, E> {
        Ok(Words::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
        let mut words = Words::default();
        while let Some(Words { count, items }) = seq.next_element()? {
            words.count += count;
            words.items += usize::from(items > 0);
        }
        // An array of numbers is the tokens of one text.
        words.items = words.items.max(1);
        Ok(words)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut words = Words { count: 0, items: 1 };
        while let Some(key) = map.next_key::<String>()? {
            if matches!(key.as_str(), "content" | "text" | "output") {
                words.count += map.next_value::<Words>()?.count;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(body: &str) -> u64 {
        serde_json::from_str::<Ask>(body).unwrap().input_tokens()
    }

    #[test]
    fn input_tokens_are_the_words_of_all_texts() {
        for (body, expected) in [
            (r#"{}"#, 0),
            (r#"{"messages":[{"role":"user","content":"one two  three\n"}]}"#, 3),
            (
                r#"{"messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b c"}]}]}"#,
                3,
            ),
            (r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"x"}]}]}"#, 0),
            (r#"{"system":"be brief","messages":[{"role":"user","content":"a"}]}"#, 3),
            (r#"{"system":[{"type":"text","text":"be brief"}]}"#, 2),
            (r#"{"prompt":"one two"}"#, 2),
            (r#"{"prompt":["one two","three"]}"#, 3),
            (r#"{"prompt":[1,2,3]}"#, 3),
            (r#"{"instructions":"be brief","input":"hello"}"#, 3),
            (r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"hello \"there\""}]}]}"#, 2),
            (r#"{"input":"\u00e9t\u00e9 Z\u00fcrich"}"#, 2),
        ] {
            assert_eq!(tokens(body), expected, "{body}");
        }
    }

    #[test]
    fn the_texts_to_embed_are_counted() {
        for (body, items) in [
            (r#"{"input":"one two"}"#, 1),
            (r#"{"input":["one","two",""]}"#, 3),
            (r#"{"input":[5,6]}"#, 1),
            (r#"{"input":[[5,6],[7]]}"#, 2),
        ] {
            assert_eq!(serde_json::from_str::<Ask>(body).unwrap().input.items, items, "{body}");
        }
    }

    #[test]
    fn null_is_not_said() {
        let ask: Ask =
            serde_json::from_str(r#"{"model":null,"stream":null,"stream_options":null,"input":null}"#)
                .unwrap();
        assert!(!ask.stream() && ask.model.is_none() && ask.stream_options.is_none());
    }
}

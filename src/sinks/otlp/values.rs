//! Attributes in OTLP's form.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

/// The longest text of an attribute in bytes. Texts from the network have no other bound.
pub(super) const MAX_TEXT: usize = 256;

/// A list of attributes.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.put(key, Value::StringValue(clipped(value).to_owned()));
    }

    pub(super) fn texts<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) {
        for (key, value) in pairs {
            value.into_iter().for_each(|value| self.text(key, value));
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.put(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    pub(super) fn numbers<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, Option<u64>)>) {
        for (key, value) in pairs {
            value.into_iter().for_each(|value| self.number(key, value));
        }
    }

    pub(super) fn decimal(&mut self, key: &str, value: f64) {
        self.put(key, Value::DoubleValue(value));
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.put(key, Value::BoolValue(value));
    }

    pub(super) fn into_vec(self) -> Vec<KeyValue> {
        self.0
    }

    fn put(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }
}

/// The text, cut to [`MAX_TEXT`].
pub(super) fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// The beginning of a text from the network in one line, for the log.
pub(super) fn printable(words: &str) -> String {
    clipped(words.trim()).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_between_two_characters() {
        assert_eq!(clipped("short"), "short");
        let long = "\u{20ac}".repeat(100);
        assert_eq!(clipped(&long), "\u{20ac}".repeat(85));
    }

    #[test]
    fn words_are_one_line_of_the_log() {
        assert_eq!(printable(" no\r\nsuch\u{1b}[1m tenant\n"), "no  such [1m tenant");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_TEXT);
    }
}

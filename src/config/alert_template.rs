//! The bodies of alerts: a JSON text with places for the fields of a notice.

use std::borrow::Cow;

/// The fields of a notice, by the names of their places.
const FIELDS: [(&str, AlertField); 5] = [
    ("message", AlertField::Message),
    ("kind", AlertField::Kind),
    ("subject", AlertField::Subject),
    ("value", AlertField::Value),
    ("time", AlertField::Time),
];

/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 16 << 10;

/// A field of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertField {
    /// A sentence for people.
    Message,
    /// `limit` or `upstream`.
    Kind,
    /// The limit or the upstream: `clients.search.limits[0]`, `azure`.
    Subject,
    /// The threshold that was reached, such as `0.8`, or the reason for which an upstream is out.
    Value,
    /// The time in RFC 3339.
    Time,
}

/// A body of JSON with places such as `${message}` inside its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(AlertField),
}

impl AlertTemplate {
    /// # Errors
    /// Fails with a message for the author of the configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE {
            return Err(format!("is longer than {MAX_TEMPLATE} bytes"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            let names = || FIELDS.map(|(name, _)| format!("${{{name}}}")).join(", ");
            let (name, behind) = behind
                .split_once('}')
                .ok_or_else(|| format!("has \"${{\" without \"}}\": write one of {}", names()))?;
            let field = FIELDS.iter().find(|(known, _)| *known == name);
            let (_, field) =
                field.ok_or_else(|| format!("has \"${{{name}}}\", which is none of {}", names()))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(*field));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self(parts);
        if !template.0.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err("has no place for a notice: write for example {\"text\": \"${message}\"}".to_owned());
        }
        // A place outside of a string is no JSON with this text, which has a quote and a space.
        let sample = template.render(|_| "a \"b\"".into());
        match serde_json::from_str::<serde_json::Value>(&sample) {
            Ok(_) => Ok(template),
            Err(error) => Err(format!(
                "is not JSON with its places filled in ({error}): places are inside of quotes, as in {{\"text\": \"${{message}}\"}}"
            )),
        }
    }

    /// The body with these values.
    pub fn render<'a>(&self, value: impl Fn(AlertField) -> Cow<'a, str>) -> String {
        let mut body = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => body += text,
                Part::Field(field) => {
                    let quoted = serde_json::Value::from(value(*field)).to_string();
                    body += &quoted[1..quoted.len() - 1];
                }
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        AlertTemplate::parse(template).unwrap().render(|field| match field {
            AlertField::Message => "it said \"no\"\n".into(),
            field => format!("{field:?}").into(),
        })
    }

    #[test]
    fn places_are_filled_as_parts_of_strings() {
        assert_eq!(rendered(r#"{"text": "${message}"}"#), r#"{"text": "it said \"no\"\n"}"#);
        let all = r#"{"a":"${kind} ${subject}","b":["${value}",{"c":"${time}"}]}"#;
        assert_eq!(rendered(all), r#"{"a":"Kind Subject","b":["Value",{"c":"Time"}]}"#);
    }

    #[test]
    fn mistake_in_template_says_what_to_write() {
        for (template, reason) in [
            ("{\"text\": \"${what}\"}", "has \"${what}\", which is none of ${message}, ${kind}"),
            ("{\"text\": \"${message\"}", "which is none of"),
            ("{\"text\": \"${message", "without \"}\""),
            ("{\"text\": ${message}}", "places are inside of quotes"),
            ("{\"text\": \"${message}\"", "is not JSON"),
            ("{\"text\": \"hello\"}", "has no place for a notice"),
            (&"x".repeat(MAX_TEMPLATE + 1), "is longer than 16384 bytes"),
        ] {
            let error = AlertTemplate::parse(template).unwrap_err();
            assert!(error.contains(reason), "{template}: {error}");
        }
    }
}

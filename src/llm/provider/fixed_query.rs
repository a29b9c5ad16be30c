//! Parameters that the configuration adds to the query of every request to an upstream.

use std::borrow::Cow;
use std::fmt;

use super::path;
use crate::support::secret::Secret;

/// Parameters, each name once. `Debug` shows no value: any of them may be a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FixedQuery(Vec<Parameter>);

#[derive(Clone, PartialEq, Eq)]
struct Parameter {
    /// The name in lower case, since `path::is_parameter` compares it so.
    name: String,
    /// `name=value`, percent-encoded.
    text: String,
    /// The value's position in `text`, and the value, if it is a secret.
    secret: Option<(usize, Secret)>,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryValue {
    Plain(String),
    /// Never printed.
    Secret(Secret),
}

/// Printed instead of a secret.
const MASK: &str = "***";

impl FixedQuery {
    pub fn new(parameters: impl IntoIterator<Item = (String, QueryValue)>) -> Self {
        let parameter = |(name, value): (String, QueryValue)| {
            let mut text = String::new();
            path::push_segment(&mut text, &name);
            text.push('=');
            let at = text.len();
            let (plain, secret) = match &value {
                QueryValue::Plain(value) => (value.as_str(), None),
                QueryValue::Secret(value) => (value.expose(), Some((at, value.clone()))),
            };
            path::push_segment(&mut text, plain);
            Parameter { name: name.to_ascii_lowercase(), text, secret }
        };
        Self(parameters.into_iter().map(parameter).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the parameters on a target in origin form. Replaces the client's parameters of the same
    /// names.
    pub(super) fn put_on(&self, target: String) -> String {
        if self.is_empty() {
            return target;
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let is_ours = |theirs: &str| self.0.iter().any(|ours| path::is_parameter(theirs, &ours.name));
        let theirs = query.split('&').filter(|theirs| !theirs.is_empty() && !is_ours(theirs));
        let all: Vec<_> = theirs.chain(self.0.iter().map(|ours| ours.text.as_str())).collect();
        format!("{path}?{}", all.join("&"))
    }

    /// The target without secrets, for messages.
    pub fn masked<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let mut masked = Cow::Borrowed(target);
        for Parameter { text, secret, .. } in &self.0 {
            if let Some((at, _)) = secret
                && masked.contains(text)
            {
                masked = masked.replace(text, &format!("{}{MASK}", &text[..*at])).into();
            }
        }
        masked
    }

    /// The secrets, encoded and plain, which are masked in messages of upstreams.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let secrets = self.0.iter().filter_map(|Parameter { text, secret, .. }| {
            let (at, value) = secret.as_ref()?;
            Some([&text[*at..], value.expose()])
        });
        secrets.flatten()
    }
}

impl fmt::Debug for FixedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|parameter| &parameter.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> FixedQuery {
        FixedQuery::new([
            ("Version".to_owned(), QueryValue::Plain("a b&c".to_owned())),
            ("key".to_owned(), QueryValue::Secret(Secret::new("k/marker".to_owned()))),
        ])
    }

    #[test]
    fn configured_parameters_win_over_the_clients() {
        let ours = "Version=a%20b%26c&key=k%2Fmarker";
        for (target, expected) in [
            ("/v1/models", format!("/v1/models?{ours}")),
            ("/v1/models?", format!("/v1/models?{ours}")),
            ("/v1/models?limit=2&after=%20x", format!("/v1/models?limit=2&after=%20x&{ours}")),
            ("/v1/models?KEY=1&limit=2&%6bey=3&key", format!("/v1/models?limit=2&{ours}")),
            ("/v1/models?keys=1&xkey=2", format!("/v1/models?keys=1&xkey=2&{ours}")),
        ] {
            assert_eq!(query().put_on(target.to_owned()), expected);
        }
        assert_eq!(FixedQuery::default().put_on("/v1/models?".to_owned()), "/v1/models?");
    }

    #[test]
    fn secret_is_shown_nowhere() {
        let target = query().put_on("/v1/models?a=1".to_owned());
        assert_eq!(query().masked(&target), "/v1/models?a=1&Version=a%20b%26c&key=***");
        assert!(!format!("{:?}", query()).contains("marker"));
        assert_eq!(query().secrets().collect::<Vec<_>>(), ["k%2Fmarker", "k/marker"]);
    }
}

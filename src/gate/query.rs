//! Keys in a request's query.
//!
//! Azure's WebSockets and API Management accept a key as `?api-key=` and `?subscription-key=`,
//! Google's API as `?key=`, RFC 6750 section 2.3 as `?access_token=`; some clients use a header's
//! name. The dialect of a request is not known at authentication, since routes may match the model
//! and no body is read before. Therefore each of these names is a key on every path, also without
//! configured clients. The parameter is removed from the request before any other code reads it, so
//! that no upstream, record, log line or error has it.
//!
//! Names are read like the most liberal server does: escapes are decoded repeatedly, case is
//! ignored, `_` equals `-`, and `;` separates parameters like `&`. The other parameters stay as
//! they are.

use std::fmt;

use crate::codec::head::RequestHead;
use crate::llm::provider::percent_decoded;

/// Parameters that are keys, in lower case and with hyphens.
const NAMES: [&str; 9] = [
    "api-key",
    "key",
    "apikey",
    "subscription-key",
    "access-token",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "authorization",
];

/// The number of times that a parameter's name may be encoded.
const MAX_ENCODINGS: usize = 4;

/// The longest name of a key's parameter in bytes: every byte of the longest name, fully encoded.
const MAX_NAME: usize = 25 * (3 + 2 * (MAX_ENCODINGS - 1));

/// The decoded keys of a request's query; usually none.
#[derive(Clone, Default)]
pub struct QueryKeys(Option<Box<[Vec<u8>]>>);

impl QueryKeys {
    /// Removes the keys from a request's target.
    pub fn take(head: &mut RequestHead) -> Self {
        let Some(query) = head.query() else { return Self::default() };
        if !parameters(query).any(is_key) {
            return Self::default();
        }
        let keys = parameters(query).filter(|parameter| is_key(parameter)).map(value).collect();
        let left = without_keys(query);
        head.set_query(Some(&*left).filter(|left| !left.is_empty()));
        Self(Some(keys))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flatten().map(Vec::as_slice)
    }
}

impl fmt::Debug for QueryKeys {
    /// Prints the number of keys only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueryKeys({})", self.iter().count())
    }
}

/// The separators of parameters.
const SEPARATORS: [char; 2] = ['&', ';'];

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split(SEPARATORS)
}

/// The other parameters with the separators before them, byte for byte.
fn without_keys(query: &str) -> String {
    let mut kept = String::with_capacity(query.len());
    let mut rest = query;
    let mut before = "";
    loop {
        let end = rest.find(SEPARATORS).unwrap_or(rest.len());
        let parameter = &rest[..end];
        if !is_key(parameter) {
            if !kept.is_empty() {
                kept.push_str(before);
            }
            kept.push_str(parameter);
        }
        if end == rest.len() {
            return kept;
        }
        before = &rest[end..=end];
        rest = &rest[end + 1..];
    }
}

fn is_key(parameter: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name).as_bytes();
    if name.len() > MAX_NAME {
        return false;
    }
    if !name.contains(&b'%') {
        return is_key_name(name);
    }
    let mut name = name.to_vec();
    for _ in 0..MAX_ENCODINGS {
        name = percent_decoded(&name);
    }
    is_key_name(name.trim_ascii())
}

fn is_key_name(name: &[u8]) -> bool {
    let read = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    NAMES.iter().any(|key| key.len() == name.len() && key.bytes().eq(name.iter().map(read)))
}

/// A parameter's decoded value, without a leading `Bearer `.
fn value(parameter: &str) -> Vec<u8> {
    let value = parameter.split_once('=').map_or("", |(_, value)| value);
    let value = percent_decoded(value.as_bytes());
    super::bearer(&value).unwrap_or(value.trim_ascii()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str) -> RequestHead {
        http::Request::get(target).body(()).unwrap().into_parts().0.into()
    }

    /// The remaining target, and the keys.
    fn take(target: &str) -> (String, Vec<String>) {
        let mut head = head(target);
        let keys = QueryKeys::take(&mut head);
        let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
        let origin = head.authority().map(|authority| format!("http://{authority}")).unwrap_or_default();
        (
            format!("{origin}{}{query}", head.path()),
            keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect(),
        )
    }

    #[test]
    fn key_parameters_are_taken_and_all_others_stay_byte_for_byte() {
        for (target, left, keys) in [
            ("/v1/models", "/v1/models", &[][..]),
            ("/v1/models?", "/v1/models?", &[]),
            ("/v1/models?a=%20x&&b", "/v1/models?a=%20x&&b", &[]),
            ("/v1/models?key=k", "/v1/models", &["k"]),
            ("/v1/models?a=1&key=k&b=2", "/v1/models?a=1&b=2", &["k"]),
            ("/v1/models?key=k&a=%41;b", "/v1/models?a=%41;b", &["k"]),
            ("/v1/models?a;api-key=k;b", "/v1/models?a;b", &["k"]),
            (
                "/v1/realtime?api-version=1&api-key=k%2B1&model=m",
                "/v1/realtime?api-version=1&model=m",
                &["k+1"],
            ),
            ("/v1/x?API-Key=1&api%2Dkey=2&ap%69_key=3&%6b%65%79=4", "/v1/x", &["1", "2", "3", "4"]),
            ("/v1/x?api%252Dkey=1&%25256bey=2", "/v1/x", &["1", "2"]),
            ("/v1/x?subscription-key=1&access_token=2&x-goog-api-key=3", "/v1/x", &["1", "2", "3"]),
            ("/v1/x?authorization=Bearer%20k", "/v1/x", &["k"]),
            ("/v1/x?key&key=", "/v1/x", &["", ""]),
            ("http://h:1/v1/x?key=k&a", "http://h:1/v1/x?a", &["k"]),
            ("/v1/x?keys=1&monkey=2&a=key&api-keys=3", "/v1/x?keys=1&monkey=2&a=key&api-keys=3", &[]),
        ] {
            let (uri, found) = take(target);
            assert_eq!(
                (uri.as_str(), found),
                (left, keys.iter().map(|key| (*key).to_owned()).collect()),
                "{target}"
            );
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = QueryKeys::take(&mut head("/v1/x?key=secret"));
        assert_eq!(format!("{keys:?}"), "QueryKeys(1)");
    }
}

//! The headers that the user puts on every request for an upstream.

use http::{HeaderName, HeaderValue, header};

use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::{secret, unfit};
use crate::rewrite::headers::{is_configurable, is_credential};
use crate::rewrite::names::HeaderNames;

/// The headers of one upstream, in the order of the file; each name once, in whatever case.
pub(super) fn headers(upstream: &Table<'_>) -> Read<Vec<(HeaderName, HeaderValue)>> {
    read(upstream, is_configurable)
}

/// The headers that a proxy is asked with. `Proxy-Authorization` is among what may be set: not all
/// schemes are Basic.
pub(super) fn proxy_headers(proxy: &Table<'_>) -> Read<Vec<(HeaderName, HeaderValue)>> {
    read(proxy, |name| is_configurable(name) || *name == header::PROXY_AUTHORIZATION)
}

/// Patterns for names of headers.
pub(super) fn header_names(entry: &Entry<'_>) -> Read<HeaderNames> {
    let patterns = entry.texts()?.into_iter().map(|text| {
        text.parse(|text| match HeaderName::from_bytes(text.as_bytes()) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(format!(
                "{text:?} is no name for a header: write one such as \"x-real-ip\", or \"cf-*\" for all that begin so"
            )),
        })
    });
    all(patterns).map(HeaderNames::new)
}

fn read(
    table: &Table<'_>,
    is_configurable: impl Fn(&HeaderName) -> bool,
) -> Read<Vec<(HeaderName, HeaderValue)>> {
    let mut names = Vec::new();
    let headers = table.names("headers")?.into_iter().map(|(name, entry)| {
        let value = value(&entry);
        let name = header_name(&name, &entry, &is_configurable)?;
        if names.contains(&name) {
            return Err(entry.mistake(format!("{name} is there already; the case of letters does not count")));
        }
        names.push(name.clone());
        let mut value = value?;
        // Keys are secrets also where the user wrote them as plain text.
        value.set_sensitive(
            value.is_sensitive() || name == header::PROXY_AUTHORIZATION || is_credential(name.as_str()),
        );
        Ok((name, value))
    });
    all(headers)
}

fn header_name(
    name: &str,
    entry: &Entry<'_>,
    is_configurable: impl Fn(&HeaderName) -> bool,
) -> Read<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(entry.mistake("is no name for a header: those are letters, digits and -"));
    };
    if is_configurable(&name) {
        Ok(name)
    } else {
        Err(entry.mistake("is not yours to set: the proxy writes this header itself, or it ends at each hop"))
    }
}

fn value(entry: &Entry<'_>) -> Read<HeaderValue> {
    let (text, sensitive) = match entry.as_text() {
        Some(text) => (text.to_owned(), false),
        None => (secret(entry)?.expose().to_owned(), true),
    };
    // An empty value is legal and takes off what the client sent.
    let unfit = unfit(&text).filter(|_| !text.is_empty());
    let mut value = match (unfit, HeaderValue::try_from(text)) {
        (None, Ok(value)) => value,
        (Some(reason), _) => return Err(entry.mistake(format!("the value {reason}"))),
        (None, Err(_)) => return Err(entry.mistake("the value has characters that a header cannot carry")),
    };
    value.set_sensitive(sensitive);
    Ok(value)
}

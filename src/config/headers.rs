//! Headers that are added to every request to an upstream, a forward proxy or a collector.

use http::{HeaderName, HeaderValue, header};

use super::kind::{Kind, list, parsed};
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::{text_or_secret, text_or_secret_shape, unfit};
use crate::llm::rewrite::headers::{is_configurable, is_credential};
use crate::llm::rewrite::names::HeaderNames;

/// `headers` of the table, in the order of the file; each name once, in any case.
pub(super) fn headers(table: &Table<'_>) -> Read<Vec<(HeaderName, HeaderValue)>> {
    read(table, is_configurable)
}

/// The headers of CONNECT requests. `Proxy-Authorization` may be among them, since not all schemes
/// are Basic.
pub(super) fn proxy_headers(proxy: &Table<'_>) -> Read<Vec<(HeaderName, HeaderValue)>> {
    read(proxy, |name| is_configurable(name) || *name == header::PROXY_AUTHORIZATION)
}

/// Patterns of header names.
pub(super) fn header_names() -> Kind<impl FnOnce(&Entry<'_>) -> Read<HeaderNames>> {
    let name = |text: &str| match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "{text:?} is not a header name: write for example \"x-real-ip\", or \"cf-*\" for all that begin with cf-"
        )),
    };
    list(parsed("header name", None, "text in quotes", name)).then(|_, names| Ok(HeaderNames::new(names)))
}

fn read(
    table: &Table<'_>,
    is_configurable: impl Fn(&HeaderName) -> bool,
) -> Read<Vec<(HeaderName, HeaderValue)>> {
    let mut names = Vec::new();
    all(table.names("headers", None, text_or_secret_shape())?.into_iter().map(|(name, entry)| {
        let value = value(&entry);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(entry.mistake("is not a header name: these have letters, digits and -"));
        };
        if !is_configurable(&name) {
            let reason =
                "cannot be set here: streamgauge writes this header itself, or it is valid for one connection only";
            return Err(entry.mistake(reason));
        }
        if names.contains(&name) {
            return Err(entry.mistake(format!("{name} is there already; names are equal in any case")));
        }
        names.push(name.clone());
        let mut value = value?;
        // Keys are secrets even if the user wrote them as plain text.
        value.set_sensitive(
            value.is_sensitive() || name == header::PROXY_AUTHORIZATION || is_credential(name.as_str()),
        );
        Ok((name, value))
    }))
}

fn value(entry: &Entry<'_>) -> Read<HeaderValue> {
    let (text, is_secret) = text_or_secret(entry)?;
    // An empty value is legal, and removes the client's header.
    let unfit = unfit(&text).filter(|_| !text.is_empty());
    let mut value = match (unfit, HeaderValue::try_from(text)) {
        (None, Ok(value)) => value,
        (Some(reason), _) => return Err(entry.mistake(format!("the value {reason}"))),
        (None, Err(_)) => return Err(entry.mistake("the value has characters that a header cannot carry")),
    };
    value.set_sensitive(is_secret);
    Ok(value)
}

//! `query` of an upstream: parameters for the query of every request.

use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::secret;
use crate::provider::{ApiVersion, FixedQuery, Provider, QueryValue};

/// The parameter that is `api_version`'s.
const API_VERSION: &str = "api-version";

/// The parameters of one upstream, in the order of the file; each name once, in whatever case.
pub(super) fn query(upstream: &Table<'_>) -> Read<FixedQuery> {
    let mut names: Vec<String> = Vec::new();
    let parameters = upstream.names("query")?.into_iter().map(|(name, entry)| {
        let value = value(&entry);
        if name.is_empty() {
            return Err(entry.mistake("the name of a parameter is empty"));
        }
        if names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            return Err(entry.mistake(format!("{name} is there already; the case of letters does not count")));
        }
        names.push(name.clone());
        Ok((name, value?))
    });
    all(parameters).map(FixedQuery::new)
}

/// Notes the parameter that Azure's own key says already.
pub(super) fn check_version(upstream: &Table<'_>, provider: Provider, version: &ApiVersion) {
    if provider != Provider::Azure || version.in_query().is_none() {
        return;
    }
    for (name, entry) in upstream.names("query").unwrap_or_default() {
        if name.eq_ignore_ascii_case(API_VERSION) {
            entry.mistake("is what api_version says: keep one of the two");
        }
    }
}

fn value(entry: &Entry<'_>) -> Read<QueryValue> {
    match entry.as_text() {
        Some(text) => Ok(QueryValue::Plain(text.to_owned())),
        None => secret(entry).map(QueryValue::Secret),
    }
}

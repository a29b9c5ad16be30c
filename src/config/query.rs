//! `query` of an upstream: parameters that are added to every request.

use super::notes::Read;
use super::reader::{Table, all};
use super::secrets::{text_or_secret, text_or_secret_shape};
use crate::llm::provider::{ApiVersion, FixedQuery, Provider, QueryValue};
use crate::support::secret::Secret;

/// The parameter that `api_version` sets.
const API_VERSION: &str = "api-version";

/// The parameters in the order of the file; each name once, in any case. `version` is that of an
/// Azure upstream.
pub(super) fn query(
    upstream: &Table<'_>,
    provider: Read<Provider>,
    version: &Read<ApiVersion>,
) -> Read<FixedQuery> {
    let has_version = matches!(provider, Ok(Provider::Azure))
        && version.as_ref().is_ok_and(|version| version.in_query().is_some());
    let mut names: Vec<String> = Vec::new();
    let parameters =
        upstream.names("query", None, text_or_secret_shape())?.into_iter().map(|(name, entry)| {
            let value = text_or_secret(&entry);
            if name.is_empty() {
                return Err(entry.mistake("the name of a parameter is empty"));
            }
            if names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                return Err(entry.mistake(format!("{name} is there already; names are equal in any case")));
            }
            if has_version && name.eq_ignore_ascii_case(API_VERSION) {
                return Err(entry.mistake("is what api_version says: keep one of the two"));
            }
            names.push(name.clone());
            Ok((
                name,
                match value? {
                    (text, true) => QueryValue::Secret(Secret::new(text)),
                    (text, false) => QueryValue::Plain(text),
                },
            ))
        });
    all(parameters).map(FixedQuery::new)
}

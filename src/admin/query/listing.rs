//! The queries of lists that are read from memory.

use jiff::tz::TimeZone;

use super::{Fields, PageQuery};

/// The largest `limit`.
const MOST: usize = 1_000;

/// The default `limit`.
const LISTED: usize = 100;

/// The filters of running streams.
const FILTERS: [&str; 5] = ["client", "team", "user", "upstream", "model"];

/// `/running?...`: running streams.
#[derive(Clone, Debug)]
pub(in crate::admin) struct RunningQuery {
    /// The largest number of listed streams.
    pub(in crate::admin) limit: usize,
    /// The filters.
    pub(in crate::admin) page: PageQuery,
}

impl RunningQuery {
    /// # Errors
    /// Fails with a message about the mistake.
    pub(in crate::admin) fn parse(query: &str) -> Result<Self, String> {
        let fields = Fields::parse(query.as_bytes());
        let known = FILTERS.into_iter().chain(["limit"]);
        check(&fields, &known.collect::<Vec<_>>())?;
        Ok(Self { limit: limit(&fields)?, page: PageQuery::parse(query, &TimeZone::UTC)? })
    }
}

/// `/limits?limit=`: the largest number of listed limits.
///
/// # Errors
/// Fails with a message about the mistake.
pub(in crate::admin) fn limits(query: &str) -> Result<usize, String> {
    let fields = Fields::parse(query.as_bytes());
    check(&fields, &["limit"])?;
    limit(&fields)
}

/// Refuses tags too: a stream has none before its record.
fn check(fields: &Fields, known: &[&str]) -> Result<(), String> {
    match fields.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, _)) => Err(format!("{key:?} is none of {}", known.join(", "))),
        None => Ok(()),
    }
}

fn limit(fields: &Fields) -> Result<usize, String> {
    fields.get("limit").map_or(Ok(LISTED), |text| match text.parse() {
        Ok(limit @ 1..=MOST) => Ok(limit),
        _ => Err(format!("limit: {text:?} is not a number from 1 to {MOST}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_limit_of_running_streams_are_read() {
        let query = RunningQuery::parse("client=search&limit=7&user=").unwrap();
        assert_eq!((query.limit, query.page.filters[0].as_deref()), (7, Some("search")));
        assert_eq!(RunningQuery::parse("").unwrap().limit, LISTED);
        assert_eq!(limits("limit=1000"), Ok(MOST));
    }

    #[test]
    fn other_fields_of_lists_are_refused() {
        for query in ["since=1h", "tag.job=a", "limit=0", "limit=1001", "limit=x", "outcome=complete"] {
            RunningQuery::parse(query).unwrap_err();
            limits(query).unwrap_err();
        }
        assert!(limits("client=search").unwrap_err().contains("none of limit"));
    }
}

//! The result as JSON, for programs.

use std::io;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use super::super::{Before, By, Key, Report, Rest, SOURCES, Sums};
use crate::config;
use crate::llm::price::Currency;

/// The names of [`counts`].
pub(super) const COUNTS: [&str; 8] = [
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
    "billed_seconds",
];

/// The part of `total_tokens` that is the sum of `input_tokens` and `output_tokens`, because the
/// service reported no total.
pub(super) const COMPUTED: &str = "computed_total_tokens";

/// The cost that services report, in US dollars. No other sum of money includes it.
pub(super) const REPORTED_COST: &str = "reported_cost";

/// The estimated parts of sums of tokens: 0 without estimates, unknown if the sum is.
pub(super) const ESTIMATED: [&str; 3] =
    ["estimated_input_tokens", "estimated_output_tokens", "estimated_total_tokens"];

/// Requests that could have had tokens: the base of the shares of usage sources.
pub(super) const COUNTABLE: &str = "countable_requests";

/// Requests whose outcome is neither `complete` nor `client_disconnected`.
pub(super) const FAILED: &str = "failed_requests";

/// Every sum except those of usage sources and money. Seconds are rounded to a millionth, so that
/// they do not depend on the order of adding.
pub(super) fn counts(sums: &Sums) -> [Option<Number>; COUNTS.len()] {
    let whole = |count: Option<u64>| count.map(Number::from);
    [
        Some(sums.requests.into()),
        whole(sums.input_tokens),
        whole(sums.cached_input_tokens),
        whole(sums.cache_write_input_tokens),
        whole(sums.output_tokens),
        whole(sums.reasoning_tokens),
        whole(sums.total_tokens),
        sums.billed_seconds.map(|seconds| (seconds * 1e6).round() / 1e6).and_then(Number::from_f64),
    ]
}

/// `{"since", "until", "time_zone", "by", "groups": [{...}], "total": {...}}`, and `"rest": {...}`
/// if groups were left out. Unknown values are null.
///
/// # Errors
/// Infallible in practice: JSON can represent every value.
pub fn write(report: &Report, since: Timestamp, until: Timestamp) -> io::Result<String> {
    super::text(|out| write_to(report, since, until, out))
}

/// Writes the same, a group at a time. The keys are in alphabetical order.
///
/// # Errors
/// Fails with the errors of `out`.
pub fn write_to(
    report: &Report,
    since: Timestamp,
    until: Timestamp,
    out: &mut impl io::Write,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Value>,
        by: Vec<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        coarse_until: Option<String>,
        groups: EachGroup<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rest: Option<Map<String, Value>>,
        since: String,
        time_zone: String,
        total: Map<String, Value>,
        until: String,
    }
    let before = |before: &Before| {
        serde_json::json!({
            "since": before.since.to_string(),
            "until": before.until.to_string(),
            "total": Value::Object(sums(&before.total, &report.currencies).collect()),
        })
    };
    let whole = Whole {
        before: report.before.as_ref().map(before),
        by: report.by.iter().map(By::as_str).collect(),
        coarse_until: report.coarse_until.map(|until| until.to_string()),
        groups: EachGroup(report),
        rest: report.rest.as_ref().map(|Rest { groups, sums: of_rest }| {
            let groups = [("groups".to_owned(), Value::from(*groups))];
            groups.into_iter().chain(sums(of_rest, &report.currencies)).collect()
        }),
        since: since.to_string(),
        time_zone: config::time_zone_name(&report.zone),
        total: sums(&report.total, &report.currencies).collect(),
        until: until.to_string(),
    };
    serde_json::to_writer_pretty(&mut *out, &whole)?;
    out.write_all(b"\n")
}

/// The groups of a report. Each is converted when it is written, since there may be a hundred
/// thousand.
struct EachGroup<'a>(&'a Report);

impl Serialize for EachGroup<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Report { by, groups, currencies, before, .. } = self.0;
        serializer.collect_seq(groups.iter().map(|group| {
            let key: &Key = &group.key;
            let key = by.iter().zip(key);
            let mut object: Map<_, _> =
                key.map(|(by, part)| (by.as_str().to_owned(), part.as_deref().into())).collect();
            object.extend(sums(&group.sums, currencies));
            if let Some(before) = before {
                let sums_before =
                    before.groups.get(&group.key).map(|before| sums(before, currencies).collect());
                object.insert("before".to_owned(), sums_before.map_or(Value::Null, Value::Object));
            }
            object
        }))
    }
}

fn sums(sums: &Sums, currencies: &[Currency]) -> impl Iterator<Item = (String, Value)> {
    let counts = COUNTS.into_iter().zip(counts(sums));
    let counts = counts.map(|(name, count)| (name.to_owned(), count.map_or(Value::Null, Value::Number)));
    let sources =
        SOURCES.into_iter().zip(sums.sources).map(|(source, rows)| (source.to_owned(), rows.into()));
    let cost = currencies.iter().map(|currency| {
        (currency.to_string(), sums.cost.amount(*currency).map_or(Value::Null, |sum| sum.to_f64().into()))
    });
    let estimated = ESTIMATED.into_iter().zip(sums.estimated_tokens());
    let estimated = estimated.map(|(name, count)| (name.to_owned(), count.into()));
    let part = currencies.iter().map(|currency| {
        let part = sums.estimated_cost(*currency);
        (currency.to_string(), part.map_or(Value::Null, |part| part.to_f64().into()))
    });
    let part = Value::Object(part.collect());
    counts.chain(estimated).chain([
        ("estimated_cost".to_owned(), part),
        (COMPUTED.to_owned(), sums.computed_total_tokens.into()),
        (REPORTED_COST.to_owned(), sums.reported_cost.map_or(Value::Null, |cost| cost.to_f64().into())),
        (COUNTABLE.to_owned(), sums.countable.into()),
        (FAILED.to_owned(), sums.failed.into()),
        ("cost".to_owned(), Value::Object(cost.collect())),
        ("requests_without_price".to_owned(), sums.cost.unpriced.into()),
        ("usage_sources".to_owned(), Value::Object(sources.collect())),
    ])
}

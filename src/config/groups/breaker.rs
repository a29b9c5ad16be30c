//! `[groups.NAME.breaker]`: conditions and times for leaving out a failing member.

use std::time::Duration;

use crate::balance::BreakerPolicy;
use crate::config::kind::{Kind, Shape, integer, list, parsed, time};
use crate::config::notes::Read;
use crate::config::reader::{Entry, Table};
use crate::llm::provider::{Endpoint, is_safe};

/// The policy, and the path of probes. `trial`: the time for which a half-open breaker waits for the
/// result of its trial.
pub(super) fn breaker(table: &Table<'_>, trial: Duration) -> Read<(BreakerPolicy, Option<String>)> {
    let probe = parsed("path", Some("^(/.*)?$"), "a path in quotes, such as \"/v1/models\"", probe);
    let probe = table.or_default("probe", probe.or_empty().default(""));
    let policy = policy(table, trial);
    Ok((policy?, probe?))
}

/// A path that costs nothing.
fn probe(path: &str) -> Result<String, String> {
    let endpoint = Endpoint::of(path);
    let names_model = endpoint.takes_json_model() || endpoint.takes_form();
    let reason = match path {
        _ if !path.starts_with('/') => "must begin with a slash, such as \"/v1/models\"",
        _ if path.contains(['?', '#']) => "must be a path without a query: `query` of the upstream adds one",
        _ if !is_safe(path) => {
            "is not a path that can be sent: write no `.`, `..` or empty segments, and %20 for a space"
        }
        _ if names_model => {
            "is an endpoint whose requests cost tokens: a probe must be free, such as \"/v1/models\""
        }
        _ => return Ok(path.to_owned()),
    };
    Err(format!("{path:?} {reason}"))
}

fn policy(table: &Table<'_>, trial: Duration) -> Read<BreakerPolicy> {
    let pauses = list(time()).default(vec!["2s", "60s"]).then(|entry, pauses| match pauses[..] {
        [first, longest] if first <= longest => Ok((first, longest)),
        [_, _] => Err(entry.mistake("has a longest pause that is shorter than the first: swap them")),
        _ => Err(entry
            .mistake("must be two durations, the first pause and the longest, such as [\"2s\", \"60s\"]")),
    });
    let pauses = table.or_default("pause", pauses);
    let requests = count().default(20).then(|entry, requests| match requests {
        0 => Err(entry.mistake("must be at least 1; write success_rate = 0 for no such rule")),
        requests => Ok(requests),
    });
    read_all!(BreakerPolicy {
        failures: table.or_default("failures", count().default(5)),
        success_rate: table.or_default("success_rate", share().default(0.5)),
        requests: table.or_default("requests", requests),
        pause: pauses.map(|(first, _)| first),
        longest_pause: pauses.map(|(_, longest)| longest),
        trial: Ok(trial),
    })
}

fn count() -> Kind<impl FnOnce(&Entry<'_>) -> Read<u32>> {
    integer().then(|entry, count| {
        u32::try_from(count).map_err(|_| entry.mistake(format!("must be at most {}", u32::MAX)))
    })
}

/// A number from 0 to 1.
fn share() -> Kind<impl FnOnce(&Entry<'_>) -> Read<f64>> {
    const SHARE: &str = "a number from 0 to 1, such as 0.5";
    Kind::new(Shape::Number(Some(1.0)), |entry: &Entry<'_>| match entry.decimal(SHARE)?.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(entry.mistake(format!("must be {SHARE}"))),
    })
}
